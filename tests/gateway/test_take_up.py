"""Devices that leave, come back, restart or are another thing, and what an EMA takes up after kill -9."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.roster import MOST_STRANGERS
from gateway.site.command import Source
from gateway.site.resource import Kind, Setpoint, Setting


@pytest.mark.parametrize("lost", [True, False])
async def test_a_held_lamp_that_restarts_is_not_shed_a_second_time_through_another(make, lost: bool) -> None:
    site = make(60.0, 60.0)
    await site.engine.take_event(site.event(70.0))
    await site.turn(2)
    lamp = site.field.lamps[1]
    lamp.on, lamp.done = True, 0
    site.engine.gone(1, "it restarted", lost=lost)
    site.engine.appeared(site.field, lamp.resource)
    site.field.report(1)  # it is on, and our word is still on its way
    await site.turn(3)
    assert [c.number for c in site.field.sent] == [1, 1]
    assert site.power_w == 60


async def test_a_number_used_for_another_kind_starts_anew(make) -> None:
    site = make(60.0, 60.0)
    await site.engine.take_event(site.event(70.0))
    await site.turn(2)
    site.engine.gone(1, "good-bye")
    other = replace(site.field.lamps[1].resource, name="ev-1", kind=Kind.EV)
    site.engine.appeared(site.field, other)
    state = site.engine.states[1]
    assert (state.held, state.wish, state.wish_w, state.reading) == (None, Setting(), 0.0, None)
    await site.restart()
    assert site.engine.states[1].held is None


async def test_another_priority_keeps_the_hold(make) -> None:
    site = make(60.0, 60.0)
    await site.engine.take_event(site.event(70.0))
    await site.turn(2)
    site.engine.appeared(site.field, replace(site.field.lamps[1].resource, priority=9))
    assert site.engine.states[1].held == Setting(on=False)


async def test_a_command_that_was_open_at_a_kill_is_said_again_with_a_new_id(make) -> None:
    site = make(60.0, 60.0)
    site.field.lamps[1].deaf = True
    await site.engine.take_setting(1, Setting(on=False), Source.MENU)
    await site.clock.advance(0.1)
    await site.engine.journal.durable()
    first = site.field.sent[-1]
    site.field.lamps[1].deaf = False
    await site.restart()
    site.all_come()
    await site.clock.advance(0.1)
    assert not site.field.lamps[1].on
    assert site.field.sent[-1].id > first.id
    assert site.journal.open_commands() == []


async def test_a_command_that_was_open_a_lease_ago_is_void(make) -> None:
    site = make(60.0, 60.0)
    site.field.lamps[1].deaf = True
    await site.engine.take_setting(1, Setting(on=False), Source.MENU)
    await site.clock.advance(0.1)
    site.task.cancel()
    site.field.lamps[1].deaf = False
    await site.clock.advance(3600)
    await site.restart()
    assert site.journal.open_commands() == []
    site.all_come()
    await site.turn(3)
    assert site.field.lamps[1].on


async def test_what_a_device_did_for_an_ema_whose_journal_was_wiped_confirms_nothing(make) -> None:
    """Its number is greater than any of ours, as where no clock tells where to begin."""
    site = make(60.0, 60.0)
    old = site.journal.newest_command_id + 1_000_000_000
    site.field.lamps[1].done = old
    site.field.lamps[1].deaf = True
    await site.engine.take_setting(1, Setting(on=False), Source.MENU)
    await site.clock.advance(0.1)
    first = site.field.sent[-1]
    site.field.report(1)
    assert site.engine.dispatcher.waiting(1) is not None
    assert site.engine.dispatcher.confirmed_count == 0
    site.field.lamps[1].deaf = False
    await site.engine.take_setting(1, Setting(on=False), Source.MENU)
    await site.clock.advance(0.1)
    assert site.field.sent[-1].id > old > first.id
    assert site.engine.dispatcher.confirmed_count == 1


async def test_what_the_configuration_names_no_more_is_not_taken_up(make) -> None:
    site = make(60.0, 60.0)
    site.config = replace(site.config, device=site.config.device[:1])
    await site.restart()
    assert list(site.engine.states) == [1]
    assert [saved.resource.number for saved in site.journal.devices()] == [1]


async def test_strangers_that_come_and_go_fill_no_memory(make) -> None:
    site = make(60.0)
    resource = site.field.lamps[1].resource
    for number in range(1000, 1000 + 3 * MOST_STRANGERS):
        site.engine.appeared(site.field, replace(resource, name=f"led-{number}", number=number))
        site.engine.gone(number, "it left")
    assert len(site.engine.states) <= 1 + MOST_STRANGERS
    assert len(site.engine.adapters) <= 1 + MOST_STRANGERS
    assert len(site.journal.devices()) <= 1 + MOST_STRANGERS
    assert 1 in site.engine.states


async def test_a_lamp_that_vanished_with_a_restore_on_its_way_counts_as_restored(make) -> None:
    site = make(60.0, 60.0)
    event = site.event(70.0)
    await site.engine.take_event(event)
    await site.turn(2)
    site.field.lamps[1].deaf = True
    await site.engine.take_event(replace(event, modification=1, end=event.start))
    await site.turn(1)
    site.engine.gone(1, "its link broke", lost=True)
    assert site.engine.power().watts == 120


async def test_a_lamp_switched_off_by_hand_is_still_known_to_draw_what_it_drew(make) -> None:
    site = make(60.0, 60.0)
    for lamp in site.field.lamps.values():
        site.engine.appeared(site.field, replace(lamp.resource, rated_w=0.0))
    site.field.report(1)
    await site.turn(1)
    await site.engine.take_setting(1, Setting(on=False), Source.MENU)
    await site.turn(2)
    site.field.lamps[2].on = True
    await site.engine.take_event(site.event(70.0))
    assert "is over the limit of 70 W" in await site.engine.take_setting(1, Setting(on=True), Source.MENU)


async def test_a_menus_command_keeps_the_minimum_time_of_a_car(make) -> None:
    site = make(1000.0)
    car = replace(
        site.field.lamps[1].resource, kind=Kind.EV, setpoint=Setpoint(1380.0, 7360.0), min_on_s=60.0, min_off_s=60.0
    )
    site.engine.forget(1, "test")
    site.engine.appeared(site.field, car)
    site.field.report(1)
    site.engine.states[1] = replace(site.engine.states[1], switched_at=site.clock.monotonic())
    assert "minimum on time" in await site.engine.take_setting(1, Setting(setpoint_w=0.0), Source.MENU)
