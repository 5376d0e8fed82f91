"""``smartema menu``: the lab's numbers on a running daemon, asking or one-shot."""

from __future__ import annotations

import argparse
import contextlib
import json
from typing import Any

from gateway.cli.client import add_socket_arguments, request, socket_path
from gateway.cli.menu_items import ITEMS, Daemon, Item, Missing
from gateway.cli.text import watts
from gateway.errors import OperatorError, SmartemaError

SCREEN = (
    " 0:DR mode      1:MQTT RDR     2:CoAP RDR     6:CoAP LED     7:Device connect",
    "10:MQTT LED    11:ON          15:OFF         30:OpenFMB     40/50:All on/off",
    "60:Power information, price, devices, algorithm, events     70:Gateway RDR test",
    "90:Negotiation test          100:CoAP VR    101:MQTT VR      q:Leave",
)

# Where the words of ``--help`` begin.
HELP_COLUMN = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_socket_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print what came of it as JSON (one-shot only)")
    parser.add_argument("--count", metavar="N", help="100 and 101: how many virtual LEDs; as COUNT")
    parser.add_argument("item", nargs="?", metavar="NUMBER", help="the menu's number; none: ask")
    parser.add_argument("values", nargs="*", metavar="VALUE", help="what the number would ask for")
    rows = "\n".join(_help_row(f"{number:>3} {item.usage}", item.help) for number, item in ITEMS.items())
    parser.epilog = f"numbers:\n{rows}\n\nexample:\n  smartema menu 10 4 on"


def _help_row(usage: str, words: str) -> str:
    """Within 80 columns: the words on a line of their own where they have no room beside."""
    gap = f"\n{'':<{HELP_COLUMN + 2}}" if len(usage) > HELP_COLUMN else " " * (HELP_COLUMN - len(usage))
    return f"  {usage}{gap} {words}"


def run(args: argparse.Namespace) -> int:
    path = socket_path(args)

    def ask_daemon(body: dict[str, Any]) -> Any:
        return request(path, body)

    if args.item is None:
        if args.json:
            raise OperatorError("--json goes with a number: smartema menu 60 --json")
        return _interactive(ask_daemon)
    if args.count is not None and args.item not in ("100", "101"):
        raise OperatorError("--count goes with 100 and 101: smartema menu 100 --count 50")
    values = args.values if args.count is None else [*args.values, args.count]
    return _once(ask_daemon, args.item, values, args.json)


def _once(daemon: Daemon, number: str, values: list[str], as_json: bool) -> int:
    item = _item(number)
    while True:
        try:
            done = item.act(daemon, values)
            break
        except Missing as missing:
            if missing.default is None:
                text = f"menu {number}: {missing}; write smartema menu {number} {item.usage}"
                raise OperatorError(text) from None
            values = [*values, missing.default]
    print(json.dumps(done.result, indent=2) if as_json else "\n".join(done.lines))
    return 0 if done.well else 1


def _interactive(daemon: Daemon) -> int:
    """The lab's loop: screen, number, questions, what came of it. The end of the input leaves as q does."""
    # Line editing and history where Python was built with them.
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    try:
        while True:
            status = daemon({"do": "status"})
            print("\n-----CLI MODE-----")
            print(f"Current Total Sum: {watts(status['power_w'])}")
            print("\n".join(SCREEN))
            number = input("> ").strip()
            if number in ("q", "quit", "exit"):
                return 0
            if number:
                _answer(daemon, number)
    except EOFError:
        print()
        return 0


def _answer(daemon: Daemon, line: str) -> None:
    """One choice; whatever fails is said, and the menu goes on."""
    number, *values = line.split()
    try:
        item = _item(number)
        while True:
            try:
                done = item.act(daemon, values)
                break
            except Missing as missing:
                values.append(_asked(missing))
        print("\n".join(done.lines))
    except SmartemaError as err:
        print(err)


def _asked(missing: Missing) -> str:
    text = input(f"{missing.question} ").strip()
    if text:
        return text
    if missing.default is None:
        raise OperatorError("nothing given: back to the menu")
    return missing.default


def _item(number: str) -> Item:
    item = ITEMS.get(number)
    if item is None:
        raise OperatorError(f"the menu has no number {number!r}; it has {', '.join(ITEMS)}")
    return item
