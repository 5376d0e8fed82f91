"""Saying things of a peer once, however often they happen.

A fault is WARNING the first time, DEBUG after that, INFO when it is over. Who comes and goes without end is held down:
said as that, once, and then no more until it has been quiet for ``HOLD_S``.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable

from gateway.record import slim

# A peer that makes up names must not make this grow.
REMEMBERED = 500
LONGEST = 300
# Longer than a device's own back-off (60 s), so that one which cannot hold its link counts as one story.
HOLD_S = 600.0
# What may change so often before it counts as flapping: it came, went, came back and went again.
CHANGES = 4


@slim(slots=True)
class _Story:
    """``since``: monotonic moment of the last change; ``text``: what would be said of it."""

    times: int
    since: float
    down: bool
    text: str


class _Stories:
    """At most ``REMEMBERED`` stories, the oldest forgotten first. Without ``now`` nothing is held down."""

    def __init__(self, logger: logging.Logger, now: Callable[[], float] | None, hold_s: float) -> None:
        self._log = logger
        self._now = now or (lambda: 0.0)
        self._hold_s = hold_s if now is not None else 0.0
        self._known: OrderedDict[tuple[str, object], _Story] = OrderedDict()

    def _put(self, key: tuple[str, object], story: _Story) -> None:
        self._known[key] = story
        self._known.move_to_end(key)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _quiet(self, story: _Story) -> bool:
        return self._now() - story.since >= self._hold_s

    def _say(self, level: int, text: str, more: str = "") -> None:
        self._log.log(level, "%s", text[:LONGEST] + more)

    def _held_down(self) -> str:
        return f"; it comes and goes, said no more until it is quiet for {self._hold_s:g} s"


class Once(_Stories):
    """Faults that begin (``say``) and may end (``over``); one memory for one adapter.

    ``now``: monotonic seconds. One that begins again within ``hold_s`` of its end is said once more, as flapping.
    """

    def __init__(self, logger: logging.Logger, now: Callable[[], float] | None = None, hold_s: float = HOLD_S) -> None:
        super().__init__(logger, now, hold_s)

    def say(self, kind: str, who: object, text: str) -> None:
        """It fails."""
        story = self._known.get((kind, who))
        if story is None or (not story.down and self._quiet(story)):
            self._say(logging.WARNING, text)
            story = _Story(1, self._now(), True, text)
        elif story.down:
            self._say(logging.DEBUG, text)
        else:
            story.times, story.since, story.down = story.times + 1, self._now(), True
            first = story.times == 2
            self._say(logging.WARNING if first else logging.DEBUG, text, self._held_down() if first else "")
        self._put((kind, who), story)

    def over(self, kind: str, who: object, text: str) -> None:
        """It is well again: at INFO if something had been said."""
        story = self._known.get((kind, who))
        if story is None or not story.down:
            return
        self._say(logging.INFO if story.times == 1 else logging.DEBUG, text)
        story.since, story.down, story.text = self._now(), False, text
        if not self._hold_s:
            del self._known[(kind, who)]

    def settle(self) -> None:
        """Say of those that were held down which are well for good. To be called now and then."""
        for key, story in list(self._known.items()):
            if not story.down and self._quiet(story):
                del self._known[key]
                if story.times > 1:
                    self._say(logging.INFO, story.text, f", for {self._hold_s:g} s now")


class Changes(_Stories):
    """News that are no faults (``say``: INFO), such as who comes and goes."""

    def __init__(self, logger: logging.Logger, now: Callable[[], float], hold_s: float = HOLD_S) -> None:
        super().__init__(logger, now, hold_s)

    def say(self, who: object, text: str) -> None:
        """It changed."""
        story = self._known.get(("", who))
        if story is None or self._quiet(story):
            story = _Story(0, 0.0, False, text)
        story.times, story.since, story.text = story.times + 1, self._now(), text
        last = story.times == CHANGES
        self._say(logging.INFO if story.times <= CHANGES else logging.DEBUG, text, self._held_down() if last else "")
        self._put(("", who), story)

    def settle(self) -> None:
        """Say of those that were held down how they stand. To be called now and then; costs nothing in between."""
        # Oldest first: each change puts its story at the end.
        while self._known:
            key, story = next(iter(self._known.items()))
            if not self._quiet(story):
                return
            del self._known[key]
            if story.times > CHANGES:
                self._say(logging.INFO, story.text, f", {self._hold_s:g} s ago; quiet since")
