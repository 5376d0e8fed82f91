"""What the EMS says to EMAs, the same over every transport that carries a profile's server: put in the profile's words,
and handed to ``_say``."""

from __future__ import annotations

from typing import Any

from gateway.control.negotiation.messages import FromCoordinator
from gateway.links.mir2017 import happenings as h
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.messages.budget import Budget
from gateway.links.mir2017.messages.negotiation import LabAnswer
from gateway.negotiation_words import written
from headend.ems.head import EventBody
from headend.ems.service import EmsService
from headend.ems.translate import Translator, event_of, number_of, rdr_words


class Saying:
    """``server``: the upper end of profile ``mir2017``, or of ``emap1b``, which neither controls devices nor lends."""

    prices = True
    answers = True

    def __init__(self, name: str, service: EmsService, server: Any, emap1b: bool) -> None:
        self.name = f"{name} emap1b" if emap1b else name
        self.controls_devices = self.negotiates = not emap1b
        self.server = server
        self._service = service
        self._translator = Translator(service, self.name)

    def _say(self, said: Any) -> None:
        """Put on the wire what the server made."""
        raise NotImplementedError

    def _happened(self, happening: h.ServerHappening) -> None:
        self._translator.happened(happening)
        if isinstance(happening, h.EmaRegistered) and not self.negotiates:
            # In the other profile prices are part of the set-up.
            name = wire.ema_name(happening.ema)
            self.tell_prices(name, self._service.prices.budgets(name))

    def answer_poll(self, ema: str, event: EventBody | None, want_report: bool) -> None:
        body = None if event is None else event_of(event)
        self._say(self.server.answer_poll(number_of(ema), body, want_report))

    def acknowledge_report(self, ema: str, request_id: str) -> None:
        self._say(self.server.acknowledge_report(number_of(ema), int(request_id)))

    def refuse_report(self, ema: str, request_id: str, code: int, why: str) -> None:
        self._say(self.server.refuse_report(number_of(ema), int(request_id), code, why))

    def acknowledge_opt(self, ema: str, code: int) -> None:
        self._say(self.server.acknowledge_opt(number_of(ema), code))

    def acknowledge_device(self, ema: str, number: int, connected: bool) -> None:
        self._say(self.server.acknowledge_device(number_of(ema), number, connected))

    def answer_rdr(self, ema: str, number: int, granted: bool, why: str) -> None:
        self._say(self.server.answer_rdr(number_of(ema), number, granted, rdr_words(granted, why)))

    def negotiate(self, ema: str, message: FromCoordinator) -> None:
        if self.negotiates:
            self._say(self.server.negotiate(number_of(ema), written(number_of(ema), message)))

    def answer_ask(self, ema: str, accepted: bool, margin_w: int) -> None:
        if self.negotiates:
            self._say(self.server.negotiate(number_of(ema), LabAnswer(accepted, margin_w)))

    def tell_prices(self, ema: str, budgets: tuple[Budget, ...]) -> None:
        if self.negotiates:
            self._say(self.server.tell_prices(number_of(ema), budgets))
            return
        from headend.ems.emap1b import signals_of

        for signal in signals_of(budgets):
            self._say(self.server.budget(number_of(ema), signal))

    def control(self, ema: str, number: int, on: bool) -> None:
        if self.controls_devices:
            self._say(self.server.control(number_of(ema), number, on))

    def dim(self, ema: str, number: int, up: bool) -> None:
        if self.controls_devices:
            self._say(self.server.dim(number_of(ema), number, up))
