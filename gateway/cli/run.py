"""``smartema run -c FILE``: the daemon."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import signal
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="the configuration, TOML")


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; SIGHUP reads the configuration again."""
    from gateway.clock import SystemClock
    from gateway.config.load import load
    from gateway.daemon import Daemon
    from gateway.notify import Notifier

    config = load(args.config)
    start_log(config.ema.log_level)

    async def main() -> None:
        daemon = Daemon(
            config,
            SystemClock(),
            random.Random(),
            Notifier(os.environ),
            reload=lambda: load(args.config),
        )
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, daemon.stop)
        loop.add_signal_handler(signal.SIGINT, daemon.stop)
        loop.add_signal_handler(signal.SIGHUP, daemon.hangup)
        await daemon.run()

    asyncio.run(main())
    return 0


def start_log(level: str) -> None:
    """One line an entry on standard error; without the time where the journal of systemd adds it."""
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format=stamp + "%(levelname)s %(name)s: %(message)s")
    logging.getLogger("smartema").setLevel(level.upper())
    logging.getLogger("gateway").setLevel(level.upper())
