"""One site through all ways to its EMS in turn: registered, an event, shed, an RDR, the event called off, restored."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from device_agents.protocol import WireError
from gateway.rdr_desk import RdrEntry
from gateway.site.decision import Decision, Rule
from headend.ems.state import Event
from lab.demo.scene import Scene
from lab.demo.story import everybody_is_there
from lab.demo.ways import Way
from lab.impair import Tally

EMA = "gw/1"
# Seconds of the machine's clock that a step may take, and between two looks.
PATIENCE_S = 60.0
LOOK_S = 0.002
# Many times what a restore takes; a lamp whose command was lost each time stays as it is.
RESTORE_S = 20.0
# A command after a grant is sent twice within this; when both are lost, the device waits for the event's end.
BACK_S = 10.0
# Far beyond the end of a row, by the site's clock.
EVENT_S = 6 * 3600.0
# Up to where the EMS grants what devices ask back.
ROOM_W = 20_000.0
# Lamps that may ask, the one that asks for most first.
ASKING = (1, 2, 8)
TAKEN_IN, CALLED_OFF = "taken in", "called off"
# A power that came back is within this of what it was.
SAME_W = 5.0


@dataclass(slots=True)
class Row:
    """What came of one way. Seconds and milliseconds are the machine's; None: it did not come to that.

    ``event_ms``: made at the EMS → its answer there, or the EMA's taking it in where the protocol has no answer.
    ``latency_ms``: made at the EMS → first command at a device.
    ``rdr``: device, mw, result, why, and after a grant whether it came ``back``.
    ``applied``: how often the EMA took the event in and its cancellation.
    """

    way: Way
    registered_s: float | None = None
    event_ms: float | None = None
    latency_ms: float | None = None
    limit_w: float | None = None
    before_w: float | None = None
    shed_w: float | None = None
    shed_s: float | None = None
    rdr: dict[str, Any] | None = None
    restored_s: float | None = None
    applied: dict[str, int] = field(default_factory=dict)
    up: Tally = field(default_factory=Tally)
    down: Tally = field(default_factory=Tally)
    problem: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        way = self.way
        return {
            "mode": way.label,
            "protocol": way.protocol,
            "profile": way.profile,
            "number": way.mode,
            "ok": self.ok,
            "problem": self.problem,
            "registered_s": self.registered_s,
            "event_ms": self.event_ms,
            "latency_ms": self.latency_ms,
            "limit_w": self.limit_w,
            "before_w": self.before_w,
            "shed_w": self.shed_w,
            "shed_s": self.shed_s,
            "rdr": self.rdr,
            "restored_s": self.restored_s,
            "applied": self.applied,
            "bytes": self.up.bytes + self.down.bytes,
            "bytes_up": self.up.bytes,
            "bytes_down": self.down.bytes,
        }


class Late(Exception):
    """A step did not come to its end."""


class Tour:
    """Runs the ways one after another on a running scene with ``wires``."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._applied: Counter[tuple[int, str]] = Counter()  # by event, as the EMA numbers it
        self._settled: dict[str, RdrEntry] = {}
        self._powers: dict[int, float] = {}  # of the first event's beginning
        engine = scene.daemon.engine
        engine.listeners.append(self._decided)
        engine.rdr.listeners.append(self._rdr)

    def _decided(self, decision: Decision) -> None:
        if decision.rule is Rule.OPT and decision.event_id is not None:
            said = CALLED_OFF if decision.why.endswith("cancelled") else TAKEN_IN
            self._applied[decision.event_id, said] += 1

    def _rdr(self, entry: RdrEntry) -> None:
        self._settled[entry.device] = entry

    async def rows(self, ways: Sequence[Way]) -> AsyncIterator[Row]:
        """A row as soon as it is through."""
        for way in ways:
            row = Row(way)
            try:
                await self._row(row)
            except Late as late:
                row.problem = str(late)
                self._powers = {}  # the next row takes the site as it is
            yield row

    async def _row(self, row: Row) -> None:
        scene, way = self._scene, row.way
        assert scene.wires is not None
        link = f"ems {way.protocol}"
        up, down = scene.wires.ways(link)
        began = time.perf_counter()
        config = scene.daemon.config
        table = way.config(*scene.above[way.protocol])
        await scene.daemon.apply(replace(config, upstream=(table,)))
        try:
            await self._until(lambda: self._registered(way), "not registered")
            row.registered_s = _since(began)
            await self._until(self._at_rest, lambda: f"not at rest: {self._not_as_before(self._powers)}")
            await scene.ems.set_limit(EMA, ROOM_W)
            await self._event(row)
        finally:
            now_up, now_down = scene.wires.ways(link)
            row.up, row.down = now_up - up, now_down - down

    def _registered(self, way: Way) -> bool:
        ema = self._scene.ems.service.book.emas.get(EMA)
        upstreams = self._scene.daemon.engine.upstreams
        return (
            ema is not None
            and ema.connected
            and ema.protocol == way.head
            and any(upstream.status()["state"] == "up" for upstream in upstreams)
        )

    def _at_rest(self) -> bool:
        """All read, as it was at first, and the EMS has a power of the site."""
        scene = self._scene
        ema = scene.ems.service.book.emas[EMA]
        return (
            everybody_is_there(scene)
            and self._as_before(self._powers)
            and scene.daemon.engine.limit(scene.clock.now()).import_w is None
            and ema.power_w is not None
        )

    def _free(self) -> bool:
        return all(state.held is None for state in self._scene.daemon.engine.states.values())

    async def _event(self, row: Row) -> None:
        scene = self._scene
        powers = {number: twin.power_w for number, twin in scene.twins.items()}
        self._powers = self._powers or powers
        row.before_w = round(scene.power_w(), 1)
        row.limit_w = max(round(sum(max(power, 0.0) for power in powers.values()) / 2 / 10) * 10, 10)
        wall = scene.clock.now().wall
        self._applied.clear()
        made = time.perf_counter()
        event = await scene.ems.create_event(row.limit_w, wall, wall + EVENT_S, [EMA])
        try:
            await self._until(lambda: self._delivered(event, TAKEN_IN), "the event does not arrive")
            row.event_ms = _since(made) * 1000
            await self._until(lambda: scene.power_w() <= row.limit_w + 0.5, "not under the limit")  # type: ignore[operator]
            row.shed_s, row.shed_w = _since(made), round(scene.power_w(), 1)
            first = next((c.at for c in scene.carried if c.at > made), None)
            row.latency_ms = None if first is None else round((first - made) * 1000, 2)
            await self._ask_back(row, powers)
        finally:
            called_off = time.perf_counter()
            await scene.ems.cancel_event(event.id)
        await self._until(lambda: self._delivered(event, CALLED_OFF), "the event's end does not arrive")
        row.applied = {said: self._times(event, said) for said in (TAKEN_IN, CALLED_OFF)}
        if set(row.applied.values()) != {1}:
            row.problem = f"the event took effect more than once, or not: {row.applied}"
        await self._until(
            lambda: self._as_before(powers), lambda: f"not restored: {self._not_as_before(powers)}", RESTORE_S
        )
        row.restored_s = _since(called_off)

    def _delivered(self, event: Event, what: str) -> bool:
        """The EMS has its answer; where a protocol has no word for one, the EMA has the event."""
        if self._answers:
            return event.deliveries[EMA].answered == event.modification
        return self._times(event, what) > 0

    def _times(self, event: Event, what: str) -> int:
        """How often the EMA did that. A protocol without answers has no numbers either: there the EMA gives its own."""
        return sum(
            times
            for (number, said), times in self._applied.items()
            if said == what and (number == event.id or not self._answers)
        )

    @property
    def _answers(self) -> bool:
        book = self._scene.ems.service.book
        return book.heads[book.emas[EMA].protocol].answers

    def _as_before(self, powers: dict[int, float]) -> bool:
        """Everything free again, and lamps and car draw what they did; sun and battery go their own way."""
        return self._free() and all(
            abs(self._scene.twins[number].power_w - power) <= SAME_W for number, power in powers.items() if power > 0
        )

    def _not_as_before(self, powers: dict[int, float]) -> str:
        """Who is not, for people."""
        states = self._scene.daemon.engine.states
        now = {number: self._scene.twins[number].power_w for number in powers}
        return ", ".join(
            f"{states[n].resource.name} {now[n]:.0f} W of {powers[n]:.0f} W"
            + (f", held to {states[n].held}" if states[n].held else "")
            for n in powers
            if states[n].held or (powers[n] > 0 and abs(now[n] - powers[n]) > SAME_W)
        )

    async def _ask_back(self, row: Row, powers: dict[int, float]) -> None:
        """The first lamp that was dimmed or switched off presses its button."""
        scene = self._scene
        number = next((n for n in ASKING if scene.twins[n].power_w < powers[n] - SAME_W), None)
        if number is None:
            raise Late("no lamp was shed that could ask back")
        name = scene.daemon.engine.states[number].resource.name
        self._settled.pop(name, None)
        # Pressed again, as its user would, when nothing comes of it: the agent knows how soon that makes sense.
        await self._until(
            lambda: name in self._settled or (self._press(number) and name in self._settled),
            f"no answer to {name}'s RDR",
        )
        entry = self._settled[name]
        row.rdr = {
            "device": name,
            "mw": round(entry.watts * 1000),
            "result": entry.result.value,
            "why": entry.why,
        }
        if row.rdr["result"] == "granted":
            back_w = min(powers[number], scene.twins[number].power_w + entry.watts) - SAME_W
            try:
                await self._until(lambda: scene.twins[number].power_w >= back_w, "", BACK_S)
            except Late:
                row.rdr["back"] = False
            else:
                row.rdr["back"] = True

    def _press(self, number: int) -> bool:
        try:
            return self._scene.press(number)
        except WireError:
            return False

    async def _until(
        self, condition: Callable[[], bool], what: str | Callable[[], str], seconds: float = PATIENCE_S
    ) -> None:
        """Raise ``Late`` that says what did not come."""
        end = time.perf_counter() + seconds
        while not condition():
            for task in self._scene.tasks:
                if task.done():
                    task.result()
            if time.perf_counter() > end:
                raise Late(f"{what() if callable(what) else what} within {seconds:.0f} s")
            await asyncio.sleep(LOOK_S)


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 4)
