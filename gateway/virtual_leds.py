"""Virtual LEDs below this very EMA (menu 100 and 101): a child process a link, `smartema device --virtual`.

It lives no longer than the daemon: it is ended with it, and ends by itself within a second of a killed one's end. It
does not come back with the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from device_agents.virtual_numbers import FIRST, MOST
from gateway.config.model import Config
from gateway.errors import OperatorError, TransientError
from gateway.field.broker import connect_host
from gateway.site.resource import Kind

if TYPE_CHECKING:
    from gateway.daemon import Daemon

log = logging.getLogger("smartema.virtual")

LINKS = ("mqtt", "coap")
# All of them say good-bye within a second; asked by a menu they get time for it, at the end of the daemon they do not.
END_S = 3.0


class _Fleet:
    """The child of one link; run as a part of the daemon, which starts it again when it fails."""

    def __init__(self, link: str, count: int, options: list[str]) -> None:
        self.count = count
        self.pid: int | None = None
        self.last_words: deque[str] = deque(maxlen=1)
        self._name = f"virtual {link}"
        self._options = options
        self._process: asyncio.subprocess.Process | None = None
        self._ending = False

    async def run(self) -> None:
        """Until cancelled. Raise ``TransientError`` with its last words when it ends by itself."""
        words = ("-m", "gateway", "device", "--virtual", str(self.count), "--parent", str(os.getpid()))
        process = await asyncio.create_subprocess_exec(
            sys.executable or "python3",
            *words,
            *self._options,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            # Ctrl-C in the daemon's terminal is for the daemon, which ends it.
            start_new_session=True,
        )
        self.pid, self._process = process.pid, process
        try:
            await self._read(process)
            code = await process.wait()
            if self._ending:
                await asyncio.Event().wait()  # until this part is taken away
        finally:
            self.pid = None
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        raise TransientError(f"ended ({code}) {' '.join(self.last_words)}".rstrip())

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            text = line.decode("utf-8", "replace").strip()
            self.last_words.append(text)
            log.info("%s: %s", self._name, text)

    async def goodbye(self) -> None:
        """Ask it to end, and wait for its good-byes."""
        self._ending = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await process.wait()


class VirtualLeds:
    """What the menu asks for; at most one child a link."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._fleets: dict[str, _Fleet] = {}

    async def set(self, link: str, count: int) -> None:
        """So many from now on; 0: none. Raise ``OperatorError`` that says what is missing."""
        if link not in LINKS:
            raise OperatorError(f"link: {link!r} is none of {', '.join(LINKS)}")
        config = self._daemon.config
        options = _options(config, link, self._daemon) if count else []
        if count:
            _check(config, link, count)
        running = self._fleets.get(link)
        if running is not None and running.count == count:
            return
        if running is not None:
            await self._end(link, running)
        if count:
            fleet = self._fleets[link] = _Fleet(link, count, options)
            self._daemon.start_part(f"virtual {link}", fleet.run)

    async def _end(self, link: str, fleet: _Fleet) -> None:
        del self._fleets[link]
        await fleet.goodbye()
        await self._daemon.stop_part(f"virtual {link}")
        for number in self._numbers(link):
            self._daemon.engine.forget(number, "virtual devices were stopped")

    def _numbers(self, link: str) -> list[int]:
        """Of those that this EMA knows."""
        ours = range(FIRST[link], FIRST[link] + MOST)
        states = self._daemon.engine.states
        return [n for n, state in states.items() if n in ours and state.resource.kind is Kind.VIRTUAL]

    def status(self, link: str) -> dict[str, Any]:
        """How many were asked for, how many are there, and since a failure why not."""
        fleet = self._fleets.get(link)
        states = self._daemon.engine.states
        numbers = self._numbers(link)
        here = sum(states[n].present and states[n].reading is not None for n in numbers)
        count = fleet.count if fleet is not None else 0
        return {
            "link": link,
            "count": count,
            "here": here,
            "first": FIRST[link],
            "last": FIRST[link] + count - 1 if count else None,
            "pid": fleet.pid if fleet is not None else None,
            "said": fleet.last_words[-1] if fleet is not None and fleet.last_words else None,
        }


def _check(config: Config, link: str, count: int) -> None:
    """May so many come. Raise ``OperatorError`` with the keys to set."""
    table = "site_broker" if link == "mqtt" else "site_coap"
    welcome = config.open_to_strangers(link)
    room = (config.site_broker if link == "mqtt" else config.site_coap).most_guests
    if not 0 < count <= MOST:
        raise OperatorError(f"count: {count} is not from 0 to {MOST}")
    if not welcome or room < count:
        keys = ([] if welcome else ["open = true"]) + ([f"most_guests = {count}"] if room < count else [])
        raise OperatorError(
            f"[{table}] does not let {count} virtual devices in: set {' and '.join(keys)} there, then SIGHUP"
        )
    ours = range(FIRST[link], FIRST[link] + count)
    taken = next((device for device in config.device if device.number in ours), None)
    if taken is not None:
        raise OperatorError(
            f"dev/{taken.number} is {taken.label} of the configuration; virtual devices over {link} are "
            f"dev/{ours[0]} to dev/{ours[-1]}: give it another number, or start fewer than {taken.number - ours[0] + 1}"
        )


def _options(config: Config, link: str, daemon: Daemon) -> list[str]:
    """How the child reaches us. Raise ``OperatorError``."""
    if link == "mqtt":
        return ["--link", "mqtt", *_broker(config, daemon)]
    from gateway.transport.coap import Sources

    host = connect_host(config.site_coap.bind)
    if not Sources(config.site_coap.sources).would_allow(host):
        raise OperatorError(f'[site_coap] sources does not hold {host}, where virtual devices are; add "{host}" to it')
    return ["--link", "coap", "--ema", _at(host, config.site_coap.port), "--bind", _at(host, 0)]


def _broker(config: Config, daemon: Daemon) -> list[str]:
    table = config.site_broker
    host = table.host or connect_host(table.bind)
    options = ["--broker", _at(host, table.port)]
    if not table.host:
        if table.cert_file:
            options += ["--pinned-file", table.cert_file]
        if not table.anonymous:
            options += [
                "--user",
                "guest",
                "--password-file",
                str(daemon.parts.state_dir / "device-passwords" / "guest"),
            ]
        return options
    # A broker that is there already: with the account that we have there.
    named = (
        ("--user", table.username),
        ("--password-file", table.password_file),
        ("--ca-file", table.ca_file),
        ("--cert-file", table.cert_file),
        ("--key-file", table.key_file),
    )
    return [*options, *(word for option, value in named if value for word in (option, value))]


def _at(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
