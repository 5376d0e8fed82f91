"""Writes a configuration that explains itself: every key with its meaning, defaults as comments."""

from __future__ import annotations

import dataclasses
from typing import Any

from gateway.config import model
from gateway.config.values import toml

HEAD = """\
# smartema: configuration of one EMA. `smartema check -c FILE` tells every mistake in it.
# A line that starts with # shows a default; take the # away to change it. docs/configuration.md has all keys.
"""


def render(config: model.Config) -> str:
    """The text whose reading gives ``config`` again."""
    parts = [HEAD]
    for field in dataclasses.fields(model.Config):
        value = getattr(config, field.name)
        if isinstance(value, tuple):
            for number, table in enumerate(value):
                parts.append(_array_table(field.name, table, explain=number == 0))
            if not value:
                parts.append(_absent(field.name))
        else:
            parts.append(_table(field.name, value))
    return "\n".join(parts)


def _table(name: str, table: Any) -> str:
    lines = [f"# {_first_line(type(table))}", f"[{name}]"]
    for field in dataclasses.fields(table):
        value = getattr(table, field.name)
        mark = "# " if value == field.default else ""
        lines.append(f"{mark}{field.name} = {toml(value)}".ljust(34) + f"  # {explained(field)}")
    return "\n".join(lines) + "\n"


def _array_table(name: str, table: Any, explain: bool) -> str:
    """Only what is set: a device has keys for three links, of which it needs one's."""
    lines = [f"# {_first_line(type(table))}"] if explain else []
    lines.append(f"[[{name}]]")
    for field in dataclasses.fields(table):
        value = getattr(table, field.name)
        if value != field.default or (field.name in ("name", "type", "link", "protocol", "mode") and value != ""):
            line = f"{field.name} = {toml(value)}"
            lines.append(line.ljust(34) + f"  # {explained(field)}" if explain else line)
    return "\n".join(lines) + "\n"


def _absent(name: str) -> str:
    classes = {"upstream": model.UpstreamConfig, "device": model.DeviceConfig, "ema_below": model.EmaBelowConfig}
    cls = classes[name]
    example = {"upstream": 'host = "192.168.1.50"', "device": "number = 1", "ema_below": "number = 2"}[name]
    return f"# {_first_line(cls)}\n# [[{name}]]\n# {example}\n"


def explained(field: dataclasses.Field[Any]) -> str:
    """The key's meaning with its unit."""
    unit = field.metadata["unit"]
    return (f"{unit}; " if unit else "") + str(field.metadata["doc"])


def _first_line(cls: type[Any]) -> str:
    """``[ema]: who this EMA is`` out of the class's docstring."""
    return (cls.__doc__ or "").strip().splitlines()[0].replace("``", "")
