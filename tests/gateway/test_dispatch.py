"""A command is sent, sent again, then alarmed; a newer one supersedes; what the journal sees is the whole story."""

from __future__ import annotations

import asyncio

import pytest

from gateway.clock import ManualClock
from gateway.dispatch import Dispatcher
from gateway.errors import TransientError
from gateway.site.command import Command, CommandState, Source
from gateway.site.event import RdrAnswer
from gateway.site.resource import Setting


class Wire:
    """An adapter that keeps what it was given; ``broken`` refuses."""

    name = "mqtt"

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.broken = False
        self.bug: Exception | None = None

    async def run(self) -> None: ...

    async def send(self, command: Command) -> None:
        if self.bug is not None:
            raise self.bug
        if self.broken:
            raise TransientError("link is down")
        self.sent.append(command.id)

    async def answer_rdr(self, number: int, answer: RdrAnswer) -> None: ...

    async def close(self) -> None: ...


class Store:
    def __init__(self) -> None:
        self.saved: list[tuple[int, CommandState]] = []

    def next_command_id(self) -> int:
        return len(self.saved) + 1

    def save_command(self, command: Command, at: float) -> None:
        self.saved.append((command.id, command.state))


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.wire = Wire()
        self.store = Store()
        self.failed: list[int] = []
        self.dispatcher = Dispatcher(
            self.store, self.clock, lambda number: self.wire, lambda c: self.failed.append(c.id), lambda: None
        )

    async def send(self, command_id: int, number: int = 1) -> None:
        command = Command(command_id, f"led-{number}", number, Setting(on=False), Source.SHED, 60.0, 0.0)
        self.dispatcher.send(command, latency_s=2.0)
        self.dispatcher.save()
        await asyncio.sleep(0)

    async def pass_s(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        self.dispatcher.tick(self.clock.monotonic())
        await asyncio.sleep(0)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_confirmed_in_time(bench: Bench) -> None:
    await bench.send(7)
    await bench.pass_s(1.9)
    bench.dispatcher.confirmed(1, 7)
    await bench.pass_s(10)
    assert bench.wire.sent == [7]
    assert bench.store.saved == [(7, CommandState.SENT), (7, CommandState.CONFIRMED)]
    assert bench.dispatcher.next_due() is None


async def test_sent_again_after_the_latency_then_alarmed(bench: Bench) -> None:
    await bench.send(7)
    await bench.pass_s(2.0)
    assert bench.wire.sent == [7, 7]
    await bench.pass_s(1.9)
    assert bench.failed == []
    await bench.pass_s(0.1)
    assert bench.failed == [7]
    assert [state for _, state in bench.store.saved] == [
        CommandState.SENT,
        CommandState.SENT_AGAIN,
        CommandState.FAILED,
    ]
    await bench.pass_s(60)
    assert bench.wire.sent == [7, 7], "a failed command is not sent any more"


async def test_a_link_that_is_down_counts_as_a_try(bench: Bench) -> None:
    bench.wire.broken = True
    await bench.send(7)
    bench.wire.broken = False
    await bench.pass_s(2.0)
    assert bench.wire.sent == [7]


async def test_a_newer_command_supersedes(bench: Bench) -> None:
    await bench.send(7)
    await bench.send(8)
    bench.dispatcher.confirmed(1, 7)
    assert bench.dispatcher.waiting(1) is not None, "an old answer does not confirm the new command"
    bench.dispatcher.confirmed(1, 8)
    assert bench.store.saved == [
        (7, CommandState.SENT),
        (7, CommandState.SUPERSEDED),
        (8, CommandState.SENT),
        (8, CommandState.CONFIRMED),
    ]


async def test_a_device_that_left_takes_its_command_along(bench: Bench) -> None:
    await bench.send(7)
    bench.dispatcher.forget(1)
    await bench.pass_s(10)
    assert bench.failed == []
    assert bench.store.saved[-1] == (7, CommandState.EXPIRED)


async def test_a_fault_of_an_adapter_is_one_line_and_its_end_another(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "smartema.commands")
    bench.wire.bug = ValueError("no such level")
    for number in (7, 8, 9):
        await bench.send(number)
    bench.wire.bug = None
    await bench.send(10)

    def said(level: str) -> list[str]:
        return [r.getMessage() for r in caplog.records if r.levelname == level]

    assert said("WARNING") == ["led-1: commands cannot be written: ValueError: no such level"]
    assert said("INFO") == ["led-1: commands can be written again"]
    assert all(r.levelname == "DEBUG" for r in caplog.records if r.exc_info)
    assert len([r for r in caplog.records if r.exc_info]) == 3

    # It comes and goes: said once more, as that.
    for number in range(11, 31, 2):
        bench.wire.bug = ValueError("no such level")
        await bench.send(number)
        bench.wire.bug = None
        await bench.send(number + 1)
    assert len(said("WARNING")) == 2
    assert "it comes and goes" in said("WARNING")[1]


async def test_a_wire_that_writes_in_the_call_has_it_before_the_store(bench: Bench, monkeypatch) -> None:
    order: list[str] = []

    def now(command: Command) -> asyncio.Future[None]:
        order.append(f"wire {command.id}")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    monkeypatch.setattr(bench.wire, "send", now)
    monkeypatch.setattr(bench.store, "save_command", lambda c, at: order.append(f"store {c.id} {c.state.value}"))
    for command_id in (7, 8):
        command = Command(command_id, "led-1", 1, Setting(on=False), Source.SHED, 60.0, 0.0)
        bench.dispatcher.send(command, latency_s=2.0)
    bench.dispatcher.confirmed(1, 8)
    assert order == ["wire 7", "wire 8", "store 7 sent", "store 7 superseded", "store 8 sent", "store 8 confirmed"]


async def test_what_a_wire_refuses_in_the_call_is_sent_again(bench: Bench, monkeypatch) -> None:
    def down(command: Command) -> asyncio.Future[None]:
        raise TransientError("link is down")

    with monkeypatch.context() as broken:
        broken.setattr(bench.wire, "send", down)
        await bench.send(7)
    assert bench.wire.sent == []
    await bench.pass_s(2.0)
    assert bench.wire.sent == [7]


class Narrow(Wire):
    """Takes two commands at once; each is answered when the test says so."""

    at_once = 2

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[int, asyncio.Future[None]] = {}

    def send(self, command: Command) -> asyncio.Future[None]:  # type: ignore[override]
        self.sent.append(command.id)
        answer = self.answers[command.id] = asyncio.get_running_loop().create_future()
        return answer


@pytest.fixture
def narrow(bench: Bench) -> Narrow:
    wire = bench.wire = Narrow()
    return wire


async def answered(wire: Narrow, command_id: int) -> None:
    wire.answers[command_id].set_result(None)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_link_that_takes_two_at_once_gets_the_others_in_turn(bench: Bench, narrow: Narrow) -> None:
    for number in range(1, 6):
        await bench.send(number, number)
    assert narrow.sent == [1, 2]
    await answered(narrow, 2)
    assert narrow.sent == [1, 2, 3]
    # Number 4 is told something else meanwhile: in its place, and once.
    await bench.send(6, 4)
    await answered(narrow, 1)
    await answered(narrow, 3)
    assert narrow.sent == [1, 2, 3, 6, 5]


async def test_a_latency_begins_when_the_command_left(bench: Bench, narrow: Narrow) -> None:
    begun: list[int] = []
    bench.dispatcher._begun = lambda command: begun.append(command.id)
    for number in (1, 2, 3):
        await bench.send(number, number)
    await bench.pass_s(0.1)
    await answered(narrow, 1)
    assert (narrow.sent, begun) == ([1, 2, 3], [3])
    for command_id in (1, 2):
        bench.dispatcher.confirmed(command_id, command_id)
    await bench.pass_s(1.9)
    assert bench.dispatcher.again == 0  # 2 s after the third was made, 1.9 s after it left
    await bench.pass_s(0.1)
    assert bench.dispatcher.again == 1


async def test_who_does_not_answer_holds_up_those_behind_it_for_a_quarter_second(bench: Bench, narrow: Narrow) -> None:
    for number in (1, 2, 3):
        await bench.send(number, number)
    due = bench.dispatcher.next_due()
    assert due is not None
    await bench.pass_s(due - bench.clock.monotonic())
    assert narrow.sent == [1, 2, 3]
    assert due <= 0.25 + ManualClock().monotonic()


async def test_a_device_that_left_while_its_command_waited_is_not_told(bench: Bench, narrow: Narrow) -> None:
    for number in (1, 2, 3, 4):
        await bench.send(number, number)
    bench.dispatcher.forget(3)
    await answered(narrow, 1)
    assert narrow.sent == [1, 2, 4]
