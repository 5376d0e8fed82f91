"""Menu 100 and 101: virtual LEDs below the EMA whose menu it is, so many as are said, counted as they come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gateway.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.cli.menu_items import Daemon, Done

NAMES = {"coap": "CoAP", "mqtt": "MQTT"}
POLL_S = 0.2
# They come a hundred a second; when for so many looks no further one came, none will.
LOOKS_WITHOUT_ANY = 50


def virtual(link: str) -> Callable[[Daemon, list[str]], Done]:
    """The act of that link's number."""

    def act(daemon: Daemon, values: list[str]) -> Done:
        from gateway.cli.menu_items import Missing

        if len(values) > 1:
            raise OperatorError(f"{values[1]!r} is one value too many")
        if not values:
            now = daemon({"do": "virtual", "link": link})
            raise Missing("count", f"How many (now {now['count']}; 0 stops them, nothing leaves them) ?", "")
        if not values[0]:
            return _done(daemon({"do": "virtual", "link": link}))
        if not values[0].isdecimal():
            raise OperatorError(f"count: {values[0]!r} is not a whole number")
        before = daemon({"do": "virtual", "link": link})
        after = daemon({"do": "virtual", "link": link, "count": int(values[0])})
        if not after["count"]:
            return _done(after, f"; {before['count']} were stopped" if before["count"] else "")
        return _done(_come(daemon, link, after))

    return act


def _come(daemon: Daemon, link: str, status: dict[str, Any]) -> dict[str, Any]:
    """The status once all are there, or no more of them come."""
    looks = 0
    while status["here"] != status["count"] and looks < LOOKS_WITHOUT_ANY:
        time.sleep(POLL_S)
        before = status["here"]
        status = daemon({"do": "virtual", "link": link})
        looks = looks + 1 if status["here"] == before else 0
    return status


def _done(status: dict[str, Any], more: str = "") -> Done:
    from gateway.cli.menu_items import Done

    name = NAMES[status["link"]]
    if not status["count"]:
        return Done([f"no virtual LEDs over {name}{more}"], status)
    where = f"dev/{status['first']} to dev/{status['last']}"
    well = bool(status["here"] == status["count"])
    said = "" if well or not status["said"] else f"; they said last: {status['said']}"
    return Done(
        [f"{status['here']} of {status['count']} virtual LEDs are there over {name}, {where}{said}"], status, well
    )
