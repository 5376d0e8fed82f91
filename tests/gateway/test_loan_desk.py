"""An EMA's loans on a clock moved by hand: what is on disk before what is said, and what its site makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from gateway.config.model import NegotiationConfig, UpstreamConfig
from gateway.control.negotiation import messages as n
from gateway.journal import Journal
from gateway.site.event import RdrResult
from tests.support.site import FakeUpstream, Site, replace

W = 1000


@dataclass
class Above(FakeUpstream):
    """An EMS that denies RDRs and writes down what is said of loans."""

    answer: tuple[bool, str] | None = (False, "Deny")
    negotiates: bool = True
    said: list[n.FromMember] = field(default_factory=list)

    def negotiate(self, message: n.FromMember) -> None:
        self.said.append(message)

    def take(self) -> list[n.FromMember]:
        said, self.said = self.said, []
        return said

    def last(self, kind: type) -> n.FromMember:
        return next(message for message in reversed(self.said) if isinstance(message, kind))


def joined(site: Site, **keys: object) -> Above:
    """The site below an EMS, taking part."""
    options = {"enabled": True, "reserve_w": 0.0, **keys}
    config = replace(site.config, upstream=(UpstreamConfig(host="here"),), negotiation=NegotiationConfig(**options))
    site.config = config
    above = Above()
    site.engine.upstreams.append(above)
    site.engine.reconfigure(config)
    return above


async def flow(site: Site, seconds: float) -> None:
    """Time passes; what waits for the disk, a thread of its own, is done."""
    await site.turn(seconds)
    for _ in range(3):
        await Journal.durable(site.engine.journal)
        await site.clock.advance(0)


def limit(site: Site) -> float | None:
    return site.engine.limit(site.clock.now()).import_w


async def test_a_lender_lowers_its_limit_and_says_so_once_it_is_on_disk(make, monkeypatch) -> None:
    site = make(100.0, threshold_w=400.0)
    above = joined(site, ask=200)
    await flow(site, 2)
    assert above.last(n.Offer).mw == 300 * W  # type: ignore[attr-defined]
    above.take()
    order: list[str] = []
    durable = site.journal.durable

    async def watched() -> None:
        order.append(f"said {len(above.said)}, limit {limit(site)}")
        await durable()

    monkeypatch.setattr(site.journal, "durable", watched)
    site.engine.negotiated("ems", n.Prepare(7, "gw/9", 90 * W, 200, 600))
    assert limit(site) == 310
    await flow(site, 0.1)
    assert order[0] == "said 0, limit 310.0"
    assert n.Lent(7) in above.take()
    assert any("lent to gw/9" in term.source for term in site.engine.limit(site.clock.now()).terms)
    # A kill: it lends from its first moment on, and asks what became of it.
    await site.restart()
    site.engine.upstreams.append(above)
    assert limit(site) == 310
    site.all_come()
    await flow(site, 3)
    assert n.Lent(7) in above.take()
    site.engine.negotiated("ems", n.Release(7))
    await flow(site, 0.1)
    assert limit(site) == 400
    assert n.Released(7) in above.take()
    await site.restart()
    assert site.engine.loans is not None
    assert limit(site) == 400


async def test_what_cannot_be_written_is_not_said(make, monkeypatch) -> None:
    from gateway.journal.store import JournalError

    site = make(100.0, threshold_w=400.0)
    above = joined(site)
    await flow(site, 2)
    above.take()
    durable, full = site.journal.durable, [True]

    async def failing() -> None:
        if full[0]:
            raise JournalError("no space left on device")
        await durable()

    monkeypatch.setattr(site.journal, "durable", failing)
    site.engine.negotiated("ems", n.Prepare(7, "gw/9", 90 * W, 200, 600))
    await flow(site, 3)
    assert above.take() == []
    full[0] = False
    await flow(site, 2)
    assert n.Lent(7) in above.take()


async def pending(site: Site, above: Above) -> tuple[int, n.Ask]:
    """A lamp that was shed asks its power back; nobody but the neighbours can give it."""
    await flow(site, 2)
    off = next(number for number, lamp in site.field.lamps.items() if not lamp.on)
    assert site.engine.asked_back(off, 60.0, 600.0).result is RdrResult.PENDING
    await flow(site, 0.1)
    ask = above.last(n.Ask)
    assert isinstance(ask, n.Ask)
    return off, ask


async def test_an_rdr_that_the_ems_denies_is_borrowed_for(make) -> None:
    site = make(60.0, 60.0, threshold_w=70.0)
    above = joined(site, cap=300)
    off, ask = await pending(site, above)
    assert (ask.mw, ask.least_mw, ask.cap, ask.for_s) == (60 * W, 60 * W, 300, 600)
    site.engine.negotiated("ems", n.Result(ask.ask_id, (n.Part(5, "gw/2", 60 * W, 250),), 600, ""))
    await flow(site, 0.2)
    assert (limit(site), site.power_w) == (130, 120)
    assert n.Taken(ask.ask_id) in above.take()
    number, answer = site.field.answers[-1]
    assert (number, answer.result) == (off, RdrResult.GRANTED)
    assert "ems says Deny; other EMAs: 60 W for 600 s: 60 W of gw/2 at 250" in answer.why
    assert any(line.startswith("loan: borrows 60 W for 600 s") for line in site.decisions)
    # Switched off at the lamp, its loan is needed no longer.
    site.field.lamps[off].on = False
    site.field.report(off)
    await flow(site, 1)
    assert limit(site) == 70
    assert n.Returned(5) in above.take()


async def test_a_loan_that_comes_too_late_is_given_back(make) -> None:
    site = make(60.0, 60.0, threshold_w=70.0)
    above = joined(site, answer_s=4.0)
    off, ask = await pending(site, above)
    await flow(site, 5)
    assert site.field.answers[-1][1].result is RdrResult.DENIED
    assert "no answer within 4 s" in site.field.answers[-1][1].why
    above.take()
    site.engine.negotiated("ems", n.Result(ask.ask_id, (n.Part(5, "gw/2", 60 * W, 250),), 600, ""))
    await flow(site, 0.2)
    assert above.take() == [n.Returned(5)]
    assert (limit(site), site.field.lamps[off].on) == (70, False)


async def test_a_borrower_gives_back_what_the_lender_needs_after_it_shed(make) -> None:
    site = make(60.0, 60.0, threshold_w=70.0)
    above = joined(site)
    _, ask = await pending(site, above)
    site.engine.negotiated("ems", n.Result(ask.ask_id, (n.Part(5, "gw/2", 60 * W, 250),), 600, ""))
    await flow(site, 1)
    assert site.power_w == 120
    above.take()
    site.engine.negotiated("ems", n.GiveBack(5))
    await site.clock.advance(0)
    assert site.power_w == 60, "in the same moment"
    await flow(site, 0.2)
    assert n.Returned(5) in above.take()
    # A kill: what was returned never counts again, and what was not is asked for.
    await site.restart()
    site.engine.upstreams.append(above)
    site.all_come()
    await flow(site, 2)
    assert limit(site) == 70
    assert not any(isinstance(message, n.Still) for message in above.take())


async def test_a_restarted_borrower_counts_its_loan_when_the_coordinator_says_so(make) -> None:
    site = make(60.0, 60.0, threshold_w=70.0)
    above = joined(site)
    _, ask = await pending(site, above)
    site.engine.negotiated("ems", n.Result(ask.ask_id, (n.Part(5, "gw/2", 60 * W, 250),), 600, ""))
    await flow(site, 1)
    await site.engine.journal.durable()
    await site.restart()
    site.engine.upstreams.append(above)
    site.all_come()
    await flow(site, 2)
    assert limit(site) == 70
    still = above.last(n.Still)
    assert isinstance(still, n.Still)
    site.engine.negotiated("ems", n.Kept(5, still.boot, 100))
    assert limit(site) == 130
    await flow(site, 101)
    assert limit(site) == 70


async def test_where_the_operator_wants_it_whatever_is_shed_is_borrowed(make) -> None:
    site = make(60.0, 60.0, threshold_w=70.0)
    above = joined(site, borrow="shed", for_s=300, again_s=60)
    await flow(site, 3)
    ask = above.last(n.Ask)
    assert isinstance(ask, n.Ask)
    assert ask.for_s == 300
    assert ask.mw >= 70 * W  # 120 W, and the room in which a restore begins
    site.engine.negotiated("ems", n.Result(ask.ask_id, (n.Part(5, "gw/2", ask.mw, 250),), 300, ""))
    await flow(site, 3)
    assert site.power_w == 120
    # What is needed no longer is given back before its time.
    site.engine.book.threshold(300.0, "ems")
    await flow(site, 40)
    assert n.Returned(5) in above.take()
    assert limit(site) == 300


@pytest.mark.parametrize(
    ("keys", "break_it", "why"),
    [
        (
            {"cap": 100},
            lambda s, a: s.engine.priced("ems", "Negotiation", 101, "KW"),
            "price of 101 is above its cap, 100",
        ),
        ({}, lambda s, a: setattr(a, "negotiates", False), "ems cannot be asked for a loan now"),
        ({"enabled": False}, lambda s, a: None, None),
    ],
)
async def test_what_cannot_be_asked_is_denied_with_its_reason(
    make, keys: dict[str, object], break_it: Callable[[Site, Above], None], why: str | None
) -> None:
    site = make(60.0, 60.0, threshold_w=70.0)
    above = joined(site, **keys)
    break_it(site, above)
    await flow(site, 2)
    off = next(number for number, lamp in site.field.lamps.items() if not lamp.on)
    site.engine.asked_back(off, 60.0, 600.0)
    await flow(site, 0.2)
    answer = site.field.answers[-1][1]
    assert answer.result is RdrResult.DENIED
    assert answer.why.endswith("ems says Deny" if why is None else why)
    assert not any(isinstance(message, n.Ask) for message in above.said)


async def test_who_sheds_or_has_no_limit_lends_nothing(make) -> None:
    free = make(60.0, threshold_w=0.0)
    above = joined(free)
    await flow(free, 2)
    assert not any(isinstance(m, n.Offer) and m.mw for m in above.said)
    short = make(60.0, 60.0, threshold_w=70.0)
    above = joined(short)
    await flow(short, 3)
    assert not any(isinstance(m, n.Offer) and m.mw for m in above.said)
