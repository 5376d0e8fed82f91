"""Between the service and profile ``mir2017``, whatever carries it: what EMAs say, and how an event is written.

Nothing of a transport: a head a file (``mqtt``, ``coap``).
"""

from __future__ import annotations

from gateway.links.mir2017 import happenings as h
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.client_happenings import Refused
from gateway.links.mir2017.messages import modules
from gateway.links.mir2017.messages.negotiation import LabAsk, Negotiation
from gateway.negotiation_words import from_member
from headend.ems.head import EventBody
from headend.ems.service import EmsService
from headend.ems.state import Device

# An event's RequestID is made of its id and modification, so that an answer says which one it means, and stays below
# 2**31: what an EMA that keeps 32 bits can say.
REQUEST_STEP = 4096
REQUEST_IDS = 2**19
LONGEST_REASON = 200


class Translator:
    """Tells the service what happened on a link; ``protocol`` is its head's name."""

    def __init__(self, service: EmsService, protocol: str) -> None:
        self._service = service
        self._protocol = protocol

    def happened(self, happening: h.ServerHappening) -> None:
        service = self._service
        match happening:
            case h.Reported(ema, request_id, report):
                self._reported(wire.ema_name(ema), request_id, report)
            case h.ReportRefused(ema, request_id, reason):
                service.intake.refused(wire.ema_name(ema), f"report {request_id}: {reason}")
            case h.Polled(ema):
                service.polled(wire.ema_name(ema), self._protocol)
            case h.MarginReported(ema, margin):
                service.intake.margin(wire.ema_name(ema), self._protocol, margin.power, margin.margin)
            case h.EventAnswered(ema, event_id, request_id, opt_in):
                known, modification = divmod(request_id, REQUEST_STEP)
                answered = modification if known == event_id % REQUEST_IDS else None
                service.answered(wire.ema_name(ema), self._protocol, event_id, answered, opt_in)
            case h.DeviceConnected(_, text):
                service.intake.device(_device(text, True), self._protocol, acknowledge=True)
            case h.DeviceDisconnected(_, text):
                service.intake.device(_device(text, False), self._protocol, acknowledge=True)
            case h.DeviceInfo(_, text):
                service.intake.device(_device(text, True), self._protocol)
            case h.RdrAsked(ema, number, watts):
                service.asked(wire.ema_name(ema), self._protocol, number, watts)
            case h.NegotiationHeard(ema, message):
                self._negotiation(wire.ema_name(ema), message)
            case h.EmaRegistering(ema):
                service.registering(wire.ema_name(ema), self._protocol)
            case h.EmaRegistered(ema, ven_id):
                service.registered(wire.ema_name(ema), ven_id, self._protocol)
            case h.EmaConnected(ema):
                service.seen(wire.ema_name(ema), self._protocol)
            case h.EmaDisconnected(ema):
                service.disconnected(wire.ema_name(ema))
            case h.FieldModuleReported(_, phase, module):
                service.intake.device(_module(module, phase), self._protocol)
            case h.MeterReported(_, meter):
                service.intake.device(_meter(meter), self._protocol)
            case Refused(topic, reason):
                service.refuse(topic, reason)

    def _negotiation(self, name: str, message: Negotiation | LabAsk) -> None:
        if isinstance(message, Negotiation):
            self._service.negotiates(name, self._protocol, from_member(message))
        else:
            self._service.asks_threshold(name, self._protocol, message.energy)

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
        self._service.intake.reported(name, self._protocol, str(request_id), at, power, devices, order)


def rdr_words(granted: bool, why: str) -> str:
    """A grant in the lab's own words; a refusal, which is ours, with its reason for whoever stands at the device."""
    return "" if granted else f"Deny: {why}"[:LONGEST_REASON]


def number_of(ema: str) -> int:
    return int(ema.removeprefix("gw/"))


def event_of(event: EventBody) -> wire.DistributeEvent:
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
