"""One TOML file into the frozen dataclasses of ``gateway.config.model``; every mistake is told at once.

A mistake reads ``gateway.toml:14 device[2].pin: what is wrong; what would be right``.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass
from os import path as ospath
from pathlib import Path as FilePath
from typing import Any

from gateway.config import checks, model
from gateway.config.lines import Lines, Path
from gateway.config.notes import Notes
from gateway.config.values import toml
from gateway.errors import OperatorError


class ConfigurationErrors(OperatorError):
    """All mistakes of one file, in the order of its lines; its text has one line for each."""

    def __init__(self, mistakes: list[str], warnings: list[str] | None = None) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes
        self.warnings = warnings or []


@dataclass(frozen=True, slots=True)
class Examined:
    """What a text holds: ``config`` is None when there are mistakes."""

    config: model.Config | None
    mistakes: list[str]
    warnings: list[str]


def load(path: str | FilePath) -> model.Config:
    """Read the file. Raise ``ConfigurationErrors``, or ``OperatorError`` when it cannot be read."""
    return _accepted(examine(read_text(path), str(path)))


def read(text: str, filename: str = "gateway.toml") -> model.Config:
    """The same for a text; relative paths in it count from the folder of ``filename``."""
    return _accepted(examine(text, filename))


def _accepted(examined: Examined) -> model.Config:
    if examined.config is None:
        raise ConfigurationErrors(examined.mistakes, examined.warnings)
    return examined.config


def read_text(path: str | FilePath) -> str:
    """The file's text, or one line that says why there is none."""
    try:
        return FilePath(path).read_bytes().decode()
    except FileNotFoundError:
        raise OperatorError(f"{path}: no such file; `smartema setup --output {path}` writes one") from None
    except IsADirectoryError:
        raise OperatorError(f"{path}: is a folder; name the configuration file in it") from None
    except OSError as err:
        raise OperatorError(f"{path}: {err.strerror}") from None
    except UnicodeDecodeError as err:
        line = err.object[: err.start].count(b"\n") + 1
        raise OperatorError(f"{path}:{line}: is not UTF-8 text; save it as UTF-8") from None


def socket_of(path: str | FilePath) -> str:
    """The control socket that a file names, read without the checks: who asks a daemon need not see its secrets."""
    try:
        ema = tomllib.loads(read_text(path)).get("ema", {})
        default = model.EmaConfig()
        config = dataclasses.replace(
            default,
            state_dir=str(ema.get("state_dir", default.state_dir)),
            socket=str(ema.get("socket", default.socket)),
        )
    except (tomllib.TOMLDecodeError, AttributeError) as err:
        raise OperatorError(f"{path}: {err}; `smartema check -c {path}` tells more") from None
    return ospath.join(ospath.dirname(str(path)), config.socket_path)


def examine(text: str, filename: str = "gateway.toml") -> Examined:
    """Everything that is wrong or doubtful in a text, and the configuration when nothing is wrong."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        return Examined(None, [_syntax(str(err), filename, text)], [])
    notes = Notes(filename, Lines(text))
    base = ospath.dirname(filename)
    config = _Reader(notes, base).config(data)
    checks.cross_check(config, notes)
    mistakes = notes.mistakes()
    return Examined(None if mistakes else config, mistakes, notes.warnings())


def _syntax(reason: str, filename: str, text: str) -> str:
    what, _, place = reason.rpartition(" (at ")
    if place.startswith("line "):
        line = place[5:].partition(",")[0]
    else:
        what, line = what or reason, str(text.count("\n") + 1)
    what = what[:1].lower() + what[1:]
    return f"{filename}:{line}: not TOML: {what}; write key = value, texts in quotes"


class _Reader:
    """Raw TOML data into dataclasses; what is wrong goes into the notes, and its default takes its place."""

    def __init__(self, notes: Notes, base: str) -> None:
        self._notes = notes
        self._base = base

    def config(self, data: dict[str, Any]) -> model.Config:
        tables = {field.name: field for field in dataclasses.fields(model.Config)}
        for name in data:
            if name not in tables:
                self._unknown_table(name, data[name], list(tables))
        values: dict[str, Any] = {}
        for name, field in tables.items():
            if name not in data:
                continue
            kind = str(field.type)
            if kind.startswith("tuple["):
                cls = getattr(model, kind[6:].partition(",")[0])
                values[name] = tuple(
                    self._table(cls, table, (name, index))
                    for index, table in enumerate(self._as_array(name, data[name]))
                )
            elif self._is_table(name, data[name]):
                values[name] = self._table(getattr(model, kind), data[name], (name,))
        return model.Config(**values)

    def _unknown_table(self, name: str, value: object, tables: list[str]) -> None:
        if not isinstance(value, dict | list):
            homes = [f"[{table}]" for table in tables if name in _keys(table)]
            text = f"stands outside a table; it belongs below {' or '.join(homes)}" if homes else "unknown key"
            self._notes.wrong((name,), text + ("" if homes else "; every key stands below a [table]"))
            return
        self._notes.wrong((name,), f"unknown table; {_nearest(name, tables, 'there are')}")

    def _as_array(self, name: str, value: object) -> list[dict[str, Any]]:
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            return value
        if isinstance(value, dict):
            self._notes.wrong((name,), f"is one table; write [[{name}]], once for each")
            return [value]
        self._notes.wrong((name,), f"is not a table; write [[{name}]] and its keys below")
        return []

    def _is_table(self, name: str, value: object) -> bool:
        if isinstance(value, dict):
            return True
        wrong = f"is given more than once; write [{name}] once" if isinstance(value, list) else "is not a table"
        self._notes.wrong((name,), wrong if isinstance(value, list) else f"{wrong}; write [{name}] and its keys below")
        return False

    def _table(self, cls: type[Any], data: dict[str, Any], path: Path) -> Any:
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name, value in data.items():
            if name in fields:
                continue
            if isinstance(value, dict):
                self._notes.wrong((*path, name), "is a deeper table; keys stand directly below the table")
            else:
                self._notes.wrong((*path, name), f"unknown key; {_nearest(name, list(fields), 'there are')}")
        values: dict[str, Any] = {}
        for name, field in fields.items():
            if name in data:
                values[name] = self._value(field, data[name], (*path, name))
            elif field.default is dataclasses.MISSING:
                self._notes.wrong((*path, name), f"is missing; {field.metadata['doc']}")
                values[name] = _placeholder(str(field.type))
        return cls(**values)

    def _value(self, field: dataclasses.Field[Any], value: object, path: Path) -> Any:
        kind = str(field.type)
        try:
            if kind.startswith("tuple["):
                return self._several(field, kind[6:].partition(",")[0], value)
            return self._one(field, kind, value)
        except _WrongError as err:
            self._notes.wrong(path, str(err))
            return _placeholder(kind) if field.default is dataclasses.MISSING else field.default

    def _several(self, field: dataclasses.Field[Any], kind: str, value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _WrongError(f"{toml(value)} is not a list; write [{toml(value)}]")
        return tuple(self._one(field, kind, item) for item in value)

    def _one(self, field: dataclasses.Field[Any], kind: str, value: object) -> Any:
        meta = field.metadata
        if kind == "str" and meta.get("pin") and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value).__name__ != kind:
            raise _WrongError(f"{toml(value)} is {_NAMES.get(type(value).__name__, 'a table')}; {_RIGHT[kind]}")
        if isinstance(value, float) and not math.isfinite(value):
            raise _WrongError(f"{toml(value)} is no number to work with; write a finite one")
        _within(value, meta)
        if meta.get("path") and value and not ospath.isabs(str(value)):
            return ospath.join(self._base, str(value))
        return value


class _WrongError(Exception):
    """What is wrong with one value, and what would be right."""


_NAMES = {"int": "a number", "float": "a number", "str": "a text", "bool": "true or false", "list": "a list"}
_NAMES |= {"datetime": "a date", "date": "a date", "time": "a time"}
_RIGHT = {
    "int": "write a whole number",
    "float": "write a number",
    "str": "write a text in quotes",
    "bool": "write true or false",
}


def _within(value: Any, meta: Any) -> None:
    choices = meta.get("choices")
    if choices and value not in choices:
        raise _WrongError(f"{toml(value)} is not known; choose {_or([toml(choice) for choice in choices])}")
    least, most = meta.get("least"), meta.get("most")
    if isinstance(value, bool) or not isinstance(value, int | float) or value == meta.get("unset"):
        return
    unit = f" {meta['unit']}" if meta["unit"] else ""
    if least is not None and value < least:
        raise _WrongError(f"{toml(value)} is too small; {_range(meta, unit)}")
    if most is not None and value > most:
        raise _WrongError(f"{toml(value)} is too great; {_range(meta, unit)}")


def _range(meta: Any, unit: str) -> str:
    least, most = meta.get("least"), meta.get("most")
    text = f"at least {least:g}{unit}" if most is None else f"{least:g} to {most:g}{unit}"
    unset = meta.get("unset")
    return (text if unset is None else f"{text}, or {unset:g}") + " is right"


def _or(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _nearest(word: str, known: list[str], intro: str) -> str:
    import difflib

    near = difflib.get_close_matches(word.lower().replace("-", "_"), known, 1, 0.6)
    return f"did you mean {near[0]}?" if near else f"{intro} {', '.join(known)}"


def _keys(table: str) -> list[str]:
    kind = next(str(field.type) for field in dataclasses.fields(model.Config) if field.name == table)
    name = kind[6:].partition(",")[0] if kind.startswith("tuple[") else kind
    return [field.name for field in dataclasses.fields(getattr(model, name))]


def _placeholder(kind: str) -> Any:
    return {"int": 0, "float": 0.0, "bool": False, "str": ""}.get(kind, ())


__all__ = ["ConfigurationErrors", "Examined", "examine", "load", "read", "read_text", "socket_of"]
