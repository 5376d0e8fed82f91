"""EMAs over MQTT, profile ``mir2017``: translates between the service and ``links.mir2017.server``, nothing else.

Cannot do: tell one EMA from another that speaks in its name (docs/ems.md, "Secure it").
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable
from pathlib import Path

from gateway.clock import Clock
from gateway.links.mir2017 import happenings as h
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.client_happenings import Refused
from gateway.links.mir2017.messages import modules
from gateway.links.mir2017.server import Server
from gateway.transport.mqtt import MqttLink, MqttSettings, Tls
from headend.ems.head import EventBody
from headend.ems.service import EmsService
from headend.ems.settings import EmsSettings, parse_address, secret
from headend.ems.state import Device
from headend.ems.view_types import LinkView

NAME = "mqtt"
# An event's RequestID is made of its id and modification, so that an answer says which one it means, and stays below
# 2**31: what an EMA that keeps 32 bits can say.
REQUEST_STEP = 4096
REQUEST_IDS = 2**19
LONGEST_REASON = 200


class MqttHead:
    """One broker, many EMAs. ``run`` until cancelled; reconnects by itself."""

    name = NAME

    def __init__(
        self, service: EmsService, settings: EmsSettings, clock: Clock, rng: random.Random, log: logging.Logger
    ) -> None:
        self._service = service
        self._log = log
        self.server = Server(
            zone=wire.zone_named(settings.zone),
            duration_ms=settings.duration_ms,
            admit=lambda number: service.admits(wire.ema_name(number)),
            opts_at_once=False,
        )
        self.broker = MqttLink(
            mqtt_settings(settings), clock, rng, self._received, on_up=self._up, on_down=self._down, logger=log
        )
        service.attach(self)

    async def run(self) -> None:
        await self.broker.run()

    @property
    def up(self) -> bool:
        return self.broker.up

    def link(self) -> LinkView:
        """For pages and scripts."""
        link = self.broker
        return LinkView(
            NAME, link.up, link.settings.address, link.reconnects, link.kept, link.oversized, self.server.refused
        )

    async def _up(self) -> None:
        self._log.info("MQTT %s: serving EMAs", self.broker.settings.address)
        self._service.link_changed(self)

    def _down(self) -> None:
        self._service.link_changed(self)

    def _post(self, sends: Iterable[wire.Send]) -> None:
        for send in sends:
            self.broker.post(send.topic, send.body, send.qos)

    # What EMAs say

    def _received(self, topic: str, body: bytes) -> None:
        for output in self.server.received(topic, body):
            if isinstance(output, wire.Send):
                self.broker.post(output.topic, output.body, output.qos)
            else:
                self._happened(output)

    def _happened(self, happening: h.ServerHappening) -> None:
        service = self._service
        match happening:
            case h.Reported(ema, request_id, report):
                self._reported(wire.ema_name(ema), request_id, report)
            case h.ReportRefused(ema, request_id, reason):
                service.intake.refused(wire.ema_name(ema), f"report {request_id}: {reason}")
            case h.Polled(ema):
                service.polled(wire.ema_name(ema), NAME)
            case h.MarginReported(ema, margin):
                service.intake.margin(wire.ema_name(ema), NAME, margin.power, margin.margin)
            case h.EventAnswered(ema, event_id, request_id, opt_in):
                known, modification = divmod(request_id, REQUEST_STEP)
                answered = modification if known == event_id % REQUEST_IDS else None
                service.answered(wire.ema_name(ema), NAME, event_id, answered, opt_in)
            case h.DeviceConnected(_, text):
                service.intake.device(_device(text, True), NAME, acknowledge=True)
            case h.DeviceDisconnected(_, text):
                service.intake.device(_device(text, False), NAME, acknowledge=True)
            case h.DeviceInfo(_, text):
                service.intake.device(_device(text, True), NAME)
            case h.RdrAsked(ema, number, watts):
                service.asked(wire.ema_name(ema), NAME, number, watts)
            case h.EmaRegistering(ema):
                service.registering(wire.ema_name(ema), NAME)
            case h.EmaRegistered(ema, ven_id):
                service.registered(wire.ema_name(ema), ven_id, NAME)
            case h.EmaConnected(ema):
                service.seen(wire.ema_name(ema), NAME)
            case h.EmaDisconnected(ema):
                service.disconnected(wire.ema_name(ema))
            case h.FieldModuleReported(_, phase, module):
                service.intake.device(_module(module, phase), NAME)
            case h.MeterReported(_, meter):
                service.intake.device(_meter(meter), NAME)
            case Refused(topic, reason):
                service.refuse(topic, reason)

    def _reported(self, name: str, request_id: int, report: wire.UpdateReport) -> None:
        devices = [
            Device(
                ema=name,
                id=wire.device_name(entry.device),
                number=entry.device,
                on=entry.on,
                dimming=entry.dimming,
                watt=entry.watt,
                priority=entry.priority,
            )
            for entry in report.devices or ()
        ]
        power: dict[str, float | None] = {
            "power_w": report.power,
            "threshold_w": report.threshold,
            "margin_w": report.margin,
            "generate_w": report.generate,
            "storage_w": report.storage,
        }
        at = report.time_ms / 1000 if report.time_ms is not None else None
        order = wire.split_request_id(request_id)
        self._service.intake.reported(name, NAME, str(request_id), at, power, devices, order)

    # What the EMS says

    def push(self, ema: str, event: EventBody) -> None:
        self._post(self.server.distribute(_number(ema), _event(event)))

    def broadcast(self, event: EventBody) -> None:
        self._post(self.server.broadcast(_event(event)))

    def answer_poll(self, ema: str, event: EventBody | None, want_report: bool) -> None:
        body = _event(event) if event is not None else None
        self._post(self.server.answer_poll(_number(ema), body, want_report))

    def acknowledge_report(self, ema: str, request_id: str) -> None:
        self._post(self.server.acknowledge_report(_number(ema), int(request_id)))

    def refuse_report(self, ema: str, request_id: str, code: int, why: str) -> None:
        self._post(self.server.refuse_report(_number(ema), int(request_id), code, why))

    def acknowledge_opt(self, ema: str, code: int) -> None:
        self._post(self.server.acknowledge_opt(_number(ema), code))

    def acknowledge_device(self, ema: str, number: int, connected: bool) -> None:
        self._post(self.server.acknowledge_device(_number(ema), number, connected))

    def answer_rdr(self, ema: str, number: int, granted: bool, why: str) -> None:
        # A grant in the lab's own words; a refusal, which is ours, with its reason for whoever stands at the device.
        words = "" if granted else f"Deny: {why}"[:LONGEST_REASON]
        self._post(self.server.answer_rdr(_number(ema), number, granted, words))

    def control(self, ema: str, number: int, on: bool) -> None:
        self._post(self.server.control(_number(ema), number, on))

    def dim(self, ema: str, number: int, up: bool) -> None:
        self._post(self.server.dim(_number(ema), number, up))


def mqtt_settings(settings: EmsSettings) -> MqttSettings:
    """The broker session. Raise ``OperatorError`` that names the key or the file."""
    host, port = parse_address("broker", settings.broker)
    wants_tls = settings.tls or bool(settings.ca_file or settings.cert_file)
    tls = None
    if wants_tls:
        ca, certificate, key = (_path(name) for name in (settings.ca_file, settings.cert_file, settings.key_file))
        tls = Tls(ca, certificate, key)
        tls.context()
    return MqttSettings(
        host=host,
        port=port,
        username=settings.user or None,
        password=secret("password_file", settings.password_file),
        tls=tls,
        subscriptions=tuple((topic, 1) for topic in wire.EMS_SUBSCRIPTIONS),
    )


def _path(name: str) -> Path | None:
    return Path(name) if name else None


def _number(ema: str) -> int:
    return int(ema.removeprefix("gw/"))


def _event(event: EventBody) -> wire.DistributeEvent:
    return wire.DistributeEvent(
        event_id=event.id,
        modification=event.modification,
        start=event.start,
        end=event.end,
        value=round(event.value_w),
        request_id=event.id % REQUEST_IDS * REQUEST_STEP + event.modification,
    )


def _device(text: wire.DeviceText, connected: bool) -> Device:
    return Device(
        ema=wire.ema_name(text.ema),
        id=wire.device_name(text.device),
        number=text.device,
        connected=connected,
        on=text.on,
        dimming=text.dimming,
        watt=text.watt,
        priority=text.priority,
    )


def _module(report: modules.ModuleReport, phase: wire.Phase) -> Device:
    details = {
        "mode": report.mode,
        "state": report.state,
        "changed_energy": report.changed_energy,
        "capacity": report.capacity,
        "soc": report.soc,
        "volt": report.volt,
        "hz": report.hz,
    }
    return Device(
        ema=wire.ema_name(report.ema),
        id=f"{report.module}/{report.id}"[:255],
        kind=report.module.lower(),
        connected=phase is not wire.Phase.DISCONNECT,
        watt=report.power,
        priority=report.priority,
        details={name: value for name, value in details.items() if value is not None},
    )


def _meter(report: modules.ActiveEnergy | modules.LoadProfile) -> Device:
    details: dict[str, object] = {"dcu": report.dcu}
    if isinstance(report, modules.ActiveEnergy):
        details["active_energy"] = report.active_energy
    else:
        details["load_profile"] = list(report.profile)
    return Device(ema=wire.ema_name(report.ema), id=f"meter/{report.device_id}"[:255], kind="meter", details=details)
