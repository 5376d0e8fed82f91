"""What each number of the lab's menu does: from words typed to one request, and the answer to lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.cli.menu_virtual import virtual
from gateway.cli.status import (
    device_lines,
    ema_lines,
    event_lines,
    loan_lines,
    power_lines,
    price_lines,
    upstream_lines,
)
from gateway.cli.text import watts as in_watts
from gateway.errors import OperatorError, SmartemaError

Daemon = Callable[[dict[str, Any]], Any]
MODES = "1. EMS PUSH 2. EMS POLL, 3 EMA POLL, 4. EMA PUSH"
COAP_MODES = "CoAP EMS PUSH: 0 / PULL :1 / OBS :2 / X :3"
TYPES = ("led", "pv", "ess", "ev")
LINKS = ("mqtt", "coap")


class Missing(Exception):
    """A value that was not given. ``default`` None: there is none."""

    def __init__(self, what: str, question: str, default: str | None = None) -> None:
        super().__init__(f"{what} is missing")
        self.question = question
        self.default = default


@dataclass(frozen=True, slots=True)
class Done:
    """What came of it: lines for a person, the daemon's own result for ``--json``."""

    lines: list[str]
    result: Any
    well: bool = True


@dataclass(frozen=True, slots=True)
class Item:
    """One number. ``act(daemon, values)`` raises ``Missing`` for the next value that it needs."""

    usage: str
    help: str
    act: Callable[[Daemon, list[str]], Done] = field(repr=False)


def _value(values: list[str], index: int, what: str, question: str, default: str | None = None) -> str:
    if index < len(values):
        return values[index]
    raise Missing(what, question, default)


def _whole(values: list[str], index: int, what: str, question: str, default: str | None = None) -> int:
    text = _value(values, index, what, question, default).removeprefix("dev/")
    if not text.isdecimal():
        raise OperatorError(f"{what}: {text!r} is not a whole number")
    return int(text)


def _watts(values: list[str], index: int) -> float | None:
    if index >= len(values):
        return None
    try:
        watts = float(values[index])
    except ValueError:
        watts = 0.0
    if not 0 < watts < 1e9:
        raise OperatorError(f"watts: {values[index]!r} is not a number above 0")
    return watts


def _no_more(values: list[str], most: int) -> None:
    if len(values) > most:
        raise OperatorError(f"{values[most]!r} is one value too many")


def _said(result: Any) -> Done:
    lines = [str(line) for line in (result if isinstance(result, list) else [result])]
    refused = [line for line in lines if line.startswith("refused")]
    return Done(lines or ["no device can be switched"], result, well=bool(lines) and len(refused) < len(lines))


def _mode(daemon: Daemon, values: list[str]) -> Done:
    _no_more(values, 2)
    mode = _whole(values, 0, "DR mode", f"MQTT DR MODE {MODES}; {COAP_MODES}:")
    if mode > 4:
        raise OperatorError(f"DR mode: {mode} is not known; {MODES}; {COAP_MODES}")
    body: dict[str, Any] = {"do": "mode", "mode": mode}
    if len(values) > 1:
        body["upstream"] = values[1]
    return _said(daemon(body))


def _rdr(daemon: Daemon, values: list[str]) -> Done:
    _no_more(values, 3)
    body: dict[str, Any] = {"do": "rdr", "number": _whole(values, 0, "device number", "Device number?")}
    watts = _watts(values, 1)
    if watts is not None:
        body["watts"] = watts
    if len(values) > 2:
        body["for_s"] = _whole(values, 2, "seconds", "For how many seconds?")
    return _rdr_done(f"RDR of device {body['number']}", daemon(body))


def _coap_rdr(daemon: Daemon, values: list[str]) -> Done:
    """The same RDR, where an EMS over CoAP would answer it."""
    if not any(upstream["protocol"] == "coap" for upstream in daemon({"do": "status"})["upstreams"]):
        raise SmartemaError("there is no EMS over CoAP; use 1")
    return _rdr(daemon, values)


def _gateway_rdr(daemon: Daemon, values: list[str]) -> Done:
    _no_more(values, 1)
    watts = _watts(values, 0)
    return _rdr_done("gateway RDR", daemon({"do": "gateway_rdr"} | ({} if watts is None else {"watts": watts})))


def _rdr_done(who: str, answer: dict[str, Any]) -> Done:
    why = f": {answer['why']}" if answer.get("why") else ""
    return Done([f"{who} {answer['result']}{why}"], answer, well=answer["result"] != "denied")


# What may be said of a lamp; 11 and 15 are the lab's console codes.
_LAMP: dict[str, dict[str, Any]] = {
    "on": {"on": True},
    "11": {"on": True},
    "off": {"on": False},
    "15": {"on": False},
    "up": {"dimming": 1},
    "+": {"dimming": 1},
    "down": {"dimming": -1},
    "-": {"dimming": -1},
}


def _lamp(links: tuple[str, ...], other: str) -> Callable[[Daemon, list[str]], Done]:
    def act(daemon: Daemon, values: list[str]) -> Done:
        _no_more(values, 2)
        number = _whole(values, 0, "device number", "Device number?")
        word = _value(values, 1, "on, off, up, down or a level 0 to 9", "11.on 15.off up down, or dimming 0 to 9?")
        chosen = {"level": int(word)} if word in "0123456789" and len(word) == 1 else _LAMP.get(word.lower())
        if chosen is None:
            raise OperatorError(f"{word!r} is not known; say on, off, up, down, or a dimming level 0 to 9")
        device = _device(daemon, number)
        if device["link"] not in (*links, None):
            raise SmartemaError(f"{device['name']} is a device on {device['link']}; use {other}")
        return _said(daemon({"do": "device", "number": number, **chosen}))

    return act


def _device(daemon: Daemon, number: int) -> dict[str, Any]:
    devices = daemon({"do": "status"})["devices"]
    found: dict[str, Any] | None = next((d for d in devices if d["number"] == number), None)
    if found is None:
        known = ", ".join(f"{d['number']} ({d['name']})" for d in devices)
        raise SmartemaError(f"there is no device {number}; " + (f"there are {known}" if known else "none is there yet"))
    return found


def _switch(on: bool) -> Callable[[Daemon, list[str]], Done]:
    def act(daemon: Daemon, values: list[str]) -> Done:
        _no_more(values, 1)
        number = _whole(values, 0, "device number", "Device number?")
        return _said(daemon({"do": "device", "number": number, "on": on}))

    return act


def _all(on: bool) -> Callable[[Daemon, list[str]], Done]:
    def act(daemon: Daemon, values: list[str]) -> Done:
        _no_more(values, 0)
        return _said(daemon({"do": "all", "on": on}))

    return act


def _connect(daemon: Daemon, values: list[str]) -> Done:
    _no_more(values, 6)
    number = _whole(values, 0, "device number", "Device number?")
    kind = _choice(_value(values, 1, "type", "1.LED 2.PV 3.ESS 4.Car?"), TYPES, "type")
    link = _choice(_value(values, 2, "link", "1.MQTT 2.CoAP?"), LINKS, "link")
    priority = _whole(values, 3, "priority", "Priority (the smaller sheds first) [0]?", "0")
    body: dict[str, Any] = {"do": "connect", "number": number, "type": kind, "link": link, "priority": priority}
    if link == "coap":
        body["address"] = _value(values, 4, "address", "Device IP?")
        body["port"] = _whole(values, 5, "port", "Device port [5683]?", "5683")
    else:
        _no_more(values, 4)
    return _said(daemon(body))


def _choice(text: str, names: tuple[str, ...], what: str) -> str:
    """A word of the list, or its place in it from 1 as the lab numbers them."""
    word = text.lower()
    if word == "car":
        return "ev"
    if word in names:
        return word
    if word.isdecimal() and 1 <= int(word) <= len(names):
        return names[int(word) - 1]
    raise OperatorError(f"{what}: {text!r} is not known; choose {', '.join(names)}")


def _information(daemon: Daemon, values: list[str]) -> Done:
    _no_more(values, 0)
    status = daemon({"do": "status"})
    lines = ["Power", *("  " + line for line in power_lines(status))]
    lines += [
        "Price",
        *("  " + line for line in price_lines(status) or ["not told by any upstream"]),
        "Devices",
        *("  " + line for line in device_lines(status)),
    ]
    below = ema_lines(status)
    if below:
        lines += ["EMAs below", *("  " + line for line in below)]
    if status.get("negotiation"):
        lines += ["Negotiation", *("  " + line for line in loan_lines(status["negotiation"]))]
    lines += ["Algorithm", f"  {status['algorithm']}"]
    lines += ["Events", *("  " + line for line in event_lines(status) or ["none"])]
    lines += ["Upstream", *("  " + line for line in upstream_lines(status) or ["none is configured"])]
    return Done(lines, status)


def _negotiation(daemon: Daemon, values: list[str]) -> Done:
    _no_more(values, 2)
    word = _value(values, 0, "watts, back or show", "Watts to borrow, back or show [show]?", "show")
    if word == "show":
        status = daemon({"do": "status"}).get("negotiation")
        return Done(loan_lines(status), status)
    if word == "back":
        return _said(daemon({"do": "give_back"}))
    body: dict[str, Any] = {"do": "negotiate", "watts": _watts(values, 0)}
    if len(values) > 1:
        body["for_s"] = _whole(values, 1, "seconds", "For how many seconds?")
    return _rdr_done(f"loan of {in_watts(body['watts'])}", daemon(body))


def _later(part: str) -> Callable[[Daemon, list[str]], Done]:
    def act(daemon: Daemon, values: list[str]) -> Done:
        raise SmartemaError(f"{part} is not in this release; it comes with a later one")

    return act


ITEMS: dict[str, Item] = {
    "0": Item("MODE [UPSTREAM]", f"DR mode: {MODES}; {COAP_MODES}", _mode),
    "1": Item("DEVICE [WATTS [SECONDS]]", "MQTT RDR: ask a device's power back", _rdr),
    "2": Item("DEVICE [WATTS [SECONDS]]", "CoAP RDR: the same, with an EMS over CoAP", _coap_rdr),
    "6": Item("DEVICE on|off|up|down|0..9", "CoAP LED on/off/dimming", _lamp(("coap",), "10")),
    "7": Item("DEVICE TYPE mqtt|coap [PRIORITY [IP [PORT]]]", "device connect", _connect),
    "10": Item("DEVICE on|off|up|down|0..9", "MQTT LED (and GPIO) on/off/dimming", _lamp(("mqtt", "gpio"), "6")),
    "11": Item("DEVICE", "on", _switch(True)),
    "15": Item("DEVICE", "off", _switch(False)),
    "30": Item("", "OpenFMB (later)", _later("OpenFMB")),
    "40": Item("", "all on", _all(True)),
    "50": Item("", "all off", _all(False)),
    "60": Item("", "power, price, devices, algorithm, events", _information),
    "70": Item("[WATTS]", "gateway RDR test", _gateway_rdr),
    "90": Item("[WATTS [SECONDS] | back | show]", "negotiation test: borrow, give back, look", _negotiation),
    "100": Item("[COUNT]", "so many virtual LEDs over CoAP; 0 stops them", virtual("coap")),
    "101": Item("[COUNT]", "so many virtual LEDs over MQTT; 0 stops them", virtual("mqtt")),
}
