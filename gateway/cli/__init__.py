"""``smartema``: one program, one table of sub-commands; only the module of the chosen one is imported.

Exit codes: 0 well, 1 failed, 2 wrong usage or configuration, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from gateway import __version__
from gateway.errors import OperatorError, SmartemaError
from gateway.record import slim


@slim(frozen=True, slots=True)
class SubCommand:
    """A row of the table. ``module`` has ``add_arguments(parser)`` and ``run(args) -> int``.

    ``extra``: the extra that installs what this command needs beyond the core.
    """

    name: str
    module: str
    help: str
    example: str
    extra: str = ""


COMMANDS = (
    SubCommand(
        "setup",
        "gateway.cli.setup",
        "ask what this site is made of and write its configuration",
        "smartema setup --output gateway.toml",
    ),
    SubCommand("run", "gateway.cli.run", "run the daemon", "smartema run -c /etc/smartema/gateway.toml"),
    SubCommand(
        "check",
        "gateway.cli.check",
        "tell every mistake of a configuration at once",
        "smartema check -c gateway.toml",
    ),
    SubCommand("status", "gateway.cli.status", "show the site as the running daemon sees it", "smartema status --json"),
    SubCommand("why", "gateway.cli.why", "show the last decisions and their reasons", "smartema why --last 5"),
    SubCommand("menu", "gateway.cli.menu", "the lab's numbered menu, asking or one-shot", "smartema menu 60"),
    SubCommand(
        "demo", "lab.demo.cli", "broker, EMS, EMA and eight devices, simulated", "smartema demo --speed 60", "demo"
    ),
    SubCommand(
        "ems",
        "headend.ems.cli",
        "run an EMS, or tell it to send an event",
        "smartema ems event --value 800 --from now --for 10m --to gw/1",
        "headend",
    ),
    SubCommand(
        "oscore",
        "gateway.cli.oscore",
        "make keys that protect CoAP between an EMA and its EMS",
        "smartema oscore make keys --ema 1",
    ),
    SubCommand(
        "device",
        "device_agents.cli",
        "be one device: LED, PV, ESS or EV",
        "smartema device --type led --link mqtt --priority 3",
    ),
)

# Which extra brings a top-level package that may be missing. "" is the core itself.
EXTRA_OF = {
    "aiomqtt": "",
    "paho": "",
    "aiocoap": "",
    "gpiozero": "gpio",
    "gpiod": "gpio",
    "lgpio": "gpio",
    "pymodbus": "modbus",
    "serial": "meters",
    "dlms_cosem": "meters",
    "fastapi": "headend",
    "starlette": "headend",
    "pydantic": "headend",
    "uvicorn": "headend",
    "sqlalchemy": "headend",
    "amqtt": "demo",
}
# The extra "demo" brings these too, so one line is enough.
PART_OF_DEMO = ("headend", "gpio", "demo")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command and return the exit code; a failure is told in one line a reason on stderr."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a dash on a terminal that knows ASCII alone
    try:
        return _dispatch(words)
    except OperatorError as err:
        _tell(err)
        return 2
    except SmartemaError as err:
        _tell(err)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone: keep the interpreter from complaining at its last flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1


def _tell(err: SmartemaError) -> None:
    for line in str(err).splitlines():
        print(line, file=sys.stderr)


def _dispatch(words: list[str]) -> int:
    chosen = words[0] if words else ""
    command = next((row for row in COMMANDS if row.name == chosen), None)
    if command is None:
        _overview(words, chosen)
    try:
        run, args = _parsed(command, words[1:])
        return int(run(args) or 0)
    except ImportError as err:
        known = _missing(err, command)
        if known is None:
            raise
        raise known from err


def _overview(words: list[str], chosen: str) -> NoReturn:
    """What is said where no command is named; it ends by ``SystemExit``."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="smartema",
        usage="smartema COMMAND [options]",
        description="The energy gateway at the edge: holds a site under its limit.",
        epilog=_commands_text(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"smartema {__version__}")
    if not words:
        parser.exit(2, parser.format_help())
    if not chosen.startswith("-"):
        parser.error(f"there is no command {chosen!r}{_nearest(chosen)}; smartema --help lists them")
    parser.parse_args(words)
    parser.error("name a command; smartema --help lists them")


def _parsed(command: SubCommand, words: list[str]) -> tuple[Callable[[Any], int | None], Any]:
    """The command's ``run`` and what it is called with. Nothing of the parser stays: the daemon forgets argparse."""
    import argparse
    import importlib
    from types import SimpleNamespace

    parser = argparse.ArgumentParser(
        prog=f"smartema {command.name}",
        description=command.help[0].upper() + command.help[1:] + ".",
        epilog=f"example:\n  {command.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module = importlib.import_module(command.module)
    module.add_arguments(parser)
    return module.run, parser.parse_args(words, SimpleNamespace())


def _missing(err: ImportError, command: SubCommand) -> OperatorError | None:
    """One line that names the extra for a known package; None for anything else, which is a fault of ours."""
    name = err.name or ""
    top = name.partition(".")[0]
    if command.module == name or command.module.startswith(name + "."):
        wanted = f"smartema[{command.extra}]" if command.extra else "smartema"
        return OperatorError(f"this installation has no `smartema {command.name}`; install it: pip install '{wanted}'")
    if top not in EXTRA_OF:
        return None
    extra = EXTRA_OF[top]
    if command.extra == "demo" and extra in PART_OF_DEMO:
        extra = "demo"
    wanted = f"smartema[{extra}]" if extra else "smartema"
    return OperatorError(f"smartema {command.name} needs {top}; install it: pip install '{wanted}'")


def _nearest(word: str) -> str:
    import difflib

    near = difflib.get_close_matches(word, [row.name for row in COMMANDS], 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _commands_text() -> str:
    rows = "\n".join(f"  {row.name:<8} {row.help}" for row in COMMANDS)
    return (
        f"commands:\n{rows}\n\n"
        "examples:\n"
        "  smartema demo                            everything at once, simulated\n"
        "  smartema setup --output gateway.toml     a configuration for this site\n"
        "  smartema run -c gateway.toml             the daemon\n\n"
        "`smartema COMMAND --help` explains one command."
    )
