"""An EMA's loans: its member of the negotiation among the engine, the journal and the upstream that coordinates
(docs/negotiation.md, "A member").

All rows of a step are on disk before any message of it leaves; the limit follows at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gateway import loan_rows
from gateway.clock import Instant
from gateway.config.model import NegotiationConfig
from gateway.control.negotiation import member as side
from gateway.control.negotiation.messages import Ask, FromCoordinator, FromMember
from gateway.control.negotiation.own import own_limits_mw
from gateway.control.negotiation.state import Member, MemberRules, Situation
from gateway.control.negotiation.step import Hold, Kind, News, Step
from gateway.control.power import expected_power
from gateway.control.price import ask as ask_price
from gateway.control.price import bid
from gateway.errors import TransientError
from gateway.prices import stance_of
from gateway.site.decision import Decision, Rule
from gateway.site.event import Loan
from gateway.upstream.base import Coordinator

if TYPE_CHECKING:
    from gateway.engine import Engine

log = logging.getLogger("smartema.loans")

# Where nothing limits the site, whatever it draws is below its limit.
NO_LIMIT_MW = 2**50
# A member looks so often: its draw, its limit and the link change without a word.
LOOK_S = 1.0
# So many passes a site has to follow its limit; so long power that is asked back is waited for before it is missed.
PASSES = 2
AGAIN_S = 1.0
# What was borrowed for something shed and is not needed for so long is given back.
SPARE_S = 30.0
NOTHING_W = 1.0


@dataclass(slots=True)
class _Asked:
    """An ask under way: who waits, and what is done with the power in the same moment."""

    answer: asyncio.Future[tuple[bool, str]]
    then: Callable[[], None] | None
    resource: str


def rules_of(config: NegotiationConfig) -> MemberRules:
    """The ``[negotiation]`` table as the member reads it."""
    return MemberRules(config.guard_s, config.answer_s, math.ceil(config.reserve_w * 1000))


class LoanDesk:
    """Lends what is free, borrows what is missing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asked: dict[int, _Asked] = {}
        self._for: dict[str, frozenset[int]] = {}  # resource → the loans that were made for it
        self._queue: list[FromMember] = []
        self._sender: asyncio.Task[None] | None = None
        self._linked = False
        self._next_look = 0.0
        self._ask_again = 0.0
        self._spare_since: float | None = None
        self._told: tuple[Loan, ...] = ()
        now = engine.clock.now()
        config, journal = engine.config.negotiation, engine.journal
        step = side.start(
            engine.config.ema.name, self._coordinator_name(), journal.boot, now.mono, loan_rows.load(journal),
            rules_of(config),
        )  # fmt: skip
        self._member = step.state
        # They are among the sendings, and leave as soon as there is a link.
        self._tell_limit(now, 0)

    # --- what the engine asks --------------------------------------------------------------------------------

    def reconfigure(self, config: NegotiationConfig) -> None:
        """New numbers, for what is lent and asked from now on."""
        self._member = replace(self._member, rules=rules_of(config), coordinator=self._coordinator_name())

    def next_due(self) -> float:
        """Monotonic moment of the next look."""
        return min(self._next_look, side.next_wakeup(self._member) or math.inf)

    def look(self, now: Instant, passed: bool = False) -> None:
        """At ``next_due``, and around each pass: what the site's state means for its loans.

        Before a pass it makes the limit of it; after it (``passed``) it says what is given back.
        """
        self._next_look = now.mono + LOOK_S
        situation = self._situation(now)
        if not passed:
            self._link(now)
            self._borrow_for_shed(now, situation)
        self._apply(side.look(self._member, situation, now.mono), now, situation)

    def heard(self, upstream: str, message: FromCoordinator) -> None:
        """The coordinator speaks."""
        if upstream != self._member.coordinator:
            return
        now = self._engine.clock.now()
        situation = self._situation(now)
        if self._apply(side.receive(self._member, message, situation, now.mono), now, situation):
            self._engine.pass_now()

    async def borrow(
        self, watts: float, for_s: float, resource: str = "", then: Callable[[], None] | None = None
    ) -> tuple[bool, str]:
        """Borrow all of it; (granted, why) within ``answer_s``. ``then`` is called as the limit rises."""
        now = self._engine.clock.now()
        mw = math.ceil(watts * 1000)
        self._link(now)
        refusal, cap = self._refusal(now)
        if refusal:
            return False, refusal
        answer: asyncio.Future[tuple[bool, str]] = asyncio.get_running_loop().create_future()
        self._ask(now, mw, mw, cap, max(int(for_s), 1), _Asked(answer, then, resource))
        return await answer

    def give_back(self, loan_id: int | None) -> None:
        """It is needed no longer (None: none is)."""
        now = self._engine.clock.now()
        situation = self._situation(now)
        self._apply(side.give_back(self._member, loan_id, situation, now.mono), now, situation)
        self._engine.pass_now()

    def not_needed(self, resource: str) -> None:
        """A device that power was borrowed for went off by itself."""
        for number in self._for.pop(resource, ()):
            self.give_back(number)

    def recall(self, loan_id: int) -> None:
        """The operator wants a loan back."""
        now = self._engine.clock.now()
        situation = self._situation(now)
        self._apply(side.recall(self._member, loan_id, situation, now.mono), now, situation)

    def status(self) -> dict[str, object]:
        """For status, menu and pages."""
        now = self._engine.clock.now()
        member = self._member
        offer = member.told.offer if member.told is not None else None
        return {
            "coordinator": member.coordinator,
            "up": self._linked,
            "lent_w": member.lent_mw(now.mono) / 1000,
            "borrowed_w": member.borrowed_mw(now.mono) / 1000,
            "offered_w": offer.mw / 1000 if offer is not None else None,
            "offered_at": offer.price if offer is not None else None,
            "asking": member.asking is not None,
            "loans": [
                *(
                    self._line(now, "lent to", e.borrower, n, e.mw, e.price, e.until, "")
                    for n, e in member.lent.items()
                ),
                *(
                    self._line(now, "borrowed from", e.lender, n, e.mw, e.price, e.until, e.hold.value)
                    for n, e in member.borrowed.items()
                ),
            ],
        }

    @staticmethod
    def _line(
        now: Instant, what: str, peer: str, number: int, mw: int, price: int, until: float, hold: str
    ) -> dict[str, object]:
        return {
            "loan": number,
            "what": what,
            "peer": peer,
            "watts": mw / 1000,
            "price": price,
            "left_s": round(max(until - now.mono, 0.0), 1),
            "state": hold,
        }

    # --- the site, as the member sees it ---------------------------------------------------------------------

    def _coordinator_name(self) -> str:
        config = self._engine.config
        return config.negotiation.upstream or next((u.name for u in config.upstream), "")

    def _coordinator(self) -> Coordinator | None:
        name = self._member.coordinator
        for above in self._engine.upstreams:
            if above.name == name and isinstance(above, Coordinator):
                return above
        return None

    def _situation(self, now: Instant) -> Situation:
        engine = self._engine
        power = engine.power()
        draw_mw = math.ceil((max(power.watts, 0.0) + power.reserved_w) * 1000)
        certain = power.certain and not engine.awaited()
        own = own_limits_mw(engine.timeline(), now, engine.config.negotiation.longest_s)
        if own is None:
            return Situation(NO_LIMIT_MW, draw_mw, None, None, certain)
        price = None
        if now.trusted and not engine.ending and self._missing_w(now) < NOTHING_W:
            config = engine.config.negotiation
            price = ask_price(engine.prices.of(self._member.coordinator), stance_of(config)).price
        return Situation(own[0], draw_mw, own[1], price, certain)

    def _missing_w(self, now: Instant) -> float:
        """What devices that are held back would draw more."""
        rules = self._engine.rules()
        missing = 0.0
        for state in self._engine.states.values():
            if state.held is not None and state.present:
                missing += max(state.wish_w - (expected_power(state, now, rules) or 0.0), 0.0)
        return missing

    # --- asking ----------------------------------------------------------------------------------------------

    def _refusal(self, now: Instant) -> tuple[str, int | None]:
        """Why it cannot ask now (empty: it can), and the most it pays."""
        engine = self._engine
        if not engine.config.negotiation.enabled:
            return "it does not negotiate", None
        offer = bid(engine.prices.of(self._member.coordinator), stance_of(engine.config.negotiation))
        if offer.price is None and not offer.at_any:
            return offer.why, None
        if not now.trusted:
            return "the clock is not set", None
        if not self._linked:
            return f"{self._member.coordinator or 'nobody above'} cannot be asked for a loan now", None
        if self._member.asking is not None:
            return "another loan is just being asked for", None
        return "", offer.price

    def _ask(self, now: Instant, mw: int, least_mw: int, cap: int | None, for_s: int, asked: _Asked | None) -> None:
        number = self._engine.journal.next_decision_id()
        if asked is not None:
            self._asked[number] = asked
        ask = Ask(number, mw, least_mw, cap, for_s)
        self._apply(side.ask(self._member, ask, now.mono), now, self._situation(now))

    def _borrow_for_shed(self, now: Instant, situation: Situation) -> None:
        """Where the operator wants it: whatever is shed is asked of the others, and given back when not needed."""
        engine = self._engine
        config = engine.config.negotiation
        if config.borrow != "shed":
            return
        missing = self._missing_w(now)
        self._give_back_spare(now, situation, missing)
        if (
            missing < NOTHING_W
            or now.mono < self._ask_again
            or not situation.certain
            or not engine.config.negotiation.enabled
        ):
            return
        limit = engine.limit(now).import_w
        if limit is None:
            return
        rules = engine.rules()
        wanted = situation.draw_mw / 1000 + missing
        room = max(wanted * rules.hysteresis_share / max(1 - rules.hysteresis_share, 0.5), rules.hysteresis_min_w)
        lacking = wanted + room + rules.reserve_w - limit
        self._ask_again = now.mono + config.again_s
        refusal, cap = self._refusal(now)
        if lacking < NOTHING_W or refusal:
            log.debug("%.0f W are shed, no loan is asked for: %s", missing, refusal or "there is room")
            return
        mw = math.ceil(lacking) * 1000
        self._ask(now, mw, min(mw, 10_000), cap, config.for_s, None)

    def _give_back_spare(self, now: Instant, situation: Situation, missing: float) -> None:
        kept = frozenset().union(*self._for.values())
        held = [n for n, loan in self._member.borrowed.items() if loan.hold is Hold.HELD and n not in kept]
        rules = self._engine.rules()
        room = max(situation.own_mw / 1000 * rules.hysteresis_share, rules.hysteresis_min_w) + rules.reserve_w
        spare = missing < NOTHING_W and situation.draw_mw / 1000 + room <= situation.own_mw / 1000
        if not held or not spare:
            self._spare_since = None
        elif self._spare_since is None:
            self._spare_since = now.mono
        elif now.mono - self._spare_since >= SPARE_S:
            self._spare_since = None
            for number in held:
                self._apply(side.give_back(self._member, number, situation, now.mono), now, situation)

    # --- a step's consequences -------------------------------------------------------------------------------

    def _apply(self, step: Step[Member], now: Instant, situation: Situation) -> bool:
        """Did the limit change."""
        fresh = frozenset(step.state.borrowed) - frozenset(self._member.borrowed)
        self._member = step.state
        self._for = {name: left for name, ids in self._for.items() if (left := ids & frozenset(step.state.borrowed))}
        for row in step.rows:
            loan_rows.save(self._engine.journal, row)
        self._queue += [envelope.message for envelope in step.messages]  # type: ignore[misc]
        changed = self._tell_limit(now, situation.draw_mw)
        for news in step.news:
            self._tell(news, now, fresh)
        if self._queue and self._sender is None:
            self._sender = asyncio.get_running_loop().create_task(self._send())
        return changed

    def _tell_limit(self, now: Instant, draw_mw: int) -> bool:
        """The loans as they count in the limit; what is asked back and comes within a few passes is not missed yet."""
        loans = self._member.loans(now)
        within_s = PASSES * self._engine.rules().pass_s
        coming = self._member.coming_mw(now.mono, within_s) / 1000
        if coming > 0:
            # Only as far as something would have to be shed for it.
            own = self._situation(now).own_mw
            short = (draw_mw - max(self._member.limit_mw(own, now.mono), 0)) / 1000
            loans = _less(loans, min(coming, max(short, 0.0)))
        if _same(loans, self._told):
            return False
        self._told = loans
        self._engine.book.lend_and_borrow(loans)
        return True

    def _tell(self, news: News, now: Instant, fresh: frozenset[int]) -> None:
        engine = self._engine
        asked = self._asked.pop(news.number, None) if news.kind in (Kind.GRANTED, Kind.DENIED) else None
        words = {
            Kind.GRANTED: f"borrows {news.why}",
            Kind.DENIED: f"no loan: {news.why}",
            Kind.REFUSED: f"does not lend: {news.why}",
        }.get(news.kind, news.why)
        engine.record(Decision(Rule.LOAN, now.wall, engine.power().watts, engine.limit(now), words))
        if asked is not None:
            if news.kind is Kind.GRANTED:
                if asked.resource:
                    self._for[asked.resource] = fresh
                if asked.then is not None:
                    asked.then()
            if not asked.answer.done():
                asked.answer.set_result((news.kind is Kind.GRANTED, news.why))

    # --- the way up ------------------------------------------------------------------------------------------

    def _link(self, now: Instant) -> None:
        """As soon as a session stands, all that waits for an answer is said again."""
        above = self._coordinator()
        linked = above is not None and above.negotiates
        if linked and not self._linked:
            due = {key: replace(sending, due=now.mono) for key, sending in self._member.sendings.items()}
            told = self._member.told
            self._member = replace(self._member, sendings=due, told=told and replace(told, at=-math.inf))
        self._linked = linked

    async def _send(self) -> None:
        """What is said, in order, each behind all rows that were made before it."""
        engine = self._engine
        try:
            while self._queue:
                ready = len(self._queue)
                try:
                    await engine.journal.durable()
                except TransientError as err:
                    log.warning("a loan cannot be written: %s; nothing is said of it before", err)
                    await engine.clock.sleep(AGAIN_S)
                    continue
                messages, self._queue = self._queue[:ready], self._queue[ready:]
                above = self._coordinator()
                for message in messages if above is not None else ():
                    above.negotiate(message)  # type: ignore[union-attr]
        finally:
            self._sender = None


def _less(loans: tuple[Loan, ...], watts: float) -> tuple[Loan, ...]:
    """So much less is lent, the newest first."""
    kept = []
    for loan in sorted(loans, key=lambda loan: -loan.loan_id):
        take = min(-loan.watts, watts) if loan.watts < 0 else 0.0
        watts -= take
        kept.append(replace(loan, watts=loan.watts + take))
    return tuple(sorted(kept, key=lambda loan: loan.loan_id))


def _same(one: tuple[Loan, ...], other: tuple[Loan, ...]) -> bool:
    """But for what the wall clock was slewed."""
    return len(one) == len(other) and all(
        (a.loan_id, a.peer, a.watts) == (b.loan_id, b.peer, b.watts) and abs(a.until - b.until) < 0.5
        for a, b in zip(one, other, strict=True)
    )
