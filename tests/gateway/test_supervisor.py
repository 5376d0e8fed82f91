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


async def test_a_mistake_in_a_part_of_several_tasks_is_said_as_itself(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()

    async def task() -> None:
        raise OperatorError("CoAP 127.0.0.1:5683: Address already in use")

    async def part() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(task())

    async def wait(supervisor: Supervisor) -> None:
        await asyncio.sleep(60)

    with pytest.raises(ExceptionGroup) as caught:
        await _in_group(clock, lambda s: s.start("field emas", part), wait)
    assert [str(err) for err in caught.value.exceptions] == ["CoAP 127.0.0.1:5683: Address already in use"]

    async def later(supervisor: Supervisor) -> None:
        supervisor.start("field emas", part)
        await clock.advance(0)

    await _in_group(clock, lambda s: None, later)
    assert "field emas: CoAP 127.0.0.1:5683: Address already in use; again in" in caplog.text


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


async def test_the_end_has_a_limit_for_all_parts_together(caplog: pytest.LogCaptureFixture) -> None:
    """Each part has waits of its own while it ends; two of them in a row in one."""
    ended = []

    async def slow(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(name)

    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        supervisor = Supervisor(group, ManualClock(), random.Random(1))
        for name in ("one", "two", "three"):
            supervisor.start(name, lambda name=name: slow(name))
        await asyncio.sleep(0)
        began = loop.time()
        await supervisor.stop_all(within_s=0.05)
        assert loop.time() - began >= 0.05, "they had their time"
    assert sorted(ended) == ["one", "three", "two"]
    assert "cut short: one, two, three" in caplog.text


async def test_whoever_waits_for_the_end_of_a_part_can_be_stopped_itself() -> None:
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.Event().wait()

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        supervisor = Supervisor(group, ManualClock(), random.Random(1))
        supervisor.start("slow", slow)
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(supervisor.stop("slow"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await supervisor.stop_all(within_s=0)


async def test_a_part_that_fails_at_its_own_end_has_ended() -> None:
    clock = ManualClock()
    began = []

    async def part() -> None:
        began.append(1)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            raise OSError("the socket would not close")

    async with asyncio.TaskGroup() as group:
        supervisor = Supervisor(group, clock, random.Random(1))
        supervisor.starting = False
        supervisor.start("part", part)
        await clock.advance(0)
        async with asyncio.timeout(5):
            await supervisor.stop("part")
    assert (began, supervisor.restarts) == ([1], {})
