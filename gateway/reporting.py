"""When the site reports upwards, and what stands in it; every record goes through the journal's outbox."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from gateway.site.report import DeviceLine, DeviceNotice, NoticeKind, OutboxBody, SiteReport
from gateway.site.resource import Kind

if TYPE_CHECKING:
    from gateway.config.model import ReportsConfig
    from gateway.site.picture import ResourceState

# A report of an EMA below that was under way for longer tells of the past, and ours tell of the present.
HELD_UP_S = 5.0


class Outbox(Protocol):
    """Where records go: the journal."""

    def append(self, body: OutboxBody) -> object: ...


def device_line(state: ResourceState) -> DeviceLine:
    """One device as a report shows it. Not heard of yet: off, dimming 0, power not known."""
    reading = state.reading
    return DeviceLine(
        number=state.resource.number,
        kind=state.resource.kind.value,
        on=bool(reading.on) if reading is not None and reading.on is not None else False,
        level=reading.level or 0 if reading is not None else 0,
        power_w=reading.power_w if reading is not None else None,
        priority=state.resource.priority,
    )


def sum_of(kinds: tuple[Kind, ...], states: Iterable[ResourceState]) -> float:
    """Power read from all present resources of these kinds, in W by our signs."""
    return sum(
        s.reading.power_w
        for s in states
        if s.resource.kind in kinds and s.present and s.reading is not None and s.reading.power_w is not None
    )


def nobody_below() -> tuple[float, float]:
    """What EMAs below generate and store (W) where there are none."""
    return 0.0, 0.0


class Reporter:
    """Decides when a report is due and hands it to the outbox.

    ``at_once``: some upstream asked for every change without delay (DR mode 4). ``sums`` gives
    (power, import limit, margin) in W at this moment.
    """

    def __init__(
        self,
        config: ReportsConfig,
        outbox: Outbox,
        states: dict[int, ResourceState],
        sums: Callable[[], tuple[float, float | None, float | None]],
        tell: Callable[[], None],
    ) -> None:
        self.config = config
        self.at_once = False
        self.has_readers = False
        # EMAs below: each told as a device with every report of its own, or in our sums only; what they generate and
        # store (W).
        self.each_ema = True
        self.below: Callable[[], tuple[float, float]] = nobody_below
        self._outbox = outbox
        self._states = states
        self._sums = sums
        self._tell = tell
        self._reported_w: dict[int, float] = {}
        self._changed: set[int] = set()
        self._due: float | None = None
        self._periodic = 0.0

    def changed(self, before: ResourceState, after: ResourceState, mono: float, wall: float) -> None:
        """A new reading. Notes what must be told, and tells at once where that is asked for."""
        if not self.has_readers:
            return
        old, new = before.reading, after.reading
        if new is None:
            return
        number = after.resource.number
        if after.resource.kind is Kind.EMA and self.each_ema:
            if mono - new.taken_at <= HELD_UP_S:
                self._report(mono, wall, only={*self._changed, number})
            return
        if old is not None and (old.on != new.on or old.level != new.level):
            self._notice(NoticeKind.CHANGED, after, wall)
        elif new.power_w is None or abs(new.power_w - self._reported_w.get(number, 0.0)) < self.config.change_w:
            return
        self._changed.add(number)
        if self.at_once or self.config.change_s == 0:
            self._report(mono, wall, only=self._changed)
        elif self._due is None:
            self._due = mono + self.config.change_s
            self._tell()

    def connected(self, state: ResourceState, wall: float) -> None:
        """A device came."""
        if self.has_readers and self._shows(state):
            self._notice(NoticeKind.CONNECTED, state, wall)

    def disconnected(self, state: ResourceState, wall: float) -> None:
        """A device went."""
        if self.has_readers and self._shows(state):
            self._notice(NoticeKind.DISCONNECTED, state, wall)

    def forget(self, number: int) -> None:
        """It is no longer part of the site."""
        self._reported_w.pop(number, None)
        self._changed.discard(number)

    def next_due(self) -> float | None:
        """Monotonic moment of the next report, None without anybody to report to."""
        if not self.has_readers:
            return None
        return self._periodic if self._due is None else min(self._due, self._periodic)

    def tick(self, mono: float, wall: float) -> None:
        """Report what is due."""
        if not self.has_readers:
            return
        if mono >= self._periodic:
            self._report(mono, wall, only=None)
        elif self._due is not None and mono >= self._due:
            self._report(mono, wall, only=self._changed)

    def build(self, wall: float, only: set[int] | None) -> SiteReport:
        """The site now; ``only`` names the devices that stand in it one by one (None: all)."""
        power, limit, margin = self._sums()
        states = self._states
        present = states.values()
        lines: tuple[DeviceLine, ...] = ()
        if self.config.explicit:
            chosen = states if only is None else only
            lines = tuple(
                device_line(states[n])
                for n in sorted(chosen)
                if n in states and states[n].present and self._shows(states[n])
            )
        generate_w, storage_w = self.below()
        return SiteReport(
            at=wall,
            power_w=power,
            threshold_w=limit,
            margin_w=margin,
            generate_w=sum_of((Kind.PV,), present) + generate_w,
            storage_w=sum_of((Kind.ESS,), present) + storage_w,
            devices=lines,
        )

    def _shows(self, state: ResourceState) -> bool:
        """Does it stand in reports by itself."""
        return self.each_ema or state.resource.kind is not Kind.EMA

    def _report(self, mono: float, wall: float, only: set[int] | None) -> None:
        report = self.build(wall, only)
        for line in report.devices:
            if line.power_w is not None:
                self._reported_w[line.number] = line.power_w
        self._changed.clear()
        self._due = None
        if only is None:
            self._periodic = mono + self.config.period_s
        self._outbox.append(report)
        self._tell()

    def _notice(self, kind: NoticeKind, state: ResourceState, wall: float) -> None:
        self._outbox.append(DeviceNotice(wall, kind, device_line(state)))
        self._tell()
