"""``smartema status``: the site as the running daemon sees it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from gateway.cli.client import add_socket_arguments, request, socket_path
from gateway.cli.text import UNKNOWN, moment, number, span, table, watts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_socket_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the daemon's answer as one JSON document")


def run(args: argparse.Namespace) -> int:
    status = request(socket_path(args), {"do": "status"})
    print(json.dumps(status, indent=2) if args.json else "\n".join(status_lines(status)))
    return 0


def status_lines(status: dict[str, Any]) -> list[str]:
    """The whole screen. Parts that have nothing to say are left out."""
    lines = [
        f"{status['ema']}   start {status['boot']}, up {span(status['uptime_s'])}   "
        f"{status['connection']}   algorithm {status['algorithm']}",
        *power_lines(status),
    ]
    loans = loan_lines(status["negotiation"]) if status.get("negotiation") else []
    above = (upstream_lines(status), price_lines(status), loans, event_lines(status))
    for part in (*above, device_lines(status), ema_lines(status)):
        if part:
            lines += ["", *part]
    return lines


def power_lines(status: dict[str, Any]) -> list[str]:
    """Power against its limit, the limit's terms, and what is wrong."""
    limit = status["limit"] or {}
    lines = [
        f"power {watts(status['power_w'])}   limit {_limit(limit.get('import_w'))}   margin {watts(status['margin_w'])}"
    ]
    if limit.get("export_w") is not None:
        lines[0] += f"   feed-in at most {watts(limit['export_w'])}"
    for term in limit.get("terms") or ():
        until = f" until {moment(term['until'])}" if term.get("until") is not None else ""
        lines.append(f"  {watts(term['watts'])} {term['source']}{until}")
    if status.get("futile"):
        lines.append("ALARM: over the limit, and everything that may be shed is off")
    if status.get("failsafe"):
        lines.append("ALARM: readings too old, sheddable devices are in their safe state")
    for name, problem in (status.get("journal") or {}).get("problems", {}).items():
        lines.append(f"ALARM: {name} cannot be written: {problem}; what needs it is not acknowledged meanwhile")
    if status["stale"]:
        lines.append(f"too old to count: {', '.join(status['stale'])}")
    failed = status.get("commands", {}).get("failed")
    if failed:
        lines.append(f"commands that no device confirmed: {failed}")
    restarts = ", ".join(f"{name} {count} times" for name, count in status.get("restarts", {}).items() if count)
    if restarts:
        lines.append(f"parts that failed and were started again: {restarts}")
    outbox = status["outbox"]
    lines.append(f"reports waiting {number(outbox['waiting'])}, lost {number(outbox['lost'])}")
    return lines


def device_lines(status: dict[str, Any]) -> list[str]:
    """One row a device."""
    rows = [
        (
            device["name"],
            str(device["number"]),
            device["kind"],
            device["link"] or UNKNOWN,
            number(device["priority"]) + ("!" if device["never_shed"] else ""),
            _state(device),
            watts(device["power_w"]),
            _more(device),
            device["held"] or "",
            span(device["age_s"]),
        )
        for device in status["devices"]
    ]
    head = ("device", "no", "kind", "link", "prio", "state", "power", "more", "held to", "age")
    return table(head, rows, right=("no", "prio", "power", "age")) if rows else ["no devices yet"]


def ema_lines(status: dict[str, Any]) -> list[str]:
    """One row an EMA below that was heard of; nothing where none is served."""
    below: dict[str, Any] | None = next((part for part in status.get("field", ()) if part["name"] == "emas"), None)
    if below is None:
        return []
    rows = [
        (
            ema["name"],
            ema["link"] or UNKNOWN,
            "here" if ema["here"] else "gone",
            watts(ema["power_w"]),
            watts(ema["threshold_w"]),
            watts(ema["margin_w"]),
            watts(ema["limit_w"]) if ema["limit_w"] is not None else "free",
            {"in": "takes it", "out": "refuses it", None: ""}[ema["opt"]],
            watts(ema["granted_w"]) if ema["granted_w"] else "",
            watts(ema["most_w"]) if ema["most_w"] else UNKNOWN,
            span(ema["heard_s"]),
        )
        for ema in below["emas"]
    ]
    head = ("EMA below", "link", "state", "power", "its limit", "margin", "told", "opt", "granted", "at most", "heard")
    right = ("power", "its limit", "margin", "told", "granted", "at most", "heard")
    return table(head, rows, right=right) if rows else ["no EMA below was heard of yet"]


def upstream_lines(status: dict[str, Any]) -> list[str]:
    """One line an upstream, with its counters that are not 0; ``--json`` has all."""
    lines = []
    for upstream in status["upstreams"]:
        known = {"name", "protocol", "mode", "state"}
        counters = ", ".join(f"{key} {value}" for key, value in upstream.items() if key not in known and value)
        mode = f" mode {upstream['mode']}" if upstream.get("mode") is not None else ""
        told = f"{upstream['name']}: {upstream.get('protocol') or UNKNOWN}{mode}, {upstream.get('state') or UNKNOWN}"
        lines.append(told + (f"   {counters}" if counters else ""))
    return lines


def event_lines(status: dict[str, Any]) -> list[str]:
    """One row an event."""
    rows = [
        (
            str(event["event_id"]),
            event["upstream"],
            watts(event["limit_w"]),
            moment(event["start"]),
            moment(event["end"]),
            event["state"],
        )
        for event in status["events"]
    ]
    return table(("event", "from", "limit", "start", "end", "state"), rows, right=("event", "limit")) if rows else []


def price_lines(status: dict[str, Any]) -> list[str]:
    """One line an upstream that told prices."""
    lines = []
    for told in status.get("price") or ():
        prices = [f"{name} {told[name]}" for name in ("initial", "incentive", "negotiation") if told[name] is not None]
        lines.append(f"prices of {told['upstream']}: {', '.join(prices)} a {told['unit'] or 'kWh'}")
    return lines


def loan_lines(status: dict[str, Any] | None) -> list[str]:
    """What is lent, borrowed and offered, and one row a loan."""
    if not status:
        return ["it does not negotiate; set [negotiation] enabled = true"]
    offered = status["offered_w"]
    offer = "" if offered is None else f", offers {watts(offered)} from {status['offered_at']} a kWh"
    link = "" if status["up"] else " (cannot be asked now)"
    lines = [
        f"negotiation over {status['coordinator'] or UNKNOWN}{link}: "
        f"lends {watts(status['lent_w'])}, borrows {watts(status['borrowed_w'])}{offer}"
    ]
    rows = [
        (
            *(str(loan["loan"]), f"{loan['what']} {loan['peer']}", watts(loan["watts"]), str(loan["price"])),
            *(span(loan["left_s"]), loan["state"]),
        )
        for loan in status["loans"]
    ]
    head = ("loan", "", "power", "a kWh", "left", "state")
    return lines + (table(head, rows, right=("power", "a kWh", "left")) if rows else [])


def _limit(value: float | None) -> str:
    return "none" if value is None else watts(value)


def _state(device: dict[str, Any]) -> str:
    if not device["present"]:
        return "gone"
    if device["on"] is None:
        return UNKNOWN
    level = device["level"]
    return "off" if not device["on"] else "on" if level is None else f"on {level}"


def _more(device: dict[str, Any]) -> str:
    parts = []
    if device["soc"] is not None:
        parts.append(number(device["soc"], "%"))
    if device["voltage"] is not None:
        parts.append(number(device["voltage"], "V"))
    if device["hertz"] is not None:
        parts.append(number(device["hertz"], "Hz", 1))
    if device["plugged"] is not None:
        parts.append("plugged" if device["plugged"] else "unplugged")
    return " ".join(parts)
