"""A device on CoAP: section 5a of the wire, PUT both ways. Cannot do: DTLS, observe, a meter hung on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import Callable
from typing import Any

# First: it sets what aiocoap reads when it is imported.
from gateway.transport.coap_site import WELL_KNOWN, Discovery  # isort: skip
from gateway.transport.coap import GuardedSite, Sources, open_server, shut  # isort: skip
import aiocoap
import aiocoap.error
import aiocoap.resource

from device_agents.agent import Agent
from device_agents.protocol import (
    PATH_ACK,
    PATH_CONNECTED,
    PATH_DISCONNECTED,
    PATH_LIGHT,
    PATH_RDR,
    PATH_SETPOINT,
    PATH_STATUS,
    Message,
    WireError,
)
from device_agents.runner import GOODBYE_S, TICK_S, Runner
from gateway.clock import Clock, wait
from gateway.errors import OperatorError, TransientError
from gateway.transport.backoff import Backoff

JSON = 50
# Longest wait for an answer, in seconds of the machine's clock: the network runs on no other.
ANSWER_S = 12.0
WILDCARDS = ("", "0.0.0.0", "::")


class Patience(aiocoap.Reliable):
    """Three sendings within 10 s. aiocoap's own would try for a minute and a half: no state is worth that."""

    ACK_TIMEOUT = 1.0
    MAX_RETRANSMIT = 2


class Put(aiocoap.resource.Resource):
    """One resource of the device: PUT, answered 2.04 with what ``take`` returns, or 4.00 with what was wrong."""

    def __init__(self, take: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self._take = take

    async def needs_blockwise_assembly(self, request: Any) -> bool:
        """No message to a device needs it, and half a message kept for a peer is memory given away."""
        return False

    async def render_put(self, request: Any) -> aiocoap.Message:
        if request.opt.block1 is not None and (request.opt.block1.more or request.opt.block1.block_number):
            return aiocoap.Message(code=aiocoap.REQUEST_ENTITY_TOO_LARGE)
        try:
            said = self._take(request.payload)
        except WireError as err:
            return aiocoap.Message(code=aiocoap.BAD_REQUEST, payload=str(err).encode("ascii", "backslashreplace"))
        return aiocoap.Message(code=aiocoap.CHANGED, payload=said, content_format=JSON if said else None)


class CoapDevice(Runner):
    """One device below an EMA at ``ema_host:ema_port``, itself reached at ``bind_host:bind_port``.

    Only the EMA's own address may speak to it.
    """

    def __init__(
        self,
        agent: Agent,
        ema_host: str,
        ema_port: int,
        bind_host: str,
        bind_port: int,
        clock: Clock,
        period_s: float = 5.0,
        tick_s: float = TICK_S,
        rng: random.Random | None = None,
        ipv6: bool | None = None,
    ) -> None:
        super().__init__(agent, clock, period_s, tick_s)
        self._ema = ema_host, ema_port
        self._bind = bind_host, bind_port
        self._ipv6 = ipv6
        # Without a source of chance the number spreads the devices of a site just as well.
        self._backoff = Backoff(rng or random.Random(agent.dev))
        self._context: aiocoap.Context | None = None
        self._remote: Any = None
        self._known = False
        self._failed = False
        self._woken = asyncio.Event()
        self._spoke = asyncio.Event()

    @property
    def reachable(self) -> bool:
        return self._known

    async def run(self) -> None:
        """Serve until cancelled, or until the device's user ends it; then say good-bye.

        Raise ``OperatorError`` when the address to serve on is not to be had, or the EMA's has no such name.
        """
        host, addresses = await self._resolve()
        self._ema = host, self._ema[1]
        try:
            self._context = await open_server(self._site(addresses), *self._bind, ipv6=self._ipv6)
        except OperatorError as err:
            raise OperatorError(f"--bind: {err}") from err
        self.agent.addr = self._bind[0] if self._bind[0] not in WILDCARDS else _own_address(*self._ema)
        self.agent.port = self._bind[1]
        sender = asyncio.create_task(self._send())
        ticker = asyncio.create_task(self._tick())
        try:
            await asyncio.wait((sender, ticker), return_when=asyncio.FIRST_COMPLETED)
            for task in (sender, ticker):
                if task.done():
                    task.result()
        finally:
            for task in (sender, ticker):
                task.cancel()
            await asyncio.gather(sender, ticker, return_exceptions=True)
            await self._goodbye()
            await shut(self._context)
            self._known = False

    async def _resolve(self) -> tuple[str, list[str]]:
        host, port = self._ema
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except OSError as err:
            raise OperatorError(f"EMA {host}: {err.strerror or err}; give its address") from err
        addresses = [str(entry[4][0]) for entry in found]
        return addresses[0], addresses

    def _site(self, addresses: list[str]) -> GuardedSite:
        site = GuardedSite(Sources(addresses))
        for path in (PATH_SETPOINT, PATH_ACK, PATH_RDR):
            site.add_resource([path], Put(self._taker(path, self.agent.received)))
        site.add_resource([PATH_LIGHT], Put(self._taker(PATH_LIGHT, self.agent.received_light)))
        site.add_resource(WELL_KNOWN, Discovery([site]))
        return site

    def _taker(self, path: str, receive: Callable[[bytes], Message]) -> Callable[[bytes], bytes]:
        def take(payload: bytes) -> bytes:
            self._advance()
            try:
                self._told(receive(payload))
            except WireError as err:
                self._refused(f"PUT /{path}", err)
                raise
            self._spoke.set()
            self._wake()
            # So an EMA that restarted learns who is here, and how it runs.
            return self.agent.state() if path == PATH_ACK else b""

        return take

    def _wake(self) -> None:
        self._woken.set()

    async def _send(self) -> None:
        """Say what there is to say, one message at a time; after a failure come again from the start."""
        while True:
            try:
                await self._say()
            except TransientError as err:
                self._log.log(logging.DEBUG if self._failed else logging.WARNING, "%s; trying again", err)
                self._failed = True
                self._known = False
                self._remote = None
                self._spoke.clear()
                # The EMA's own word says that it is back.
                await wait(self._clock, self._spoke, self._backoff.next())

    async def _say(self) -> None:
        if not self._known:
            await self._put(PATH_CONNECTED, self.agent.connected())
            self._known = True
            self._advance()
            self.agent.heard()
            self.agent.changed = True
            if self._failed:
                self._log.info("EMA %s:%d: reached again", *self._ema)
            self._failed = False
            self._backoff.reset()
        else:
            await self._woken.wait()
        self._woken.clear()
        rdr = self.agent.take_rdr()
        if rdr is not None:
            answer = await self._put(PATH_RDR, rdr)
            self._answered(answer)
        if self._status_wanted():
            await self._put(PATH_STATUS, self._status())

    def _answered(self, answer: bytes) -> None:
        self._advance()
        try:
            self._told(self.agent.received(answer))
        except WireError as err:
            self._refused("answer to PUT /rdr", err)

    async def _put(self, path: str, body: bytes) -> bytes:
        """The answer's payload. Raise ``TransientError`` when there is none, or it is an error."""
        assert self._context is not None
        host, port = self._ema
        message = aiocoap.Message(code=aiocoap.PUT, payload=body, content_format=JSON, transport_tuning=Patience())
        if self._remote is None:
            message.set_request_uri(f"coap://{f'[{host}]' if ':' in host else host}:{port}/{path}")
        else:
            # The address again; to take it from a URI each time costs more than all the rest.
            message.remote = self._remote
            message.opt.uri_path = (path,)
        try:
            # Not wait_for: in Python 3.11 it forgets a cancellation that comes together with the answer.
            async with asyncio.timeout(ANSWER_S):
                answer = await self._context.request(message).response
        except (aiocoap.error.Error, OSError, TimeoutError) as err:
            raise TransientError(f"EMA {host}:{port}: PUT /{path}: {err or type(err).__name__}") from err
        if not answer.code.is_successful():
            raise TransientError(f"EMA {host}:{port}: PUT /{path}: {answer.code}")
        self._remote = answer.remote
        return bytes(answer.payload)

    async def _goodbye(self) -> None:
        if self._known:
            with contextlib.suppress(TransientError, TimeoutError):
                await asyncio.wait_for(self._put(PATH_DISCONNECTED, self.agent.gone()), GOODBYE_S)


def _own_address(host: str, port: int) -> str:
    """Which of this machine's addresses faces the EMA; nothing is sent."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, port))
        except OSError as err:
            raise OperatorError(f"EMA {host}:{port}: {err.strerror}; give --bind an address of this machine") from err
        return str(probe.getsockname()[0])
