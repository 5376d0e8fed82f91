"""EMAs at one CoAP address (wire reference, sections 3 and 8), for whoever heads them: their questions until they are
answered, their observations, and where each is written to.

An EMA is written to where it last asked from. Cannot do: reach an EMA that was not heard of since the start; what is
meant for it waits until it asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Protocol

from gateway.transport.coap import GuardedSite  # isort: skip
import aiocoap
import aiocoap.resource
from aiocoap.resource import PathCapable

from gateway.errors import PeerError, TransientError
from gateway.links.mir2017 import happenings as h
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.client_happenings import Refused
from gateway.links.mir2017.coap import messages as coap
from gateway.links.mir2017.coap.server import Answer, Write
from gateway.transport.coap_ask import TEXT, ask
from gateway.transport.coap_shared import CoapHub

# An answer waits for the commit behind it; an EMA asks again after about as long.
ANSWER_S = 4.0
WRITE_S = 4.0
MOST_WAITING = 10_000
MOST_NOTIFICATIONS = 100
LONGEST_REASON = 200


class EmaServer(Protocol):
    """The upper end of a profile, sans-I/O."""

    @property
    def paths(self) -> list[str]:
        """Every resource that an EMA writes to."""

    def requested(self, path: str, body: bytes) -> tuple[Hashable, list[Any]]:
        """One PUT: the key that its answer bears where that comes later, and ``Answer`` and happenings."""

    def observed(self, rest: str) -> int:
        """The EMA that observes that. Raise ``PeerError``."""


class CoapEmas:
    """``happened`` is told all that EMAs say; ``registered``, that an EMA's observation stands; ``refused``, a write
    that an EMA did not take, with its code. ``heard`` is told who speaks before the server is asked."""

    def __init__(
        self,
        server: EmaServer,
        happened: Callable[[Any], None],
        registered: Callable[[int], None],
        refused: Callable[[Write, Any], None],
        log: logging.Logger,
        *,
        observe: str = "obs",
        content_format: int = TEXT,
        heard: Callable[[Any], None] = lambda remote: None,
    ) -> None:
        self.oversized = 0
        self.unanswered = 0
        self.observers: dict[int, Observer] = {}
        self._server = server
        self._happened = happened
        self.registered = registered
        self._refused = refused
        self._log = log
        self._observe = observe
        self._format = content_format
        self._heard = heard
        self._context: aiocoap.Context | None = None
        self._where: dict[int, Any] = {}
        self._waiting: dict[Hashable, list[asyncio.Future[bytes]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def up(self) -> bool:
        """Does it serve."""
        return self._context is not None

    @property
    def known(self) -> list[int]:
        """The EMAs that can be told something, in order."""
        return sorted(set(self._where) | set(self.observers))

    async def serve(
        self,
        hub: CoapHub,
        site: GuardedSite,
        address: tuple[str, int],
        opened: Callable[[], None],
        closed: Callable[[], None],
    ) -> None:
        """Until cancelled. Raise ``OperatorError`` when the address is taken."""
        for path in self._server.paths:
            site.add_resource(path.split("/"), _Asked(self, path))
        site.add_resource([self._observe], _Observed(self))
        lease = await hub.open(site, *address)
        self._context = lease.context
        opened()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._context = None
            for task in list(self._tasks):
                task.cancel()
            closed()
            await lease.close()

    # What EMAs say

    async def asked(self, path: str, request: Any) -> Any:
        """One PUT: its answer when there is one."""
        if len(request.payload) > wire.LARGEST_BODY:
            self.oversized += 1
            return aiocoap.Message(code=aiocoap.REQUEST_ENTITY_TOO_LARGE)
        self._heard(request.remote)
        key, outputs = self._server.requested(path, request.payload)
        waits = key is not None and not any(isinstance(output, Answer | Refused) for output in outputs)
        if waits and len(self._waiting) >= MOST_WAITING:
            return aiocoap.Message(code=aiocoap.SERVICE_UNAVAILABLE)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if waits:
            self._waiting.setdefault(key, []).append(answer)
        for output in outputs:
            if isinstance(output, Answer):
                answer.set_result(output.body)
                continue
            if isinstance(output, Refused):
                if not waits and not answer.done():
                    answer.set_exception(PeerError(output.reason))
            elif not isinstance(output, h.ReportRefused):
                self._where[output.ema] = request.remote
            self._happened(output)
        try:
            async with asyncio.timeout(ANSWER_S):
                body = await answer
        except PeerError as err:
            return aiocoap.Message(code=aiocoap.BAD_REQUEST, payload=str(err).encode()[:LONGEST_REASON])
        except TimeoutError:
            return aiocoap.Message(code=aiocoap.SERVICE_UNAVAILABLE)
        finally:
            self._forget(key, answer)
        return aiocoap.Message(code=aiocoap.CONTENT, payload=body, content_format=self._format)

    def _forget(self, key: Hashable, answer: asyncio.Future[bytes]) -> None:
        waiting = self._waiting.get(key, [])
        if answer in waiting:
            waiting.remove(answer)
            if not waiting:
                del self._waiting[key]

    def observes(self, rest: str, observation: Any, remote: Any) -> int:
        """An EMA observes, perhaps again. Raise ``PeerError``."""
        ema = self.observed(rest, remote)
        before = self.observers.pop(ema, None)
        if before is not None:
            before.end()
        self._where[ema] = remote
        self.observers[ema] = Observer(observation, self._format)
        return ema

    def observed(self, rest: str, remote: Any) -> int:
        """The EMA that ``remote`` wants to observe. Raise ``PeerError``."""
        self._heard(remote)
        return self._server.observed(rest)

    def unobserved(self, ema: int, observation: Any) -> None:
        """An observation ended."""
        known = self.observers.get(ema)
        if known is not None and known.observation is observation:
            known.over = True
            del self.observers[ema]

    # What they are told

    def answer(self, answer: Answer | None) -> None:
        """To all that wait for it."""
        for waiting in self._waiting.pop(answer.key, ()) if answer is not None else ():
            if not waiting.done():
                waiting.set_result(answer.body)  # type: ignore[union-attr]

    def tell(self, ema: int, event: Callable[[bool], Write]) -> None:
        """An event: a notification where the EMA observes (``event(True)``), else written to it."""
        observer = self.observers.get(ema)
        write = event(observer is not None)
        if observer is not None:
            observer.notify(write.body)
        else:
            self.write(write)

    def write(self, write: Write) -> None:
        """PUT to an EMA, once."""
        where = self._where.get(write.ema)
        if where is None or self._context is None:
            self._log.debug("gw/%d: /%s waits until it asks: its address is not known", write.ema, write.path)
            return
        self._spawn(self._put(self._context, where, write))

    async def _put(self, context: aiocoap.Context, where: Any, write: Write) -> None:
        try:
            answer = await ask(context, where, write.path, write.body, WRITE_S, content_format=self._format)
        except TransientError as err:
            self.unanswered += 1
            self._log.debug("gw/%d: %s", write.ema, err)
            return
        if not answer.code.is_successful():
            self._refused(write, answer.code)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Observer:
    """One EMA's observation. aiocoap keeps one notification to be sent: what comes meanwhile waits here."""

    def __init__(self, observation: Any, content_format: int) -> None:
        self.observation = observation
        self.over = False
        self._format = content_format
        self._waiting: deque[bytes] = deque(maxlen=MOST_NOTIFICATIONS)
        self._due = False

    def notify(self, body: bytes) -> None:
        """Send it, after what waits."""
        self._waiting.append(body)
        if not self._due:
            self._next()

    def _next(self) -> None:
        self._due = False
        if self.over or not self._waiting:
            return
        if not self.observation._trigger.done():
            payload = self._waiting.popleft()
            self.observation.trigger(
                aiocoap.Message(code=aiocoap.CONTENT, payload=payload, content_format=self._format)
            )
        if self._waiting:
            self._due = True
            asyncio.get_running_loop().call_soon(self._next)

    def end(self) -> None:
        """A newer one took its place."""
        self.over = True
        self.observation.trigger(aiocoap.Message(code=aiocoap.SERVICE_UNAVAILABLE), is_last=True)


class _Asked(aiocoap.resource.Resource):
    """A resource that EMAs PUT."""

    def __init__(self, emas: CoapEmas, path: str) -> None:
        super().__init__()
        self._emas = emas
        self._path = path

    async def render_put(self, request: Any) -> Any:
        return await self._emas.asked(self._path, request)


class _Observed(aiocoap.resource.ObservableResource, PathCapable):
    """``obs/<EMA>``, ``EMAP1.0b/<EMA>``."""

    def __init__(self, emas: CoapEmas) -> None:
        super().__init__()
        self._emas = emas

    async def add_observation(self, request: Any, serverobservation: Any) -> None:
        try:
            ema = self._emas.observes("/".join(request.opt.uri_path), serverobservation, request.remote)
        except PeerError:
            serverobservation.accept(lambda: None)
            return
        serverobservation.accept(lambda: self._emas.unobserved(ema, serverobservation))
        asyncio.get_running_loop().call_soon(self._emas.registered, ema)

    async def render_get(self, request: Any) -> Any:
        try:
            self._emas.observed("/".join(request.opt.uri_path), request.remote)
        except PeerError as err:
            return aiocoap.Message(code=aiocoap.NOT_FOUND, payload=str(err).encode()[:LONGEST_REASON])
        return aiocoap.Message(code=aiocoap.CONTENT, payload=coap.INITIAL, content_format=TEXT)
