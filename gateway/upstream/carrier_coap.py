"""An EMS's session over CoAP (wire reference, sections 3 and 8): PUT on everything, events pushed, pulled or observed.

Cannot do: notice by itself that the EMS is gone; the session's deadlines do. An observation that the EMS forgot (it
was restarted) is renewed within ``RENEW_S``, and at once when an answer comes after one was missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gateway.transport.coap import Deadline, GuardedSite, Sources, host_port  # isort: skip
import aiocoap
import aiocoap.error
import aiocoap.resource
from aiocoap.resource import PathCapable

from gateway.clock import Clock
from gateway.config.model import UpstreamConfig
from gateway.errors import OperatorError, TransientError
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.client_happenings import ClientOutput, SessionUp
from gateway.transport.coap_ask import LARGEST_DATAGRAM, TEXT, ask, short_tokens
from gateway.transport.coap_shared import CoapHub, Lease
from gateway.upstream.carrier import Hooks, UpperClient

if TYPE_CHECKING:
    from gateway.transport.oscore import Keys, SecuredAddress

OBSERVE, NONE = 2, 3
# The machine's seconds: an EMS answers within milliseconds, after its commit.
ANSWER_S = 4.0
RENEW_S = 30.0
AGAIN_S = 2.0
MOST_WAITING = 64
LARGEST_REQUEST = 4096
LARGEST_LONG = wire.LARGEST_BODY
# The first answer to an observation, in both profiles; each one after it is an event.
INITIAL = b"Initial_Success"


class CoapClient(UpperClient, Protocol):
    """What a client over CoAP hears beside. None of it raises."""

    @property
    def observes(self) -> str:
        """What to observe on the EMS."""

    def answered(self, ask: wire.Send, body: bytes, failure: str = "") -> list[ClientOutput]:
        """The answer to one question; ``failure``: the words of a code other than 2.xx."""

    def requested(self, path: str, body: bytes) -> tuple[bool, list[ClientOutput]]:
        """The EMS PUTs. (is there such a resource and was its body right, what happened)."""

    def notified(self, body: bytes) -> list[ClientOutput]:
        """One notification."""


@dataclass(frozen=True, slots=True)
class Served:
    """Where the EMS writes to us: ``paths``, and all below ``tree`` (empty: nothing); ``long``: paths where a message
    may outgrow a datagram. ``content_format`` of what we write to it."""

    paths: tuple[str, ...]
    tree: str = ""
    content_format: int = TEXT
    long: tuple[str, ...] = ()


class CoapCarrier:
    """The EMS at one address. ``serve`` (host, port): where it reaches us."""

    answers = True

    def __init__(
        self,
        config: UpstreamConfig,
        client: CoapClient,
        served: Served,
        hub: CoapHub,
        serve: tuple[str, int],
        clock: Clock,
        hooks: Hooks,
        logger: logging.Logger,
        keys: Keys | None = None,
    ) -> None:
        self.reconnects = 0  # there is nothing to connect
        self.oversized = 0
        self._config = config
        self._client = client
        self._served = served
        self._hub = hub
        self._serve = serve
        self._clock = clock
        self._hooks = hooks
        self._log = logger
        self._keys = keys
        self._secured: SecuredAddress | None = None
        self._lease: Lease | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._observing: asyncio.Task[None] | None = None
        self._missing = False
        # Where the last answer came from: a name, and even a number, costs a thread to look up.
        self._remote: Any = None
        self._renew = asyncio.Event()
        # Blocks of two messages for one resource would be put together as one (RFC 7959, 2.5): one at a time.
        self._blocks = asyncio.Lock()
        self.opened = asyncio.Event()
        self.observed = 0  # notifications

    @property
    def address(self) -> str:
        return host_port(self._config.host, self._config.port_used)

    @property
    def up(self) -> bool:
        return self._lease is not None

    @property
    def state(self) -> str:
        return "up" if self.up else "down"

    async def run(self) -> None:
        """Serve and ask until cancelled. Raise ``OperatorError`` when our own address is taken."""
        if self._keys is None:
            await self._run()
            return
        from gateway.transport.oscore import secured

        try:
            [key] = self._keys.open()
        except OperatorError as err:
            raise OperatorError(f"upstream {self._config.name}: oscore_dir: {err}") from None
        self._secured = secured(key, self._config.host, self._config.port_used)
        try:
            await self._run()
        finally:
            self._secured = None
            self._keys.close()

    async def _run(self) -> None:
        site = GuardedSite(await self._sources(), self._keys, only_secured=self._keys is not None)
        for path in self._served.paths:
            site.add_resource(path.split("/"), _Written(self, path))
        for path in self._served.long:
            site.add_resource(path.split("/"), _Long(self, path))
        if self._served.tree:
            site.add_resource(self._served.tree.split("/"), _Tree(self, self._served.tree))
        try:
            self._lease = await self._hub.open(site, *self._serve)
        except OperatorError as err:
            raise OperatorError(f"upstream {self._config.name}: {err}") from None
        self.opened.set()
        short_tokens(self._lease.context)
        try:
            await self._hooks.up()
            await asyncio.get_running_loop().create_future()
        finally:
            self.opened.clear()
            lease, self._lease = self._lease, None
            self._remote = None
            for task in list(self._tasks):
                task.cancel()
            self._hooks.down()
            with contextlib.suppress(Exception):
                await lease.close()

    async def _sources(self) -> Sources:
        """Who may write to us: those configured, else the EMS alone."""
        if self._config.sources:
            return Sources(self._config.sources)
        loop = asyncio.get_running_loop()
        while True:
            try:
                found = await loop.getaddrinfo(self._config.host, None)
                return Sources(sorted({str(entry[4][0]) for entry in found}))
            except OSError as err:
                self._log.debug("%s: %s: %s", self._config.name, self._config.host, err)
                self.opened.set()  # a name server that is not up yet keeps no daemon from its start
                await self._clock.sleep(AGAIN_S)

    # What goes out

    def post(self, send: wire.Send) -> None:
        """Ask, and hand the answer to the client when it comes."""
        if self._lease is None:
            return
        if len(self._tasks) >= MOST_WAITING:
            self._log.debug("%s: /%s waits for its turn: %d are under way", self.address, send.topic, len(self._tasks))
        self._spawn(self._post(send))

    async def publish(self, send: wire.Send) -> None:
        """Ask and wait for the answer. Raise ``TransientError`` when there is none."""
        if self._lease is None:
            raise TransientError(f"CoAP {self.address}: no socket")
        await self._ask(self._lease, send)

    async def _ask(self, lease: Lease, send: wire.Send) -> Any:
        how = self._config.confirmable, self._served.content_format
        async with self._blocks if len(send.body) > LARGEST_DATAGRAM else contextlib.nullcontext():
            to = self._remote or self._secured or self.address
            try:
                answer = await ask(lease.context, to, send.topic, send.body, ANSWER_S, *how)
            except TransientError:
                self._remote = None
                raise
            self._remote = answer.remote
            return answer

    async def _post(self, send: wire.Send) -> None:
        assert self._lease is not None
        try:
            answer = await self._ask(self._lease, send)
        except TransientError as err:
            self._missing = True
            self._log.debug("%s", err)
            return
        if self._missing:
            self._missing = False
            self._renew.set()
        failure = "" if answer.code.is_successful() else f"{answer.code} {answer.payload[:64]!r}"
        self._take(self._client.answered(send, answer.payload, failure))

    # What comes in

    def written(self, path: str, body: bytes) -> Any:
        """The EMS PUTs."""
        if len(body) > (LARGEST_LONG if path in self._served.long else LARGEST_REQUEST):
            self.oversized += 1
            return aiocoap.Message(code=aiocoap.REQUEST_ENTITY_TOO_LARGE)
        right, outputs = self._client.requested(path, body)
        self._take(outputs)
        return aiocoap.Message(code=aiocoap.CHANGED if right else aiocoap.BAD_REQUEST)

    def _take(self, outputs: list[ClientOutput]) -> None:
        self._hooks.take(outputs)
        if self._config.mode == OBSERVE and self._observing is None and any(isinstance(o, SessionUp) for o in outputs):
            self._observing = self._spawn(self._observe())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _observe(self) -> None:
        """Observe, again and again."""
        try:
            while self._lease is not None:
                self._renew.clear()
                try:
                    await self._one_observation(self._lease.context)
                except (aiocoap.error.Error, OSError, TimeoutError) as err:
                    self._log.debug("%s: observing %s: %r", self._config.name, self._client.observes, err)
                    await self._clock.sleep(self._clock.patience(AGAIN_S))
        finally:
            self._observing = None

    async def _one_observation(self, context: aiocoap.Context) -> None:
        # Nothing else goes to this EMS while a question waits for its acknowledgement.
        message = aiocoap.Message(code=aiocoap.GET, observe=0, transport_tuning=Deadline(ANSWER_S))
        message.set_request_uri(f"coap://{self.address}/{self._client.observes}", set_uri_host=False)
        if self._secured is not None:
            message.remote = self._secured
            request = self._secured.request(context, message, False)
        else:
            request = context.request(message, handle_blockwise=False)
        try:
            async with asyncio.timeout(ANSWER_S):
                first = await request.response
            if not first.code.is_successful() or first.opt.observe is None:
                raise aiocoap.error.NotObservable
            self._notified(first)
            request.observation.register_callback(self._notified, _suppress_deprecation=True)
            request.observation.register_errback(lambda _: self._renew.set(), _suppress_deprecation=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEW_S):
                    await self._renew.wait()
        finally:
            if not request.observation.cancelled:
                request.observation.cancel()
            if self._secured is not None:
                request.secured.cancel()

    def _notified(self, message: Any) -> None:
        if message.payload != INITIAL:
            self.observed += 1
        self._take(self._client.notified(message.payload))


class _Written(aiocoap.resource.Resource):
    """A resource of ours that the EMS PUTs."""

    def __init__(self, carrier: CoapCarrier, path: str) -> None:
        super().__init__()
        self._carrier = carrier
        self._path = path

    async def needs_blockwise_assembly(self, request: Any) -> bool:
        return False

    async def render_put(self, request: Any) -> Any:
        if request.opt.block1 is not None and (request.opt.block1.more or request.opt.block1.block_number):
            return aiocoap.Message(code=aiocoap.REQUEST_ENTITY_TOO_LARGE)
        return self._carrier.written("/".join((self._path, *request.opt.uri_path)), request.payload)


class _Long(_Written):
    """One whose messages come block by block."""

    async def needs_blockwise_assembly(self, request: Any) -> bool:
        return True

    async def render_put(self, request: Any) -> Any:
        return self._carrier.written(self._path, request.payload)


class _Tree(_Written, PathCapable):
    """A path and all below it: one for every device that may come."""
