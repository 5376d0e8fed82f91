"""Who is there below us, whatever the link: announcements, doubled and old messages, leases.

The rules of wire reference 5a in one place; an adapter adds its transport.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from device_agents import protocol as wire
from gateway.field.describe import describe
from gateway.field.device_wire import LabState, reading_of
from gateway.field.once import Once
from gateway.record import slim
from gateway.site.event import RdrAnswer, RdrResult

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.config.model import ControlConfig, DeviceConfig
    from gateway.field.base import FieldAdapter, SiteInputs
    from gateway.site.resource import Reading, Resource

# Devices that no [[device]] names, where such may come and nobody says otherwise (`most_guests`).
MOST_STRANGERS = 256


@slim(slots=True)
class Entry:
    """One device. ``boot`` None: it came with a text of the lab. ``heard_at``: monotonic seconds."""

    resource: Resource
    announced: wire.Connected | wire.LabHello
    boot: int | None
    heard_at: float
    here: bool = True
    seq: int = -1
    rdr_seq: int = -1
    rdr_answer: RdrAnswer | None = None
    lab: LabState | None = None
    # Where a CoAP device is reached; over MQTT unused.
    where: object = field(default=None)
    # It does not announce itself: it is called, heard or not.
    called: bool = False
    # What it said last of its lease: run out, or not; None: nothing yet. ``forgot``: it ran out while we heard it.
    safe: bool | None = None
    forgot: bool = False

    @property
    def number(self) -> int:
        return self.resource.number


@slim(slots=True)
class Counters:
    """What became of the messages that came."""

    messages: int = 0
    malformed: int = 0
    doubled: int = 0
    old: int = 0
    strangers: int = 0
    unannounced: int = 0
    commands: int = 0

    def as_dict(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


class Presence:
    """The devices of one adapter. All methods return at once."""

    def __init__(
        self,
        adapter: FieldAdapter,
        devices: Sequence[DeviceConfig],
        control: ControlConfig,
        inputs: SiteInputs,
        clock: Clock,
        strangers_welcome: bool,
        logger: logging.Logger,
        most_strangers: int = MOST_STRANGERS,
    ) -> None:
        self.counters = Counters()
        self.entries: dict[int, Entry] = {}
        self.once = Once(logger, clock.monotonic)
        self._adapter = adapter
        self._configs = {d.number: d for d in devices if d.link == adapter.name}
        self._control = control
        self._inputs = inputs
        self._clock = clock
        self._open = strangers_welcome
        self._most_strangers = most_strangers

    def configure(self, devices: Sequence[DeviceConfig], control: ControlConfig) -> bool:
        """Other ``[[device]]`` tables: who is here is described anew, who is named no more leaves, unless strangers
        may come. True: some device is named that was not."""
        before = set(self._configs)
        self._configs = {d.number: d for d in devices if d.link == self._adapter.name}
        self._control = control
        for number, entry in list(self.entries.items()):
            config = self._configs.get(number)
            if config is None and not self._open:
                self.drop(number, "taken out of the configuration")
                continue
            resource = describe(config, control, entry.announced)
            if resource != entry.resource:
                entry.resource = resource
                if entry.here:
                    self._inputs.appeared(self._adapter, resource)
        return bool(set(self._configs) - before)

    def drop(self, number: int, why: str) -> None:
        """It has to announce itself again, if it may."""
        entry = self.entries.pop(number, None)
        if entry is not None and entry.here:
            self._inputs.gone(number, why, lost=True)

    @property
    def link(self) -> str:
        """The adapter's name."""
        return self._adapter.name

    @property
    def lease_s(self) -> float:
        return self._control.lease_s

    def config(self, number: int) -> DeviceConfig | None:
        """The ``[[device]]`` of that number on this link."""
        return self._configs.get(number)

    def configs(self) -> list[DeviceConfig]:
        """Every ``[[device]]`` on this link."""
        return list(self._configs.values())

    def malformed(self, who: object, text: str) -> None:
        """A message that the wire does not allow: counted, said once, refused."""
        self.counters.malformed += 1
        self.once.say("malformed", who, f"{self._adapter.name}: {who}: {text}")

    def came(self, message: wire.Connected | wire.LabHello, number: int) -> Entry | None:
        """``connected``. None: refused (a stranger, or an old start of a device that is here)."""
        config = self._configs.get(number)
        entry = self.entries.get(number)
        if not self._welcome(number):
            return None
        now = self._clock.monotonic()
        boot = message.boot if isinstance(message, wire.Connected) else None
        if entry is not None and entry.here and boot is not None and entry.boot is not None and boot < entry.boot:
            self.counters.old += 1
            return None
        resource = describe(config, self._control, message)
        if config is not None and config.type != resource.kind.value:
            self.once.say(
                "type",
                number,
                f"{resource.name} says it is a {resource.kind.value}, configured is {config.type}: its own word counts",
            )
        if entry is not None and entry.boot == boot:
            entry.safe = entry.safe if entry.here else None
            entry.resource, entry.announced, entry.heard_at, entry.here = resource, message, now, True
        else:
            if entry is not None and entry.here:
                # What it was told before is forgotten in it: the site has to say it again.
                self._inputs.gone(number, "it restarted", lost=True)
            entry = Entry(resource, message, boot, now, lab=LabState() if boot is None else None)
            self.entries[number] = entry
        self._inputs.appeared(self._adapter, resource)
        if entry.lab is not None:
            self._inputs.reported(number, entry.lab.reading(now, resource.rated_w))
        self.once.over("lease", number, f"{resource.name} is back")
        return entry

    def _welcome(self, number: int) -> bool:
        if number in self._configs or number in self.entries:
            return True
        if self._open:
            if len(self.entries) >= len(self._configs) + self._most_strangers:
                self._drop_one_gone()
            if len(self.entries) < len(self._configs) + self._most_strangers:
                return True
        self.counters.strangers += 1
        self.once.say(
            "stranger",
            number,
            f"{self._adapter.name}: device {number} is refused: no [[device]] with link {self._adapter.name} names it",
        )
        return False

    def _drop_one_gone(self) -> None:
        for number, entry in self.entries.items():
            if not entry.here and number not in self._configs:
                del self.entries[number]
                return

    def _may_come(self, number: int) -> bool:
        """It speaks without having announced itself."""
        if not self._welcome(number):
            return False
        self.counters.unannounced += 1
        return True

    def state(self, number: int, status: wire.Status) -> bool:
        """``status``. False: it has to announce itself first (and may)."""
        self.counters.messages += 1
        entry = self.entries.get(number)
        if entry is None or (entry.boot is not None and status.boot > entry.boot):
            return not self._may_come(number)
        now = self._clock.monotonic()
        if entry.boot is not None:
            if status.boot < entry.boot:
                self.counters.old += 1
                return True
            if status.seq <= entry.seq:
                self.counters.doubled += 1
                return True
            entry.seq = status.seq
        entry.heard_at = now
        if not entry.here:
            self._back(entry)
        entry.forgot = bool(status.safe) and (entry.forgot or entry.safe is False)
        entry.safe = bool(status.safe)
        if entry.lab is not None:
            entry.lab.read(status)
        self._inputs.reported(number, reading_of(status, now))
        return True

    def _back(self, entry: Entry) -> None:
        """Heard again without a new start: only its link or its lease had been lost."""
        entry.here, entry.safe = True, None
        self._inputs.appeared(self._adapter, entry.resource)
        self.once.over("lease", entry.number, f"{entry.resource.name} is back")

    def heard(self, entry: Entry) -> None:
        """It gave a sign of life that carries no state."""
        entry.heard_at = self._clock.monotonic()
        if not entry.here:
            self._back(entry)

    def asked(self, number: int, rdr: wire.Rdr) -> RdrAnswer | None:
        """``rdr``. A doubled one gets its answer again. None: it has to announce itself first (and may)."""
        self.counters.messages += 1
        entry = self.entries.get(number)
        if entry is None or (entry.boot is not None and rdr.boot > entry.boot):
            return None if self._may_come(number) else RdrAnswer(RdrResult.DENIED, f"device {number} is not known here")
        if entry.boot is not None:
            if rdr.boot < entry.boot:
                self.counters.old += 1
                return RdrAnswer(RdrResult.DENIED, "asked before its last start")
            if rdr.seq <= entry.rdr_seq:
                self.counters.doubled += 1
                return entry.rdr_answer or RdrAnswer(RdrResult.DENIED, "asked twice")
            entry.rdr_seq = rdr.seq
        self.heard(entry)
        entry.rdr_answer = self._inputs.asked_back(number, rdr.mw / 1000, float(rdr.for_s))
        return entry.rdr_answer

    def answered(self, number: int, answer: RdrAnswer) -> None:
        """What became of a pending RDR: a doubled request gets this from now on."""
        entry = self.entries.get(number)
        if entry is not None:
            entry.rdr_answer = answer

    def went(self, message: wire.Gone) -> None:
        """``disconnected``, its own word or its last will."""
        entry = self.entries.get(message.dev)
        if entry is None or not entry.here:
            return
        if entry.boot is not None and message.boot < entry.boot:
            self.counters.old += 1
            return
        entry.here = False
        self._inputs.gone(message.dev, "its link broke" if message.lost else "it said good-bye", lost=message.lost)

    def told(self, entry: Entry, reading: Reading) -> None:
        """A device of the lab was told something; what it was told is its state."""
        self._inputs.reported(entry.number, reading)

    def overdue(self) -> list[Entry]:
        """Whose lease ran out without a sign; they are gone from now on. A device of the lab says nothing unasked."""
        limit = self._clock.monotonic() - self.lease_s
        late = [e for e in self.entries.values() if e.here and e.heard_at < limit]
        for entry in late:
            entry.here = False
            why = f"not heard for its lease of {self.lease_s:g} s"
            self.once.say("lease", entry.number, f"{entry.resource.name}: {why}")
            self._inputs.gone(entry.number, why, lost=True)
        return late

    def say_again(self) -> None:
        """Whose lease ran out though we hear it: what it was told is void in it, so control has to say it again."""
        for entry in self.here():
            if entry.forgot:
                entry.forgot = False
                self._inputs.gone(entry.number, "its lease ran out; it went to its safe state", lost=True)
                self._inputs.appeared(self._adapter, entry.resource)

    def here(self) -> list[Entry]:
        """Who is there now."""
        return [entry for entry in self.entries.values() if entry.here]

    def status(self) -> dict[str, object]:
        """Counters, and how many of how many are there."""
        return {"here": len(self.here()), "configured": len(self._configs), **self.counters.as_dict()}
