"""What binds from above: opts that last, clocks that jump, grants that end, memory that stays small."""

from __future__ import annotations

from dataclasses import replace

from gateway.config.model import UpstreamConfig
from gateway.limits import MOST_EVENTS, MOST_OPTS
from gateway.site.event import Grant
from tests.support.site import Site


def limit(site: Site) -> float | None:
    return site.engine.limit(site.clock.now()).import_w


async def test_an_event_opted_out_limits_nobody_after_a_restart_and_gets_the_same_answer(make) -> None:
    site = make(60.0, 60.0, opt="never")
    event = site.event(70.0)
    assert await site.engine.take_event(event) is False
    await site.restart()
    site.all_come()
    assert limit(site) is None
    assert await site.engine.take_event(event) is False
    await site.turn(3)
    assert site.field.sent == []


async def test_opting_out_switches_nothing_first(make) -> None:
    site = make(60.0, 60.0, opt="never")
    await site.engine.take_event(site.event(70.0))
    late = replace(site.event(70.0, event_id=18), end=site.clock.now().wall - 0.5)
    await site.engine.take_event(late)
    await site.turn(3)
    assert site.field.sent == []


async def test_able_counts_what_could_be_shed_not_what_is_shed_now(make) -> None:
    site = make(60.0, 60.0, opt="able")
    site.engine.appeared(site.field, replace(site.field.lamps[2].resource, never_shed=True))
    assert await site.engine.take_event(site.event(70.0)) is True
    assert await site.engine.take_event(site.event(50.0, event_id=18)) is False
    await site.turn(3)
    assert site.power_w == 60


async def test_a_change_that_is_opted_out_ends_the_event_it_changes(make) -> None:
    site = make(60.0, 60.0, opt="able")
    event = site.event(70.0)
    await site.engine.take_event(event)
    await site.turn(2)
    site.engine.appeared(site.field, replace(site.field.lamps[2].resource, never_shed=True))
    assert await site.engine.take_event(replace(event, modification=1, limit_w=10.0)) is False
    assert limit(site) is None


async def test_the_wall_clock_jumps_into_an_event_and_out_of_it_again(make) -> None:
    site = make(60.0, 60.0)
    now = site.clock.now().wall
    await site.engine.take_event(replace(site.event(70.0), start=now + 7200, end=now + 7800))
    await site.turn(2)
    assert (limit(site), site.power_w) == (None, 120)
    site.clock.jump_wall(7300)
    await site.turn(2)
    assert (limit(site), site.power_w) == (70, 60)
    site.clock.jump_wall(-7300)
    await site.turn(5)
    assert (limit(site), site.power_w) == (None, 120)


async def test_a_grant_is_a_time_span_whatever_the_wall_clock_does(make) -> None:
    site = make(60.0, 60.0, threshold_w=100.0)
    site.engine.book.grant(Grant("ems", "led-1", 60.0, site.clock.now().wall + 100))
    site.clock.jump_wall(3600)
    await site.turn(50)
    assert limit(site) == 160
    site.clock.jump_wall(-7200)
    await site.turn(45)
    assert limit(site) == 160
    await site.turn(10)
    assert limit(site) == 100
    assert site.journal.grants() == []


async def test_a_tighter_limit_ends_what_was_granted(make) -> None:
    site = make(10.0, threshold_w=100.0)
    site.engine.book.grant(Grant("ems", "led-1", 60.0, site.clock.now().wall + 1000))
    assert limit(site) == 160
    await site.engine.take_event(site.event(80.0))
    assert limit(site) == 80
    assert site.journal.grants() == []


async def test_a_grant_ends_with_the_good_bye_of_its_device_but_not_with_its_link(make) -> None:
    site = make(60.0, 60.0, threshold_w=100.0)
    for number in (1, 2):
        site.engine.book.grant(Grant("ems", f"led-{number}", 60.0, site.clock.now().wall + 1000))
    site.engine.gone(1, "its link broke", lost=True)
    assert limit(site) == 220
    site.engine.gone(2, "it said good-bye")
    assert limit(site) == 160


async def test_a_grant_ends_when_its_device_is_taken_out_after_its_link_broke(make) -> None:
    site = make(60.0, 60.0, threshold_w=100.0)
    site.engine.book.grant(Grant("ems", "led-1", 60.0, site.clock.now().wall + 1000))
    site.engine.gone(1, "its link broke", lost=True)
    assert limit(site) == 160
    site.engine.forget(1, "taken out of the configuration")
    assert limit(site) == 100
    assert site.journal.grants() == []


async def test_a_grant_ends_when_its_device_switches_itself_off(make) -> None:
    site = make(60.0, 60.0, threshold_w=100.0)
    await site.turn(3)
    site.engine.book.grant(Grant("ems", "led-2", 60.0, site.clock.now().wall + 1000))
    await site.turn(20)
    site.field.lamps[2].on = False
    await site.turn(1)
    assert limit(site) == 100


async def test_without_a_clock_the_last_threshold_holds_and_no_older_one(make) -> None:
    site = make(60.0, 60.0)
    await site.engine.take_event(site.event(70.0, seconds=20))
    await site.turn(5)
    site.engine.book.grant(Grant("ems", "led-1", 60.0, site.clock.now().wall + 1000))
    assert limit(site) == 130
    site.clock.jump_wall(-1_700_000_000)
    assert limit(site) == 70, "a grant cannot be judged without a clock"
    site.clock.jump_wall(1_700_000_000)
    await site.turn(30)
    assert limit(site) is None
    await site.restart()
    site.clock.jump_wall(-1_700_000_000)
    assert limit(site) is None, "the event was over, and nothing else ever bound"


async def test_a_flood_of_events_is_refused_and_remembered_within_bounds(make) -> None:
    site = make(60.0)
    now = site.clock.now().wall
    opts = [
        await site.engine.take_event(replace(site.event(70.0, event_id=n), start=now + 9000, end=now + 9900))
        for n in range(MOST_EVENTS + 5)
    ]
    assert opts == [True] * MOST_EVENTS + [False] * 5
    for n in range(2000, 2000 + MOST_OPTS):
        site.engine.book.save(site.event(1.0, event_id=n), False)
    assert len(site.engine.book.opted_in) <= MOST_OPTS
    assert site.engine.opted("ems", 3) == 0, "what is in force is not forgotten"


async def test_events_that_were_cancelled_leave_room_for_new_ones(make) -> None:
    site = make(60.0, 60.0)
    for number in range(MOST_EVENTS + 20):
        event = site.event(70.0, event_id=number)
        assert await site.engine.take_event(event) is True
        await site.engine.take_event(replace(event, modification=1, end=event.start))
    assert await site.engine.take_event(site.event(70.0, event_id=10_000)) is True
    assert limit(site) == 70.0
    assert len(site.engine.book.events) <= MOST_EVENTS


async def test_an_event_that_ended_while_nobody_ran_still_has_its_random_delay(make) -> None:
    site = make(60.0, 60.0, restore_delay_s=600.0)
    await site.engine.take_event(site.event(70.0, seconds=30))
    delay = next(iter(site.engine.book.events.values())).restore_delay_s
    assert delay > 60
    await site.turn(2)
    site.task.cancel()
    await site.clock.advance(40)
    await site.restart()
    site.all_come()
    await site.turn(max(delay - 30, 5))
    assert site.power_w == 60
    await site.turn(60)
    assert site.power_w == 120


async def test_hearing_everybody_does_not_end_the_random_delay_after_an_event(make) -> None:
    site = make(60.0, 60.0, restore_delay_s=600.0)
    await site.engine.take_event(site.event(70.0, seconds=10))
    await site.turn(2)
    await site.restart()
    site.engine.appeared(site.field, site.field.lamps[1].resource)
    site.field.report(1)
    await site.turn(12)
    site.engine.appeared(site.field, site.field.lamps[2].resource)
    site.field.report(2)
    await site.turn(30)
    assert site.power_w == 60


async def test_each_upper_side_has_a_threshold_of_its_own_and_the_lowest_binds(make) -> None:
    site = make(60.0, 60.0, threshold_w=1000.0)
    both = (UpstreamConfig(host="a", name="ems"), UpstreamConfig(host="b", name="other"))
    site.config = replace(site.config, upstream=both)
    site.engine.reconfigure(site.config)
    site.engine.threshold(300.0, "other")
    site.engine.threshold(100.0, "ems")
    assert limit(site) == 100
    site.engine.threshold(500.0, "ems")
    assert limit(site) == 300
    await site.restart()
    assert limit(site) == 300
    # Who is there no more binds nobody, taken out while it runs or while nobody ran.
    site.engine.reconfigure(replace(site.config, upstream=both[:1]))
    assert limit(site) == 500
    site.config = replace(site.config, upstream=both[1:])
    await site.restart()
    assert limit(site) == 1000
    # A new number in the configuration is the newer word.
    site.engine.threshold(200.0, "other")
    site.engine.reconfigure(replace(site.config, control=replace(site.config.control, threshold_w=900.0)))
    assert limit(site) == 900


async def test_what_is_over_is_not_looked_at_again_and_its_delay_still_counts(make) -> None:
    site = make(60.0, 60.0, restore_delay_s=600.0)
    event = site.event(70.0)
    await site.engine.take_event(event)
    await site.turn(3)
    await site.engine.take_event(replace(event, modification=1, end=event.start))
    assert site.engine.timeline().events == ()
    assert [event.event_id for event in site.engine.book.events.values()] == [17]
    await site.turn(3)
    assert site.power_w == 60
    await site.turn(600)
    assert site.power_w == 120


async def test_an_ems_fills_no_memory_with_events_that_never_end(make) -> None:
    """Neither with those that are refused, for there are too many, nor with cancelled ones that nobody knew."""
    site = make(60.0)
    year = 365 * 86_400.0
    first = replace(site.event(70.0), start=site.clock.now().wall + year, end=site.clock.now().wall + year + 600)
    for number in range(100, 100 + MOST_OPTS + 2 * MOST_EVENTS):
        event = replace(first, event_id=number)
        if number % 2:
            event = replace(event, end=event.start)
        await site.engine.take_event(event)
    assert len(site.engine.book.events) <= MOST_EVENTS
    assert len(site.journal.events(0.0)) <= MOST_OPTS + 1
    await site.restart()
    assert len(site.engine.book.events) <= MOST_EVENTS
