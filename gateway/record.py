"""Frozen classes with slots for many small messages.

``dataclass(frozen=True, slots=True)`` writes seven functions anew for each class and keeps a description of each field,
about 14 kB a class; on a router with a hundred of them that counts (docs/footprint.md). Here a class gets its own
``__init__`` and shares the rest.

``record`` cannot do: ``dataclasses.fields`` and what rests on it, ``field(...)``, keyword-only. ``slim`` can, for it
is a dataclass; it keeps the description of its fields, which is half of the memory.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

__all__ = ["changed", "record", "slim"]

T = TypeVar("T")

_set = object.__setattr__


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """The class with its annotated names as frozen slots; values given in the class are defaults."""
    own = cls.__dict__
    hints = own.get("__annotations__", {})
    names = tuple(name for name, hint in hints.items() if not str(hint).startswith(("ClassVar", "typing.ClassVar")))
    every = (*getattr(cls, "__match_args__", ()), *(n for n in names if n not in getattr(cls, "__match_args__", ())))
    defaults = {**getattr(cls, "_defaults", {}), **{name: own[name] for name in names if name in own}}
    body = {key: value for key, value in own.items() if key not in names and key not in ("__dict__", "__weakref__")}
    body |= {
        "__slots__": names,
        "__match_args__": every,
        "_defaults": defaults,
        "__init__": _init(cls, every, defaults),
        "__repr__": _repr,
        "__eq__": _eq,
        "__hash__": _hash,
        "__setattr__": _frozen,
        "__delattr__": _frozen,
        "__getstate__": _values,
        "__setstate__": _restore,
    }
    meta: Any = type(cls)
    made: type[T] = meta(cls.__name__, cls.__bases__, body)
    made.__qualname__ = cls.__qualname__
    return made


if TYPE_CHECKING:
    from dataclasses import dataclass as slim
else:

    def slim(**options: Any) -> Any:
        """``dataclass(slots=True, ...)``, frozen or not, that shares what is the same for every class."""
        frozen = options.get("frozen", False)

        def made_of(cls: type) -> type:
            made = dataclass(**options, repr=False, eq=False)(cls)
            if not all(f.repr and f.compare and f.hash is None for f in fields(made)):
                raise TypeError(f"{cls.__qualname__}: every field is compared and shown")
            made.__match_args__ = tuple(f.name for f in fields(made))
            made.__repr__, made.__eq__, made.__hash__ = _repr, _eq, _hash if frozen else None
            if frozen:
                made.__setattr__ = made.__delattr__ = _frozen
            return made

        return made_of


def changed(value: T, **changes: Any) -> T:
    """A copy with some values changed; what ``dataclasses.replace`` is to a dataclass."""
    names = type(value).__match_args__  # type: ignore[attr-defined]
    return type(value)(**{**{name: getattr(value, name) for name in names}, **changes})


def _init(cls: type, names: tuple[str, ...], defaults: dict[str, Any]) -> Any:
    given = ", ".join(f"{name}=_defaults[{name!r}]" if name in defaults else name for name in names)
    lines = [f" _set(self, {name!r}, {name})" for name in names]
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    scope: dict[str, Any] = {"_set": _set, "_defaults": defaults}
    source = f"def __init__(self, {given}):\n" + ("\n".join(lines) or " pass")
    exec(source, scope)  # noqa: S102  names of a class's own fields, as dataclasses does
    return scope["__init__"]


def _values(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, name) for name in self.__match_args__])


def _restore(self: Any, values: tuple[Any, ...]) -> None:
    for name, value in zip(self.__match_args__, values, strict=True):
        _set(self, name, value)


def _repr(self: Any) -> str:
    return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__match_args__)})"


def _eq(self: Any, other: object) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    return _values(self) == _values(other)


def _hash(self: Any) -> int:
    return hash(_values(self))


def _frozen(self: Any, name: str, *_: object) -> None:
    raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")
