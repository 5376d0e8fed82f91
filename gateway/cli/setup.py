"""``smartema setup``: the lab's start dialogue; its answers become a commented configuration."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from gateway.cli import questions
from gateway.cli.asking import Asker
from gateway.cli.probes import clock_lines, json_lines
from gateway.clock import SystemClock
from gateway.config.load import ConfigurationErrors, examine
from gateway.config.template import render
from gateway.errors import OperatorError, SmartemaError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", default="gateway.toml", metavar="FILE", help="where to write it (default: gateway.toml)"
    )
    parser.add_argument("--defaults", action="store_true", help="ask nothing: every answer is its default")
    parser.add_argument("--force", action="store_true", help="overwrite FILE without asking")
    parser.epilog = (
        "Tests clock, JSON and the broker, asks, and writes a configuration with\n"
        "comments. An answer in brackets is taken by Enter. Answers may come through a\n"
        "pipe. Ctrl-D and Ctrl-C leave: then nothing is written.\n\n"
        "examples:\n"
        "  smartema setup --output /etc/smartema/gateway.toml\n"
        "  smartema setup --defaults --output gateway.toml && smartema check -c gateway.toml"
    )


def run(args: argparse.Namespace) -> int:
    output = Path(args.output)
    asker = Asker(args.defaults)
    _may_write(output, args.force, args.defaults, asker)
    ask = questions.Dialogue(asker, output.parent)
    _, lines = clock_lines(SystemClock())
    print("\n".join(lines))
    well, lines = json_lines()
    print("\n".join(lines))
    if not well:
        raise SmartemaError("JSON does not come back as it was: this Python installation is damaged")
    config = ask.site()
    for path, text in ask.secrets:
        _write(path, text, 0o600)
        print(f"{path}: written, readable by you alone")
    text = render(config)
    _write(output, text, None)
    print(f"{output}: written")
    found = examine(text, str(output))
    if found.mistakes:
        raise ConfigurationErrors(found.mistakes)
    if config.reached_over("mqtt") and not config.site_broker.host:
        folder = Path(config.ema.state_dir) / "device-passwords"
        print(f"at its first start the daemon makes an account for each MQTT device; passwords: {folder}/dev-<number>")
    print(f"UP EMA: smartema run -c {output}")
    return 0


def _may_write(output: Path, force: bool, defaults: bool, asker: Asker) -> None:
    """Refuse before anything is asked what could not be written in the end."""
    if output.is_dir():
        raise OperatorError(f"{output}: is a folder; name a file in it")
    if not output.parent.is_dir():
        raise OperatorError(f"{output.parent}: no such folder; make it first: mkdir -p {output.parent}")
    if not os.access(output.parent, os.W_OK):
        raise OperatorError(f"{output.parent}: this user may not write there; use sudo or another --output")
    if not output.exists() or force:
        return
    if defaults:
        raise OperatorError(f"{output}: is there already; add --force to overwrite it")
    if not asker.yes(f"{output} is there already. Overwrite it?"):
        raise SmartemaError(f"{output}: left as it was")


def _write(path: Path, text: str, mode: int | None) -> None:
    """All of it or nothing, on disk before it takes the name. ``mode`` None: as the umask says."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as err:
        raise OperatorError(f"{path}: {err.strerror}") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if mode is None:
            mask = os.umask(0)
            os.umask(mask)
            mode = 0o666 & ~mask
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
