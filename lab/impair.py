"""What a bad network does to what passes: drops, delays, doubles, reorders, resets. Drawn by a seeded source of chance.

``impair_udp.py`` and ``impair_tcp.py`` are the proxies that do it; without an impairment they only count.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

# Beyond these nothing gets through, or nobody waits for it any more.
MOST_SHARE = 0.3
MOST_DELAY_S = 5.0
HINT = "write a share and a delay, such as 5%,100ms"
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)%")
_DELAY = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")


@dataclass(frozen=True, slots=True)
class Impairment:
    """``share``: so much (0..1) of what passes is dropped, as much is doubled, and as much held back so that others
    overtake it. ``delay_s``: each is late by a time between 0 and this."""

    share: float = 0.0
    delay_s: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Impairment:
        """``5%,100ms``; either part may be left out. Raise ``ValueError`` that says what is wrong."""
        share: float | None = None
        delay_s: float | None = None
        for part in (part.strip() for part in text.split(",")):
            if (percent := _PERCENT.fullmatch(part)) and share is None:
                share = float(percent[1]) / 100
            elif (delay := _DELAY.fullmatch(part)) and delay_s is None:
                delay_s = float(delay[1]) / (1000 if delay[2] == "ms" else 1)
            else:
                raise ValueError(f"{part!r} in {text!r} is neither a share nor a delay, or comes twice; {HINT}")
        if (share or 0.0) > MOST_SHARE:
            raise ValueError(f"{text!r}: beyond {MOST_SHARE:.0%} dropped, doubled and held back nothing gets through")
        if (delay_s or 0.0) > MOST_DELAY_S:
            raise ValueError(f"{text!r}: nobody waits longer than {MOST_DELAY_S:g} s")
        return cls(share or 0.0, delay_s or 0.0)

    def __bool__(self) -> bool:
        return self.share > 0 or self.delay_s > 0

    def __str__(self) -> str:
        return f"{self.share * 100:g}%,{self.delay_s * 1000:g}ms"


@dataclass(slots=True)
class Tally:
    """What happened on one way of a link. ``taken``: datagrams, or pieces of a stream; ``bytes``: of their payload.

    A stream loses nothing: of it ``resent`` pieces came late, as after TCP's own repetition, and ``resets`` count
    connections that broke.
    """

    taken: int = 0
    bytes: int = 0
    dropped: int = 0
    delayed: int = 0
    doubled: int = 0
    reordered: int = 0
    resent: int = 0
    resets: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(self)))

    def __sub__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, f.name) - getattr(other, f.name) for f in dataclasses.fields(self)))
