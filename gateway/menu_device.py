"""A device that does not announce itself, as a menu's answers name it (menu 7)."""

from __future__ import annotations

from typing import Any

from gateway.config.model import DeviceConfig
from gateway.errors import OperatorError


def device_of(request: dict[str, Any]) -> DeviceConfig:
    """A ``[[device]]`` made of a menu's answers; raise ``OperatorError`` that names what is wrong."""
    choices = {"type": ("led", "pv", "ess", "ev"), "link": ("mqtt", "coap")}
    for name, allowed in choices.items():
        if request.get(name) not in allowed:
            raise OperatorError(f"{name}: {request.get(name)!r} is not one of {', '.join(allowed)}")
    number, priority = (_whole(request, name, default) for name, default in (("number", None), ("priority", 0)))
    address = request.get("address") or ""
    if not isinstance(address, str):
        raise OperatorError(f"address: {address!r} is not an address")
    return DeviceConfig(
        number=number,
        type=request["type"],
        link=request["link"],
        priority=priority,
        address=address,
        port=_port(request) if address else 0,
    )


def _port(request: dict[str, Any]) -> int:
    port = _whole(request, "port", 0)
    if port > 65535:
        raise OperatorError(f"port: {port} is not a port, 1 to 65535")
    return port


def _whole(request: dict[str, Any], name: str, default: int | None) -> int:
    value = request.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 99999:
        raise OperatorError(f"{name}: {value!r} is not a whole number from 0 to 99999")
    return value
