"""The rows of the table, and what each figure must be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# name → (compare ratio with, "at most" or "at least"); figures without a line here are printed only
BOUNDS: dict[str, tuple[str, float]] = {
    "reaction_p50": ("most", 2.5),
    "reaction_p99": ("most", 2.5),
    "reaction_200_p99": ("most", 2.0),
    "event_p50": ("most", 2.5),
    "event_p99": ("most", 2.5),
    "rss_idle": ("most", 1.25),
    "start": ("most", 3.0),
    "cpu_200": ("most", 4.0),
    "coap_poll_p50": ("most", 2.0),
    "coap_poll_p99": ("most", 2.0),
    "observe_event_p50": ("most", 1.5),
    "coap_reaction_push_p99": ("most", 3.0),
    "coap_reaction_observe_p99": ("most", 3.0),
    "emas_poll_p99": ("most", 5.0),
    "poll_frame": ("most", 1.0),
    "poll_answer_frame": ("most", 1.0),
    "outbox": ("least", 0.3),
    "over_limit_wh": ("most", 1.0),
    "needless_wh": ("most", 1.0),
    "actions": ("most", 2.0),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: ``floor`` was measured in the same run, ``ratio`` is value ÷ floor."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    ratio: float | None = None
    on: str = ""
    note: str = ""

    @property
    def missed(self) -> bool:
        bound = BOUNDS.get(self.name)
        if bound is None or self.ratio is None:
            return False
        return self.ratio > bound[1] if bound[0] == "most" else self.ratio < bound[1]

    def plain(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "floor": self.floor,
            "ratio": self.ratio,
            "on": self.on,
        }


def show(rows: list[Row]) -> str:
    """The table as text."""

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"

    lines = [("figure", "value", "unit", "floor", "ratio", "must be", "")]
    for row in rows:
        bound = BOUNDS.get(row.name)
        must = "printed" if bound is None else f"{'≤' if bound[0] == 'most' else '≥'} {bound[1]:g}"
        verdict = "MISSED" if row.missed else row.note
        lines.append((row.name, number(row.value), row.unit, number(row.floor), number(row.ratio), must, verdict))
    widths = [max(len(line[i]) for line in lines) for i in range(7)]
    left = (0, 2, 5, 6)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
