"""How numbers, times and tables stand in a terminal. None is not known and shows as a dash, never as 0."""

from __future__ import annotations

import time
from collections.abc import Sequence

UNKNOWN = "–"


def watts(value: float | None) -> str:
    """W below 10 kW, kW with one decimal from there."""
    if value is None:
        return UNKNOWN
    if abs(value) >= 10_000:
        return f"{value / 1000:.1f} kW"
    return f"{value + 0.0:.0f} W"


def number(value: float | None, unit: str = "", digits: int = 0) -> str:
    """A number with its unit."""
    if value is None:
        return UNKNOWN
    return f"{value:.{digits}f}{' ' + unit if unit else ''}"


def span(seconds: float | None) -> str:
    """A duration as one says it."""
    if seconds is None:
        return UNKNOWN
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    if seconds < 86_400:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"
    return f"{seconds // 86_400:.0f} d {seconds % 86_400 // 3600:02.0f} h"


def moment(wall: float | None, with_seconds: bool = True) -> str:
    """A wall time in this machine's zone, with the date when it is not today."""
    if wall is None:
        return UNKNOWN
    local = time.localtime(wall)
    form = "%H:%M:%S" if with_seconds else "%H:%M"
    if local[:3] != time.localtime()[:3]:
        form = "%Y-%m-%d " + form
    return time.strftime(form, local)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> list[str]:
    """Lines of a table; the columns named in ``right`` are right-aligned."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(head, row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
