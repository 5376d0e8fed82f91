"""The sub-commands of ``smartema ems`` that speak to an EMS that runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from gateway.errors import OperatorError
from headend.ems.client import EmsClient
from headend.ems.times import duration, shown


def run_command(args: argparse.Namespace) -> int:
    """Ask, print, and return 0. Raise ``OperatorError`` or ``TransientError``."""
    client = EmsClient(args.state_dir or "", args.http or "")
    result, lines = _COMMANDS[args.command](client, args)
    if args.json:
        json.dump(result, sys.stdout, indent=2)
        print()
    else:
        for line in lines:
            print(line)
    return 0


Answer = tuple[Any, Sequence[str]]


def _event(client: EmsClient, args: argparse.Namespace) -> Answer:
    body = {"value_w": args.value, "start": args.start, "targets": _targets(args.to), **_end(args)}
    if args.duration is None and args.end is None:
        raise OperatorError("say when it ends: --for 10m, or --until 15:00")
    event = client.ask("POST", "/events", body)
    return event, [_event_line(event)]


def _change(client: EmsClient, args: argparse.Namespace) -> Answer:
    body: dict[str, Any] = _end(args)
    if args.value is not None:
        body["value_w"] = args.value
    if args.start is not None:
        body["start"] = args.start
    if args.to is not None:
        body["targets"] = _targets(args.to)
    if not body:
        raise OperatorError("say what to change: --value, --from, --for, --until or --to")
    event = client.ask("PATCH", f"/events/{args.id}", body)
    return event, [_event_line(event)]


def _cancel(client: EmsClient, args: argparse.Namespace) -> Answer:
    event = client.ask("DELETE", f"/events/{args.id}")
    return event, [_event_line(event)]


def _end(args: argparse.Namespace) -> dict[str, Any]:
    if args.duration is not None and args.end is not None:
        raise OperatorError("--for and --until say the same; give one")
    if args.duration is not None:
        return {"for_s": duration("--for", args.duration)}
    return {"end": args.end} if args.end is not None else {}


def _targets(text: str) -> list[str] | str:
    return "all" if text == "all" else [part.strip() for part in text.split(",") if part.strip()]


def _event_line(event: dict[str, Any]) -> str:
    to = "all" if event["everyone"] else ", ".join(event["targets"])
    span = f"{shown(event['start'], None)} to {shown(event['end'], None)}"
    number = f"{event['id']} (modification {event['modification']})" if event["modification"] else event["id"]
    return f"event {number} {event['state']}: {event['value_w']:.0f} W, {span}, {to}"


def _control(client: EmsClient, args: argparse.Namespace) -> Answer:
    path = f"/emas/{_ema(args.ema)}/devices/{args.device}/command"
    command = client.ask("POST", path, {"action": args.action})
    return command, [f"command {command['id']}: {args.ema} dev/{args.device} {args.action} {command['state']}"]


def _ema(name: str) -> str:
    kind, _, number = name.partition("/")
    if kind != "gw" or not number.isdecimal():
        raise OperatorError(f"{name!r} is not an EMA's name, such as gw/1")
    return name


def _limit(client: EmsClient, args: argparse.Namespace) -> Answer:
    try:
        watts = None if args.watts == "none" else float(args.watts)
    except ValueError:
        raise OperatorError(f'watts: {args.watts!r} is not a number or "none"') from None
    limits = client.ask("PUT", "/limits", {"scope": args.scope, "watts": watts})
    return limits, _table(limits, "scope watts")


def _list(client: EmsClient, args: argparse.Namespace) -> Answer:
    if args.ema is not None and args.what not in ("devices", "rdr", "commands"):
        raise OperatorError("--ema goes with devices, rdr and commands")
    found = client.get(f"/{args.what}", ema=args.ema)
    if args.what == "events":
        return found["events"], [_event_line(event) for event in found["events"]] or ["no events"]
    if args.what == "reports":
        return found, _table([{"ema": ema, **count} for ema, count in found.items()], "ema stored duplicates")
    return found, _table(found, _COLUMNS[args.what])


def _status(client: EmsClient, args: argparse.Namespace) -> Answer:
    found = client.get("/status")
    reports = found["reports"]
    lines = [
        f"smartema {found['version']}, since {shown(found['started_at'], None)}, RDR policy {found['rdr_policy']}",
        *(_link_line(link) for link in found["links"]),
        f"EMAs {found['emas']['used']} of {found['emas']['most']}, {found['connected']} connected; "
        f"devices {found['devices']['used']} of {found['devices']['most']}",
        f"reports {reports['stored']} stored, {reports['duplicates']} came again, {reports['rejected']} rejected, "
        f"{reports['deferred']} put off, {reports['waiting']} writes wait",
        f"database: {found['database'] or 'writes work'}",
    ]
    lines += [f"VTN {vtn['name']} at {vtn['address']}: {vtn['vens']} VENs" for vtn in found["vtns"]]
    if found["refused"]:
        lines += [f"refused {found['refused']}:", *_table(found["refusals"], "who count why")]
    return found, lines


def _link_line(link: dict[str, Any]) -> str:
    counts = f"{link['reconnects']} reconnects, {link['refused']} refused, {link['oversized']} too large"
    words = f"{link['name']} {link['address']} {'up' if link['up'] else 'down'}: {counts}"
    return f"{words}, {link['kept']} retained and not taken"


_COLUMNS = {
    "emas": "name protocol state power_w limit_w event_id opt age_s devices rejected",
    "devices": "ema id kind connected on dimming watt priority",
    "rdr": "id ema number watts state by why",
    "commands": "id ema number action by state why",
    "limits": "scope watts",
    "vtns": "name address vens value_w age_s",
}


def _table(rows: Sequence[dict[str, Any]], columns: str) -> list[str]:
    names = columns.split()
    if not rows:
        return ["nothing yet"]
    cells = [names, *([_cell(row[name]) for name in names] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(names))]
    right = [all(isinstance(row[name], (int, float, type(None))) for row in rows) for name in names]
    return [
        "  ".join(
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]


def _cell(value: object) -> str:
    match value:
        case None | "":
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.0f}"
        case _:
            return str(value)


_COMMANDS: dict[str, Callable[[EmsClient, argparse.Namespace], Answer]] = {
    "event": _event,
    "change": _change,
    "cancel": _cancel,
    "list": _list,
    "control": _control,
    "limit": _limit,
    "status": _status,
}
