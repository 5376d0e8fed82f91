"""Virtual LEDs on CoAP: a UDP socket a device, for the wire's `PUT /setpoint` names none but its address and port.

Each socket is connected to the EMA, so the kernel keeps everybody else out, and tells at once when nobody is there.
Cannot do: blocks, DTLS, `.well-known/core`.
"""

from __future__ import annotations

import asyncio
import random
import resource
import socket
from collections.abc import Callable, Sequence
from typing import cast

from device_agents import virtual_frames as coap
from device_agents.agent import Agent
from device_agents.protocol import (
    PATH_ACK,
    PATH_CONNECTED,
    PATH_DISCONNECTED,
    PATH_LIGHT,
    PATH_RDR,
    PATH_SETPOINT,
    PATH_STATUS,
    Setpoint,
    WireError,
)
from device_agents.runner import GOODBYE_S, TICK_S
from device_agents.virtual import Member, VirtualFleet, log
from gateway.clock import Clock
from gateway.errors import OperatorError

# Three sendings within 10 s, as device_agents/run_coap.py; seconds of the machine's clock.
SENDINGS = 3
RESEND_S = 1.0
RESEND_SPREAD = 0.5
# What was acknowledged without an answer gets this long.
ANSWER_S = 10.0
# After a failure the first wait until it comes again, and the longest.
FIRST_WAIT_S = 0.5
MOST_WAIT_S = 30.0
# Files that a process has open besides.
OTHER_FILES = 64
# A socket's share: an ack, a command and a few answers. The kernel's own would be 200 kB for each of a thousand.
SOCKET_BYTES = 8192


class _Open:
    """A request that awaits its answer; ``due``: when it is sent again, or given up."""

    __slots__ = ("data", "due", "mid", "path", "sendings", "token", "wait_s")

    def __init__(self, path: str, mid: int, token: bytes, data: bytes, due: float, wait_s: float) -> None:
        self.path = path
        self.mid = mid
        self.token = token
        self.data = data
        self.due = due
        self.wait_s = wait_s
        self.sendings = 1


class _Endpoint(Member, asyncio.DatagramProtocol):
    """One device with its socket."""

    __slots__ = ("answered_data", "answered_mid", "fleet", "mid", "open", "transport")

    def __init__(self, agent: Agent, now: float, fleet: VirtualCoap, mid: int) -> None:
        super().__init__(agent, now)
        self.again_s = FIRST_WAIT_S
        self.fleet = fleet
        self.transport: asyncio.DatagramTransport | None = None
        self.mid = mid
        self.open: _Open | None = None
        # The last request that was answered: doubled by the network, it gets the same answer.
        self.answered_mid = -1
        self.answered_data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.fleet.received(self, data)

    def error_received(self, exc: Exception) -> None:
        self.fleet.failed(self, str(exc))

    def next_mid(self) -> int:
        self.mid = (self.mid + 1) & 0xFFFF
        return self.mid

    def send(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.sendto(data)


class VirtualCoap(VirtualFleet):
    """Below the EMA at ``ema`` (host, port). ``bind``: their own address, empty the one that faces the EMA; and the
    port of the first, the others follow; 0: any that are free."""

    def __init__(
        self,
        agents: Sequence[Agent],
        ema: tuple[str, int],
        clock: Clock,
        rng: random.Random,
        period_s: float | None = None,
        tick_s: float = TICK_S,
        bind: tuple[str, int] = ("", 0),
    ) -> None:
        super().__init__(agents, clock, rng, period_s, tick_s)
        self._ema = ema
        self._bind = bind
        self._now: Callable[[], float] = lambda: 0.0
        self._exchanges: dict[int, _Endpoint] = {}
        self._done: asyncio.Event | None = None

    def _member(self, agent: Agent, now: float) -> Member:
        return _Endpoint(agent, now, self, self._rng.randrange(0x10000))

    # --- life ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled. Raise ``OperatorError`` when a socket is not to be had, or the EMA has no address."""
        loop = asyncio.get_running_loop()
        self._now = loop.time
        try:
            await self._open_all(loop)
            for member in self._order:
                self._queue(member)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._turn())
                group.create_task(self._resend())
        finally:
            await self._goodbye()
            for endpoint in self._endpoints():
                if endpoint.transport is not None:
                    endpoint.transport.close()

    def _endpoints(self) -> list[_Endpoint]:
        return cast("list[_Endpoint]", self._order)

    async def _open_all(self, loop: asyncio.AbstractEventLoop) -> None:
        _room_for(len(self._order))
        host, port = self._ema
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except OSError as err:
            raise OperatorError(f"EMA {host}: {err.strerror or err}; give its address") from err
        family, _, _, _, address = found[0]
        for index, endpoint in enumerate(self._endpoints()):
            first = self._bind[1]
            sock = socket.socket(family, socket.SOCK_DGRAM)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
                if self._bind[0] or first:
                    sock.bind((self._bind[0], first + index if first else 0))
                sock.connect(address)
            except (OSError, OverflowError) as err:
                sock.close()
                raise OperatorError(
                    f"--bind {self._bind[0] or '*'}:{first + index if first else 0}: {err}; "
                    "give an address of this machine, and ports that are free"
                ) from err
            await loop.create_datagram_endpoint(_given(endpoint), sock=sock)
            endpoint.agent.addr, endpoint.agent.port = sock.getsockname()[:2]

    async def _goodbye(self) -> None:
        """For all of those that the EMA knows, at the pace of its answers, and no longer than a second."""
        loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        self._exchanges.clear()
        known = [endpoint for endpoint in self._endpoints() if endpoint.answered]
        end = loop.time() + GOODBYE_S
        while known and loop.time() < end:
            some, known = known[:50], known[50:]
            for endpoint in some:
                endpoint.open = None
                self._ask(endpoint, PATH_DISCONNECTED, endpoint.agent.gone())
            try:
                async with asyncio.timeout_at(min(end, loop.time() + RESEND_S)):
                    while self._exchanges:
                        self._done.clear()
                        await self._done.wait()
            except TimeoutError:
                self._exchanges.clear()

    # --- what goes out ---------------------------------------------------------------------------------------

    def _announce(self, member: Member) -> None:
        endpoint = cast("_Endpoint", member)
        if not endpoint.answered and endpoint.open is None:
            endpoint.announced = True
            self._ask(endpoint, PATH_CONNECTED, endpoint.agent.connected())

    def _look(self, member: Member) -> None:
        endpoint = cast("_Endpoint", member)
        if endpoint.open is not None or not endpoint.announced:
            return
        if not endpoint.answered:
            if endpoint.last >= endpoint.again_at:
                self._queue(endpoint)
        elif self._wanted(endpoint):
            self._ask(endpoint, PATH_STATUS, self._status(endpoint))

    def _ask(self, endpoint: _Endpoint, path: str, body: bytes) -> None:
        mid = endpoint.next_mid()
        token = mid.to_bytes(2, "big")
        data = coap.put(mid, token, path, body)
        wait_s = RESEND_S * self._rng.uniform(1, 1 + RESEND_SPREAD)
        endpoint.open = _Open(path, mid, token, data, self._now() + wait_s, wait_s)
        self._exchanges[endpoint.agent.dev] = endpoint
        endpoint.send(data)

    async def _resend(self) -> None:
        """Send again what has no answer; give up after the last time."""
        while True:
            await asyncio.sleep(RESEND_S / 10)
            now = self._now()
            for endpoint in list(self._exchanges.values()):
                waiting = endpoint.open
                if waiting is None or waiting.due > now:
                    continue
                if waiting.sendings >= SENDINGS:
                    self.failed(endpoint, "no answer")
                    continue
                waiting.sendings += 1
                waiting.wait_s *= 2
                waiting.due = now + waiting.wait_s
                endpoint.send(waiting.data)

    def _close(self, endpoint: _Endpoint) -> None:
        endpoint.open = None
        self._exchanges.pop(endpoint.agent.dev, None)
        if self._done is not None:
            self._done.set()

    def failed(self, endpoint: _Endpoint, why: str) -> None:
        """Nobody answers, or refuses: it begins again from ``connected`` after a while."""
        if endpoint.open is None:
            return
        log.debug("dev/%d: PUT /%s: %s", endpoint.agent.dev, endpoint.open.path, why)
        self.refusal = why
        self._close(endpoint)
        endpoint.again_s = min(endpoint.again_s * 2, MOST_WAIT_S) if not endpoint.answered else FIRST_WAIT_S
        endpoint.answered = False
        endpoint.again_at = endpoint.last + endpoint.again_s * self._rng.uniform(0.5, 1)

    # --- what comes in ---------------------------------------------------------------------------------------

    def received(self, endpoint: _Endpoint, data: bytes) -> None:
        """One datagram of the EMA's."""
        try:
            frame = coap.decode(data)
        except coap.FrameError as err:
            self._refused(f"dev/{endpoint.agent.dev}", err)
            return
        if frame.request:
            self._requested(endpoint, frame)
        elif frame.code >= coap.CREATED_AND_MORE:
            if frame.kind == coap.CON:
                endpoint.send(coap.empty(coap.ACK, frame.mid))
            self._answered(endpoint, frame)
        elif endpoint.open is not None and frame.mid == endpoint.open.mid:
            if frame.kind == coap.RST:
                self.failed(endpoint, "reset")
            elif frame.kind == coap.ACK:
                endpoint.open.due = self._now() + ANSWER_S
                endpoint.open.sendings = SENDINGS
        elif frame.kind == coap.CON:
            endpoint.send(coap.empty(coap.RST, frame.mid))

    def _answered(self, endpoint: _Endpoint, frame: coap.Frame) -> None:
        waiting = endpoint.open
        if waiting is None or frame.token != waiting.token:
            return
        if frame.code >> 5 != 2:
            reason = frame.payload[:80].decode("ascii", "replace")
            self.failed(endpoint, f"{frame.code >> 5}.{frame.code & 31:02d} {reason}".rstrip())
            return
        self._close(endpoint)
        self._advance(endpoint)
        if waiting.path == PATH_CONNECTED:
            endpoint.answered = True
            endpoint.again_s = FIRST_WAIT_S
            endpoint.agent.heard()
            endpoint.agent.changed = True
        if self._done is None:
            self._look(endpoint)

    def _requested(self, endpoint: _Endpoint, frame: coap.Frame) -> None:
        if frame.kind == coap.CON and frame.mid == endpoint.answered_mid:
            endpoint.send(endpoint.answered_data)
            return
        said = b""
        code = _refusal(frame)
        if code == coap.CHANGED:
            try:
                said = self._take(endpoint, frame)
            except WireError as err:
                self._refused(f"dev/{endpoint.agent.dev}: PUT /{frame.path}", err)
                code, said = coap.BAD_REQUEST, str(err).encode("ascii", "backslashreplace")
        data = coap.answer(frame, code, endpoint.next_mid(), said, json=code == coap.CHANGED)
        endpoint.answered_mid, endpoint.answered_data = frame.mid, data
        endpoint.send(data)
        if code == coap.CHANGED:
            if not endpoint.answered:
                # The EMA's own word says that it is back.
                endpoint.again_at = endpoint.last
            self._look(endpoint)

    def _take(self, endpoint: _Endpoint, frame: coap.Frame) -> bytes:
        self._advance(endpoint)
        agent = endpoint.agent
        if frame.path == PATH_LIGHT:
            agent.received_light(frame.payload)
            return b""
        self.commands += isinstance(agent.received(frame.payload), Setpoint)
        # So an EMA that restarted learns who is here, and how it runs.
        return agent.state() if frame.path == PATH_ACK else b""


def _refusal(frame: coap.Frame) -> int:
    """Of a request that cannot be taken; CHANGED for one that can."""
    if frame.bad:
        return coap.BAD_OPTION
    if frame.path not in (PATH_SETPOINT, PATH_ACK, PATH_RDR, PATH_LIGHT):
        return coap.NOT_FOUND
    if frame.code != coap.PUT:
        return coap.METHOD_NOT_ALLOWED
    return coap.TOO_LARGE if frame.block else coap.CHANGED


def _given(endpoint: _Endpoint) -> Callable[[], _Endpoint]:
    return lambda: endpoint


def _room_for(count: int) -> None:
    """So many sockets may be open; what a process gets by itself is often 1,024 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise OperatorError(
            f"--virtual {count}: over CoAP each has a socket and this process may open {hard} files; "
            "take fewer, or raise it (ulimit -Hn, LimitNOFILE)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
