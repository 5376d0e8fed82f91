"""The live picture of the demo's site on a terminal: a table, the limit beside the power, one line a decision."""

from __future__ import annotations

import io
import shutil
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TextIO

BAR = 40
# Columns that power, limit and its event need beside the bar; rows below which blank lines are left out.
BESIDE_BAR, LOW = 56, 28
# What is under a decision's time when it goes on in the next line.
HANGING = " " * 9
HOME, CLEAR_BELOW, CLEAR_LINE = "\x1b[H", "\x1b[J", "\x1b[K"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
OTHER_SCREEN, OWN_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
BOLD, DIM, RED, AMBER, GREEN, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[0m"


class Silence(io.TextIOBase):
    """Where a demo speaks that prints JSON only."""

    def write(self, text: str) -> int:
        return len(text)


@dataclass(frozen=True, slots=True)
class Line:
    """One device on the screen."""

    name: str
    link: str
    priority: int
    state: str
    power_w: float | None
    held: str
    present: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """Everything that the screen shows at one moment."""

    title: str
    clock: str
    power_w: float
    limit_w: float | None
    limit_words: str
    margin_w: float | None
    event: str
    links: str
    devices: Sequence[Line]
    footer: str


def watts(value: float | None) -> str:
    """Unknown is "–", never 0; W below 10 kW, else kW."""
    if value is None:
        return "–"
    return f"{value:.0f} W" if abs(value) < 10_000 else f"{value / 1000:.1f} kW"


def bar(power_w: float, limit_w: float | None, full_w: float, width: int = BAR) -> str:
    """Power as a bar, the limit as a mark in it."""
    full = max(full_w, 1.0)
    filled = min(round(max(power_w, 0.0) / full * width), width)
    cells = ["█"] * filled + ["·"] * (width - filled)
    if limit_w is not None:
        cells[min(round(limit_w / full * width), width - 1)] = "┃"
    return "".join(cells)


class Screen:
    """Draws on a terminal, or prints decisions and a line a while where there is none."""

    def __init__(self, out: TextIO | Silence, tty: bool) -> None:
        self._out = out
        self.tty = tty
        self._decisions: deque[str] = deque(maxlen=100)
        self._full_w = 1.0

    def open(self) -> None:
        if self.tty:
            self._out.write(OTHER_SCREEN + HIDE_CURSOR)

    def close(self) -> None:
        if self.tty:
            self._out.write(SHOW_CURSOR + OWN_SCREEN)
            self._out.flush()

    def decided(self, clock: str, line: str) -> None:
        """One decision."""
        self._decisions.append(f"{clock} {line}")
        if not self.tty:
            self.say(f"{clock} {line}")

    def say(self, line: str) -> None:
        """One line of a log."""
        self._out.write(line + "\n")
        self._out.flush()

    def draw(self, frame: Frame) -> None:
        """The whole picture; on a log one line of it."""
        self._full_w = max(self._full_w, frame.power_w * 1.1, (frame.limit_w or 0) * 1.1)
        if not self.tty:
            limit = "no limit" if frame.limit_w is None else f"limit {frame.limit_words}"
            self.say(f"{frame.clock} power {watts(frame.power_w)}, {limit}, {frame.event}")
            return
        columns, rows = shutil.get_terminal_size()
        lines = self.lines(frame, rows, columns)
        body = "".join(fit(line, columns) + CLEAR_LINE + "\r\n" for line in lines[: rows - 1])
        self._out.write(HOME + body + CLEAR_BELOW)
        self._out.flush()

    def lines(self, frame: Frame, rows: int, columns: int = 132) -> list[str]:
        """The picture for a terminal of that size. On a low one blank lines give way to decisions."""
        gap = [""] if rows >= LOW else []
        lines = [
            f"{BOLD}{frame.title}{PLAIN}   {frame.clock}   {DIM}{frame.links}{PLAIN}",
            *gap,
            self._gauge(frame, columns),
            f"  margin {watts(frame.margin_w)}   {AMBER}{frame.event}{PLAIN}",
            *gap,
            f"  {DIM}{'device':<10} {'link':<5} {'prio':>4}  {'state':<22} {'power':>9}  held by control{PLAIN}",
        ]
        for device in frame.devices:
            held = f"{AMBER}{device.held}{PLAIN}" if device.held else ""
            state = device.state if device.present else f"{DIM}{'away':<22}{PLAIN}"
            power = watts(device.power_w)
            lines.append(f"  {device.name:<10} {device.link:<5} {device.priority:>4}  {state:<22} {power:>9}  {held}")
        lines += [*gap, f"  {DIM}decisions{PLAIN}"]
        room = max(rows - len(lines) - len(gap) - 2, 3)
        lines += self._newest(room, columns)
        lines += [*gap, f"  {DIM}{frame.footer}{PLAIN}"]
        return lines

    def _gauge(self, frame: Frame, columns: int) -> str:
        over = frame.limit_w is not None and frame.power_w > frame.limit_w + 0.5
        colour = RED if over else GREEN
        width = min(max(columns - BESIDE_BAR, 10), BAR)
        drawn = f"  {colour}{bar(frame.power_w, frame.limit_w, self._full_w, width)}{PLAIN}"
        power = f"{BOLD}{watts(frame.power_w):>8}{PLAIN}"
        if frame.limit_w is None:
            return f"{drawn}  {power}  {colour}no limit{PLAIN}"
        return f"{drawn}  {power} {colour}{'OVER' if over else 'under'} its limit{PLAIN}, {frame.limit_words}"

    def _newest(self, room: int, columns: int) -> list[str]:
        """As many of the last decisions as find room, whole: long ones go on in the next line."""
        shown: list[str] = []
        for text in reversed(self._decisions):
            wrapped = wrap(text, max(columns - 3, 20), subsequent_indent=HANGING, break_on_hyphens=False)
            if len(shown) + len(wrapped) > room:
                break
            shown[:0] = [f"  {line}" for line in wrapped]
        return shown or [f"  {text}" for text in list(self._decisions)[-1:]]


def fit(line: str, columns: int) -> str:
    """Cut a line to the width of the terminal; escape sequences take no room."""
    seen, out, i = 0, [], 0
    while i < len(line):
        if line[i] == "\x1b":
            end = line.index("m", i) + 1
            out.append(line[i:end])
            i = end
            continue
        if seen < columns - 1:
            out.append(line[i])
        elif seen == columns - 1:
            out.append("…")
        seen += 1
        i += 1
    return "".join(out)
