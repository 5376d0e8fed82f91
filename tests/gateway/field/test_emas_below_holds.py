"""What an EMA below is told when control wants this or that of it: by table, on the wall clock of a test."""

from __future__ import annotations

import pytest

from gateway.clock import Instant
from gateway.field.emas_below_holds import Holds
from gateway.site.resource import Setting

WALL = 1_800_000_000.0
FREE = Setting(free=True)


class Values:
    """The journal's small things; ``lose`` forgets what was written since the last ``synced``."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self._synced: dict[str, str] = {}

    def value(self, key: str) -> str | None:
        return self.kept.get(key)

    def save_value(self, key: str, value: str) -> None:
        self.kept[key] = value

    def synced(self) -> None:
        self._synced = dict(self.kept)

    def lose(self) -> None:
        self.kept = dict(self._synced)


def at(seconds: float = 0.0) -> Instant:
    return Instant(100.0 + seconds, WALL + seconds)


def watts(value: float) -> Setting:
    return Setting(setpoint_w=value)


@pytest.mark.parametrize(
    ("own_w", "steps", "told", "granted_left"),
    [
        # its own limit, what happens to it, the values it is told, what of its grants we count on
        (None, [500.0], [500], 0),
        (None, [500.9], [500], 0),  # rounded down: the sum must hold
        (None, [500.0, 500.0], [500], 0),  # the same again is no new form
        (None, [500.0, 300.0, 400.0], [500, 300, 400], 0),
        (None, [500.0, "free"], [500, None], 0),
        (None, ["free"], [], 0),  # it never was held
        (None, [Setting(on=False)], [0], 0),
        # granted 100 W on top of 500: it may draw 600, and 650 is 550 told
        (None, [500.0, "+100", 650.0], [500, 550], 100),
        # to 550 in all: its own limit must become tighter, or it would keep the 100 and draw 650
        (None, [500.0, "+100", 550.0], [500, 499], 0),
        (None, [500.0, "+100", 300.0], [500, 300], 0),
        # not held yet, but granted on top of its own threshold
        (800.0, ["+100", 850.0], [799], 0),
        (800.0, ["+100", 950.0], [850], 100),
        (None, ["+100", 500.0], [400], 100),  # its own is not known: the lower of the two
    ],
)
def test_what_is_told(own_w: float | None, steps: list[object], told: list[int | None], granted_left: float) -> None:
    holds, said = Holds(Values(), 900.0), []
    for command_id, step in enumerate(steps, start=1):
        if isinstance(step, str) and step.startswith("+"):
            holds.grant(2, float(step), WALL + 600, WALL)
            continue
        setting = step if isinstance(step, Setting) else FREE if step == "free" else watts(float(str(step)))
        hold = holds.told(2, setting, command_id, at(), own_w)
        if hold is not None:
            assert hold.command_id == command_id
            if not said or said[-1] != (hold.event_id, hold.modification, hold.value_w):
                said.append((hold.event_id, hold.modification, hold.value_w))
    assert [value for _, _, value in said] == told
    assert [modification for _, modification, _ in said] == list(range(len(told)))
    assert len({event for event, _, _ in said}) <= 1, "one event a time of being held"
    assert holds.granted_w(2, WALL) == granted_left


def test_ends_by_itself_and_is_renewed_at_half() -> None:
    holds = Holds(Values(), 900.0)
    first = holds.told(2, watts(500.0), 1, at(), None)
    assert first is not None
    assert first.start < WALL < first.end == WALL + 900
    assert holds.renewed(2, at(400)) is None
    longer = holds.renewed(2, at(451))
    assert longer is not None
    assert (longer.event_id, longer.modification, longer.value_w) == (first.event_id, 1, 500)
    assert longer.end == WALL + 451 + 900
    assert longer.answered is None, "each form is answered"
    assert holds.renewed(2, at(452)) is None
    # Nobody renewed it: it is over, and being held again is a new event.
    again = holds.told(2, watts(500.0), 2, at(5000), None)
    assert again is not None
    assert again.event_id > longer.event_id


def test_answers_belong_to_a_form() -> None:
    holds = Holds(Values(), 900.0)
    first = holds.told(2, watts(500.0), 1, at(), None)
    second = holds.told(2, watts(400.0), 2, at(), None)
    assert first is not None
    assert second is not None
    assert holds.answered(2, first.event_id, first.request_id, True) is None, "of an older form"
    assert holds.waiting(2) == second
    taken = holds.answered(2, second.event_id, second.request_id, True)
    assert taken is not None
    assert taken.command_id == 2
    assert holds.waiting(2) is None
    assert holds.answered(2, second.event_id + 1, second.request_id, True) is None, "never said"


def test_refused_is_asked_anew_with_the_next_command() -> None:
    holds = Holds(Values(), 900.0)
    first = holds.told(2, watts(500.0), 1, at(), None)
    assert first is not None
    holds.answered(2, first.event_id, first.request_id, False)
    assert holds.renewed(2, at(500)) is None, "what it refused is not renewed"
    second = holds.told(2, watts(500.0), 2, at(), None)
    assert second is not None
    assert second.modification > first.modification


def test_after_a_restart_no_number_means_two_things() -> None:
    values = Values()
    holds = Holds(values, 900.0)
    first = holds.told(2, watts(500.0), 1, at(), None)
    values.synced()
    lost = [holds.told(2, watts(400.0 - n), 2 + n, at(), None) for n in range(5)]
    values.lose()
    after = Holds(values, 900.0)
    assert after.current(2) == first, "what was on disk"
    again = after.told(2, watts(500.0), 9, at(1), None)
    assert again is not None
    assert first is not None
    assert again.event_id == first.event_id
    assert again.modification > max(hold.modification for hold in lost if hold is not None)


def test_event_numbers_survive_an_erased_state() -> None:
    before = [Holds(Values(), 900.0).told(2, watts(5.0), 1, at(seconds), None) for seconds in (0, 1, 2)]
    numbers = [hold.event_id for hold in before if hold is not None]
    assert len(set(numbers)) == 3, "each with a state of its own, a second apart"
    one = Holds(Values(), 900.0)
    same = [one.told(ema, watts(5.0), 1, at(), None) for ema in (2, 3, 4)]
    assert len({hold.event_id for hold in same if hold is not None}) == 3, "within one second"
