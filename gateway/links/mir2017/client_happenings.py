"""What happened on the link, for whoever wraps ``Client`` in a transport."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.links.mir2017.messages import DistributeEvent, Send


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that the profile does not allow: counted, and nothing else was done with it."""

    topic: str
    reason: str


@dataclass(frozen=True, slots=True)
class SessionUp:
    """The set-up is through; the EMS asks to be polled every ``duration_ms``."""

    duration_ms: int


@dataclass(frozen=True, slots=True)
class EventReceived:
    """An event, pulled or pushed. May come twice; it waits for ``Client.created_event``."""

    event: DistributeEvent


@dataclass(frozen=True, slots=True)
class EventAcknowledged:
    """The EMS has the opt answer to this event."""

    event_id: int


@dataclass(frozen=True, slots=True)
class PollAnswered:
    """No event now."""


@dataclass(frozen=True, slots=True)
class ReportAcknowledged:
    """The EMS's application has this report. The client finds it where the EMS answers with the lab's eternal 1."""

    request_id: int


@dataclass(frozen=True, slots=True)
class ReportRequested:
    """The EMS wants a report (mode 3)."""


@dataclass(frozen=True, slots=True)
class DeviceControl:
    """The EMS switches a device itself."""

    number: int
    on: bool


@dataclass(frozen=True, slots=True)
class Dimming:
    """The EMS dims a device itself by ``step``, +1 or −1. Relative: a double is another step."""

    number: int
    step: int


@dataclass(frozen=True, slots=True)
class RdrAnswered:
    """What the EMS says to the power that device ``number`` asked back."""

    number: int
    granted: bool
    description: str


@dataclass(frozen=True, slots=True)
class MarginAcknowledged:
    """The EMS has a margin report."""


@dataclass(frozen=True, slots=True)
class DeviceAcknowledged:
    """The EMS knows that a device came (``connected``) or went."""

    number: int
    connected: bool


@dataclass(frozen=True, slots=True)
class EmaAcknowledged:
    """The EMS knows that we came (``connected``) or went."""

    connected: bool


ClientHappening = (
    SessionUp
    | EventReceived
    | EventAcknowledged
    | PollAnswered
    | ReportAcknowledged
    | ReportRequested
    | DeviceControl
    | Dimming
    | RdrAnswered
    | MarginAcknowledged
    | DeviceAcknowledged
    | EmaAcknowledged
    | Refused
)
ClientOutput = Send | ClientHappening
