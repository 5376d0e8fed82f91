"""A site that only remembers what its adapters told it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.field.base import FieldAdapter
from gateway.site.command import Command, Source
from gateway.site.event import RdrAnswer, RdrResult
from gateway.site.resource import Reading, Resource, Setting


class RememberingSite:
    """``SiteInputs`` for tests; ``answer`` is what every RDR gets."""

    def __init__(self, answer: RdrAnswer | None = None) -> None:
        self.answer = answer or RdrAnswer(RdrResult.GRANTED, "100 W of 300 W margin")
        self.came: list[Resource] = []
        self.went: list[tuple[int, str]] = []
        self.lost: list[int] = []
        self.readings: list[tuple[int, Reading]] = []
        self.asked: list[tuple[int, float, float]] = []
        self.on_reading: Callable[[int, Reading], None] | None = None

    def appeared(self, adapter: FieldAdapter, resource: Resource) -> None:
        self.came.append(resource)

    def gone(self, number: int, why: str, lost: bool = False) -> None:
        self.went.append((number, why))
        if lost:
            self.lost.append(number)

    def reported(self, number: int, reading: Reading) -> None:
        self.readings.append((number, reading))
        if self.on_reading is not None:
            self.on_reading(number, reading)

    def asked_back(self, number: int, watts: float, for_s: float) -> RdrAnswer:
        self.asked.append((number, watts, for_s))
        return self.answer

    def last(self, number: int) -> Reading:
        """The newest reading of a device."""
        return next(reading for n, reading in reversed(self.readings) if n == number)


def command(id: int, number: int, setting: Setting, lease_s: float = 60.0) -> Command:
    """A command of control to dev/<number>."""
    return Command(id, f"thing-{number}", number, setting, Source.SHED, lease_s, 0.0)


class Lines(logging.Handler):
    """What was logged, by level."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def at(self, level: int) -> list[str]:
        return [r.getMessage() for r in self.records if r.levelno == level]


def listening_logger(name: str) -> tuple[logging.Logger, Lines]:
    """A logger of its own and what it wrote."""
    logger = logging.getLogger(f"test.{name}")
    logger.handlers.clear()
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    lines = Lines()
    logger.addHandler(lines)
    return logger, lines
