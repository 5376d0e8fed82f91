"""A part that fails is restarted with back-off and never takes the others along."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from gateway.clock import ManualClock
from gateway.errors import OperatorError, TransientError
from gateway.supervisor import Supervisor


async def _in_group(clock: ManualClock, start, act) -> Supervisor:
    async with asyncio.TaskGroup() as group:
        supervisor = Supervisor(group, clock, random.Random(1))
        start(supervisor)
        await clock.advance(0)
        supervisor.starting = False
        await act(supervisor)
        await supervisor.stop_all()
    return supervisor


@pytest.mark.parametrize("failure", [TransientError("peer is away"), ValueError("a bug"), OSError("no route")])
async def test_a_failing_part_comes_back_and_leaves_the_others_alone(failure: Exception) -> None:
    clock = ManualClock()
    runs, beats = [], []

    async def bad() -> None:
        runs.append(clock.monotonic())
        raise failure

    async def good() -> None:
        while True:
            beats.append(1)
            await clock.sleep(1)

    async def act(supervisor: Supervisor) -> None:
        await clock.advance(20)
        assert supervisor.restarts["bad"] == len(runs)

    def start(supervisor: Supervisor) -> None:
        supervisor.starting = False
        supervisor.start("bad", bad)
        supervisor.start("good", good)

    await _in_group(clock, start, act)
    waits = [after - before for before, after in itertools.pairwise(runs)]
    assert len(waits) >= 3
    assert waits[-1] > waits[0], "the waits grow"
    assert len(beats) == 21


async def test_an_operators_mistake_at_the_start_ends_the_daemon() -> None:
    async def part() -> None:
        raise OperatorError("CoAP 127.0.0.1:5683: Address already in use")

    async def act(supervisor: Supervisor) -> None:
        await asyncio.sleep(60)

    with pytest.raises(ExceptionGroup) as caught:
        await _in_group(ManualClock(), lambda s: s.start("field coap", part), act)
    assert caught.group_contains(OperatorError, match="already in use")


async def test_the_same_mistake_later_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    tries = []

    async def part() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise OperatorError("port taken")
        await clock.sleep(1e6)

    async def act(supervisor: Supervisor) -> None:
        supervisor.start("field", part)
        await clock.advance(5)

    await _in_group(clock, lambda s: None, act)
    assert len(tries) == 2
    assert "field: port taken" in caplog.text
