"""Saying a fault of a peer once: WARNING the first time, DEBUG after that, INFO when it is over."""

from __future__ import annotations

import logging
from collections import OrderedDict

# A peer that makes up names must not make this grow.
REMEMBERED = 500
LONGEST = 300


class Once:
    """One memory of what was said, for one adapter."""

    def __init__(self, logger: logging.Logger) -> None:
        self._log = logger
        self._said: OrderedDict[tuple[str, object], None] = OrderedDict()

    def say(self, kind: str, who: object, text: str) -> None:
        """The first time for this kind of fault of this peer at WARNING."""
        key = (kind, who)
        known = key in self._said
        self._said[key] = None
        self._said.move_to_end(key)
        while len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        self._log.log(logging.DEBUG if known else logging.WARNING, "%s", text[:LONGEST])

    def over(self, kind: str, who: object, text: str) -> None:
        """It is well again: at INFO if something had been said."""
        if self._said.pop((kind, who), 0) is None:
            self._log.info("%s", text[:LONGEST])
