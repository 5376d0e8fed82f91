"""Who speaks and where: names, topics and CoAP paths of the profile (wire reference, section 8)."""

from __future__ import annotations

import re
from enum import StrEnum

from gateway.errors import OperatorError, PeerError
from gateway.links.mir2017.messages.fields import HIGHEST_EMA, shown
from gateway.record import record

VERSION = "1.0b"
PROFILE = f"EMAP{VERSION}"
EMS_NAME = "MIR_EMS"
LONGEST_NAME = 64
LONGEST_TOPIC = 128
# application/json: what the public EMS writes into the option of its answers, and its EMAs into that of their requests.
CONTENT_FORMAT = 50
# The first answer to an observation; each one after it is a DistributeEvent.
INITIAL = b"Initial_Success"

_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{LONGEST_NAME}}}")
_NUMBER = re.compile(r"[0-9]+\Z")


class Channel(StrEnum):
    """The last part of a topic."""

    SETUP = "SessionSetup"
    REPORT = "Report"
    EVENT = "Event"
    POLL = "Poll"
    OPT = "Opt"


class Carrier(StrEnum):
    """What carries the messages, as ``transportName`` calls it."""

    MQTT = "MQTT"
    COAP = "CoAP"


@record
class Place:
    """A topic taken apart."""

    dest: str
    channel: Channel


def is_name(text: str) -> bool:
    """Can an EMA or EMS be called that: it is a part of topics and paths."""
    return _NAME.fullmatch(text) is not None


def check_name(key: str, text: str) -> None:
    """Raise ``OperatorError`` for a name that cannot be one."""
    if not is_name(text):
        raise OperatorError(f"{key}: {shown(text)} is not a name of up to {LONGEST_NAME} letters, digits, _ - and .")


def number_in(name: str) -> int | None:
    """The number that an EMA's name ends in, 1 to 99999; None without one."""
    found = _NUMBER.search(name) if is_name(name) else None
    if found is None or len(found[0]) > 5 or not 1 <= int(found[0]) <= HIGHEST_EMA:
        return None
    return int(found[0])


def topic(dest: str, channel: Channel) -> str:
    """``/EMAP/<dest>/1.0b/<channel>``; the slash it begins with is kept."""
    return f"/EMAP/{dest}/{VERSION}/{channel}"


def subscriptions(name: str) -> tuple[str, ...]:
    """What an EMA or EMS of that name listens to."""
    return (f"/EMAP/{name}/{VERSION}/#",)


def parse_topic(text: str) -> Place:
    """Raise ``PeerError``."""
    parts = text.split("/") if len(text) <= LONGEST_TOPIC else []
    if len(parts) == 5 and parts[:2] == ["", "EMAP"] and parts[3] == VERSION and is_name(parts[2]):
        try:
            return Place(parts[2], Channel(parts[4]))
        except ValueError:
            pass
    raise PeerError(f"topic {shown(text)}: is not in the profile")


def coap_path(text: str) -> str:
    """The path of the PUT that stands for a topic: the same without the first slash."""
    return text.removeprefix("/")


def coap_topic(path: str) -> str:
    """The topic of a CoAP path, with or without its first slash."""
    return "/" + path.removeprefix("/")


def observe_path(name: str) -> str:
    """What this EMA observes on the EMS for its events: ``EMAP1.0b/<EMA>``."""
    return f"{PROFILE}/{name}"


def observed(path: str) -> int:
    """The number of the EMA of an observed path. Raise ``PeerError``."""
    head, slash, name = path.removeprefix("/").partition("/")
    number = number_in(name) if head == PROFILE and slash else None
    if number is None:
        raise PeerError(f"path {shown(path[:LONGEST_TOPIC])}: is not {PROFILE}/<EMA>")
    return number
