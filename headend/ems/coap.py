"""EMAs over CoAP (wire reference, sections 3 and 8): answers, pushes and notifications.

An EMA is written to where it last asked from. Cannot do: reach an EMA that was not heard of since the EMS started;
what is meant for it waits until it asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Hashable
from typing import TYPE_CHECKING, Any

from gateway.transport.coap import GuardedSite, Sources  # isort: skip
import aiocoap
import aiocoap.resource
from aiocoap.resource import PathCapable

from gateway.control.negotiation.messages import FromCoordinator
from gateway.errors import PeerError, TransientError
from gateway.links.emap1b.messages.names import CONTENT_FORMAT, PROFILE
from gateway.links.mir2017 import happenings as h
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.client_happenings import Refused
from gateway.links.mir2017.coap import messages as coap
from gateway.links.mir2017.coap.server import Answer, Server, Write
from gateway.links.mir2017.messages.budget import Budget
from gateway.links.mir2017.messages.negotiation import LabAnswer
from gateway.negotiation_words import written
from gateway.transport.coap_ask import TEXT, ask
from gateway.transport.coap_shared import CoapHub
from headend.ems.head import EventBody
from headend.ems.service import EmsService
from headend.ems.settings import EmsSettings, parse_address, parse_sources
from headend.ems.translate import Translator, event_of, number_of, rdr_words
from headend.ems.view_types import LinkView

if TYPE_CHECKING:
    from gateway.links.emap1b.coap_server import CoapServer as Emap1bServer
    from gateway.transport.oscore import Keys

NAME = "coap"
# An answer waits for the commit behind it; an EMA asks again after about as long.
ANSWER_S = 4.0
WRITE_S = 4.0
MOST_WAITING = 10_000
LARGEST_REQUEST = wire.LARGEST_BODY


class CoapHead:
    """One address, many EMAs, of profile ``mir2017`` or of ``emap1b``. ``run`` until cancelled."""

    def __init__(
        self,
        service: EmsService,
        settings: EmsSettings,
        log: logging.Logger,
        hub: CoapHub,
        emap1b: Emap1bServer | None = None,
        keys: Keys | None = None,
    ) -> None:
        self.name = NAME if emap1b is None else f"{NAME} emap1b"
        self.controls_devices = emap1b is None
        self.negotiates = emap1b is None
        self.prices = True
        self.answers = True
        self._service = service
        self._translator = Translator(service, self.name)
        self._log = log
        self._hub = hub
        self._address = parse_address("coap", settings.coap)
        self._sources = Sources(parse_sources(settings.coap_sources))
        self.server: Server | Emap1bServer = emap1b or Server(
            zone=wire.zone_named(settings.zone),
            duration_ms=settings.duration_ms,
            admit=lambda number: service.admits(wire.ema_name(number)),
            prices=lambda number: service.prices.budgets(wire.ema_name(number)),
        )
        self._keys = keys
        self._speaker: Any = None  # the address of whoever is heard now
        if keys is not None:
            self.server.speaks = self._speaks
        self._observed = "obs" if emap1b is None else PROFILE
        self._format = TEXT if emap1b is None else CONTENT_FORMAT
        self.up = False
        self.oversized = 0
        self._context: aiocoap.Context | None = None
        self._where: dict[int, Any] = {}
        self._observers: dict[int, _Observer] = {}
        self._waiting: dict[Hashable, list[asyncio.Future[bytes]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        service.attach(self)

    async def run(self) -> None:
        """Raise ``OperatorError`` when the address is taken."""
        if self._keys is not None:
            self._keys.open()
        try:
            await self._run()
        finally:
            if self._keys is not None:
                self._keys.close()

    async def _run(self) -> None:
        site = GuardedSite(self._sources, self._keys)
        for path in self.server.paths:
            site.add_resource(path.split("/"), _Asked(self, path))
        site.add_resource([self._observed], _Observed(self))
        lease = await self._hub.open(site, *self._address)
        self._context = lease.context
        self.up = True
        self._log.info("CoAP %s:%d: serving EMAs (%s)", *self._address, self.name)
        self._service.link_changed(self)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.up = False
            self._context = None
            for task in list(self._tasks):
                task.cancel()
            self._service.link_changed(self)
            await lease.close()

    def link(self) -> LinkView:
        """For pages and scripts."""
        host, port = self._address
        return LinkView(self.name, self.up, f"{host}:{port}", 0, 0, self.oversized, self.server.refused)

    # What EMAs say

    async def asked(self, path: str, request: Any) -> Any:
        """One PUT: its answer when the service has it."""
        if len(request.payload) > LARGEST_REQUEST:
            self.oversized += 1
            return aiocoap.Message(code=aiocoap.REQUEST_ENTITY_TOO_LARGE)
        self._speaker = request.remote
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
            if not isinstance(output, Refused | h.ReportRefused):
                self._where[_ema_of(output)] = request.remote
            elif isinstance(output, Refused) and not answer.done() and not waits:
                answer.set_exception(PeerError(output.reason))
            self._translator.happened(output)
            if isinstance(output, h.EmaRegistered) and not isinstance(self.server, Server):
                # In the other profile prices are part of the set-up.
                name = wire.ema_name(output.ema)
                self.tell_prices(name, self._service.prices.budgets(name))
        try:
            async with asyncio.timeout(ANSWER_S):
                body = await answer
        except PeerError as err:
            return aiocoap.Message(code=aiocoap.BAD_REQUEST, payload=str(err).encode()[:200])
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

    def _answer(self, answer: Answer | None) -> None:
        for waiting in self._waiting.pop(answer.key, ()) if answer is not None else ():
            if not waiting.done():
                waiting.set_result(answer.body)  # type: ignore[union-attr]

    def observes(self, rest: str, observation: Any, remote: Any) -> int:
        """An EMA observes, perhaps again. Raise ``PeerError``."""
        ema = self.observed(rest, remote)
        before = self._observers.pop(ema, None)
        if before is not None:
            before.end()
        self._where[ema] = remote
        self._observers[ema] = _Observer(observation, self._format)
        return ema

    def observed(self, rest: str, remote: Any) -> int:
        """The EMA that ``remote`` wants to observe. Raise ``PeerError``."""
        self._speaker = remote
        return self.server.observed(rest)

    def _speaks(self, number: int) -> bool:
        """An EMA with a key speaks by it and for itself alone; one without, only without."""
        assert self._keys is not None
        speaker = self._keys.speaker(self._speaker)
        return number not in self._keys.emas if speaker is None else speaker == number

    def registered(self, ema: int) -> None:
        """Its observation stands: what waits for it is told by the service."""
        name = wire.ema_name(ema)
        known = self._service.seen(name, self.name)
        if known is not None:
            self._service.events.came(known)

    def unobserved(self, ema: int, observation: Any) -> None:
        """An observation ended."""
        known = self._observers.get(ema)
        if known is not None and known.observation is observation:
            known.over = True
            del self._observers[ema]

    # What the EMS says

    def push(self, ema: str, event: EventBody) -> None:
        number = number_of(ema)
        observer = self._observers.get(number)
        write = self.server.distribute(number, event_of(event), observed=observer is not None)
        if observer is not None:
            observer.notify(write.body)
        else:
            self._write(write)

    def broadcast(self, event: EventBody) -> None:
        for number in sorted(set(self._where) | set(self._observers)):
            self.push(wire.ema_name(number), event)

    def answer_poll(self, ema: str, event: EventBody | None, want_report: bool) -> None:
        body = None if event is None else event_of(event)
        if isinstance(self.server, Server):
            # An EMA reports with each poll: there is no word to ask it for one.
            self._answer(self.server.answer_poll(number_of(ema), body))
        else:
            self._answer(self.server.answer_poll(number_of(ema), body, want_report))

    def acknowledge_report(self, ema: str, request_id: str) -> None:
        self._answer(self.server.acknowledge_report(number_of(ema), int(request_id)))

    def refuse_report(self, ema: str, request_id: str, code: int, why: str) -> None:
        self._answer(self.server.acknowledge_report(number_of(ema), int(request_id), code, why[:200]))

    def acknowledge_opt(self, ema: str, code: int) -> None:
        self._answer(self.server.acknowledge_opt(number_of(ema), code))

    def acknowledge_device(self, ema: str, number: int, connected: bool) -> None:
        self._answer(self.server.acknowledge_device(number_of(ema), number, connected))

    def answer_rdr(self, ema: str, number: int, granted: bool, why: str) -> None:
        self._answer(self.server.answer_rdr(number_of(ema), number, granted, rdr_words(granted, why)))

    def negotiate(self, ema: str, message: FromCoordinator) -> None:
        if isinstance(self.server, Server):
            self._write(self.server.negotiate(number_of(ema), written(number_of(ema), message)))

    def answer_ask(self, ema: str, accepted: bool, margin_w: int) -> None:
        if isinstance(self.server, Server):
            self._write(self.server.negotiate(number_of(ema), LabAnswer(accepted, margin_w)))

    def tell_prices(self, ema: str, budgets: tuple[Budget, ...]) -> None:
        if isinstance(self.server, Server):
            self._write(self.server.tell_prices(number_of(ema), budgets))
            return
        from headend.ems.emap1b import signals_of

        for signal in signals_of(budgets):
            self._write(self.server.budget(number_of(ema), signal))

    def control(self, ema: str, number: int, on: bool) -> None:
        if isinstance(self.server, Server):
            self._write(self.server.control(number_of(ema), number, on))

    def dim(self, ema: str, number: int, up: bool) -> None:
        if isinstance(self.server, Server):
            self._write(self.server.dim(number_of(ema), number, up))

    def _write(self, write: Write) -> None:
        where = self._where.get(write.ema)
        if where is None or self._context is None:
            self._log.debug("gw/%d: /%s waits until it asks: its address is not known", write.ema, write.path)
            return
        self._spawn(self._put(self._context, where, write))

    async def _put(self, context: aiocoap.Context, where: Any, write: Write) -> None:
        try:
            answer = await ask(context, where, write.path, write.body, WRITE_S, content_format=self._format)
        except TransientError as err:
            self._log.debug("gw/%d: %s", write.ema, err)
            return
        if not answer.code.is_successful():
            self._service.refuse(wire.ema_name(write.ema), f"/{write.path}: it answers {answer.code}")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Observer:
    """One EMA's observation. aiocoap keeps one notification to be sent: what comes meanwhile waits here."""

    def __init__(self, observation: Any, content_format: int) -> None:
        self.observation = observation
        self.over = False
        self._format = content_format
        self._waiting: deque[bytes] = deque(maxlen=100)
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


def _ema_of(happening: Any) -> int:
    number: int = happening.ema
    return number


class _Asked(aiocoap.resource.Resource):
    """A resource that EMAs PUT."""

    def __init__(self, head: CoapHead, path: str) -> None:
        super().__init__()
        self._head = head
        self._path = path

    async def render_put(self, request: Any) -> Any:
        return await self._head.asked(self._path, request)


class _Observed(aiocoap.resource.ObservableResource, PathCapable):
    """``obs/<EMA>``, ``EMAP1.0b/<EMA>``."""

    def __init__(self, head: CoapHead) -> None:
        super().__init__()
        self._head = head

    def get_resources_as_linkheader(self) -> Any:
        """So that ``.well-known/core`` names it too."""
        return aiocoap.resource.LinkFormat([aiocoap.resource.Link("", obs=None)])

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
            self._head.observed("/".join(request.opt.uri_path), request.remote)
        except PeerError as err:
            return aiocoap.Message(code=aiocoap.NOT_FOUND, payload=str(err).encode()[:200])
        return aiocoap.Message(code=aiocoap.CONTENT, payload=coap.INITIAL, content_format=TEXT)
