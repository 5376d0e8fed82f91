"""Questions on a terminal, a dumb one, a pipe, or none at all (``--defaults``)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from gateway.errors import SmartemaError

T = TypeVar("T")
# A pipe that answers one question wrong this often answers another one.
MOST_WRONG_ANSWERS = 5


class Asker:
    """Asks, checks, and asks again. ``defaults``: every question is answered by its default, unasked.

    The end of a piped input answers what is left by its defaults; Ctrl-D on a terminal ends the dialogue.
    """

    def __init__(self, defaults: bool = False) -> None:
        self._defaults = defaults

    def ask(self, question: str, default: str, parse: Callable[[str], T]) -> T:
        """``parse`` raises ``ValueError`` with what would be right; the default must please it."""
        hint = f" [{default}]" if default else ""
        for _ in range(MOST_WRONG_ANSWERS):
            text = self._line(f"{question}{hint} ") or default
            try:
                return parse(text)
            except ValueError as err:
                print(f"  {err}")
        raise SmartemaError(f"{question} got no answer that can be used; nothing is written")

    def secret(self, question: str) -> str:
        """Without echo on a terminal."""
        if self._defaults:
            return ""
        if not sys.stdin.isatty():
            return self._line(f"{question} ")
        import getpass

        return getpass.getpass(f"{question} ")

    def yes(self, question: str, default: bool = False) -> bool:
        """Yes or no."""
        return self.ask(f"{question} (y/n)", "y" if default else "n", _yes_or_no)

    def _line(self, prompt: str) -> str:
        if self._defaults:
            print(prompt.rstrip())
            return ""
        try:
            answer = input(prompt).strip()
        except EOFError:
            print()
            if sys.stdin.isatty():
                raise SmartemaError("left; nothing is written") from None
            self._defaults = True
            return ""
        if not sys.stdin.isatty():
            print(answer)
        return answer


def _yes_or_no(text: str) -> bool:
    if text.lower() in ("y", "yes", "n", "no"):
        return text.lower().startswith("y")
    raise ValueError(f"{text!r}: answer y or n")


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number between the two."""

    def parse(text: str) -> int:
        if text.lstrip("-").isdecimal() and least <= int(text) <= most:
            return int(text)
        raise ValueError(f"{text!r}: write a whole number from {least} to {most}")

    return parse


def watts(text: str) -> float:
    """Watts, 0 or more."""
    try:
        value = float(text.removesuffix("W").strip())
    except ValueError:
        value = -1.0
    if 0 <= value < 1e9:
        return value
    raise ValueError(f"{text!r}: write watts, such as 1000")


def choice(*names: str) -> Callable[[str], str]:
    """One of the names, or its number counted from 1."""

    def parse(text: str) -> str:
        if text.isdecimal() and 1 <= int(text) <= len(names):
            return names[int(text) - 1]
        if text.lower() in names:
            return text.lower()
        raise ValueError(f"{text!r}: choose 1 to {len(names)}")

    return parse
