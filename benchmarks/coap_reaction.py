"""From an event at the EMS to its command at a device, CoAP above and below, against a bare CoAP round trip.

Three processes: the EMS, the daemon, the devices (here). Two messages go one way each, so the floor is a round trip
between two processes. The figures begin when the EMS sends; with what its commit takes before that they are shown
beside, without a bound.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

from benchmarks.bench_site import ROUNDS, process, scratch, smartema
from benchmarks.coap_lamps import Lamps
from benchmarks.coap_poll import ANSWER, POLL
from benchmarks.coap_site import OBSERVE, PUSH, WAIT_S, WARM_UP, Bare, Peer, Taken, in_turn, peer, rows_of
from tests.support.mosquitto import free_port

SAMPLES = 100
DEVICES = 20
MODES = {PUSH: "push", OBSERVE: "observe"}


def _configuration(directory: Path, ems: int, port: int, mode: int) -> Path:
    lines = [
        f'[ema]\nnumber = 1\nstate_dir = "{directory / "state"}"\nlog_level = "error"',
        "[control]\nthreshold_w = 10000.0\nrestore_delay_s = 0.0\nlatency_s = 5.0\npass_s = 0.05",
        f"[site_coap]\nport = {port}",
        f'[[upstream]]\nhost = "127.0.0.1"\nport = {ems}\nprotocol = "coap"\nmode = {mode}\ntimezone = "UTC"',
        *(f'[[device]]\nnumber = {n}\ntype = "led"\nlink = "coap"\nrated_w = 60.0' for n in range(1, DEVICES + 1)),
    ]
    path = directory / "ema.toml"
    path.write_text("\n\n".join(lines) + "\n")
    return path


class Reaction:
    """One daemon between an EMS and its lamps."""

    def __init__(self, ends: Peer, lamps: Lamps) -> None:
        self._ends = ends
        self._lamps = lamps
        self.committed: Taken = []  # the same from before the EMS's commit on

    async def sample(self) -> float:
        """An event below lamp 1's draw switches it off; it is cancelled and the lamp comes back."""
        began, left = await self._ends.ask("event")
        at, command = await asyncio.wait_for(self._lamps.commands.get(), WAIT_S)
        self.committed.append(at - began)
        await self._lamps.status(1, on=False, done=command.id)
        await self._ends.ask("cancel")
        _, back = await asyncio.wait_for(self._lamps.commands.get(), WAIT_S)
        await self._lamps.status(1, on=True, done=back.id)
        # What has not been heard of for 30 s counts as lit.
        await self._lamps.status(len(self.committed) % (DEVICES - 1) + 2, on=False)
        if command.on is not False or back.on is not True:
            raise RuntimeError(f"unexpected commands: {command.encode()!r}, {back.encode()!r}")
        return at - left


async def measure(mode: int, samples: int = SAMPLES, warm_up: int = WARM_UP) -> tuple[Taken, Taken, Taken]:
    """A round with a daemon of its own, which keeps no more than 256 events: reactions, bare round trips, and the
    reactions with the EMS's commit; seconds each."""
    port = free_port(socket.SOCK_DGRAM)
    with scratch() as directory:
        async with peer(ANSWER) as ends, Lamps.below(port, DEVICES) as lamps, Bare.to(ends.bare) as bare:
            with process(*smartema(_configuration(directory, ends.ems, port, mode))):
                await lamps.come()
                await ends.ask("registered")
                reaction = Reaction(ends, lamps)
                ours, floor = await in_turn(samples, reaction.sample, lambda: bare.round_trip(POLL), warm_up)
                return ours, floor, reaction.committed


def run() -> list[dict[str, Any]]:
    rows = []
    for mode, name in MODES.items():
        rounds = [asyncio.run(measure(mode)) for _ in range(ROUNDS)]
        sent = [(ours, floor) for ours, floor, _ in rounds]
        rows.append(rows_of(f"coap_reaction_{name}_p50", sent, 0.5))
        rows.append(rows_of(f"coap_reaction_{name}_p99", sent, 0.99))
        rows.append(
            rows_of(f"coap_reaction_{name}_commit", [(committed, floor) for _, floor, committed in rounds], 0.5)
        )
    return rows
