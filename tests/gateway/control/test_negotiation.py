"""The two sides of a negotiation, message by message (docs/negotiation.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clock import Instant
from gateway.control.negotiation import coordinator, member, messages
from gateway.control.negotiation.absolute import difference_mw, need_mw, threshold_w
from gateway.control.negotiation.book import Coordinator, CoordinatorRules, Sharing
from gateway.control.negotiation.ledger import Entry, Ledger, Stage
from gateway.control.negotiation.matching import Spare, cheapest_first, equal_shares
from gateway.control.negotiation.messages import (
    Ask,
    Closed,
    GiveBack,
    Kept,
    Lent,
    Offer,
    Part,
    Prepare,
    Query,
    Recall,
    Refused,
    Release,
    Released,
    Result,
    Returned,
    Still,
    Taken,
)
from gateway.control.negotiation.own import own_limits_mw
from gateway.control.negotiation.state import Member, Situation
from gateway.control.negotiation.step import Envelope, Row, Step
from gateway.journal.plain import dumps, loads
from gateway.site.event import DrEvent, Grant, Loan
from gateway.site.picture import Timeline

W = 1000  # mW
NAMES = ("gw/1", "gw/2", "gw/3")
ROOMY = Situation(own_mw=1000 * W, draw_mw=400 * W, ask_price=100)


@dataclass
class Desk:
    """A coordinator with its disk; what it sends is kept."""

    rules: CoordinatorRules = field(default_factory=CoordinatorRules)
    now: float = 0.0
    offers: dict[str, tuple[int, int]] = field(default_factory=dict)
    going: int | None = None

    def __post_init__(self) -> None:
        self.disk: dict[tuple[str, int], Row] = {}
        self.news: list[str] = []
        self.state: Coordinator = coordinator.at_price(
            coordinator.start(NAMES, 1, self.now, (), self.rules).state, self.going
        )
        for name, (watts, price) in self.offers.items():
            self.hear(name, Offer(1, 1, watts * W, price))

    def _done(self, step: Step[Coordinator]) -> list[Envelope]:
        self.state = step.state
        for row in step.rows:
            self.disk[row.table, row.number] = row
        self.news += [news.why for news in step.news]
        return list(step.messages)

    def hear(self, sender: str, message: object) -> list[Envelope]:
        return self._done(coordinator.receive(self.state, sender, message, self.now))  # type: ignore[arg-type]

    def wait(self, seconds: float) -> list[Envelope]:
        self.now += seconds
        return self._done(coordinator.look(self.state, self.now))

    def restart(self, seconds: float = 10.0, lost_journal: bool = False) -> list[Envelope]:
        rows = [] if lost_journal else [row for row in self.disk.values() if row.body is not None]
        self.now = 5000.0
        made = coordinator.start(NAMES, self.state.next_id, self.now, rows, self.rules, lost_journal)
        return self._done(made)


@dataclass
class Ema:
    """A member with its disk."""

    name: str = "gw/1"
    now: float = 0.0
    situation: Situation = ROOMY
    boot: int = 1

    def __post_init__(self) -> None:
        self.disk: dict[tuple[str, int], Row] = {}
        self.news: list[str] = []
        self.state: Member = member.start(self.name, "ems", self.boot, self.now).state

    def _done(self, step: Step[Member]) -> list[object]:
        self.state = step.state
        for row in step.rows:
            self.disk[row.table, row.number] = row
        self.news += [news.why for news in step.news]
        return [envelope.message for envelope in step.messages if not isinstance(envelope.message, Offer)]

    def hear(self, message: object) -> list[object]:
        return self._done(member.receive(self.state, message, self.situation, self.now))  # type: ignore[arg-type]

    def ask(self, message: Ask) -> list[object]:
        return self._done(member.ask(self.state, message, self.now))

    def wait(self, seconds: float) -> list[object]:
        self.now += seconds
        return self._done(member.look(self.state, self.situation, self.now))

    def give_back(self, number: int | None = None) -> list[object]:
        return self._done(member.give_back(self.state, number, self.situation, self.now))

    def restart(self) -> list[object]:
        rows = [row for row in self.disk.values() if row.body is not None]
        self.boot, self.now = self.boot + 1, 7000.0
        return self._done(member.start(self.name, "ems", self.boot, self.now, rows))

    @property
    def limit_w(self) -> float:
        return self.state.limit_mw(self.situation.own_mw, self.now) / W


def borrower(name: str = "gw/3") -> Ema:
    """It draws all it may."""
    return Ema(name, situation=Situation(500 * W, 500 * W))


ASK = Ask(1, 300 * W, 300 * W, None, 600)
PREPARE = Prepare(7, "gw/3", 300 * W, 100, 600)
RESULT = Result(1, (Part(7, "gw/1", 300 * W, 100),), 600, "")


# --- a lender ---


def test_a_lenders_limit_falls_before_it_says_so_and_that_is_on_its_disk() -> None:
    ema = Ema()
    assert ema.hear(PREPARE) == [Lent(7)]
    assert ema.limit_w == 700
    assert ("lending", 7) in ema.disk
    assert ema.hear(PREPARE) == [Lent(7)]  # doubled: it lends once
    assert ema.limit_w == 700
    assert ema.news == ["lends 300 W to gw/3 for 600 s at 100 a kWh"]


@pytest.mark.parametrize(
    ("situation", "why"),
    [
        (replace(ROOMY, draw_mw=701 * W), "300 W asked, 299 W free"),
        (replace(ROOMY, lowest_mw=699 * W), "300 W asked, 299 W free"),  # an event that is known
        (replace(ROOMY, certain=False), "300 W asked, 0 W free"),
        (replace(ROOMY, ask_price=None), "300 W asked, 0 W free"),
        (replace(ROOMY, ask_price=101), "at 100 a kWh, below its ask of 101"),
    ],
)
def test_it_lends_nothing_that_it_draws_or_may_need(situation: Situation, why: str) -> None:
    ema = Ema(situation=situation)
    (refused,) = ema.hear(PREPARE)
    assert isinstance(refused, Refused)
    assert (refused.loan_id, refused.why, ema.limit_w) == (7, why, 1000)
    assert ema.disk == {}


def test_a_lender_waits_for_the_release_or_for_the_guard_time() -> None:
    ema = Ema()
    ema.hear(PREPARE)
    ema.wait(629.9)
    assert ema.limit_w == 700
    ema.wait(0.1)  # 600 s and the guard time of 30 s
    assert ema.limit_w == 1000
    assert ema.disk["lending", 7].body is None

    early = Ema()
    early.hear(PREPARE)
    assert early.hear(Release(7)) == [Released(7)]
    assert early.limit_w == 1000
    (refused,) = early.hear(PREPARE)  # the double of a message that is long settled
    assert isinstance(refused, Refused)
    assert early.hear(Release(7)) == [Released(7)]


def test_a_lender_whose_limit_tightens_recalls_the_newest_until_it_has_enough() -> None:
    ema = Ema()
    for number, watts in ((1, 100), (2, 200), (3, 150)):
        assert ema.hear(Prepare(number, "gw/3", watts * W, 100, 600)) == [Lent(number)]
    ema.situation = replace(ROOMY, own_mw=600 * W)  # 600 − 450 lent = 150 W for 400 W drawn: 250 W are missing
    assert ema.wait(1.0) == [Recall(3), Recall(2)]
    assert ema.wait(2.0) == [Recall(3), Recall(2)]  # nobody answered
    ema.hear(Release(3))
    ema.hear(Release(2))
    assert ema.wait(60.0) == []
    assert ema.limit_w == 500


def test_an_event_that_is_known_recalls_before_it_begins() -> None:
    ema = Ema()
    ema.hear(PREPARE)
    ema.situation = replace(ROOMY, lowest_mw=600 * W)
    assert ema.wait(1.0) == [Recall(7)]


def test_who_lends_asks_its_own_back_before_it_borrows() -> None:
    ema = Ema()
    ema.hear(PREPARE)
    assert ema.ask(ASK) == [Recall(7)]
    assert ema.news[-1] == "it lends: its own loans are asked back first"


def test_a_restarted_lender_holds_its_loan_for_the_whole_time_anew_and_asks() -> None:
    ema = Ema()
    ema.hear(PREPARE)
    ema.wait(600.0)
    assert ema.restart() == [Lent(7)]
    assert ema.limit_w == 700
    ema.wait(629.0)
    assert ema.limit_w == 700
    ema.wait(1.0)
    assert ema.limit_w == 1000


# --- a borrower ---


def test_a_borrower_counts_a_loan_from_its_result_to_the_end_of_the_time_since_it_asked() -> None:
    ema = borrower()
    assert ema.ask(ASK) == [ASK]
    assert ema.wait(2.0) == [ASK]  # not answered: again
    assert ema.hear(RESULT) == [Taken(1)]
    assert ema.limit_w == 800
    assert ema.hear(RESULT) == [Taken(1)]
    assert ema.limit_w == 800
    assert ema.wait(597.9) == []
    assert ema.limit_w == 800
    ema.wait(0.1)  # 600 s after the ask, not after the result
    assert ema.limit_w == 500


def test_it_says_returned_once_it_draws_no_more_than_its_own() -> None:
    ema = borrower()
    ema.ask(ASK)
    ema.hear(RESULT)
    ema.situation = replace(ema.situation, draw_mw=800 * W)
    assert ema.hear(GiveBack(7)) == []
    assert ema.limit_w == 500  # the limit falls at once; the site follows
    ema.situation = replace(ema.situation, draw_mw=500 * W)
    assert ema.wait(1.0) == [Returned(7)]
    assert ema.wait(2.0) == [Returned(7)]  # until the coordinator knows
    ema.hear(Closed(7))
    assert ema.wait(60.0) == []
    assert ema.disk["borrowing", 7].body is None


def test_what_comes_too_late_is_given_back() -> None:
    ema = borrower()
    ema.ask(ASK)
    ema.wait(4.0)
    assert ema.news == ["no answer within 4 s"]
    assert ema.hear(RESULT) == [Returned(7)]  # no Taken: it is told again until it is known to be returned
    assert ema.limit_w == 500


def test_a_recall_that_overtakes_its_result_keeps_it_from_counting() -> None:
    ema = borrower()
    ema.ask(ASK)
    assert ema.hear(GiveBack(7)) == [Returned(7)]
    both = replace(RESULT, parts=(*RESULT.parts, Part(8, "gw/2", 100 * W, 100)))
    assert ema.hear(both) == [Returned(7)]
    assert ema.limit_w == 600  # the other loan counts
    assert ema.hear(RESULT) == [Returned(7)]
    assert ema.limit_w == 600


def test_what_was_returned_never_counts_again_not_after_a_restart_either() -> None:
    ema = borrower()
    ema.ask(ASK)
    ema.hear(RESULT)
    assert ema.give_back() == [Returned(7)]
    assert ema.restart() == []  # nothing to ask about
    ema.hear(Kept(7, 2, 500))
    ema.hear(RESULT)
    assert ema.limit_w == 500
    assert ema.wait(1.0) + ema.wait(1.0) + ema.wait(2.0) == [Returned(7)]  # said at the result's double, and again


@pytest.mark.parametrize(
    ("answer", "watts"),
    [
        (Kept(7, 2, 100), 800),
        (Kept(7, 2, 0), 500),
        (Kept(7, 1, 100), 500),  # the answer to an earlier start
    ],
)
def test_after_a_restart_a_loan_counts_when_the_coordinator_says_so(answer: Kept, watts: int) -> None:
    ema = borrower()
    ema.ask(ASK)
    ema.hear(RESULT)
    assert ema.restart() == [Still(7, 2)]
    assert ema.limit_w == 500
    ema.now += 40.0
    ema.hear(answer)
    assert ema.limit_w == watts
    ema.now += 59.9  # counted from the start: the question cannot have left before
    assert ema.limit_w == watts
    ema.now += 0.1
    assert ema.limit_w == 500


def test_loans_of_the_limit_are_on_the_wall_clock_of_the_moment() -> None:
    lender, ema = Ema(), borrower()
    lender.hear(PREPARE)
    ema.ask(ASK)
    ema.hear(RESULT)
    assert lender.state.loans(Instant(30.0, 1e9)) == (Loan(7, "gw/3", -300.0, 1e9 + 600),)
    assert ema.state.loans(Instant(30.0, 1e9)) == (Loan(7, "gw/1", 300.0, 1e9 + 570),)
    assert ema.state.loans(Instant(600.0, 1e9)) == ()


def test_an_offer_is_told_when_it_changed_enough_and_after_a_query() -> None:
    ema = Ema()

    def told() -> list[Offer]:
        ema.now += 1.0
        step = member.look(ema.state, ema.situation, ema.now)
        ema.state = step.state
        return [e.message for e in step.messages if isinstance(e.message, Offer)]

    assert told() == [Offer(1, 1, 600 * W, 100)]
    ema.situation = replace(ROOMY, draw_mw=405 * W)
    assert told() == []
    ema.situation = replace(ROOMY, draw_mw=410 * W)
    assert told() == [Offer(1, 2, 590 * W, 100)]
    ema.situation = replace(ROOMY, draw_mw=1000 * W)
    assert told() == [Offer(1, 3, 0, 100)]
    step = member.receive(ema.state, Query(), ema.situation, ema.now)
    assert [e.message for e in step.messages] == [Offer(1, 4, 0, 100)]


# --- the coordinator ---


def test_the_borrower_is_told_when_every_lender_is_lower() -> None:
    desk = Desk(offers={"gw/1": (200, 100), "gw/2": (500, 150)})
    prepared = desk.hear("gw/3", ASK)
    assert prepared == [
        Envelope("gw/1", Prepare(1, "gw/3", 200 * W, 100, 600)),
        Envelope("gw/2", Prepare(2, "gw/3", 100 * W, 150, 600)),
    ]
    assert desk.hear("gw/3", ASK) == []  # doubled
    assert desk.hear("gw/2", Lent(2)) == []
    parts = (Part(1, "gw/1", 200 * W, 100), Part(2, "gw/2", 100 * W, 150))
    told = Envelope("gw/3", Result(1, parts, 600, ""))
    assert desk.hear("gw/1", Lent(1)) == [told]
    assert [row.body.stage for row in desk.disk.values() if isinstance(row.body, Entry)] == [Stage.GRANTED] * 2
    assert desk.wait(2.0)[-1] == told  # again, until it is taken
    assert desk.hear("gw/3", ASK) == [told]  # and when it asks again
    desk.hear("gw/3", Taken(1))
    assert told not in desk.wait(60.0)
    assert desk.state.ledger.limits({"gw/1": 1000, "gw/2": 1000, "gw/3": 0}) == {
        "gw/1": 1000 - 200 * W,
        "gw/2": 1000 - 100 * W,
        "gw/3": 300 * W,
    }


def test_who_refuses_is_replaced() -> None:
    desk = Desk(offers={"gw/1": (300, 100), "gw/2": (300, 150)})
    desk.hear("gw/3", ASK)
    instead = desk.hear("gw/1", Refused(1, "", Offer(1, 2, 0, 100)))
    assert instead == [Envelope("gw/2", Prepare(2, "gw/3", 300 * W, 150, 600))]
    (denied,) = desk.hear("gw/2", Refused(2, "", Offer(1, 2, 0, 150)))
    assert denied == Envelope("gw/3", Result(1, (), 600, "300 W of 300 W are missing: nobody lends more"))


@pytest.mark.parametrize(
    ("least_w", "partial", "granted_w"),
    [
        (200, True, 200),
        (201, True, 0),
        (200, False, 0),
    ],
)
def test_at_the_deadline_a_part_is_granted_if_both_take_parts(least_w: int, partial: bool, granted_w: int) -> None:
    desk = Desk(CoordinatorRules(partial=partial), offers={"gw/1": (200, 100), "gw/2": (100, 150)})
    desk.hear("gw/3", replace(ASK, least_mw=least_w * W))
    desk.hear("gw/1", Lent(1))
    sent = desk.wait(2.0)
    (result,) = [e.message for e in sent if isinstance(e.message, Result)]
    assert sum(part.mw for part in result.parts) == granted_w * W
    released = {e.to for e in sent if isinstance(e.message, Release)}
    assert released == ({"gw/2"} if granted_w else {"gw/1", "gw/2"})


@pytest.mark.parametrize(
    ("going", "cap", "lenders", "why"),
    [
        (None, None, {"gw/1": 100, "gw/2": 150}, ""),
        (None, 100, {"gw/1": 100}, ""),
        (None, 99, {}, "300 W of 300 W are missing: nobody lends more at 99 a kWh or less"),
        (160, 200, {"gw/1": 160, "gw/2": 160}, ""),  # the negotiation price holds for everybody
        (120, 200, {"gw/1": 120}, ""),
        (160, 150, {}, "the negotiation price of 160 a kWh is above its cap of 150"),
    ],
)
def test_prices(going: int | None, cap: int | None, lenders: dict[str, int], why: str) -> None:
    desk = Desk(offers={"gw/1": (200, 100), "gw/2": (200, 150)}, going=going)
    sent = desk.hear("gw/3", replace(ASK, cap=cap, least_mw=1))
    assert {e.to: e.message.price for e in sent if isinstance(e.message, Prepare)} == lenders
    assert [e.message.why for e in sent if isinstance(e.message, Result)] == ([why] if why else [])


def test_the_labs_rule_needs_an_equal_share_of_everybody() -> None:
    desk = Desk(CoordinatorRules(Sharing.EQUAL), offers={"gw/1": (150, 100), "gw/2": (500, 150)})
    sent = desk.hear("gw/3", replace(ASK, mw=300_001))
    assert [e.message.why for e in sent if isinstance(e.message, Result)] == [
        "not everybody could lend an equal share of 300.001 W"
    ]
    sent = desk.hear("gw/3", Ask(2, 300 * W, 0, None, 600))
    assert [(e.to, e.message.mw) for e in sent if isinstance(e.message, Prepare)] == [
        ("gw/1", 150 * W),
        ("gw/2", 150 * W),
    ]
    desk.hear("gw/1", Lent(1))
    desk.hear("gw/2", Refused(2, "", Offer(1, 2, 0, 150)))
    assert desk.news[-1] == "gw/3 asks for 300 W: not everybody could lend an equal share of 300 W"


def granted() -> Desk:
    """A desk with one loan, 1, of 300 W from gw/1 to gw/3."""
    desk = Desk(offers={"gw/1": (500, 100), "gw/2": (0, 100)})
    desk.hear("gw/3", ASK)
    desk.hear("gw/1", Lent(1))
    desk.hear("gw/3", Taken(1))
    return desk


def test_a_recall_reaches_the_lender_by_way_of_the_borrower() -> None:
    desk = granted()
    assert desk.hear("gw/1", Recall(1)) == [Envelope("gw/3", GiveBack(1))]
    assert desk.hear("gw/3", Returned(1)) == [Envelope("gw/1", Release(1)), Envelope("gw/3", Closed(1))]
    assert desk.hear("gw/3", Returned(1)) == [Envelope("gw/3", Closed(1))]
    assert desk.hear("gw/1", Recall(1)) == [Envelope("gw/1", Release(1))]
    assert desk.state.ledger.balances() == {}
    desk.hear("gw/1", Released(1))
    assert desk.state.ledger.entries == {}
    assert desk.disk["entry", 1].body is None


def test_nobody_speaks_for_another() -> None:
    desk = granted()
    for stranger in ("gw/2", "gw/9"):
        for message in (Returned(1), Recall(1), Released(1), Lent(1), Refused(1, "", Offer(9, 9, 9, 9)), Taken(1)):
            desk.hear(stranger, message)
    assert desk.state.ledger.entries[1].stage is Stage.GRANTED
    assert desk.hear("gw/9", ASK) == []


def test_a_loan_leaves_the_book_after_its_time_and_the_guard_time() -> None:
    desk = granted()
    desk.wait(629.0)
    assert 1 in desk.state.ledger.entries
    desk.wait(1.0)
    assert desk.state.ledger.entries == {}
    assert desk.hear("gw/1", Lent(1)) == [Envelope("gw/1", Release(1))]  # a lender that was away


def test_after_a_restart_what_was_not_granted_is_the_lenders() -> None:
    desk = Desk(offers={"gw/1": (500, 100), "gw/2": (0, 100)})
    desk.hear("gw/3", ASK)
    assert Envelope("gw/1", Release(1)) in desk.restart()
    assert desk.hear("gw/1", Lent(1)) == [Envelope("gw/1", Release(1))]


def test_after_a_restart_what_was_granted_stays_and_is_not_longer_for_it() -> None:
    desk = granted()
    assert Envelope("gw/3", Result(1, (Part(1, "gw/1", 300 * W, 100),), 600, "")) in desk.restart()
    # It does not know how much is left; so a borrower that restarted too does not keep it.
    assert desk.hear("gw/3", Still(1, 5)) == [Envelope("gw/3", Kept(1, 5, 0))]


def test_how_much_is_left_is_told_without_rounding_up() -> None:
    desk = granted()
    desk.now += 100.5
    assert desk.hear("gw/3", Still(1, 5)) == [Envelope("gw/3", Kept(1, 5, 499))]
    assert desk.hear("gw/2", Still(1, 5)) == [Envelope("gw/2", Kept(1, 5, 0))]


def test_a_coordinator_without_its_journal_releases_nobody_for_the_longest_time() -> None:
    desk = granted()
    desk.restart(lost_journal=True)
    assert desk.hear("gw/1", Lent(1)) == []
    assert desk.hear("gw/1", Recall(1)) == []
    desk.now += 3630.0
    assert desk.hear("gw/1", Lent(1)) == [Envelope("gw/1", Release(1))]


def test_a_newer_ask_takes_the_place_of_an_older_and_an_old_one_is_not_taken_up() -> None:
    desk = Desk(offers={"gw/1": (500, 100), "gw/2": (500, 150)})
    desk.hear("gw/3", replace(ASK, ask_id=2))
    sent = desk.hear("gw/3", replace(ASK, ask_id=3))
    assert Envelope("gw/1", Release(1)) in sent
    assert desk.hear("gw/3", replace(ASK, ask_id=2)) == []


def test_no_loan_is_longer_than_the_coordinator_allows() -> None:
    desk = Desk(CoordinatorRules(longest_s=60), offers={"gw/1": (500, 100), "gw/2": (0, 100)})
    (prepare,) = desk.hear("gw/3", ASK)
    assert prepare.message == Prepare(1, "gw/3", 300 * W, 100, 60)
    (result,) = desk.hear("gw/1", Lent(1))
    assert result.message == Result(1, (Part(1, "gw/1", 300 * W, 100),), 60, "")


def test_an_old_offer_changes_nothing_and_what_was_prepared_is_not_offered_again() -> None:
    desk = Desk(offers={"gw/1": (500, 100), "gw/2": (0, 100)})
    desk.hear("gw/1", Offer(2, 1, 400 * W, 100))  # it was restarted
    desk.hear("gw/1", Offer(1, 9, 900 * W, 100))  # from before, late
    (prepare,) = desk.hear("gw/3", ASK)
    assert prepare == Envelope("gw/1", Prepare(1, "gw/3", 300 * W, 100, 600))
    (denied, *_) = desk.hear("gw/2", replace(ASK, mw=200 * W, least_mw=200 * W))
    assert denied == Envelope("gw/1", Prepare(2, "gw/2", 100 * W, 100, 600))  # 100 W are left


def test_a_result_that_is_told_again_leaves_out_what_was_recalled() -> None:
    desk = Desk(offers={"gw/1": (200, 100), "gw/2": (500, 150)})
    desk.hear("gw/3", ASK)
    desk.hear("gw/1", Lent(1))
    desk.hear("gw/2", Lent(2))
    desk.hear("gw/1", Recall(1))
    sent = desk.hear("gw/3", Returned(1))
    left = Result(1, (Part(2, "gw/2", 100 * W, 150),), 600, "")
    assert Envelope("gw/3", left) in sent
    again = [e.message for e in desk.wait(2.0) if isinstance(e.message, Result)]
    assert again == [left]


def test_members_come_and_go() -> None:
    desk = granted()
    step = coordinator.with_members(desk.state, ("gw/3", "gw/4"), desk.now)
    assert step.messages == (Envelope("gw/4", Query()),)
    desk.state = step.state
    assert [e.message.why for e in desk.hear("gw/1", replace(ASK, ask_id=5)) if isinstance(e.message, Result)] == []
    assert desk.hear("gw/1", Recall(1)) == [Envelope("gw/3", GiveBack(1))]  # a loan outlasts the membership
    desk.hear("gw/1", Offer(1, 5, 500 * W, 1))
    assert "gw/1" not in desk.state.offers


def test_a_lender_recalls_for_a_reason_of_its_own_and_control_may_wait_for_it() -> None:
    ema = Ema()
    ema.hear(PREPARE)
    step = member.recall(ema.state, 7, ROOMY, 5.0)
    assert [e.message for e in step.messages if not isinstance(e.message, Offer)] == [Recall(7)]
    assert step.state.coming_mw(6.9, 2.0) == 300 * W
    assert step.state.coming_mw(7.0, 2.0) == 0


WALL = 1_790_000_000.0


@pytest.mark.parametrize(
    ("timeline", "within_s", "expected"),
    [
        (Timeline(), 3600, None),
        (Timeline(threshold_w=1000.0), 3600, (1000, 1000)),
        (Timeline(threshold_w=1000.0, hard_w=900.0), 3600, (900, 900)),
        (Timeline(threshold_w=1000.0, grants=(Grant("ems", "lamp-1", 60.0, WALL + 9),)), 3600, (1000, 1000)),
        (Timeline(threshold_w=1000.0, loans=(Loan(1, "gw/2", -200.0, WALL + 9),)), 3600, (1000, 1000)),
        (
            Timeline(threshold_w=1000.0, events=(DrEvent("ems", 1, 1, WALL + 600, WALL + 900, 700.0),)),
            3600,
            (1000, 700),
        ),
        (
            Timeline(threshold_w=1000.0, events=(DrEvent("ems", 1, 1, WALL + 600, WALL + 900, 700.0),)),
            599,
            (1000, 1000),
        ),
        (Timeline(threshold_w=1000.0, events=(DrEvent("ems", 1, 1, WALL - 1, WALL + 900, 700.0),)), 3600, (700, 700)),
        (
            Timeline(threshold_w=1000.0, events=(DrEvent("ems", 1, 2, WALL + 600, WALL + 600, 700.0),)),
            3600,
            (1000, 1000),
        ),
    ],
)
def test_its_own_limit_comes_from_the_timeline(
    timeline: Timeline, within_s: float, expected: tuple[int, int] | None
) -> None:
    limits = own_limits_mw(timeline, Instant(5.0, WALL), within_s)
    assert limits == (None if expected is None else tuple(watts * W for watts in expected))


# --- towards a peer of the lab ---


@pytest.mark.parametrize(
    ("own_mw", "balance_mw", "told_w"),
    [(500_000, 0, 500), (500_000, -100_000, 400), (500_000, 300_000, 800), (500_999, -1, 500), (100, -200, 0)],
)
def test_a_threshold_is_made_of_a_balance(own_mw: int, balance_mw: int, told_w: int) -> None:
    assert threshold_w(own_mw, balance_mw) == told_w


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(-(10**6), 10**6)), min_size=1))
@settings(deadline=None, derandomize=True)
def test_thresholds_told_never_add_up_to_more_than_the_limits(sites: list[tuple[int, int]]) -> None:
    limits = [(own, balance) for own, balance in sites if own + balance >= 0]
    assert sum(threshold_w(*limit) * 1000 for limit in limits) <= sum(own + balance for own, balance in limits)
    for own, balance in limits:
        back = difference_mw(own, threshold_w(own, balance))
        assert back <= max(balance, 0) or back <= balance
        assert abs(back - balance) < 1000


def test_the_labs_ask_names_the_threshold_it_wants() -> None:
    assert need_mw(800, 500_000) == 300_000
    assert need_mw(400, 500_000) == 0
    assert difference_mw(500_999, 500) == 0
    assert difference_mw(500_000, 400) == -100_000


# --- the book, and who lends ---


def test_rows_come_back_from_the_journals_form() -> None:
    lender, ema, desk = Ema(), borrower(), granted()
    lender.hear(PREPARE)
    ema.ask(ASK)
    ema.hear(RESULT)
    for row in (*lender.disk.values(), *ema.disk.values(), *desk.disk.values()):
        assert row.body is not None
        assert loads(type(row.body), dumps(row.body)) == row.body


loans = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES), st.integers(1, 10**9)), max_size=12)


@given(loans, st.lists(st.tuples(st.integers(0, 11), st.sampled_from([*Stage, None])), max_size=30))
@settings(deadline=None, derandomize=True)
def test_whatever_is_booked_the_sum_stays(
    made: list[tuple[str, str, int]], moves: list[tuple[int, Stage | None]]
) -> None:
    own = {name: 1000 for name in NAMES}
    ledger = Ledger()
    for number, (lender, name, mw) in enumerate(made):
        if lender != name:
            ledger = ledger.put(Entry(number, 1, lender, name, mw, 0, 60, 0.0))
    for number, stage in moves:
        entry = ledger.entries.get(number)
        before = ledger
        if entry is not None and stage is None:
            ledger = ledger.drop(number)
        elif entry is not None and stage is not None:
            if tuple(Stage).index(stage) < tuple(Stage).index(entry.stage):
                with pytest.raises(ValueError, match="cannot become"):
                    ledger.put(replace(entry, stage=stage))
            else:
                ledger = ledger.put(replace(entry, stage=stage))
        assert sum(ledger.limits(own).values()) == sum(own.values())
        assert sum(ledger.balances().values()) == 0
        assert before.entries.get(number) == entry  # an older book does not change


def test_a_booked_loan_never_changes() -> None:
    entry = Entry(1, 1, "gw/1", "gw/3", 300, 100, 60, 0.0)
    ledger = Ledger().put(entry)
    for other in (replace(entry, mw=301), replace(entry, lender="gw/2"), replace(entry, borrower="gw/2")):
        with pytest.raises(ValueError, match="cannot become"):
            ledger.put(other)
    for mw, lender in ((0, "gw/1"), (-1, "gw/1"), (1, "gw/3")):
        with pytest.raises(ValueError, match="loan 1: "):
            replace(entry, mw=mw, lender=lender)


@pytest.mark.parametrize(
    ("need", "cap", "going", "expected"),
    [
        (300, None, None, "c:100@50 a:200@100"),  # cheapest first; of equal price the larger
        (450, None, None, "c:100@50 a:200@100 b:150@100"),
        (900, None, None, "c:100@50 a:200@100 b:150@100 d:400@300"),  # less than needed
        (900, 299, None, "c:100@50 a:200@100 b:150@100"),
        (900, 49, None, ""),
        (150, 200, 100, "c:100@100 a:50@100"),
        (150, 99, 100, ""),
        (0, None, None, ""),
    ],
)
def test_cheapest_first(need: int, cap: int | None, going: int | None, expected: str) -> None:
    spares = [Spare("a", 200, 100), Spare("b", 150, 100), Spare("c", 100, 50), Spare("d", 400, 300), Spare("e", 0, 1)]
    assert _said(cheapest_first(need, cap, spares, going)) == expected


@pytest.mark.parametrize(
    ("need", "cap", "spares", "expected"),
    [
        (300, None, [Spare("a", 100, 1), Spare("b", 100, 2), Spare("c", 100, 3)], "a:100@1 b:100@2 c:100@3"),
        (301, None, [Spare("a", 101, 1), Spare("b", 100, 2), Spare("c", 100, 3)], "a:101@1 b:100@2 c:100@3"),
        (301, None, [Spare("a", 100, 1), Spare("b", 101, 2), Spare("c", 100, 3)], ""),
        (300, 2, [Spare("a", 100, 1), Spare("b", 100, 2), Spare("c", 100, 3)], ""),
        (300, None, [Spare("a", 200, 1), Spare("b", 200, 2)], ""),  # the third is not known
        (2, None, [Spare("a", 5, 1), Spare("b", 5, 2), Spare("c", 0, 3)], "a:1@1 b:1@2"),
    ],
)
def test_equal_shares(need: int, cap: int | None, spares: list[Spare], expected: str) -> None:
    assert _said(equal_shares(need, cap, spares, 3)) == expected


def _said(parts: Sequence[Spare]) -> str:
    return " ".join(f"{part.lender}:{part.mw}@{part.price}" for part in parts)


def test_what_a_step_tells_a_person() -> None:
    desk = granted()
    desk.hear("gw/1", Recall(1))
    desk.hear("gw/3", Returned(1))
    assert desk.news == [
        "gw/3 borrows 300 W of 300 W for 600 s",
        "gw/1 recalls 300 W from gw/3",
        "300 W of gw/1 for gw/3 end: it gave it back",
    ]


def test_the_page_names_every_message() -> None:
    page = (Path(__file__).parents[3] / "docs" / "negotiation.md").read_text(encoding="utf-8")
    named = {name for name, kind in vars(messages).items() if is_dataclass(kind) and kind is not Part}
    assert len(named) == 16
    assert [name for name in sorted(named) if f"| `{name}` |" not in page and f" `{name}`" not in page] == []
