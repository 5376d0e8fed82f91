"""EMAs below over CoAP, profile ``mir2017`` (wire reference, section 3): what they PUT, what they observe.

An EMA is written to where it last asked from. Cannot do: reach one that was not heard of since this start; what is
meant for it is said when it asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from gateway.transport.coap import GuardedSite, Sources, host_port  # isort: skip
import aiocoap
import aiocoap.resource
from aiocoap.resource import PathCapable

from gateway.config.model import EmasBelowConfig
from gateway.errors import PeerError, TransientError
from gateway.links.mir2017 import happenings as h
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.client_happenings import Refused
from gateway.links.mir2017.coap import messages as coap
from gateway.links.mir2017.coap.server import Answer, Server, Write
from gateway.links.mir2017.messages.negotiation import Negotiation
from gateway.transport.coap_ask import TEXT, ask
from gateway.transport.coap_shared import CoapHub

# An answer waits for the commit behind it; an EMA asks again after about as long.
ANSWER_S = 4.0
WRITE_S = 4.0
MOST_WAITING = 10_000
MOST_NOTIFICATIONS = 100
LONGEST_REASON = 200


class CoapHead:
    """One address. ``opened`` is set while it serves."""

    name = "coap"

    def __init__(
        self,
        ema: str,
        table: EmasBelowConfig,
        address: tuple[str, int],
        hub: CoapHub,
        admits: Callable[[int], bool],
        happened: Callable[[str, h.ServerHappening], None],
        logger: logging.Logger | None = None,
    ) -> None:
        self.server = Server(
            zone=wire.zone_named(table.timezone),
            duration_ms=round(table.poll_s * 1000),
            vtn_name=ema,
            ems_name=ema,
            admit=admits,
        )
        self.opened = asyncio.Event()
        self.oversized = 0
        self.unanswered = 0
        self._address = address
        self._hub = hub
        self._sources = Sources(table.sources)
        self._happened = happened
        self._log = logger or logging.getLogger(__name__)
        self._context: aiocoap.Context | None = None
        self._where: dict[int, Any] = {}
        self._observers: dict[int, _Observer] = {}
        self._waiting: dict[Hashable, list[asyncio.Future[bytes]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until cancelled. Raise ``OperatorError`` when the address is taken."""
        site = GuardedSite(self._sources)
        for path in self.server.paths:
            site.add_resource([path], _Asked(self, path))
        site.add_resource(["obs"], _Observed(self))
        lease = await self._hub.open(site, *self._address)
        self._context = lease.context
        self.opened.set()
        self._log.info("EMAs below: CoAP %s", host_port(*self._address))
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.opened.clear()
            self._context = None
            for task in list(self._tasks):
                task.cancel()
            await lease.close()

    @property
    def up(self) -> bool:
        return self._context is not None

    def status(self) -> dict[str, object]:
        return {
            "serves": host_port(*self._address),
            "running": self.up,
            "observed_by": len(self._observers),
            "strangers": self._sources.refused,
            "oversized": self.oversized,
            "unanswered": self.unanswered,
            "refused": self.server.refused,
        }

    # --- what they say ---------------------------------------------------------------------------------------

    async def asked(self, path: str, request: Any) -> Any:
        """One PUT: its answer when the site has it."""
        if len(request.payload) > wire.LARGEST_BODY:
            self.oversized += 1
            return aiocoap.Message(code=aiocoap.REQUEST_ENTITY_TOO_LARGE)
        key, outputs = self.server.requested(path, request.payload)
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
            self._happened(self.name, output)
        try:
            async with asyncio.timeout(ANSWER_S):
                body = await answer
        except PeerError as err:
            return aiocoap.Message(code=aiocoap.BAD_REQUEST, payload=str(err).encode()[:LONGEST_REASON])
        except TimeoutError:
            return aiocoap.Message(code=aiocoap.SERVICE_UNAVAILABLE)
        finally:
            self._forget(key, answer)
        return aiocoap.Message(code=aiocoap.CONTENT, payload=body, content_format=TEXT)

    def _forget(self, key: Hashable, answer: asyncio.Future[bytes]) -> None:
        waiting = self._waiting.get(key, [])
        if answer in waiting:
            waiting.remove(answer)
            if not waiting:
                del self._waiting[key]

    def _answer(self, answer: Answer | None) -> None:
        for waiting in self._waiting.pop(answer.key, ()) if answer is not None else ():
            if not waiting.done():
                waiting.set_result(answer.body)  # type: ignore[union-attr]

    def observes(self, rest: str, observation: Any, remote: Any) -> int:
        """An EMA observes, perhaps again. Raise ``PeerError``."""
        ema = self.server.observed(rest)
        before = self._observers.pop(ema, None)
        if before is not None:
            before.end()
        self._where[ema] = remote
        self._observers[ema] = _Observer(observation)
        return ema

    def registered(self, ema: int) -> None:
        """Its observation stands: what waits for it is said now."""
        self._happened(self.name, h.EmaRegistered(ema, ""))

    def unobserved(self, ema: int, observation: Any) -> None:
        """An observation ended."""
        known = self._observers.get(ema)
        if known is not None and known.observation is observation:
            known.over = True
            del self._observers[ema]

    # --- what they are told ----------------------------------------------------------------------------------

    def push(self, ema: int, event: wire.DistributeEvent) -> None:
        observer = self._observers.get(ema)
        write = self.server.distribute(ema, event, observed=observer is not None)
        if observer is not None:
            observer.notify(write.body)
        else:
            self._write(write)

    def answer_poll(self, ema: int, event: wire.DistributeEvent | None, want_report: bool) -> None:
        # Over CoAP an EMA reports with each poll: there is no word to ask it for one.
        self._answer(self.server.answer_poll(ema, event))

    def acknowledge_report(self, ema: int, request_id: int) -> None:
        self._answer(self.server.acknowledge_report(ema, request_id))

    def refuse_report(self, ema: int, request_id: int, code: int, why: str) -> None:
        self._answer(self.server.acknowledge_report(ema, request_id, code, why[:LONGEST_REASON]))

    def acknowledge_opt(self, ema: int, code: int) -> None:
        self._answer(self.server.acknowledge_opt(ema, code))

    def acknowledge_device(self, ema: int, device: int, connected: bool) -> None:
        self._answer(self.server.acknowledge_device(ema, device, connected))

    def negotiate(self, ema: int, message: Negotiation) -> None:
        self._write(self.server.negotiate(ema, message))

    def answer_rdr(self, ema: int, device: int, granted: bool, why: str) -> None:
        said = "" if granted else f"Deny: {why}"[:LONGEST_REASON]
        self._answer(self.server.answer_rdr(ema, device, granted, said))

    def _write(self, write: Write) -> None:
        where = self._where.get(write.ema)
        if where is None or self._context is None:
            return
        self._spawn(self._put(self._context, where, write))

    async def _put(self, context: aiocoap.Context, where: Any, write: Write) -> None:
        try:
            answer = await ask(context, where, write.path, write.body, WRITE_S)
        except TransientError as err:
            self.unanswered += 1
            self._log.debug("gw/%d: %s", write.ema, err)
            return
        if not answer.code.is_successful():
            # One that polls has no such resource; it gets its event with its next poll.
            self._log.debug("gw/%d: /%s: it answers %s", write.ema, write.path, answer.code)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Observer:
    """One EMA's observation. aiocoap keeps one notification to be sent: what comes meanwhile waits here."""

    def __init__(self, observation: Any) -> None:
        self.observation = observation
        self.over = False
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
            self.observation.trigger(aiocoap.Message(code=aiocoap.CONTENT, payload=payload, content_format=TEXT))
        if self._waiting:
            self._due = True
            asyncio.get_running_loop().call_soon(self._next)

    def end(self) -> None:
        """A newer one took its place."""
        self.over = True
        self.observation.trigger(aiocoap.Message(code=aiocoap.SERVICE_UNAVAILABLE), is_last=True)


class _Asked(aiocoap.resource.Resource):
    """A resource that EMAs PUT."""

    def __init__(self, head: CoapHead, path: str) -> None:
        super().__init__()
        self._head = head
        self._path = path

    async def render_put(self, request: Any) -> Any:
        return await self._head.asked(self._path, request)


class _Observed(aiocoap.resource.ObservableResource, PathCapable):
    """``obs/<EMA>``."""

    def __init__(self, head: CoapHead) -> None:
        super().__init__()
        self._head = head

    async def add_observation(self, request: Any, serverobservation: Any) -> None:
        try:
            ema = self._head.observes("/".join(request.opt.uri_path), serverobservation, request.remote)
        except PeerError:
            serverobservation.accept(lambda: None)
            return
        serverobservation.accept(lambda: self._head.unobserved(ema, serverobservation))
        asyncio.get_running_loop().call_soon(self._head.registered, ema)

    async def render_get(self, request: Any) -> Any:
        try:
            self._head.server.observed("/".join(request.opt.uri_path))
        except PeerError as err:
            return aiocoap.Message(code=aiocoap.NOT_FOUND, payload=str(err).encode()[:LONGEST_REASON])
        return aiocoap.Message(code=aiocoap.CONTENT, payload=coap.INITIAL, content_format=TEXT)
