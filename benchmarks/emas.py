"""200 EMAs with 5 lamps each in one process, all registered over CoAP and polling every 2 s (``Duration``).

Each is a whole daemon at an address of its own, with its journal on disk. A poll is timed from the session's question
to its answer; the floor is the poll of one EMA alone (``coap_poll``), before and after, in the same run. What was said
is counted at both ends: a message that is lost ends the bench.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from benchmarks import coap_poll
from benchmarks.bench_site import ROUNDS, median, quantile, scratch
from benchmarks.coap_site import peer
from tests.support.mosquitto import free_port

EMAS = 200
DEVICES = 5
# A few hundred polls.
ROUND_S = 6.0
LONGEST_LINE = 2**24
ANSWER_S = 180.0

Look = dict[str, Any]


class Emas:
    """The child process (``emas_child``)."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child
        self.first_kb = 0

    async def line(self) -> Look:
        assert self._child.stdout is not None
        line = await asyncio.wait_for(self._child.stdout.readline(), ANSWER_S)
        if not line:
            raise RuntimeError("the EMAs' process ended")
        look: Look = json.loads(line)
        return look

    async def ask(self, verb: str) -> Look:
        assert self._child.stdin is not None
        self._child.stdin.write(f"{verb}\n".encode())
        return await self.line()

    @classmethod
    @contextlib.asynccontextmanager
    async def registered(cls, ems: int, count: int, devices: int) -> AsyncIterator[Emas]:
        """All of them; killed at the end."""
        with scratch() as directory:
            port = free_port(socket.SOCK_DGRAM)
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "benchmarks.emas_child",
                *map(str, (directory / "emas", ems, port, count, devices)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=LONGEST_LINE,
                cwd=Path(__file__).parent.parent,
            )
            try:
                emas = cls(child)
                emas.first_kb = (await emas.line())["first_kb"]
                yield emas
            finally:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()


def check(last: Look, ems: dict[str, int], count: int) -> None:
    """Every poll and every report that was sent came, and was answered. Raise ``RuntimeError``."""
    wrong = []
    if (last["up"], ems["connected"]) != (count, count):
        wrong.append(f"{last['up']} of {count} are registered, {ems['connected']} by the EMS's word")
    for what in ("polls", "reports"):
        if last[what] != ems[what]:
            wrong.append(f"{last[what]} {what} were sent, {ems[what]} came")
    if last["under_way"] or last["lost"]:
        wrong.append(f"{last['under_way']} were not answered, {last['lost']} dropped")
    if wrong:
        raise RuntimeError("; ".join(wrong))


async def measure(
    count: int = EMAS, devices: int = DEVICES, rounds: int = ROUNDS, seconds: float = ROUND_S
) -> tuple[list[Look], dict[str, int], int]:
    """A look before, one after each round, one after the end; the EMS's counts; kB of a process with one EMA."""
    async with peer(coap_poll.ANSWER) as ends, Emas.registered(ends.ems, count, devices) as emas:
        looks = [await emas.ask("look")]
        for _ in range(rounds):
            await asyncio.sleep(seconds)
            looks.append(await emas.ask("look"))
        looks.append(await emas.ask("end"))
        ems = await ends.counts()
        check(looks[-1], ems, count)
        return looks, ems, emas.first_kb


def run() -> list[dict[str, Any]]:
    alone = asyncio.run(coap_poll.measure(ROUNDS // 2 + 1))
    looks, ems, first_kb = asyncio.run(measure())
    alone += asyncio.run(coap_poll.measure(ROUNDS // 2 + 1))
    begin, *rounds = looks[:-1]
    floor = median([quantile(ours, 0.99) for ours, _ in alone]) * 1e3
    p99s = [quantile(look["taken"], 0.99) * 1e3 for look in rounds]
    p50 = median([quantile(look["taken"], 0.5) for look in rounds]) * 1e3
    rss = rounds[-1]["rss_kb"]
    each = (rss - first_kb) / (EMAS - 1)
    cpu = (rounds[-1]["cpu_s"] - begin["cpu_s"]) / (rounds[-1]["at"] - begin["at"])
    told = f"{ems['polls']:,} polls, {ems['reports']:,} reports, none lost"
    spread = f"{min(p99s) / floor:.1f} to {max(p99s) / floor:.1f}"
    value = median(p99s)
    return [
        {"name": "emas_poll_p99", "value": value, "unit": "ms", "floor": floor, "ratio": value / floor, "note": spread},
        {"name": "emas_poll_p50", "value": p50, "unit": "ms", "note": told},
        {"name": "emas_rss", "value": each, "unit": "kB an EMA", "note": f"{rss / 1000:.0f} MB in all"},
        {"name": "emas_cpu", "value": cpu * 100 / EMAS, "unit": "% an EMA", "note": f"{cpu:.0%} of a core in all"},
    ]
