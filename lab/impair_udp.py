"""A UDP proxy on loopback that impairs what passes, both ways. Cannot do: IPv6, limits of rate or size."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable
from functools import partial

from lab.impair import Impairment, Tally

Address = tuple[str, int]
LARGEST = 65_535
# What is held back waits at least this long, so that the next overtakes it also where there is no delay.
HELD_S = 0.02
# Each client has a socket of its own; further ones are dropped.
MOST_CLIENTS = 4096


class Way:
    """One direction: decides what becomes of each datagram."""

    def __init__(self, impairment: Impairment, rng: random.Random) -> None:
        self.tally = Tally()
        self._impairment = impairment
        self._rng = rng
        self._count = 0
        self._newest: dict[Address, int] = {}  # by client
        self._timers: set[asyncio.TimerHandle] = set()

    def take(self, client: Address, size: int, deliver: Callable[[], None]) -> None:
        """Call ``deliver`` never, once or twice, now or later."""
        tally, share, delay_s = self.tally, self._impairment.share, self._impairment.delay_s
        tally.taken += 1
        tally.bytes += size
        self._count += 1
        chance = self._rng.random()
        if chance < share:
            tally.dropped += 1
            return
        twice, held = share <= chance < 2 * share, 2 * share <= chance < 3 * share
        tally.doubled += twice
        for copy in range(1 + twice):
            late_s = self._rng.uniform(0.0, delay_s) + (max(delay_s, HELD_S) if held else 0.0)
            self._deliver(client, deliver, late_s, self._count, bool(copy))

    def _deliver(self, client: Address, deliver: Callable[[], None], late_s: float, number: int, copy: bool) -> None:
        if late_s <= 0:
            self._now(client, deliver, number, copy)
            return
        self.tally.delayed += not copy

        def due() -> None:
            self._timers.discard(timer)
            self._now(client, deliver, number, copy)

        timer = asyncio.get_running_loop().call_later(late_s, due)
        self._timers.add(timer)

    def _now(self, client: Address, deliver: Callable[[], None], number: int, copy: bool) -> None:
        newest = self._newest.get(client, 0)
        self.tally.reordered += not copy and number < newest
        self._newest[client] = max(newest, number)
        deliver()

    def close(self) -> None:
        """What is under way is lost."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()


class UdpLink:
    """Clients speak to ``address``. The target hears each of them from a socket of its own on ``back_host``, and may
    write there first as well. ``same_port``: that socket has the client's own port, so the client has to be on another
    host of loopback. ``up``: towards the target, ``down``: back."""

    def __init__(
        self,
        target: Address,
        impairment: Impairment,
        rng: random.Random,
        back_host: str = "127.0.0.1",
        same_port: bool = False,
    ) -> None:
        self.address: Address = ("", 0)
        self.up = Way(impairment, random.Random(rng.getrandbits(64)))
        self.down = Way(impairment, random.Random(rng.getrandbits(64)))
        self._target = target
        self._back_host = back_host
        self._same_port = same_port
        self._front: socket.socket | None = None
        self._backs: dict[Address, socket.socket] = {}

    async def open(self, host: str = "127.0.0.1", port: int = 0) -> Address:
        """Listen; where. Raise ``OSError`` when the address is taken."""
        self._front = self._bound(host, port, self._from_client)
        self.address = self._front.getsockname()
        return self.address

    async def close(self) -> None:
        """Nothing passes any more."""
        for way in (self.up, self.down):
            way.close()
        loop = asyncio.get_running_loop()
        for sock in (self._front, *self._backs.values()):
            if sock is not None:
                loop.remove_reader(sock)
                sock.close()
        self._front = None
        self._backs.clear()

    def _bound(self, host: str, port: int, take: Callable[[Address, bytes], None]) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.bind((host, port))
        except OSError:
            sock.close()
            raise
        sock.setblocking(False)
        asyncio.get_running_loop().add_reader(sock, _drain, sock, take)
        return sock

    def _from_client(self, client: Address, data: bytes) -> None:
        back = self._backs.get(client)
        if back is None:
            if len(self._backs) >= MOST_CLIENTS:
                self.up.tally.dropped += 1
                return
            port = client[1] if self._same_port else 0
            back = self._backs[client] = self._bound(self._back_host, port, partial(self._from_target, client))
        self.up.take(client, len(data), partial(_send, back, data, self._target))

    def _from_target(self, client: Address, sender: Address, data: bytes) -> None:
        if sender == self._target and self._front is not None:
            self.down.take(client, len(data), partial(_send, self._front, data, client))


def _drain(sock: socket.socket, take: Callable[[Address, bytes], None]) -> None:
    """All that waits. A datagram refused by the other side shows as an error here and is nobody's."""
    with contextlib.suppress(OSError):
        while True:
            data, sender = sock.recvfrom(LARGEST)
            take(sender, data)


def _send(sock: socket.socket, data: bytes, to: Address) -> None:
    """What a full or closed socket does not take is lost, as on any network."""
    with contextlib.suppress(OSError):
        sock.sendto(data, to)
