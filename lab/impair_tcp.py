"""A TCP proxy on loopback that impairs what passes: delays, pieces that come late as after TCP's own repetition, and
connections that break. A stream loses no byte and none changes its place. Cannot do: limits of rate."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import deque

from lab.impair import Impairment, Tally

Address = tuple[str, int]
# Linux repeats a lost segment after this at least.
REPEAT_S = 0.2
# Of the pieces that a network loses, so many break the connection: the repetitions were lost too.
BREAKS = 0.1
# More pieces under way than this, and the sender waits.
MOST_WAITING = 256
_RESET = struct.pack("ii", 1, 0)


class _End(asyncio.Protocol):
    """One end of a connection; what it hears goes to ``other`` when its time has come."""

    def __init__(self, link: TcpLink, tally: Tally, rng: random.Random) -> None:
        self._link = link
        self._tally = tally
        self._rng = rng
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None
        self._waiting: deque[bytes] = deque()  # an empty piece is the end of the stream
        self._last_due = 0.0
        self._timers: set[asyncio.TimerHandle] = set()
        self._full = False
        self._ended = False  # the other end was told that nothing more comes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.other is None:
            self._link.came(self)

    def data_received(self, data: bytes) -> None:
        self._tally.taken += 1
        self._tally.bytes += len(data)
        impairment = self._link.impairment
        late_s = self._rng.uniform(0.0, impairment.delay_s)
        if self._rng.random() < impairment.share:
            if self._rng.random() < BREAKS:
                self._tally.resets += 1
                self._link.reset(self)
                return
            self._tally.resent += 1
            late_s += REPEAT_S
        self._tally.delayed += late_s > 0
        self._pass(data, late_s)

    def eof_received(self) -> bool:
        self._pass(b"", 0.0)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._link.reset(self)
        else:
            self._pass(b"", 0.0)
        self._link.went(self)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.hold(True)

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.hold(False)

    def hold(self, hold: bool) -> None:
        """The other end takes no more for now."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.pause_reading() if hold else transport.resume_reading()

    def _pass(self, data: bytes, late_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._last_due = max(self._last_due, loop.time() + late_s)
        self._waiting.append(data)
        if late_s <= 0 and len(self._waiting) == 1 and not self._timers and self.ready:
            self._release()
            return
        if len(self._waiting) >= MOST_WAITING and not self._full:
            self._full = True
            self.hold(True)
        self._timers.add(timer := loop.call_at(self._last_due, lambda: self._due(timer)))

    def _due(self, timer: asyncio.TimerHandle) -> None:
        self._timers.discard(timer)
        if self.ready:
            self._release()

    @property
    def ready(self) -> bool:
        """Does the connection behind stand."""
        return self.other is not None and self.other.transport is not None

    def _release(self) -> None:
        """The oldest piece."""
        assert self.other is not None
        transport = self.other.transport
        if not self._waiting or transport is None:
            return
        data = self._waiting.popleft()
        if self._full and len(self._waiting) < MOST_WAITING // 2:
            self._full = False
            self.hold(False)
        if transport.is_closing():
            return
        if data:
            transport.write(data)
            return
        self._ended = True
        if self.other._ended:
            for end in (transport, self.transport):
                if end is not None:
                    end.close()
        else:
            transport.write_eof()

    def catch_up(self) -> None:
        """The connection behind stands now: what was due meanwhile."""
        for _ in range(len(self._waiting) - len(self._timers)):
            self._release()

    def end(self, reset: bool) -> None:
        """Drop what is under way and close."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._waiting.clear()
        if self.transport is not None and not self.transport.is_closing():
            if reset:
                sock = self.transport.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()


class TcpLink:
    """Clients connect to ``address``, and through it to the target. ``up``: towards the target, ``down``: back."""

    def __init__(self, target: Address, impairment: Impairment, rng: random.Random) -> None:
        self.address: Address = ("", 0)
        self.impairment = impairment
        self.up, self.down = Tally(), Tally()
        self._target = target
        self._rngs = random.Random(rng.getrandbits(64)), random.Random(rng.getrandbits(64))
        self._server: asyncio.Server | None = None
        self._ends: set[_End] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, host: str = "127.0.0.1", port: int = 0) -> Address:
        """Listen; where. Raise ``OSError`` when the address is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _End(self, self.up, self._rngs[0]), host, port)
        self.address = self._server.sockets[0].getsockname()[:2]
        return self.address

    async def close(self) -> None:
        """Break what stands and listen no more."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for end in list(self._ends):
            end.end(reset=False)

    def came(self, client: _End) -> None:
        """A client connected."""
        self._ends.add(client)
        task = asyncio.get_running_loop().create_task(self._connect(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, client: _End) -> None:
        behind = _End(self, self.down, self._rngs[1])
        behind.other = client
        try:
            await asyncio.get_running_loop().create_connection(lambda: behind, *self._target)
        except OSError:
            client.end(reset=True)
            return
        self._ends.add(behind)
        client.other = behind
        client.catch_up()

    def reset(self, end: _End) -> None:
        """Both ends learn at once that it broke."""
        for each in (end, end.other):
            if each is not None:
                each.end(reset=True)

    def went(self, end: _End) -> None:
        """An end is closed."""
        self._ends.discard(end)
