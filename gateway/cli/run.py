"""``smartema run -c FILE``: the daemon."""

from __future__ import annotations

import gc
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from gateway.config.model import Config

# What only reads a command line or a configuration; a daemon may run for years after it has.
READERS = ("argparse", "gettext", "tomllib")
KEPT = ("gateway.config", "gateway.config.model")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="the configuration, TOML")


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; SIGHUP reads the configuration again."""
    path: Path = args.config
    config = _read(path)
    start_log(config.ema.log_level)
    # After the configuration: they take the memory that reading it gave back.
    import asyncio
    import random
    import signal

    from gateway.clock import SystemClock
    from gateway.daemon import Daemon
    from gateway.notify import Notifier
    from gateway.settled import settle

    async def main() -> None:
        daemon = Daemon(
            config,
            SystemClock(),
            random.Random(),
            Notifier(os.environ),
            reload=lambda: _read(path),
        )
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, daemon.stop)
        loop.add_signal_handler(signal.SIGINT, daemon.stop)
        loop.add_signal_handler(signal.SIGHUP, daemon.hangup)

        async def settled() -> None:
            await daemon.ready.wait()
            settle()

        settling = asyncio.ensure_future(settled())
        try:
            await daemon.run()
        finally:
            settling.cancel()

    asyncio.run(main())
    return 0


def _read(path: Path) -> Config:
    """The configuration; the modules that read it are dropped again (0.8 MB) and imported anew when it is read anew."""
    from gateway.config.load import load

    try:
        return load(path)
    finally:
        del load
        for name in [name for name in sys.modules if _only_reads(name)]:
            del sys.modules[name]
            parent, _, child = name.rpartition(".")
            if parent in sys.modules:
                vars(sys.modules[parent]).pop(child, None)
        gc.collect()


def _only_reads(name: str) -> bool:
    return name.partition(".")[0] in READERS or (name.startswith("gateway.config.") and name not in KEPT)


def start_log(level: str) -> None:
    """One line an entry on standard error; without the time where the journal of systemd adds it."""
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format=stamp + "%(levelname)s %(name)s: %(message)s")
    logging.getLogger("smartema").setLevel(level.upper())
    logging.getLogger("gateway").setLevel(level.upper())
