"""The whole EMS in one asyncio process: store, service, ways to EMAs, HTTP. Also to be embedded, without HTTP too."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gateway.clock import Clock
from gateway.errors import OperatorError
from gateway.links.mir2017.messages import zone_named
from gateway.supervisor import Supervisor
from headend.ems.mqtt import MqttHead
from headend.ems.service import EmsService
from headend.ems.settings import NO_BROKER, EmsSettings
from headend.ems.state import Change, Event, ReportCount
from headend.ems.store import Store

if TYPE_CHECKING:
    from headend.ems.coap import CoapHead
    from headend.ems.udp import UdpHead

# What the API gives its connections to end, and as much again for the rest.
END_S = 4.0


class Ems:
    """``run`` until cancelled; ``ready`` returns when the store is open and the parts are started.

    ``on_change``: called on the loop for each change, when set. ``tell_password``: shows the first start's one-time
    password of ``admin`` (None: it is written to a file of mode 0600 in the state folder).
    """

    def __init__(
        self,
        settings: EmsSettings,
        clock: Clock,
        rng: random.Random,
        *,
        http: bool = True,
        tell_password: Callable[[str], None] | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        self.settings = settings.check()
        self.log = logger or logging.getLogger("smartema.ems")
        self.on_change: Callable[[Change], None] | None = None
        self.store = Store(settings.database, self.log)
        self.service = EmsService(settings, self.store, clock, self.log)
        self.heads: list[MqttHead | CoapHead | UdpHead] = []
        if settings.broker != NO_BROKER:
            self.heads.append(MqttHead(self.service, settings, clock, rng, self.log))
            if settings.ems_name:
                from headend.ems.emap1b import emap1b_server

                server = emap1b_server(self.service, settings, clock, rng)
                self.heads.append(MqttHead(self.service, settings, clock, rng, self.log, server))
        if settings.coap:
            from gateway.transport.coap_shared import CoapHub
            from headend.ems.coap import CoapHead

            hub = CoapHub()
            keys = None
            if settings.oscore_dir:
                from headend.ems.keys import keys_of

                keys = keys_of(settings)
            self.heads.append(CoapHead(self.service, settings, self.log, hub, keys=keys))
            if settings.ems_name:
                from headend.ems.emap1b import emap1b_coap_server

                emap1b = emap1b_coap_server(self.service, settings, clock, rng)
                self.heads.append(CoapHead(self.service, settings, self.log, hub, emap1b, keys))
        if settings.udp:
            from headend.ems.udp import UdpHead

            self.heads.append(UdpHead(self.service, settings, self.log))
        self.url = ""
        self._clock = clock
        self._rng = rng
        self._http = http
        self._tell_password = tell_password
        self._ready = asyncio.Event()
        self.service.book.on_change.append(self._changed)

    def _changed(self, change: Change) -> None:
        if self.on_change is not None:
            self.on_change(change)

    async def ready(self) -> None:
        """Return when events may be made. The broker's session may still be on its way: see ``connected``."""
        await self._ready.wait()

    @property
    def connected(self) -> bool:
        """Do the session with the broker and every other way to EMAs stand."""
        return all(head.up for head in self.heads)

    async def run(self) -> None:
        """Raise ``OperatorError`` for a mistake that shows at the start."""
        state = self.settings.state
        try:
            state.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (state / "lock").open("a")
        except OSError as err:
            raise OperatorError(f"state_dir: {state}: {err.strerror}; choose another") from err
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise OperatorError(f"state_dir: {state}: another EMS runs here; choose another") from None
            await self.store.open()
            try:
                await self.service.start()
                await self._run()
            finally:
                self._ready.clear()
                await self.service.stop()
                await self.store.close()

    async def _run(self) -> None:
        parts: list[tuple[str, Callable[[], object]]] = [("ems", self.service.run)]
        parts += [(head.name, head.run) for head in self.heads]
        if self._http:
            # The web framework costs 30 MB: only where the API is served.
            from headend.ems.accounts import Accounts
            from headend.ems.api.guard import Context
            from headend.ems.api.live import LiveHub
            from headend.ems.http import HttpPart

            accounts = Accounts(self.store, self._clock, self.settings.state, self.settings.session_hours * 3600)
            await accounts.start(self._tell_password)
            live = LiveHub()
            self.service.book.on_change.append(live.tell)
            context = Context(self.settings, self.service, self.store, accounts, live, zone_named(self.settings.zone))
            http = HttpPart(self.settings, context, self.log)
            http.prepare()
            self.url = http.url
            parts.append(("http", http.run))
        try:
            async with asyncio.TaskGroup() as group:
                supervisor = Supervisor(group, self._clock, self._rng)
                for name, run in parts:
                    supervisor.start(name, run)  # type: ignore[arg-type]
                self._ready.set()
                await asyncio.sleep(0)
                supervisor.starting = False
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    await supervisor.stop_all(END_S)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    # For who embeds it

    async def create_event(self, value_w: float, start: float, end: float, targets: Sequence[str] | str) -> Event:
        """Hold ``value_w`` from ``start`` to ``end`` (wall seconds of the EMS's clock; whole minutes on the wire, a
        start rounded down, an end up). ``targets``: EMAs that registered before, or "all". Raise ``Refused``."""
        return await self.service.events.create(value_w, start, end, targets)

    async def change_event(
        self, event_id: int, value_w: float | None = None, start: float | None = None, end: float | None = None
    ) -> Event:
        """The same event, changed. Raise ``Refused``, ``Unknown`` or ``Conflict``."""
        return await self.service.events.change(event_id, value_w, start, end)

    async def cancel_event(self, event_id: int) -> Event:
        """Raise ``Unknown`` or ``Conflict``."""
        return await self.service.events.cancel(event_id)

    async def set_limit(self, scope: str, watts: float | None) -> None:
        """Up to where RDRs are granted: an EMA, or "total"."""
        await self.service.set_limit(scope, watts)

    def counts(self) -> dict[str, ReportCount]:
        """Reports on disk and how many came again, by EMA."""
        return {ema.name: ReportCount(ema.reports, ema.duplicates) for ema in self.service.book.emas.values()}
