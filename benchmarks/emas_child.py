"""Many EMAs as one process: each a whole daemon (engine, journal, session over CoAP) at an address of its own.

Their lamps are played by one task. Says its first line when all are registered, then answers lines on its standard
input by lines of JSON: ``look``, what happened since the last look; ``end``, the same once nothing is under way any
more and nothing new is said. To be killed, not ended: 200 good-byes are not what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.bench_site import rss_kb
from gateway.clock import SystemClock
from gateway.config.model import Config, EmaConfig, SiteCoapConfig, UpstreamConfig
from gateway.daemon import Daemon
from gateway.links.mir2017 import client_happenings as link
from gateway.links.mir2017 import messages as wire
from gateway.settled import settle
from gateway.site.command import Command
from gateway.site.event import RdrAnswer
from gateway.site.resource import Kind, Reading, Resource
from gateway.upstream.ems import EmsUpstream

PULL = 1
RATED_W = 60.0
# Every lamp says its state so often.
STATE_S = 10.0
SLICES = 100
BETWEEN_S = 0.033
REGISTER_S = 120.0
DRAIN_S = 20.0
AGAIN_S = 0.02


class Lamps:
    """The field of one EMA: lamps that obey and read back at once."""

    name = "mqtt"

    def __init__(self, daemon: Daemon, count: int) -> None:
        self.numbers = range(1, count + 1)
        self._daemon = daemon
        self._on = dict.fromkeys(self.numbers, True)
        self._done = dict.fromkeys(self.numbers, 0)

    async def run(self) -> None: ...

    async def close(self) -> None: ...

    async def answer_rdr(self, number: int, answer: RdrAnswer) -> None: ...

    async def send(self, command: Command) -> None:
        if command.setting.on is not None:
            self._on[command.number] = command.setting.on
        self._done[command.number] = command.id
        self.state(command.number)

    def come(self) -> None:
        for number in self.numbers:
            self._daemon.engine.appeared(
                self, Resource(f"led-{number}", number, Kind.LED, number, levels=True, rated_w=RATED_W, lease_s=60.0)
            )
            self.state(number)

    def state(self, number: int) -> None:
        on = self._on[number]
        now = self._daemon.clock.monotonic()
        self._daemon.engine.reported(number, Reading(now, RATED_W if on else 0.0, on, 9, done=self._done[number]))


class Watch:
    """What one EMA's client says and hears: when each poll left, and which reports were acknowledged."""

    def __init__(self, upstream: EmsUpstream, taken: list[float]) -> None:
        self.upstream = upstream
        self.ended = False
        self.reports: set[int] = set()
        self.acknowledged: set[int] = set()
        self._polls: dict[int, tuple[wire.Send, float]] = {}
        self._taken = taken
        client: Any = upstream._client
        self._poll, self._report, self._answered = client.poll, client.report, client.answered
        client.poll, client.report, client.answered = self.poll, self.report, self.answered

    def poll(self) -> list[wire.Send]:
        if self.ended:
            return []
        sends: list[wire.Send] = self._poll()
        self._polls.update((id(send), (send, time.perf_counter())) for send in sends)
        return sends

    def report(self, report: wire.UpdateReport) -> list[wire.Send]:
        if self.ended and report.request_id not in self.reports:
            return []
        self.reports.add(report.request_id)
        sends: list[wire.Send] = self._report(report)
        return sends

    def answered(self, ask: wire.Send, body: bytes, failure: str = "") -> list[link.ClientOutput]:
        outputs: list[link.ClientOutput] = self._answered(ask, body, failure)
        for output in outputs:
            if isinstance(output, link.ReportAcknowledged):
                self.acknowledged.add(output.request_id)
            elif isinstance(output, link.PollAnswered):
                _, began = self._polls.pop(id(ask))
                self._taken.append(time.perf_counter() - began)
        return outputs

    @property
    def under_way(self) -> int:
        """Polls and reports that wait for their answer."""
        return len(self._polls) + len(self.reports - self.acknowledged)


class Emas:
    """All of them."""

    def __init__(self, state: Path, ems: int, port: int, count: int, devices: int) -> None:
        self._state = state
        self._ems = ems
        self._port = port
        self._count = count
        self._devices = devices
        self._taken: list[float] = []
        self._daemons: list[Daemon] = []
        self._lamps: list[Lamps] = []
        self._watched: list[Watch] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._polls_sent = 0

    def _daemon(self, number: int) -> Daemon:
        address = f"127.0.{1 + number // 250}.{1 + number % 250}"
        directory = self._state / str(number)
        directory.mkdir(parents=True)
        config = Config(
            ema=EmaConfig(number=number, state_dir=str(directory)),
            site_coap=SiteCoapConfig(bind=address, port=self._port),
            upstream=(UpstreamConfig(host="127.0.0.1", port=self._ems, protocol="coap", mode=PULL, timezone="UTC"),),
        )
        return Daemon(config, SystemClock(), random.Random(number), serve_socket=False)

    async def run(self) -> None:
        """Register all, then answer until the standard input ends."""
        sizes = []
        async with asyncio.timeout(REGISTER_S):
            for number in range(1, self._count + 1):
                await self._start(number)
                sizes.append(rss_kb(os.getpid()))
            await self._quiet()
        settle()  # as the command line does
        playing = asyncio.create_task(self._play())
        print(json.dumps({"first_kb": sizes[0]}), flush=True)
        lines = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := (await lines.readline()).strip():
            if line == b"end":
                playing.cancel()
                await self._end()
            print(json.dumps(self._look()), flush=True)

    async def _start(self, number: int) -> None:
        """One more, registered; they poll at moments of their own, as processes of their own would."""
        daemon = self._daemon(number)
        self._daemons.append(daemon)
        self._tasks.append(asyncio.create_task(daemon.run()))
        await daemon.ready.wait()
        (upstream,) = daemon.engine.upstreams
        assert isinstance(upstream, EmsUpstream)
        self._watched.append(Watch(upstream, self._taken))
        while not upstream.status()["sessions"]:
            await asyncio.sleep(AGAIN_S)
        self._lamps.append(Lamps(daemon, self._devices))
        self._lamps[-1].come()
        await asyncio.sleep(BETWEEN_S)

    async def _quiet(self) -> None:
        """Until the EMS has acknowledged of each what its start brought."""
        behind = list(self._daemons)
        while behind := [daemon for daemon in behind if daemon.outbox_status()["waiting"]]:
            await asyncio.sleep(AGAIN_S)

    async def _play(self) -> None:
        """Every lamp's state, spread over the period."""
        lamps = [(below, number) for below in self._lamps for number in below.numbers]
        while True:
            for turn in range(SLICES):
                for below, number in lamps[turn::SLICES]:
                    below.state(number)
                await asyncio.sleep(STATE_S / SLICES)

    def _look(self) -> dict[str, object]:
        taken = self._taken[:]
        self._taken.clear()
        states = [watch.upstream.status() for watch in self._watched]
        return {
            "taken": taken,
            "cpu_s": time.process_time(),
            "at": time.perf_counter(),
            "rss_kb": rss_kb(os.getpid()),
            "polls": self._polls_sent or sum(int(str(state["polls"])) for state in states),
            "reports": sum(len(watch.reports) for watch in self._watched),
            "under_way": sum(watch.under_way for watch in self._watched),
            "lost": sum(int(str(state["lost"])) + int(str(state["rejected"])) for state in states),
            "up": sum(state["state"] == "up" for state in states),
        }

    async def _end(self) -> None:
        """Nothing new is said; what is under way is waited for."""
        self._polls_sent = sum(int(str(watch.upstream.status()["polls"])) for watch in self._watched)
        for watch in self._watched:
            watch.ended = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while any(watch.under_way for watch in self._watched):
                    await asyncio.sleep(AGAIN_S)


def main() -> None:
    """State folder, the EMS's port, the EMAs' port, how many EMAs, devices each."""
    logging.basicConfig(level=logging.WARNING)
    state, *numbers = sys.argv[1:]
    ems, port, count, devices = (int(number) for number in numbers)

    async def run() -> None:
        await Emas(Path(state), ems, port, count, devices).run()

    asyncio.run(run())


if __name__ == "__main__":
    main()
