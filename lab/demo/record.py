"""What a demo leaves behind: samples, events, decisions, RDRs and counts, as one JSON document."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, field
from typing import Any

from gateway.site.decision import Decision
from gateway.verbs import decision_json


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds since the demo began, W, W."""

    t: float
    power_w: float
    limit_w: float | None


@dataclass(slots=True)
class Recorder:
    """``began``: monotonic seconds of the scaled clock; every ``t`` counts from there. Power in W."""

    began: float
    began_wall: float
    samples: list[Sample] = field(default_factory=list)
    events: dict[int, dict[str, Any]] = field(default_factory=dict)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    rdr: list[dict[str, Any]] = field(default_factory=list)

    def sample(self, mono: float, power_w: float, limit_w: float | None) -> None:
        """The true power of the site and the limit in force."""
        self.samples.append(Sample(round(mono - self.began, 3), round(power_w, 3), limit_w))

    def event(self, event_id: int, start_wall: float, end_wall: float, value_w: float) -> None:
        """An event as the EMA holds it; a later call with the same id changes it."""
        self.events[event_id] = {
            "start": round(start_wall - self.began_wall, 3),
            "end": round(end_wall - self.began_wall, 3),
            "value_w": value_w,
        }

    def decision(self, decision: Decision) -> None:
        """One decision, in the shape of ``smartema why --json``, with ``t`` beside its wall time."""
        self.decisions.append({"t": round(decision.at - self.began_wall, 3), **decision_json(decision)})

    def over_limit_wh(self) -> float:
        """Energy above the limit, from one sample to the next."""
        total = 0.0
        for before, after in itertools.pairwise(self.samples):
            if before.limit_w is not None and before.power_w > before.limit_w:
                total += (before.power_w - before.limit_w) * (after.t - before.t) / 3600
        return round(total, 4)

    def document(self, reports: dict[str, int]) -> dict[str, Any]:
        """What ``smartema demo --json`` prints; ``reports`` has sent, acknowledged, lost, duplicates."""
        return {
            "samples": [asdict(sample) for sample in self.samples],
            "events": list(self.events.values()),
            "decisions": self.decisions,
            "rdr": self.rdr,
            "reports": reports,
            "over_limit_wh": self.over_limit_wh(),
        }
