"""The console of a running device: the lab's numbers, a line each, from whatever stdin is."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import TextIO

from device_agents.runner import Runner


def describe(runner: Runner) -> str:
    """One line: what the device is doing."""
    agent = runner.agent
    watts = agent.plant.mw() / 1000
    where = "EMA reached" if runner.reachable else "no EMA"
    safe = ", safe state" if agent.safe else ""
    rdr = f", RDR {agent.rdr.rdr}" + (f" ({agent.rdr.why})" if agent.rdr.why else "") if agent.rdr is not None else ""
    return f"{agent.kind} dev/{agent.dev}: {watts:.1f} W, command {agent.done}, {where}{safe}{rdr}"


class Console:
    """Reads ``stream`` until it ends; an ended stream leaves the device running."""

    def __init__(self, runner: Runner, stream: TextIO | None = None, show: Callable[[str], None] = print) -> None:
        self._runner = runner
        self._stream = stream or sys.stdin
        self._show = show

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread, because stdin may be a file, a pipe or a terminal, and epoll takes no files."""
        self._menu()
        threading.Thread(target=self._read, args=(loop,), daemon=True, name="console").start()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        for line in self._stream:
            try:
                loop.call_soon_threadsafe(self.line, line)
            except RuntimeError:
                return  # the loop has ended

    def line(self, text: str) -> None:
        """One line that was typed."""
        word = text.strip()
        if not word:
            self._show(describe(self._runner))
        elif not (word.isascii() and word.isdigit()):
            self._show(f"{word}: not a number of the menu")
        else:
            self._show(self._runner.key(int(word[:6])))
        if not self._runner.agent.quit:
            self._menu()

    def _menu(self) -> None:
        for line in self._runner.agent.menu():
            self._show(line)
