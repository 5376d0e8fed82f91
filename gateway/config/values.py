"""A value as it stands in a TOML file."""

from __future__ import annotations


def toml(value: object) -> str:
    """``toml("a")`` is ``"a"`` with its quotes; numbers, booleans and lists as TOML writes them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + "".join(_char(char) for char in value) + '"'
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return "{ … }" if isinstance(value, dict) else str(value)


def one_line(text: str) -> str:
    """The text with what would break its line, or steer a terminal, written as an escape."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def _char(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if ord(char) < 32 or ord(char) == 127:
        return f"\\u{ord(char):04x}"
    return char
