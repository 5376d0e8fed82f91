"""What comes back after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.clock import EARLIEST_TRUSTED_WALL, ManualClock
from gateway.config.model import JournalConfig
from gateway.journal import Connector, Journal, SavedEvent
from gateway.journal.state import EVENTS_KEPT
from gateway.site.command import CommandState
from gateway.site.event import Grant, Loan
from gateway.site.picture import ResourceState
from gateway.site.resource import Reading, Setting
from tests.gateway.journal.disk import Disk
from tests.gateway.journal.samples import battery, command, decision, event, lamp

WALL = 1_760_000_000.0


async def again(journal: Journal, home: Path, mono: float = 50.0, wall: float = WALL + 100.0) -> Journal:
    """End it and start it on another monotonic clock, 100 s later by the wall."""
    await journal.close()
    return start(home, ManualClock(mono, wall))


def start(home: Path, clock: ManualClock | None = None, **config: float) -> Journal:
    return Journal.open(home, home, JournalConfig(**config), clock or ManualClock(1000.0, WALL))


async def test_numbers(tmp_path: Path) -> None:
    """Without a clock they count, with one they begin at it."""
    journal = start(tmp_path, ManualClock(50.0, 100.0))
    assert [journal.boot, journal.next_command_id(), journal.next_command_id()] == [1, 1, 2]
    assert [journal.next_decision_id(), journal.next_decision_id()] == [1, 2]
    journal = await again(journal, tmp_path, wall=200.0)
    assert [journal.boot, journal.next_command_id(), journal.next_decision_id()] == [2, 3, 3]
    journal = await again(journal, tmp_path)
    minutes = int(WALL + 100.0 - EARLIEST_TRUSTED_WALL) // 60
    micros = int(WALL + 100.0 - EARLIEST_TRUSTED_WALL) * 1_000_000
    assert [journal.boot, journal.next_command_id(), journal.next_decision_id()] == [minutes, micros, micros]
    journal = await again(journal, tmp_path)
    assert [journal.boot, journal.next_command_id(), journal.next_decision_id()] == [
        minutes + 1,
        micros + 1,
        micros + 1,
    ]
    await journal.close()


async def test_devices_and_holds(tmp_path: Path) -> None:
    journal = start(tmp_path)
    state = ResourceState(
        lamp(1),
        reading=Reading(999.0, 60.0),
        wish=Setting(on=True, level=9),
        wish_w=60.0,
        held=Setting(on=False),
        held_seq=4,
        switched_at=940.0,
    )
    journal.save_hold(state)  # a configured device that never announced itself
    journal.save_device(lamp(1, priority=3), "mqtt", "")
    journal.save_device(battery(2), "coap", "192.0.2.7:5683")
    journal.save_device(lamp(3), "mqtt", "")
    journal.forget_device(3)
    journal = await again(journal, tmp_path)
    one, two = journal.devices()
    assert (one.resource, one.link) == (lamp(1, priority=3), "mqtt")
    assert one.state == ResourceState(
        lamp(1, priority=3),
        present=False,
        wish=Setting(on=True, level=9),
        wish_w=60.0,
        held=Setting(on=False),
        held_seq=4,
        switched_at=50.0 - 160.0,  # 60 s before the end, 100 s before this start
    )
    assert (two.resource, two.address, two.state) == (battery(2), "192.0.2.7:5683", None)
    await journal.close()


@pytest.mark.parametrize(
    ("saved_wall", "now_wall", "switched"),
    [
        (WALL, WALL + 5.0, 45.0 - 60.0),
        (WALL, WALL - 500.0, 50.0),  # the wall clock was set back: it cannot have been in the future
        (100.0, WALL, None),
        (WALL, 100.0, None),
    ],
)
async def test_the_moment_of_switching_needs_a_trusted_clock(
    tmp_path: Path, saved_wall: float, now_wall: float, switched: float | None
) -> None:
    journal = start(tmp_path, ManualClock(1000.0, saved_wall))
    journal.save_hold(ResourceState(lamp(1), switched_at=940.0))
    journal = await again(journal, tmp_path, wall=now_wall)
    state = journal.devices()[0].state
    assert state is not None
    assert state.switched_at == switched
    await journal.close()


async def test_how_a_device_is_reached_is_kept_until_it_is_forgotten(tmp_path: Path) -> None:
    journal = start(tmp_path)
    for number in (1, 11):
        journal.save_device(lamp(number), "coap", "")
        journal.save_contact("coap", number, f"where {number} is")
    await journal.durable()
    journal.save_contact("coap", 1, "where 1 is")
    assert journal.status()["not_written"] == 0, "what did not change is not written"
    journal = await again(journal, tmp_path)
    assert journal.contacts("coap") == {1: "where 1 is", 11: "where 11 is"}
    assert journal.contacts("mqtt") == {}
    journal.forget_device(1)
    journal = await again(journal, tmp_path)
    assert journal.contacts("coap") == {11: "where 11 is"}
    await journal.close()


async def test_events_with_their_answers(tmp_path: Path) -> None:
    journal = start(tmp_path)
    journal.save_event(event(1, WALL, WALL + 60.0), True)
    journal.save_event(event(1, WALL, WALL + 600.0, modification=1), False)
    journal.save_event(event(1, WALL, WALL + 60.0, upstream="vtn"), None)
    journal.save_event(event(2, WALL + 600.0, 0.0), True)  # cancelled
    journal = await again(journal, tmp_path)
    assert journal.events(WALL + 100.0) == [
        SavedEvent(event(1, WALL, WALL + 600.0, modification=1), False),
        SavedEvent(event(2, WALL + 600.0, 0.0), True),
    ]
    assert len(journal.events(0.0)) == 3
    await journal.close()


async def test_old_events_are_forgotten_running_ones_never(tmp_path: Path) -> None:
    clock = ManualClock(1000.0, WALL)
    journal = start(tmp_path, clock)
    for number in range(100):
        journal.save_event(event(number, WALL, WALL + 1e6), True)
    for number in range(100, 100 + EVENTS_KEPT):
        journal.save_event(event(number, WALL - 1000.0 + number, WALL - 900.0 + number), True)
    clock.jump_wall(1000.0)
    journal.save_event(event(5000, WALL, WALL + 1e6), True)
    journal = await again(journal, tmp_path)
    kept = {saved.event.event_id for saved in journal.events(0.0)}
    assert len(kept) == EVENTS_KEPT
    assert kept >= {*range(100), 5000}
    assert 100 not in kept
    await journal.close()


async def test_grants_and_loans(tmp_path: Path) -> None:
    journal = start(tmp_path)
    over, soon, gone = (Grant("ems", "lamp-1", 50.0, until) for until in (WALL - 1.0, WALL + 10.0, WALL + 20.0))
    for grant in (over, soon, gone):
        journal.save_grant(grant)
    journal.remove_grant(gone)
    journal.remove_grant(gone)
    for loan in (Loan(1, "gw/2", 50.0, WALL), Loan(1, "gw/2", 20.0, WALL), Loan(1, "gw/3", -20.0, WALL)):
        journal.save_loan(loan)
    journal.save_loan(Loan(2, "gw/3", 7.0, WALL))
    journal.remove_loan(Loan(2, "gw/3", 7.0, WALL))
    assert journal.grants() == [soon]
    journal = await again(journal, tmp_path)
    assert journal.grants() == [soon]
    assert journal.loans() == [Loan(1, "gw/2", 20.0, WALL), Loan(1, "gw/3", -20.0, WALL)]
    await journal.close()


async def test_open_commands(tmp_path: Path) -> None:
    journal = start(tmp_path)
    sent = command(1, number=1, not_before=1005.0, expiry=1400.0)
    journal.save_command(sent, WALL)
    journal.save_command(command(2, number=2), WALL)
    journal.save_command(command(2, number=2, state=CommandState.CONFIRMED), WALL)
    journal.save_command(command(3, number=3), WALL)
    await journal.durable()
    journal.save_command(command(3, number=3, state=CommandState.FAILED), WALL)
    journal.save_command(command(4, number=4), WALL)
    journal.save_command(command(5, number=4), WALL)  # takes the older one's place
    journal = await again(journal, tmp_path)
    one, five = journal.open_commands()
    assert (one.id, one.not_before, one.expiry) == (1, 50.0 + 5.0 - 100.0, 50.0 + 400.0 - 100.0)
    assert five.id == 5
    journal.save_command(command(6, number=1), WALL)  # also over a restart
    journal.save_command(command(6, number=1, state=CommandState.SUPERSEDED), WALL)
    journal = await again(journal, tmp_path)
    assert [c.id for c in journal.open_commands()] == [5]
    await journal.close()


async def test_a_command_without_a_trusted_clock_loses_no_time(tmp_path: Path) -> None:
    journal = start(tmp_path)
    journal.save_command(command(1, expiry=1060.0), WALL)
    journal = await again(journal, tmp_path, wall=100.0)
    assert journal.open_commands()[0].expiry == 50.0 + 60.0
    await journal.close()


async def test_decisions(tmp_path: Path) -> None:
    journal = start(tmp_path)
    made = [decision(n, f"lamp-{n % 3}", kept=("ess-1",) if n % 10 == 0 else ()) for n in range(1, 101)]
    for one in made:
        journal.save_decision(one)
    for _ in range(2):
        assert journal.decisions(5) == made[-5:]
        assert journal.decisions(1_000) == made
        assert journal.decisions(2, "ess-1") == [made[89], made[99]]
        assert journal.decisions(1_000, "lamp-1") == [d for d in made if d.actions[0].resource == "lamp-1"]
        assert journal.decisions(5, "lamp") == []
        journal = await again(journal, tmp_path)
    await journal.close()


async def test_decisions_are_bounded(tmp_path: Path) -> None:
    journal = start(tmp_path, decisions_kept=100)
    for n in range(1, 1_001):
        journal.save_decision(decision(n, "lamp-1"))
        if n % 50 == 0:
            await journal.durable()
        if n == 500:
            await journal.close()
            journal = start(tmp_path, decisions_kept=100)
    assert [d.id for d in journal.decisions(1_000)] == list(range(901, 1_001))
    await journal.close()
    connector = Connector()
    rows = list(connector.write(tmp_path / "essential.db").execute("SELECT count(*) FROM decision"))
    assert rows[0][0] <= 105


async def test_values_and_repeated_saves_cost_nothing(tmp_path: Path) -> None:
    journal = start(tmp_path)
    assert journal.value("ven_id") is None
    for _ in range(2):
        journal.save_value("ven_id", "MIR_VEN1")
        journal.save_device(lamp(1), "mqtt", "")
        journal.save_hold(ResourceState(lamp(1)))
        journal.save_event(event(1, WALL, WALL + 60.0), True)
        await journal.durable()
        assert journal.status()["not_written"] == 0
        journal.save_value("ven_id", "MIR_VEN1")
    assert journal.status()["not_written"] == 0
    journal = await again(journal, tmp_path)
    assert journal.value("ven_id") == "MIR_VEN1"
    await journal.close()


async def test_many_who_wait_share_a_sync(tmp_path: Path) -> None:
    disk = Disk()
    journal = Journal.open(tmp_path, tmp_path, JournalConfig(), ManualClock(), connector=disk.boot(), threaded=False)
    before = disk.syncs
    for n in range(20):
        journal.save_value("n", str(n))
    await asyncio.gather(*(journal.durable() for _ in range(20)))
    assert disk.syncs - before <= 2
    await journal.close()


async def test_a_row_that_cannot_be_read_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = start(tmp_path)
    for n in (1, 2):
        journal.save_device(lamp(n), "mqtt", "")
    await journal.close()
    connection = Connector().write(tmp_path / "essential.db")
    connection.execute("UPDATE device SET body = '{}' WHERE number = 1")
    connection.close()
    journal = start(tmp_path)
    assert [d.resource.number for d in journal.devices()] == [2]
    assert "a row of device in the essential journal is not readable" in caplog.text
    await journal.close()


async def test_close_twice_and_durable_with_nothing(tmp_path: Path) -> None:
    journal = start(tmp_path)
    await journal.durable()
    await journal.close()
    await journal.close()
