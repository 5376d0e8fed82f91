"""A record behaves as a frozen dataclass with slots does."""

from __future__ import annotations

import copy
import pickle
from dataclasses import field, fields, replace
from typing import ClassVar

import pytest

from gateway.record import changed, record, slim


@record
class Point:
    """Somewhere."""

    kind: ClassVar[str] = "point"
    x: int
    y: int = 7

    def moved(self, by: int) -> Point:
        return changed(self, x=self.x + by)


@record
class Checked:
    value: int

    def __post_init__(self) -> None:
        if self.value < 0:
            raise ValueError("below 0")


@record
class Empty:
    pass


@record
class Deep(Point):
    z: int = 0


def test_values_and_defaults() -> None:
    assert (Point(1).x, Point(1).y, Point(1, 2).y, Point(y=3, x=1).y, Point.kind) == (1, 7, 2, 3, "point")
    assert (Point.__doc__, Point.__name__) == ("Somewhere.", "Point")
    assert (Deep(1, 2, 3).z, Deep(1).y, Empty() == Empty()) == (3, 7, True)


@pytest.mark.parametrize("make", [lambda: Point(), lambda: Point(1, 2, 3), lambda: Point(1, w=2)])
def test_a_wrong_call_is_a_type_error(make) -> None:
    with pytest.raises(TypeError):
        make()


def test_equal_by_value_and_type() -> None:
    assert Point(1, 2) == Point(1, 2)
    assert hash(Point(1, 2)) == hash(Point(1, 2))
    assert Point(1, 2) != Point(1, 3)
    assert Point(1, 2) != Deep(1, 2)
    assert repr(Point(1, 2)) == "Point(x=1, y=2)"


def test_frozen_and_without_further_names() -> None:
    point = Point(1)
    with pytest.raises(AttributeError):
        point.x = 2
    with pytest.raises(AttributeError):
        del point.x
    with pytest.raises(AttributeError):
        object.__setattr__(point, "other", 1)
    assert not hasattr(point, "__dict__")


def test_copies() -> None:
    point = Point(1, 2)
    assert point.moved(4) == Point(5, 2)
    assert copy.deepcopy(point) == point
    assert pickle.loads(pickle.dumps(point)) == point


def test_matching_by_position() -> None:
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)
        case _:
            raise AssertionError


def test_what_is_checked_at_birth() -> None:
    with pytest.raises(ValueError, match="below 0"):
        Checked(-1)


@slim(frozen=True, slots=True, kw_only=True)
class Lean:
    x: int
    y: float = field(default=1.5, metadata={"unit": "W"})


def test_a_slim_dataclass_is_a_dataclass() -> None:
    lean = Lean(x=1)
    assert (replace(lean, y=2.0), Lean(x=1)) == (Lean(x=1, y=2.0), lean)
    assert hash(lean) == hash(Lean(x=1))
    assert lean != Lean(x=2)
    assert repr(lean) == "Lean(x=1, y=1.5)"
    assert [(f.name, dict(f.metadata)) for f in fields(lean)] == [("x", {}), ("y", {"unit": "W"})]
    assert pickle.loads(pickle.dumps(lean)) == lean
    with pytest.raises(AttributeError):
        lean.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del lean.x


def test_a_slim_dataclass_hides_nothing() -> None:
    class Secret:
        word: str = field(default="", repr=False)

    with pytest.raises(TypeError, match="every field is compared and shown"):
        slim(frozen=True)(Secret)
