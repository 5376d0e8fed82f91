"""EMAs below over CoAP, profile ``mir2017`` (wire reference, section 3): what they PUT, what they observe.

An EMA is written to where it last asked from. Cannot do: reach one that was not heard of since this start; what is
meant for it is said when it asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from gateway.transport.coap import GuardedSite, Sources, host_port  # isort: skip
from gateway.config.model import EmasBelowConfig
from gateway.links.mir2017 import happenings as h
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.coap.server import Server, Write
from gateway.links.mir2017.messages.negotiation import Negotiation
from gateway.transport.coap_emas import LONGEST_REASON, CoapEmas
from gateway.transport.coap_shared import CoapHub


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
        self._address = address
        self._hub = hub
        self._sources = Sources(table.sources)
        self._happened = happened
        self._log = logger or logging.getLogger(__name__)
        self.emas = CoapEmas(self.server, self._said, self._registered, self._refused, self._log)

    async def run(self) -> None:
        """Serve until cancelled. Raise ``OperatorError`` when the address is taken."""
        await self.emas.serve(self._hub, GuardedSite(self._sources), self._address, self._opened, self.opened.clear)

    def _opened(self) -> None:
        self.opened.set()
        self._log.info("EMAs below: CoAP %s", host_port(*self._address))

    @property
    def up(self) -> bool:
        return self.emas.up

    def status(self) -> dict[str, object]:
        return {
            "serves": host_port(*self._address),
            "running": self.up,
            "observed_by": len(self.emas.observers),
            "strangers": self._sources.refused,
            "oversized": self.emas.oversized,
            "unanswered": self.emas.unanswered,
            "refused": self.server.refused,
        }

    # --- what they say ---------------------------------------------------------------------------------------

    def _said(self, happening: h.ServerHappening) -> None:
        self._happened(self.name, happening)

    def _registered(self, ema: int) -> None:
        """Its observation stands: what waits for it is said now."""
        self._happened(self.name, h.EmaRegistered(ema, ""))

    def _refused(self, write: Write, code: Any) -> None:
        # One that polls has no such resource; it gets its event with its next poll.
        self._log.debug("gw/%d: /%s: it answers %s", write.ema, write.path, code)

    # --- what they are told ----------------------------------------------------------------------------------

    def push(self, ema: int, event: wire.DistributeEvent) -> None:
        self.emas.tell(ema, lambda observed: self.server.distribute(ema, event, observed=observed))

    def answer_poll(self, ema: int, event: wire.DistributeEvent | None, want_report: bool) -> None:
        self.emas.answer(self.server.answer_poll(ema, event, want_report))

    def acknowledge_report(self, ema: int, request_id: int) -> None:
        self.emas.answer(self.server.acknowledge_report(ema, request_id))

    def refuse_report(self, ema: int, request_id: int, code: int, why: str) -> None:
        self.emas.answer(self.server.refuse_report(ema, request_id, code, why))

    def acknowledge_opt(self, ema: int, code: int) -> None:
        self.emas.answer(self.server.acknowledge_opt(ema, code))

    def acknowledge_device(self, ema: int, device: int, connected: bool) -> None:
        self.emas.answer(self.server.acknowledge_device(ema, device, connected))

    def negotiate(self, ema: int, message: Negotiation) -> None:
        self.emas.write(self.server.negotiate(ema, message))

    def answer_rdr(self, ema: int, device: int, granted: bool, why: str) -> None:
        said = "" if granted else f"Deny: {why}"[:LONGEST_REASON]
        self.emas.answer(self.server.answer_rdr(ema, device, granted, said))
