"""``smartema ems``: serve, or speak to an EMS that runs."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from gateway.errors import OperatorError
from gateway.settled import settle
from headend.ems.settings import EmsSettings

LISTS = ("emas", "devices", "events", "rdr", "commands", "limits", "reports", "vtns")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the server, and the sub-commands."""
    parser.epilog = (
        "examples:\n"
        "  smartema ems --broker 127.0.0.1:1883 --zone Asia/Seoul\n"
        "  smartema ems -c ems.toml\n"
        "  smartema ems event --value 800 --from now --for 10m --to gw/1\n"
        "  smartema ems list emas\n"
        "  smartema ems status\n"
        "  smartema ems cancel 17"
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="a TOML file with the options below (_ for -)")
    parser.add_argument(
        "--no-tty", action="store_true", help="the first start's password goes to a file (0600), not to the terminal"
    )
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    for key in dataclasses.fields(EmsSettings):
        option = "--" + key.name.replace("_", "-")
        words = f"{key.metadata['doc']}{f' (default {key.default})' if key.default not in ('', False) else ''}"
        if isinstance(key.default, bool):
            parser.add_argument(option, action="store_true", default=None, help=words)
        else:
            parser.add_argument(option, type=type(key.default), default=None, help=words, metavar=_metavar(key.name))
    _add_commands(parser)


def _metavar(name: str) -> str:
    if name in ("broker", "http", "coap", "udp"):
        return "HOST:PORT"
    return "FILE" if name.endswith(("file", "cert", "key")) else "X"


def _add_commands(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands for an EMS that runs")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--state-dir", default=argparse.SUPPRESS, metavar="DIR", help="the EMS's state folder")
    common.add_argument(
        "--http",
        default=argparse.SUPPRESS,
        metavar="HOST:PORT",
        help="its API (default: what stands in the state folder)",
    )
    common.add_argument("--json", action="store_true", help="print JSON")

    def command(name: str, words: str, example: str) -> argparse.ArgumentParser:
        return parts.add_parser(
            name,
            help=words,
            description=words[0].upper() + words[1:] + ".",
            epilog=f"example:\n  smartema ems {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[common],
        )

    event = command("event", "make a DR event", "event --value 800 --from now --for 10m --to gw/1,gw/2")
    event.add_argument("--value", type=float, required=True, metavar="W", help="the limit in W")
    event.add_argument("--from", dest="start", default="now", metavar="TIME", help="now, 14:30, 2026-05-01T14:30")
    event.add_argument("--for", dest="duration", metavar="DURATION", help="10m, 1h30m, 90s")
    event.add_argument("--until", dest="end", metavar="TIME", help="instead of --for")
    event.add_argument("--to", required=True, metavar="EMAS", help='gw/1, several as gw/1,gw/2, or "all"')
    change = command("change", "change an event", "change 17 --value 600 --for 20m")
    change.add_argument("id", type=int, help="the event's number")
    change.add_argument("--value", type=float, metavar="W", help="the limit in W")
    change.add_argument("--from", dest="start", metavar="TIME", help="now, 14:30, 2026-05-01T14:30")
    change.add_argument("--for", dest="duration", metavar="DURATION", help="counted from its start")
    change.add_argument("--until", dest="end", metavar="TIME", help="instead of --for")
    change.add_argument("--to", metavar="EMAS", help='gw/1, several as gw/1,gw/2, or "all"')
    cancel = command("cancel", "cancel an event", "cancel 17")
    cancel.add_argument("id", type=int, help="the event's number")
    listing = command("list", "list what the EMS knows", "list emas")
    listing.add_argument("what", choices=LISTS)
    listing.add_argument("--ema", metavar="GW", help="only of this EMA (devices, rdr, commands)")
    command("status", "show links, counters, what was refused and why", "status")
    control = command("control", "switch or dim a device", "control gw/1 4 off")
    control.add_argument("ema", metavar="GW", help="gw/1")
    control.add_argument("device", type=int, help="the d of dev/<d>")
    control.add_argument("action", choices=("on", "off", "up", "down"))
    limit = command("limit", "say up to how many W RDRs are granted", "limit total 5000")
    limit.add_argument("scope", help='an EMA, or "total"')
    limit.add_argument("watts", help='W, or "none"')
    broker = parts.add_parser(
        "broker-config",
        help="write the configuration of the EMS's mosquitto: accounts, topic rights",
        description="Write mosquitto's configuration, access list and password files into a folder.",
        epilog="example:\n  smartema ems broker-config /etc/smartema/broker --emas 1,2,3",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    broker.add_argument("directory", metavar="DIR")
    broker.add_argument("--emas", default="1", metavar="N,N", help="numbers of the EMAs, such as 1,2 or 1-20")
    broker.add_argument("--bind", default="127.0.0.1", help="address it listens on (default 127.0.0.1)")
    broker.add_argument("--port", type=int, default=1883, help="its port (default 1883)")
    broker.add_argument(
        "--ems-name",
        dest="broker_ems_name",
        default="MIR_EMS",
        metavar="NAME",
        help="the EMS's name in profile emap1b (default MIR_EMS)",
    )


def run(args: argparse.Namespace) -> int:
    """0 well, 1 failed (by exception), 2 wrong usage or configuration (by exception)."""
    if args.command is None:
        return _serve(args)
    if args.command == "broker-config":
        return _broker_config(args)
    from headend.ems.cli_commands import run_command

    return run_command(args)


def _settings(args: argparse.Namespace) -> EmsSettings:
    from headend.ems.settings import load

    keys: dict[str, Any] = load(args.config) if args.config else {}
    if args.db and "@" in args.db and ":" in args.db.partition("://")[2].rpartition("@")[0]:
        raise OperatorError("--db: a command line is seen by everybody; write the URL with its password into ems.toml")
    for key in dataclasses.fields(EmsSettings):
        value = getattr(args, key.name, None)
        if value is not None:
            keys[key.name] = value
    return EmsSettings(**keys).check()


def _serve(args: argparse.Namespace) -> int:
    import asyncio
    import logging
    import os
    import random
    import signal
    import sys

    from gateway.clock import SystemClock
    from gateway.notify import Notifier
    from headend.ems.app import Ems

    settings = _settings(args)
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format=stamp + "%(levelname)s %(name)s: %(message)s")
    logging.getLogger("smartema").setLevel(args.log_level.upper())
    terminal = sys.stderr.isatty() and not args.no_tty

    def tell(password: str) -> None:
        print(f"\n  log in as admin with {password}\n  (shown once; it has to be changed then)\n", file=sys.stderr)

    async def main() -> None:
        ems = Ems(settings, SystemClock(), random.Random(), tell_password=tell if terminal else None)
        notifier = Notifier(os.environ)
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)

        async def announce() -> None:
            await ems.ready()
            settle()
            notifier.ready(f"API {ems.url}")

        announcing = asyncio.ensure_future(announce())
        try:
            await ems.run()
        except asyncio.CancelledError:
            notifier.stopping()
        finally:
            announcing.cancel()

    asyncio.run(main())
    return 0


def _broker_config(args: argparse.Namespace) -> int:
    import os
    from pathlib import Path

    from gateway.field.broker_files import write_ems_files
    from gateway.links.emap1b.messages.names import check_name

    check_name("--ems-name", args.broker_ems_name)
    files = write_ems_files(
        Path(args.directory), _numbers(args.emas), args.bind, args.port, ems_name=args.broker_ems_name
    )
    for path in files:
        print(path)
    print(f"start it{' as root' if os.geteuid() == 0 else ''}: mosquitto -c {files[0]}")
    return 0


def _numbers(text: str) -> list[int]:
    """``1,2,5-9``. Raise ``OperatorError``."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().removeprefix("gw/").partition("-")
        low, high = first.strip(), (last or first).strip().removeprefix("gw/")
        if not (low.isdecimal() and high.isdecimal() and 1 <= int(low) <= int(high) <= 99_999):
            raise OperatorError(f"--emas: {text!r} is not a list of numbers such as 1,2 or 1-20")
        numbers.update(range(int(low), int(high) + 1))
    return sorted(numbers)
