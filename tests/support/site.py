"""A site in one process: the real engine and journal on a clock moved by hand, devices that obey after a delay."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway.clock import ManualClock
from gateway.config.model import Config, ControlConfig, DeviceConfig
from gateway.engine import Engine
from gateway.errors import TransientError
from gateway.journal import Journal
from gateway.site.command import Command
from gateway.site.event import DrEvent, RdrAnswer
from gateway.site.report import SiteReport
from gateway.site.resource import Kind, Reading, Resource


@dataclass
class Lamp:
    """A lamp of ``rated_w`` that obeys (or, ``deaf``, does not)."""

    resource: Resource
    on: bool = True
    level: int = 9
    done: int = 0
    deaf: bool = False

    @property
    def power_w(self) -> float:
        return self.resource.rated_w * (self.level + 1) / 10 if self.on else 0.0


class FakeField:
    """A field adapter whose wire is a list; each command is obeyed and read back at once unless told otherwise."""

    name = "mqtt"

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.engine: Engine | None = None
        self.lamps: dict[int, Lamp] = {}
        self.sent: list[Command] = []
        self.answers: list[tuple[int, RdrAnswer]] = []
        self.down = False

    async def run(self) -> None: ...

    async def close(self) -> None: ...

    async def send(self, command: Command) -> None:
        if self.down:
            raise TransientError("down")
        self.sent.append(command)
        lamp = self.lamps[command.number]
        if lamp.deaf:
            return
        if command.setting.on is not None:
            lamp.on = command.setting.on
        if command.setting.level is not None:
            lamp.level = command.setting.level
        lamp.done = command.id
        self.report(command.number)

    async def answer_rdr(self, number: int, answer: RdrAnswer) -> None:
        self.answers.append((number, answer))

    def report(self, number: int) -> None:
        assert self.engine is not None
        lamp = self.lamps[number]
        reading = Reading(self.clock.monotonic(), lamp.power_w, lamp.on, lamp.level, done=lamp.done)
        self.engine.reported(number, reading)


@dataclass
class FakeUpstream:
    """An EMS whose answers to RDRs the test sets; ``answer`` None stays silent."""

    answer: tuple[bool, str] | None = (True, "OK")
    asked: list[tuple[int, float]] = field(default_factory=list)
    name: str = "ems"

    async def run(self) -> None: ...

    def wake(self) -> None: ...

    async def close(self) -> None: ...

    def status(self) -> dict[str, object]:
        return {"name": self.name}

    async def ask_rdr(self, number: int, watts: float, for_s: float) -> tuple[bool, str]:
        self.asked.append((number, watts))
        if self.answer is None:
            await asyncio.Event().wait()
            raise AssertionError
        return self.answer


class Site:
    """One EMA with lamps. ``restart`` is a kill -9 of it: nothing is closed, the journal is opened again."""

    def __init__(self, directory: Path, *watts: float, clock: ManualClock | None = None, **control: object) -> None:
        self.directory = directory
        self.clock = clock or ManualClock()
        options = {"restore_delay_s": 0.0, **control}
        devices = tuple(DeviceConfig(number=number) for number in range(1, len(watts) + 1))
        self.config = Config(control=ControlConfig(**options), device=devices)
        self.field = FakeField(self.clock)
        for number, rated in enumerate(watts, start=1):
            self.field.lamps[number] = Lamp(self.resource(number, rated))
        self._open()

    def resource(self, number: int, rated: float) -> Resource:
        return Resource(f"led-{number}", number, Kind.LED, number, levels=False, rated_w=rated, lease_s=60.0)

    def _open(self) -> None:
        self.journal = Journal.open(self.directory, self.directory, self.config.journal, self.clock)
        self.engine = Engine(self.config, self.journal, self.clock, random.Random(1))
        self.field.engine = self.engine
        self.decisions: list[str] = []
        self.engine.listeners.append(lambda d: self.decisions.append(f"{d.rule.value}: {d.line()}"))
        self.task = asyncio.get_running_loop().create_task(self.engine.run())

    def all_come(self) -> None:
        """Every lamp announces itself and says its state."""
        for number, lamp in self.field.lamps.items():
            self.engine.appeared(self.field, lamp.resource)
            self.field.report(number)

    async def turn(self, seconds: float = 1.0) -> None:
        """Time passes; every lamp reports each second."""
        left = seconds
        while left > 0:
            step = min(left, 1.0)
            await self.clock.advance(step)
            for number in self.field.lamps:
                if self.engine.states.get(number) is not None and self.engine.states[number].present:
                    self.field.report(number)
            await self.clock.advance(0)
            left -= step

    async def restart(self) -> None:
        """The process is gone and a new one starts on the same journal."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.journal.close()
        self._open()

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.journal.close()

    @property
    def power_w(self) -> float:
        return sum(lamp.power_w for lamp in self.field.lamps.values())

    def event(self, limit_w: float, event_id: int = 17, modification: int = 0, seconds: float = 600.0) -> DrEvent:
        now = self.clock.now().wall
        return DrEvent("ems", event_id, modification, now - 1, now + seconds, limit_w)

    def reports(self) -> list[SiteReport]:
        reader = self.journal.reader("ems")
        found: list[SiteReport] = []
        after = None
        while records := reader.unacknowledged(after, 1000):
            found += [r.body for r in records if isinstance(r.body, SiteReport)]
            after = (records[-1].boot, records[-1].seq)
        return found


__all__ = ["FakeField", "FakeUpstream", "Lamp", "Site", "replace"]
