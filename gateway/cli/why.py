"""``smartema why``: the last decisions, each with its reason in the same line that log and menu show."""

from __future__ import annotations

import argparse
import json
from typing import Any

from gateway.cli.client import add_socket_arguments, request, socket_path
from gateway.cli.text import moment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_socket_arguments(parser)
    parser.add_argument("--last", type=_count, default=10, metavar="N", help="how many (default: 10)")
    parser.add_argument("--device", metavar="NAME", help="only those that touched or spared this device")
    parser.add_argument("--json", action="store_true", help="print the decisions as one JSON list")


def run(args: argparse.Namespace) -> int:
    body: dict[str, Any] = {"do": "why", "last": args.last}
    if args.device:
        body["device"] = args.device
    decisions = request(socket_path(args), body)
    if args.json:
        print(json.dumps(decisions, indent=2))
    elif decisions:
        print("\n".join(why_lines(decisions)))
    else:
        print("no decision yet" + (f" that concerns {args.device}" if args.device else ""))
    return 0


def why_lines(decisions: list[dict[str, Any]]) -> list[str]:
    """Oldest first, so that the newest stands above the prompt."""
    return [
        f"{moment(d['at'])}  {d['rule']:<8}  {d['line']}" for d in sorted(decisions, key=lambda d: (d["at"], d["id"]))
    ]


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 10000")
    return int(text)
