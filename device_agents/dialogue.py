"""What the lab's device program asked at its start; only what no option gave is asked."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from gateway.errors import OperatorError

# The lab's numbers, 1 to 4 and 1 to 2.
KINDS = ("led", "pv", "ess", "ev")
LINKS = ("mqtt", "coap")


def ask(args: argparse.Namespace) -> None:
    """Fill in ``args``. With ``--type`` and ``--link`` nothing is asked. Raise ``OperatorError`` when stdin ends."""
    if args.type is None or args.link is None:
        _ask(args)
    args.number = 1 if args.number is None else args.number
    args.priority = 0 if args.priority is None else args.priority


def _ask(args: argparse.Namespace) -> None:
    if args.link is None:
        args.link = LINKS[_number("1 : MQTT , 2 : CoAP : ", 1, 2) - 1]
    if args.link == "mqtt" and args.broker is None:
        args.broker = _text("Broker IP?", "127.0.0.1")
    if args.link == "coap" and args.ema is None:
        args.ema = _text("EMA IP?", "127.0.0.1")
    if args.type is None:
        args.type = KINDS[_number("1.LED 2.PV 3.ESS 4.Car : ", 1, 4) - 1]
    if args.number is None:
        args.number = _number("device number : ", 0, 99999, 1)
    if args.priority is None:
        args.priority = _number("priority : ", 0, 99999, 0)
    if args.link == "coap" and args.bind is None:
        host = _text("device ip : ", "127.0.0.1")
        # On a machine that is the EMA too, CoAP's own port is the EMA's.
        port = _number("device port : ", 1, 65535, 5684 if host in ("127.0.0.1", "::1", "localhost") else 5683)
        args.bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _text(prompt: str, default: str) -> str:
    return _line(prompt).strip() or default


def _number(prompt: str, least: int, most: int, default: int | None = None) -> int:
    while True:
        word = _line(prompt).strip()
        if not word and default is not None:
            return default
        if word.isascii() and word.isdigit() and least <= int(word[:9]) <= most:
            return int(word)
        print(f"a number from {least} to {most}, please")


def _line(prompt: str, read: Callable[[str], str] = input) -> str:
    try:
        return read(prompt)
    except EOFError as err:
        print(file=sys.stderr)
        raise OperatorError(f"{prompt.strip()} nobody answered; give --type, --link and the like as options") from err
