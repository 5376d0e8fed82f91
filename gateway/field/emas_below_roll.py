"""Who of the EMAs below is there, what each said last, and the resource that each is (docs/emas.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gateway.config.model import EMA_NUMBERS, ControlConfig, EmaBelowConfig
from gateway.errors import PeerError
from gateway.field.emas_below_holds import Values
from gateway.journal import plain
from gateway.links.mir2017 import messages as wire
from gateway.record import slim
from gateway.site.resource import Kind, Reading, Resource, Setpoint

# An offset between two clocks is taken from the quickest of the reports of two such times.
SKEW_S = 300.0
# Until that is known they are taken to agree so far; a report that is older was held up.
AGREE_S = 60.0
# What one was seen to draw at most is rounded up to so many of its leading digits, so that it seldom changes.
DIGITS = 2


@slim(frozen=True, slots=True)
class BelowReport:
    """The newest report of one EMA, as it is kept. ``at``: wall seconds by its own clock; ``most_w``: the most it ever
    drew, or may draw by its own threshold, as far as it said."""

    power_w: float | None = None
    threshold_w: float | None = None
    margin_w: float | None = None
    generate_w: float | None = None
    storage_w: float | None = None
    devices: int | None = None
    at: float | None = None
    boot: int = 0
    seq: int = 0
    most_w: float = 0.0
    own_w: float | None = None


class Skew:
    """How long a report was under way beyond the quickest one: two clocks differ by an offset that nobody knows.

    What comes quicker than it was written, one after the other, was held up and tells nothing of the clocks.
    """

    def __init__(self) -> None:
        self._since = -math.inf
        self._now = math.inf
        self._before = math.inf
        self._last: tuple[float, float] | None = None

    def delay(self, at: float, wall: float, mono: float) -> float:
        """Seconds. ``at`` by the peer's clock."""
        if mono - self._since > SKEW_S:
            self._before, self._now, self._since = self._now, math.inf, mono
        offset = wall - at
        if offset <= AGREE_S or self._steady(at, offset):
            self._now = min(self._now, offset)
        self._last = at, offset
        quickest = min(self._now, self._before)
        return max(0.0, offset - (AGREE_S if math.isinf(quickest) else quickest))

    def _steady(self, at: float, offset: float) -> bool:
        """It came about as long after the one before as it was written."""
        if self._last is None:
            return False
        written_after = at - self._last[0]
        return written_after > 0 and self._last[1] - offset <= written_after / 2


@dataclass(slots=True)
class Below:
    """One EMA below. ``heard_at``, ``done_at``: monotonic seconds; ``link``: over which it spoke last."""

    number: int
    resource: Resource
    report: BelowReport
    link: str = ""
    here: bool = False
    heard_at: float = 0.0
    taken_at: float = -math.inf
    done: int = 0
    done_at: float = -math.inf
    pushed_at: float = -math.inf
    reports: int = 0
    skew: Skew = field(default_factory=Skew)


class Roll:
    """All EMAs below, by their n."""

    def __init__(
        self, configs: Sequence[EmaBelowConfig], control: ControlConfig, strangers: bool, journal: Values
    ) -> None:
        self.all: dict[int, Below] = {}
        self.strangers = strangers
        self._journal = journal
        self._control = control
        self._configs = {config.number: config for config in configs}

    def configure(self, configs: Sequence[EmaBelowConfig], control: ControlConfig) -> list[int]:
        """Other tables; returns who is named no more and may not come without."""
        self._configs = {config.number: config for config in configs}
        self._control = control
        for below in self.all.values():
            below.resource = self.resource(below.number, below.report.most_w)
        return [n for n in self.all if not self.admits(n)]

    @property
    def configured(self) -> list[int]:
        """Those that the file names."""
        return list(self._configs)

    def admits(self, number: int) -> bool:
        """May it come."""
        if number in self._configs:
            return True
        return self.strangers and 1 <= number < 100_000 - EMA_NUMBERS

    def entry(self, number: int) -> Below:
        """One that may come, known from before where it is."""
        below = self.all.get(number)
        if below is None:
            text = self._journal.value(_key(number))
            try:
                report = plain.loads(BelowReport, text) if text else BelowReport()
            except PeerError:
                report = BelowReport()
            below = self.all[number] = Below(number, self.resource(number, report.most_w), report)
        return below

    def resource(self, number: int, most_w: float) -> Resource:
        """What control sees of it."""
        config = self._configs.get(number) or EmaBelowConfig(number=number)
        return describe_ema(config, self._control, most_w)

    def reported(self, below: Below, report: wire.UpdateReport, held: bool, wall: float, mono: float) -> Reading | None:
        """Keep a report; the reading that it is, or None: a double, or older than what is known."""
        before = below.report
        known = before.boot, before.seq
        order = wire.split_request_id(report.request_id)
        late = order is not None and order <= known
        if order is not None and order[0] != known[0]:
            below.skew = Skew()
        at = None if report.time_ms is None else report.time_ms / 1000
        taken_at = mono - (below.skew.delay(at, wall, mono) if at is not None else 0.0)
        if late or taken_at < below.taken_at:
            return None
        own_w = before.own_w if held else report.threshold
        most_w = max(before.most_w, _rounded_up(max(report.power or 0, own_w or 0)))
        below.report = BelowReport(
            report.power,
            report.threshold,
            report.margin,
            report.generate,
            report.storage,
            None if report.devices is None else len(report.devices),
            at,
            *(order or known),
            most_w,
            own_w,
        )
        self._journal.save_value(_key(below.number), plain.dumps(below.report))
        if most_w != before.most_w:
            below.resource = self.resource(below.number, most_w)
        below.taken_at = taken_at
        below.reports += 1
        done = below.done if taken_at >= below.done_at else 0
        return Reading(taken_at, report.power, True, done=done)

    def began(self, below: Below) -> None:
        """A new session: after an erased state its reports are counted anew."""
        below.report = replace(below.report, boot=0, seq=0)

    def forget(self, number: int) -> None:
        """It belongs to the site no more."""
        self.all.pop(number, None)
        self._journal.save_value(_key(number), "")

    def sums(self) -> tuple[float, float]:
        """(generate, storage) that those that are here reported, W by our signs."""
        here = [below.report for below in self.all.values() if below.here]
        return sum(r.generate_w or 0.0 for r in here), sum(r.storage_w or 0.0 for r in here)


def describe_ema(config: EmaBelowConfig, control: ControlConfig, most_w: float = 0.0) -> Resource:
    """The resource of one EMA below. ``most_w``: the most that it was seen to draw."""
    return Resource(
        name=config.label,
        number=config.resource,
        kind=Kind.EMA,
        priority=config.priority,
        switch=False,
        setpoint=Setpoint(config.min_w, config.max_w or max(most_w, config.min_w)),
        latency_s=config.latency_s,
        never_shed=config.never_shed,
        lease_s=control.lease_s,
    )


def _rounded_up(watts: float) -> float:
    if watts <= 0:
        return 0.0
    step = 10.0 ** max(math.floor(math.log10(watts)) - DIGITS + 1, 0)
    return math.ceil(watts / step) * step


def _key(number: int) -> str:
    return f"ema_below/{number}/report"
