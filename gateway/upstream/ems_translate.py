"""Between the site's own types and the profile's: watts as whole numbers, records as messages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gateway.config.model import EmaConfig, UpstreamConfig
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.messages.fields import HIGHEST_DEVICE
from gateway.links.mir2017.messages.reports import HIGHEST_DIMMING, HIGHEST_PRIORITY
from gateway.site.event import DrEvent
from gateway.site.report import DeviceLine, SiteReport
from gateway.transport.mqtt import MqttSettings, Tls, Will


def settings_of(
    config: UpstreamConfig, ema: EmaConfig, password: str | None, will: wire.Send, subscriptions: Sequence[str]
) -> MqttSettings:
    """The session towards the EMS's broker; ``will`` and ``subscriptions`` are the profile's. Raise ``OperatorError``
    for TLS files that do not load."""
    tls = None
    if config.tls:
        tls = Tls(_path(config.ca_file), _path(config.cert_file), _path(config.key_file))
        tls.context()
    return MqttSettings(
        host=config.host,
        port=config.port_used,
        client_id=f"smartema-gw{ema.number}-{config.name}",
        username=config.username or None,
        password=password,
        tls=tls,
        will=Will(will.topic, will.body),
        subscriptions=tuple((topic, 1) for topic in subscriptions),
    )


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def update_report(ema: EmaConfig, number: int, report: SiteReport, explicit: bool) -> wire.UpdateReport:
    """A report of the site under that RequestID; ``explicit``: with its devices."""
    return wire.UpdateReport(
        ema=ema.number,
        ven_id=ema.ven,
        request_id=number,
        time_ms=max(0, round(report.at * 1000)),
        power=wire.whole_watts(report.power_w),
        threshold=_watts(report.threshold_w),
        margin=_watts(report.margin_w),
        generate=wire.whole_watts(report.generate_w),
        storage=wire.whole_watts(report.storage_w),
        devices=tuple(_entry(line) for line in report.devices) if explicit else None,
    )


def _watts(watts: float | None) -> int | None:
    return None if watts is None else wire.whole_watts(watts)


def _entry(line: DeviceLine) -> wire.DeviceEntry:
    text = device_text(0, line)
    return wire.DeviceEntry(text.device, text.on, text.dimming, _watts(line.power_w), text.priority)


def device_text(ema: int, line: DeviceLine) -> wire.DeviceText:
    """A device as the eight-part text has it; there a power that is not known can only be 0."""
    return wire.DeviceText(
        ema=ema,
        device=max(0, min(HIGHEST_DEVICE, line.number)),
        on=line.on,
        dimming=max(0, min(HIGHEST_DIMMING, line.level)),
        watt=wire.whole_watts(line.power_w or 0.0),
        priority=max(0, min(HIGHEST_PRIORITY, line.priority)),
    )


def margin_of(report: SiteReport) -> wire.PowerMargin | None:
    """What is left under the limit; None without a limit, which the wire cannot say."""
    if report.margin_w is None:
        return None
    return wire.PowerMargin(wire.whole_watts(report.power_w), wire.whole_watts(report.margin_w))


def dr_event(upstream: str, event: wire.DistributeEvent) -> DrEvent:
    """The event as the site knows it."""
    return DrEvent(upstream, event.event_id, event.modification, event.start, event.end, float(event.value))
