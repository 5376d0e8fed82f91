"""The EMS's picture of everything, shared by its desks: what is known, who hears of a change, what is to be saved."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from gateway.clock import Clock
from headend.ems.errors import Refused, Unknown
from headend.ems.head import Head
from headend.ems.records import Loaded
from headend.ems.refusals import Refusals
from headend.ems.settings import EmsSettings
from headend.ems.state import Change, Delivery, Device, DeviceCommand, Ema, Event, Rdr
from headend.ems.store import Store, cannot_ever

Thing = Ema | Device | Rdr | DeviceCommand | tuple[int, Delivery]

# An event that is over is still in memory (shown, its late answers taken) for a day.
EVENT_MEMORY_S = 86_400.0
# Readings of devices and last-seen times reach the disk within this time, many changes as one write; reports and
# events at once. Of the machine's clock: it spares the disk, whatever the site's clock does.
FLUSH_S = 0.2
# What could not be written is written again after this.
AGAIN_S = 2.0


class Book:
    """State in memory, written through to the store. ``on_change`` hooks are called for each change."""

    def __init__(self, settings: EmsSettings, store: Store, clock: Clock, log: logging.Logger) -> None:
        self.settings = settings
        self.store = store
        self.clock = clock
        self.log = log
        self.refusals = Refusals(clock, log)
        self.heads: dict[str, Head] = {}
        self.on_change: list[Callable[[Change], None]] = []
        self.emas: dict[str, Ema] = {}
        self.devices: dict[tuple[str, str], Device] = {}
        self.device_count: dict[str, int] = {}
        self.events: dict[int, Event] = {}
        self.limits: dict[str, float] = {}
        self.rdr: dict[tuple[str, int], Rdr] = {}
        self.wake: Callable[[], None] = lambda: None
        self.closed = False
        self._dirty: dict[object, Thing] = {}
        self._flusher: asyncio.TimerHandle | None = None

    def load(self, loaded: Loaded) -> None:
        """Take up what was there before the restart."""
        self.emas = loaded.emas
        self.devices = loaded.devices
        self.events = loaded.events
        self.limits = loaded.limits
        for name, _ in self.devices:
            self.device_count[name] = self.device_count.get(name, 0) + 1
        for ema in self.emas.values():
            if ema.measured_at is not None:  # by the EMA's clock, which may have been ahead
                ema.measured_at = min(ema.measured_at, self.wall)

    @property
    def wall(self) -> float:
        return self.clock.now().wall

    def ema(self, name: str, field: str = "ema") -> Ema:
        """Raise ``Unknown`` that names those there are."""
        ema = self.emas.get(name)
        if ema is None:
            known = ", ".join(sorted(self.emas)[:10]) or "none yet"
            raise Unknown(field, f"{name} is not known; EMAs: {known}")
        return ema

    def device(self, ema: str, number: int) -> Device:
        """Raise ``Unknown``."""
        self.ema(ema)
        device = self.devices.get((ema, f"dev/{number}"))
        if device is None:
            raise Unknown("number", f"{ema} has no dev/{number}")
        return device

    def head(self, ema: Ema) -> Head | None:
        """The way to an EMA, when its session is up and the EMA is there."""
        head = self.heads.get(ema.protocol)
        return head if head is not None and head.up and ema.connected else None

    # Saying and saving

    def dirty(self, thing: Thing) -> None:
        """To be saved with the next flush; many changes of one thing become one write."""
        self._later({_key(thing): thing}, FLUSH_S)

    def _later(self, things: dict[object, Thing], seconds: float) -> None:
        if self._flusher is None:
            self._flusher = asyncio.get_running_loop().call_later(seconds, self.flush)
        self._dirty.update(things)

    def flush(self) -> None:
        """Hand what changed to the writer."""
        if self._flusher is not None:
            self._flusher.cancel()
            self._flusher = None
        if not self._dirty:
            return
        things, self._dirty = self._dirty, {}

        def stored(_: None, error: Exception | None) -> None:
            if error is None or self.closed:
                return
            if not cannot_ever(error):
                self._later(things, AGAIN_S)
            elif len(things) > 1:  # one of them is at fault: the others are to be kept
                for thing in things.values():
                    self.store.save([thing])

        self.store.save(things.values(), stored)

    def changed(self, kind: str, ema: str | None, data: object) -> None:
        """Tell whoever looks. ``data``: a dictionary, or an object of ``state``."""
        if not self.on_change:
            return
        shown: dict[str, Any] = data if isinstance(data, dict) else asdict(data)  # type: ignore[call-overload]
        change = Change(kind, ema, shown)
        for hook in tuple(self.on_change):
            try:
                hook(change)
            except Exception:
                self.log.exception("a hook on %s", kind)

    # What is known of power

    def power(self, ema: Ema) -> float | None:
        """An EMA's power in W; None when not known or too old."""
        at = ema.measured_at
        if ema.power_w is None or at is None or self.wall - at > self.settings.stale_s:
            return None
        return ema.power_w

    def why_unknown(self, ema: Ema) -> str:
        """Why its power does not count."""
        if ema.power_w is None or ema.measured_at is None:
            return f"power of {ema.name} is not known yet"
        age = self.wall - ema.measured_at
        return f"power of {ema.name} is not known now, its last report is of {age:.0f} s ago"

    def total(self) -> tuple[float, list[str]]:
        """Power of all connected EMAs in W, and which of them have none that counts."""
        watts, unknown = 0.0, []
        for ema in self.emas.values():
            power = self.power(ema)
            if power is not None:
                watts += power
            elif ema.connected:
                unknown.append(ema.name)
        return watts, unknown


def _key(thing: Thing) -> object:
    match thing:
        case Ema():
            return thing.name
        case Device():
            return "device", thing.ema, thing.id
        case Rdr():
            return "rdr", thing.id
        case DeviceCommand():
            return "command", thing.id
        case (event_id, delivery):
            return "delivery", event_id, delivery.ema


def check_watts(field: str, watts: float) -> float:
    """Raise ``Refused`` unless it is 0 to 1 GW (what the wire can say)."""
    if not 0 <= watts <= 1e9:
        raise Refused(field, f"{watts:g} is not 0 to 1000000000 W")
    return watts
