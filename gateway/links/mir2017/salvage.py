"""Whom a message that cannot be taken is from, so that its sender can be told and goes on to the next."""

from __future__ import annotations

from gateway.errors import PeerError
from gateway.links.mir2017.messages.fields import parse_device, parse_ema, read_json, read_text


def named_report(body: bytes) -> tuple[int, int] | None:
    """(EMA, RequestID) of an ``UpdateReport``; None when it does not say."""
    try:
        f = read_json(body, "UpdateReport")
        return f.ema("GW"), f.whole("RequestID")
    except PeerError:
        return None


def named_device(body: bytes) -> tuple[int, int] | None:
    """(EMA, device) of a ``DeviceConnect`` or ``DeviceDisconnect``, text or JSON; None when it does not say."""
    try:
        if body.lstrip()[:1] == b"{":
            f = read_json(body, "device")
            return f.ema("gw"), f.device("dev")
        parts = read_text(body, "device").split("/")
        return parse_ema("/".join(parts[:2]), "device"), parse_device("/".join(parts[2:4]), "device")
    except PeerError:
        return None
