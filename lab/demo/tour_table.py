"""The tour's table: a line as soon as a way is through, what it took, and what became of it in the end."""

from __future__ import annotations

from typing import Any

from lab.demo.tour import Row
from lab.impair import Tally

# Fits a terminal of 80 columns.
WIDTHS = (16, 10, 8, 11, 7, 8, 6, 7)
HEADS = ("mode", "registered", "event", "shed", "RDR", "restored", "bytes", "latency")


def head() -> str:
    """The line above all rows."""
    return _line(HEADS)


def line(row: Row) -> str:
    """One way; what did not come to pass is "–"."""
    shed = None if row.shed_w is None else f"{row.before_w:.0f}→{row.shed_w:.0f} W"
    return _line(
        (
            row.way.label,
            _seconds(row.registered_s),
            _milliseconds(row.event_ms),
            shed,
            row.rdr["result"] if row.rdr else None,
            _seconds(row.restored_s),
            _bytes(row.up.bytes + row.down.bytes),
            _milliseconds(row.latency_ms),
        )
    )


def legend(speed: float, poll_s: float) -> list[str]:
    """What the columns are."""
    return [
        "event: made at the EMS → answered there · shed: power before → under the limit · RDR: asked of the EMS",
        "latency: event made at the EMS → first command at a device · bytes: both ways on the link to the EMS",
        f"Times are real ones. An EMA that polls does so every {poll_s:g} s of the site's clock, here "
        f"{poll_s / speed * 1000:.0f} ms.",
    ]


def links(total: Tally, impairment: str) -> str:
    """What the proxies did, in one line."""
    return (
        f"links impaired by {impairment}: {total.taken} passed, {total.dropped} dropped, {total.delayed} delayed, "
        f"{total.doubled} doubled, {total.reordered} overtaken, {total.resent} sent again by TCP, "
        f"{total.resets} connections broken"
    )


def reports(counts: dict[str, Any]) -> str:
    """What became of the reports of all ways together."""
    return (
        f"reports of all modes: {counts['stored']} at the EMS, {counts['waiting']} on their way, {counts['lost']} lost"
        f", {counts['duplicates']} came twice and were known"
    )


def _line(cells: tuple[str | None, ...]) -> str:
    first, *others = zip((cell or "–" for cell in cells), WIDTHS, strict=True)
    return " ".join([f"{first[0]:<{first[1]}}", *(f"{text:>{width}}" for text, width in others)]).rstrip()


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f} s" if value < 100 else f"{value:.0f} s"


def _milliseconds(value: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms" if value < 9999.5 else f"{value / 1000:.0f} s"


def _bytes(value: int) -> str:
    return str(value) if value < 10_000 else f"{value / 1000:.0f}k"
