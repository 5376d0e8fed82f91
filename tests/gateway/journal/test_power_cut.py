"""Random life on a disk that loses power, is killed, and runs full; against a model (docs/journal.md, "Promises")."""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.clock import ManualClock
from gateway.config.model import JournalConfig
from gateway.journal import Connector, Journal, JournalError, numbers
from gateway.site.report import Record
from tests.gateway.journal.disk import Disk
from tests.gateway.journal.samples import lamp, report

HOME = Path(tempfile.gettempdir())


class Life(RuleBasedStateMachine):
    """One EMA over many starts. ``moments``: what the essential file may show, oldest first."""

    @initialize()
    def begin(self) -> None:
        logging.getLogger("gateway.journal").setLevel(logging.CRITICAL)
        self.block, numbers.BLOCK = numbers.BLOCK, 8
        self.clock = ManualClock()
        self.disk = Disk()
        self.boots: list[int] = []
        self.commands: set[int] = set()
        self.moments: list[tuple[dict[str, str], frozenset[int]]] = [({}, frozenset())]
        self.appended: list[Record] = []
        self.acknowledged = 0  # how many of ``appended``
        self.start(self.disk.boot())

    def teardown(self) -> None:
        if hasattr(self, "disk"):
            logging.getLogger("gateway.journal").setLevel(logging.NOTSET)
            numbers.BLOCK = self.block
            self.disk.room = None

    def start(self, connector: Connector) -> None:
        self.clock.jump_wall(0.1)
        self.journal = Journal.open(HOME, HOME, JournalConfig(), self.clock, connector=connector, threaded=False)
        self.reader = self.journal.reader("ems")
        assert self.journal.boot not in self.boots
        assert all(self.journal.boot > boot for boot in self.boots)
        self.boots.append(self.journal.boot)
        self.command(1)

    def now(self) -> tuple[dict[str, str], frozenset[int]]:
        values = {key: self.journal.value(key) for key in "abc" if self.journal.value(key) is not None}
        return values, frozenset(saved.resource.number for saved in self.journal.devices())

    @rule(key=st.sampled_from("abc"), number=st.integers(0, 9))
    def value(self, key: str, number: int) -> None:
        self.journal.save_value(key, str(number))
        self.moments.append(self.now())

    @rule(number=st.integers(1, 3), there=st.booleans())
    def device(self, number: int, there: bool) -> None:
        if there:
            self.journal.save_device(lamp(number), "mqtt", "")
        else:
            self.journal.forget_device(number)
        self.moments.append(self.now())

    @rule(many=st.sampled_from([3, 9]))
    def commands_go(self, many: int) -> None:
        self.command(many)

    def command(self, many: int) -> None:
        for _ in range(many):
            self.clock.jump_wall(0.001)
            number = self.journal.next_command_id()
            assert number not in self.commands, "also when a full disk outlasted the reserve"
            self.commands.add(number)

    @rule()
    def durable(self) -> None:
        try:
            asyncio.run(self.journal.durable())
        except JournalError:
            assert self.disk.room is not None
        else:
            del self.moments[:-1]

    @rule(many=st.integers(1, 12), devices=st.sampled_from([0, 3, 60]))
    def append(self, many: int, devices: int) -> None:
        for _ in range(many):
            record = self.journal.append(report(float(len(self.appended)), devices))
            assert not self.appended or (record.boot, record.seq) > (self.appended[-1].boot, self.appended[-1].seq)
            self.appended.append(record)

    @precondition(lambda self: self.acknowledged < len(self.appended))
    @rule(most=st.integers(1, 20), data=st.data())
    def read_and_acknowledge(self, most: int, data: st.DataObject) -> None:
        records = self.reader.unacknowledged(None, most)
        wanted = self.appended[self.acknowledged :]
        assert records
        assert records == wanted[: len(records)]
        behind = data.draw(st.integers(0, len(records)))
        if behind:
            last = records[behind - 1]
            self.reader.acknowledge(last.boot, last.seq)
            self.acknowledged += behind
            later = self.reader.unacknowledged((last.boot, last.seq), most)
            assert later == wanted[behind : behind + len(later)]

    @rule(room=st.sampled_from([0, 5_000, 50_000]))
    def fill_disk(self, room: int) -> None:
        self.disk.room = room

    @rule()
    def make_room(self) -> None:
        self.disk.room = None

    @rule()
    def end(self) -> None:
        self.disk.room = None
        asyncio.run(self.journal.close())
        shown = self.moments[-1]
        self.start(self.disk.boot())
        assert self.now() == shown
        self.moments = [shown]
        assert self.reader.waiting() == len(self.appended) - self.acknowledged

    @rule()
    def kill(self) -> None:
        self.disk.room = None
        self.start(self.disk.kill())
        self.look_back()

    @rule(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.0, 0.5, 1.0]))
    def cut(self, seed: int, share: float) -> None:
        self.disk.room = None
        chance = random.Random(seed)
        self.start(self.disk.cut(lambda: chance.random() < share))
        self.look_back()

    def look_back(self) -> None:
        """Nothing durable is missing, and the outbox is a piece of what was appended, in order."""
        assert self.now() in self.moments
        self.moments = [self.now()]
        left: list[Record] = []
        after = None
        while records := self.reader.unacknowledged(after, 1_000):
            left += records
            after = (records[-1].boot, records[-1].seq)
        assert len(left) == self.reader.waiting()
        first = self.appended.index(left[0]) if left else self.acknowledged
        assert first <= self.acknowledged or not left
        assert left == self.appended[first : first + len(left)]
        self.appended = self.appended[: first + len(left)]
        self.acknowledged = first

    @invariant()
    def counted(self) -> None:
        assert self.reader.waiting() == len(self.appended) - self.acknowledged


Life.TestCase.settings = settings(
    max_examples=80, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLife = Life.TestCase
