"""Commands on their way: sent, sent again, confirmed or alarmed (docs/control.md, "Order of acting").

A command is absolute. Unconfirmed within the device's latency it is sent once more, then it has failed. A link that
takes only so many at once (``FieldAdapter.at_once``) gets them in turn, and a latency begins when its command left.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from gateway.errors import TransientError
from gateway.field.once import Once
from gateway.record import slim
from gateway.site.command import Command, CommandState

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.field.base import FieldAdapter

log = logging.getLogger("smartema.commands")

# Sent this often before it counts as failed (wire reference, 5a: sent again, then alarmed).
TRIES = 2

# A pass that sends more than this keeps the loop from hearing their answers for a while.
MANY = 8
# A device that does not answer holds up those behind it for so long.
TURN_S = 0.25

# The answer of a command that nobody answered.
UNCONFIRMED = "not confirmed by the device"


class CommandStore(Protocol):
    """What the journal keeps of commands."""

    def next_command_id(self) -> int: ...

    def save_command(self, command: Command, at: float) -> None: ...


@slim(slots=True)
class _Open:
    command: Command
    latency_s: float
    due: float
    tries: int = 0


class _Line:
    """One link that takes only so many commands at once: who waits, in order, and whose turn ends when."""

    __slots__ = ("at_once", "under_way", "waiting")

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.waiting: dict[int, None] = {}
        self.under_way: dict[tuple[int, int], float] = {}


class Dispatcher:
    """At most one open command a device: a newer one supersedes it.

    ``begun`` is told of each command that had to wait for its turn, when it left.
    """

    def __init__(
        self,
        store: CommandStore,
        clock: Clock,
        adapter_of: Callable[[int], FieldAdapter | None],
        failed: Callable[[Command], None],
        wake: Callable[[], None],
        begun: Callable[[Command], None] = lambda command: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._adapter_of = adapter_of
        self._failed = failed
        self._wake = wake
        self._begun = begun
        self._open: dict[int, _Open] = {}
        self._lines: dict[str, _Line] = {}
        self._due = math.inf  # nothing is due before
        self._tasks: set[asyncio.Task[None]] = set()
        self._once = Once(log, clock.monotonic)
        self._unsaved: list[tuple[Command, float]] = []
        self._ended = False
        self.sent = 0
        self.again = 0
        self.confirmed_count = 0
        self.failed_count = 0

    def send(self, command: Command, latency_s: float) -> bool:
        """Put it on its way; ``save`` writes it down. Its outcome comes by ``confirmed`` or by ``failed``.

        False: it waits for its turn on the link; ``begun`` follows.
        """
        if self._ended:
            return True
        before = self._open.get(command.number)
        now = self._clock.now()
        entry = _Open(command, latency_s, math.inf)
        self._open[command.number] = entry
        left = self._put(entry)
        if before is not None:
            self._unsaved.append((replace(before.command, state=CommandState.SUPERSEDED), now.wall))
        self._unsaved.append((entry.command, now.wall))
        self._wake()
        return left

    def save(self) -> None:
        """Write down what was sent. Apart from ``send``, for the writing of one must not keep the next waiting."""
        if len(self._unsaved) > MANY:
            # While so many were made nothing could be heard.
            heard = self._clock.monotonic()
            for command, _ in self._unsaved:
                entry = self._open.get(command.number)
                if entry is not None and entry.command is command and entry.due < math.inf:
                    entry.due = heard + entry.latency_s
        for command, wall in self._unsaved:
            self._store.save_command(command, wall)
        self._unsaved.clear()

    def confirmed(self, number: int, command_id: int) -> None:
        """A reading showed it."""
        entry = self._open.get(number)
        if entry is not None and entry.command.id == command_id:
            del self._open[number]
            self.confirmed_count += 1
            self._save(replace(entry.command, state=CommandState.CONFIRMED), self._clock.now().wall)

    def refused(self, number: int, command_id: int, why: str) -> None:
        """The resource said that it will not: it has failed, and is not sent again."""
        entry = self._open.get(number)
        if entry is None or entry.command.id != command_id:
            return
        del self._open[number]
        self.failed_count += 1
        lost = replace(entry.command, state=CommandState.FAILED, answer=why)
        self._save(lost, self._clock.now().wall)
        self._failed(lost)

    def forget(self, number: int) -> None:
        """The device is gone; what was on its way is void."""
        entry = self._open.pop(number, None)
        if entry is not None:
            self._save(replace(entry.command, state=CommandState.EXPIRED), self._clock.now().wall)

    def end(self) -> None:
        """Send nothing any more; what is open stays open in the store, for the next start to judge."""
        self._ended = True
        self._open.clear()
        self._lines.clear()

    def waiting(self, number: int) -> Command | None:
        """The open command of a device."""
        entry = self._open.get(number)
        return entry.command if entry is not None else None

    def next_due(self) -> float | None:
        """Monotonic moment at which the next command is sent again or fails."""
        return self._due if self._due < math.inf else None

    def tick(self, mono: float) -> None:
        """Send again what was not confirmed, alarm what was not confirmed twice."""
        self._once.settle()
        if mono < self._due:
            return
        self._due = math.inf
        for line in self._lines.values():
            while line.under_way and next(iter(line.under_way.values())) <= mono:
                del line.under_way[next(iter(line.under_way))]
            self._next_of(line)
        for number, entry in list(self._open.items()):
            if entry.due > mono:
                self._due = min(self._due, entry.due)
                continue
            if entry.tries < TRIES:
                self.again += 1
                self._put(entry)
                self._save(entry.command, self._clock.now().wall)
            else:
                del self._open[number]
                self.failed_count += 1
                lost = replace(entry.command, state=CommandState.FAILED, answer=UNCONFIRMED)
                self._save(lost, self._clock.now().wall)
                self._failed(lost)

    def _put(self, entry: _Open) -> bool:
        """Send it, or let it wait for its turn (False)."""
        adapter = self._adapter_of(entry.command.number)
        at_once = 0 if adapter is None else getattr(adapter, "at_once", 0)
        if adapter is None or not at_once:
            self._leave(entry, adapter, None)
            return True
        line = self._lines.get(adapter.name)
        if line is None:
            line = self._lines[adapter.name] = _Line(at_once)
        if not line.waiting and len(line.under_way) < line.at_once:
            self._leave(entry, adapter, line)
            return True
        entry.due = math.inf
        line.waiting[entry.command.number] = None
        self._next_of(line)
        return False

    def _next_of(self, line: _Line) -> None:
        """As many as may go. While some wait it is looked at again when the oldest has had its time."""
        while line.waiting and len(line.under_way) < line.at_once:
            number = next(iter(line.waiting))
            del line.waiting[number]
            entry = self._open.get(number)
            if entry is not None and entry.due == math.inf:
                self._leave(entry, self._adapter_of(number), line)
                self._begun(entry.command)
                self._save(entry.command, self._clock.now().wall)
        if line.waiting:
            self._look_at(next(iter(line.under_way.values())))

    def _look_at(self, mono: float) -> None:
        if mono < self._due:
            self._due = mono
            self._wake()

    def _leave(self, entry: _Open, adapter: FieldAdapter | None, line: _Line | None) -> None:
        entry.tries += 1
        now = self._clock.monotonic()
        entry.due = now + entry.latency_s
        self._look_at(entry.due)
        entry.command = replace(entry.command, state=CommandState.SENT if entry.tries == 1 else CommandState.SENT_AGAIN)
        self.sent += 1
        if adapter is None:
            return
        try:
            sending = adapter.send(entry.command)
        except Exception as err:
            self._not_sent(entry.command, err)
            return
        turn = (entry.command.id, entry.tries)
        if line is not None:
            line.under_way[turn] = now + TURN_S
        task = asyncio.get_running_loop().create_task(self._follow(sending, entry.command, turn, line))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(
        self, sending: Awaitable[None], command: Command, turn: tuple[int, int], line: _Line | None
    ) -> None:
        try:
            await sending
        except Exception as err:
            self._not_sent(command, err)
        else:
            self._once.over("write", command.number, f"{command.resource}: commands can be written again")
        if line is not None:
            line.under_way.pop(turn, None)
            if not self._ended:
                self._next_of(line)

    def _not_sent(self, command: Command, err: Exception) -> None:
        if isinstance(err, TransientError):
            log.debug("%s %s: %s", command.resource, command.setting, err)
            return
        log.debug("%s: command %d", command.resource, command.id, exc_info=err)
        reason = f"{type(err).__name__}: {err}"
        self._once.say("write", command.number, f"{command.resource}: commands cannot be written: {reason}")

    def _save(self, command: Command, wall: float) -> None:
        self.save()
        self._store.save_command(command, wall)
