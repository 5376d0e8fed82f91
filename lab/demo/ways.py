"""All ways in which the demo's EMA can reach its EMS, as far as both ends support them."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass

from gateway.clock import Clock
from gateway.config.model import UpstreamConfig
from gateway.errors import OperatorError
from headend.ems.app import Ems

# By protocol: its DR modes with their names (wire reference, section 4); CoAP's fourth brings no events.
MODES = {
    "mqtt": {1: "EMS PUSH", 2: "EMS POLL", 3: "EMA POLL", 4: "EMA PUSH"},
    "coap": {0: "EMS PUSH", 1: "PULL", 2: "OBSERVE"},
}
# A protocol that has no choice of modes.
ONE_MODE = {1: ""}
USUAL_PROFILE = "mir2017"


@dataclass(frozen=True, slots=True)
class Way:
    """One ``[[upstream]]`` of the tour."""

    protocol: str
    profile: str
    mode: int

    @property
    def label(self) -> str:
        """As the table calls it."""
        named = MODES.get(self.protocol, ONE_MODE)[self.mode]
        number = f" {self.mode}" if named else ""
        return f"{self.protocol}{number} {named if self.profile == USUAL_PROFILE else self.profile}".rstrip()

    @property
    def head(self) -> str:
        """How the EMS calls its part that serves it."""
        return self.protocol if self.profile == USUAL_PROFILE else f"{self.protocol} {self.profile}"

    def config(self, host: str, port: int) -> UpstreamConfig:
        """The EMA's table."""
        return UpstreamConfig(
            name="ems",
            protocol=self.protocol,
            profile=self.profile,
            host=host,
            port=port,
            mode=self.mode,
            timezone="UTC",
        )

    def meant_by(self, words: str) -> bool:
        """Do all these words stand in its protocol, profile, mode or the mode's name."""
        name = MODES.get(self.protocol, ONE_MODE)[self.mode]
        own = f"{self.protocol} {self.profile} {self.mode} {name}".lower().split()
        return all(word in own for word in words.lower().split())


def ways_of(ems: Ems, clock: Clock) -> list[Way]:
    """Those that the EMA has a carrier for and the EMS a part that serves it."""
    served = {head.name for head in ems.heads}
    choices = {field.name: field.metadata.get("choices", ()) for field in dataclasses.fields(UpstreamConfig)}
    return [
        way
        for profile in choices["profile"]
        for protocol in choices["protocol"]
        for way in (Way(protocol, profile, mode) for mode in MODES.get(protocol, ONE_MODE))
        if way.head in served and _spoken(way, clock)
    ]


def _spoken(way: Way, clock: Clock) -> bool:
    import logging

    from gateway.config.model import EmaConfig
    from gateway.upstream.carriers import Ways, carrier_of

    try:
        carrier_of(way.config("127.0.0.1", 1), EmaConfig(), Ways(clock, random.Random(1), logging.getLogger(__name__)))
    except OperatorError:
        return False
    return True


def chosen(ways: list[Way], only: str) -> list[Way]:
    """Those that ``only`` means: words such as ``mqtt 1, coap``. Raise ``OperatorError`` for what means none."""
    found: list[Way] = []
    for words in (part.strip() for part in only.split(",")):
        meant = [way for way in ways if words and way.meant_by(words)]
        if not meant:
            raise OperatorError(f"--only: {words!r} is none of {', '.join(way.label for way in ways)}")
        found += [way for way in meant if way not in found]
    return found
