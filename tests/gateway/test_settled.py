"""What is there when a process serves is not walked by its garbage collector any more; what comes later is."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from gateway.settled import settle


class _Ring:
    """Refers to itself: only the collector can free it."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def _thaw() -> Iterator[None]:
    yield
    gc.unfreeze()


def _walked(thing: object) -> bool:
    return any(each is thing for each in gc.get_objects())


def test_what_was_there_is_not_walked_and_what_comes_is() -> None:
    before = _Ring()
    assert _walked(before)
    settle()
    later = _Ring()
    assert not _walked(before)
    assert _walked(later)


def test_garbage_from_before_and_after_goes() -> None:
    before = weakref.ref(_Ring())
    settle()
    assert before() is None
    later = weakref.ref(_Ring())
    gc.collect()
    assert later() is None
