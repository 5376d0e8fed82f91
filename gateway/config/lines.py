"""On which line a key of a TOML text stands; ``tomllib`` does not say.

Only for text that ``tomllib`` has accepted. Keys inside inline tables count for the line of the key that holds them.
"""

from __future__ import annotations

import re

Path = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")


class Lines:
    """Where each key and table header stands: ``of("device", 1, "pin")`` is a line counted from 1."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._found: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}
        self._scan()

    def of(self, path: Path) -> int | None:
        """The line of that key, else of the nearest table that holds it, else None."""
        while path:
            if path in self._found:
                return self._found[path]
            path = path[:-1]
        return None

    def _scan(self) -> None:
        table: Path = ()
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                return
            line = self._text.count("\n", 0, self._at) + 1
            if self._text[self._at] == "[":
                array = self._text.startswith("[[", self._at)
                self._at += 2 if array else 1
                names = self._key()
                self._at = self._text.find("]", self._at) + (2 if array else 1)
                table = (*self._resolve(names[:-1], ()), names[-1])
                if array:
                    index = self._counts.get(table, 0)
                    self._counts[table] = index + 1
                    self._found.setdefault(table, line)
                    table = (*table, index)
                else:
                    table = self._resolve((names[-1],), table[:-1])
                self._found.setdefault(table, line)
            else:
                names = self._key()
                path = (*self._resolve(names[:-1], table), names[-1])
                for depth in range(len(table) + 1, len(path) + 1):
                    self._found.setdefault(path[:depth], line)
                self._at = self._text.index("=", self._at) + 1
                self._skip_value()

    def _resolve(self, names: tuple[str, ...], base: Path) -> Path:
        """A header's or dotted key's names as a path: the last element of an array of tables is meant."""
        path = base
        for name in names:
            path = (*path, name)
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        return path

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()

    def _key(self) -> tuple[str, ...]:
        """A dotted key from here on; afterwards the position is behind it."""
        names: list[str] = []
        while True:
            self._skip(_SPACE)
            quote = self._text[self._at]
            if quote in "\"'":
                start = self._at + 1
                self._skip_string()
                name = self._text[start : self._at - 1]
                names.append(re.sub(r"\\(.)", r"\1", name) if quote == '"' else name)
            else:
                match = _BARE.match(self._text, self._at)
                assert match is not None, "tomllib accepted this key"
                names.append(match.group())
                self._at = match.end()
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return tuple(names)
            self._at += 1

    def _skip_value(self) -> None:
        """To the end of the line on which the value ends."""
        depth = 0
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in "\"'":
                self._skip_string()
                continue
            if char == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
                continue
            if char == "\n" and depth == 0:
                return
            depth += (char in "[{") - (char in "]}")
            self._at += 1

    def _skip_string(self) -> None:
        quote = self._text[self._at]
        long = self._text.startswith(quote * 3, self._at)
        mark = quote * 3 if long else quote
        self._at += len(mark)
        while not self._text.startswith(mark, self._at):
            self._at += 2 if quote == '"' and self._text[self._at] == "\\" else 1
        self._at += len(mark)
        # Up to two quotes may stand before the closing three.
        while long and self._text.startswith(quote, self._at):
            self._at += 1


def show(path: Path) -> str:
    """``device[2].pin``, counted from 0 as UCI counts."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
