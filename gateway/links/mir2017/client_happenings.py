"""What happened on the link, for whoever wraps ``Client`` in a transport."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.links.mir2017.messages import DistributeEvent, Send
from gateway.record import record

if TYPE_CHECKING:
    from gateway.links.mir2017.messages.negotiation import LabAnswer, Negotiation


@record
class Refused:
    """A message that the profile does not allow: counted, and nothing else was done with it."""

    topic: str
    reason: str


@record
class SessionUp:
    """The set-up is through; the EMS asks to be polled every ``duration_ms``."""

    duration_ms: int


@record
class EventReceived:
    """An event, pulled or pushed. May come twice; it waits for ``Client.created_event``."""

    event: DistributeEvent


@record
class EventAcknowledged:
    """The EMS has the opt answer to this event."""

    event_id: int


@record
class EventAnswerRejected:
    """The EMS will never take the opt answer to this event (4xx)."""

    event_id: int
    reason: str


@record
class PollAnswered:
    """No event now."""


@record
class ReportAcknowledged:
    """The EMS's application has this report. The client finds it where the EMS answers with the lab's eternal 1."""

    request_id: int


@record
class ReportRejected:
    """The EMS will never take this report (4xx): to send it again is in vain. ``reason`` for people."""

    request_id: int
    reason: str


@record
class ReportPostponed:
    """The EMS cannot take this report now (5xx): it is to be sent again later. ``reason`` for people."""

    request_id: int
    reason: str


@record
class ReportRequested:
    """The EMS wants a report (mode 3)."""


@record
class DeviceControl:
    """The EMS switches a device itself."""

    number: int
    on: bool


@record
class Dimming:
    """The EMS dims a device itself by ``step``, +1 or −1. Relative: a double is another step."""

    number: int
    step: int


@record
class RdrAnswered:
    """What the EMS says to the power that device ``number`` asked back."""

    number: int
    granted: bool
    description: str


@record
class ThresholdReceived:
    """The EMS sets the default threshold, in W (CoAP only)."""

    watts: int


@record
class PriceReceived:
    """A price: of a budget message (``budget`` says which: Initial, Incentive, Negotiation), or with a control event
    (empty). ``price`` a ``unit`` (None: it is none any more); W of what it is for, where they were said. Absolute: a
    double does no harm."""

    event_id: int
    budget: str
    price: float | None
    unit: str
    current_w: float | None = None
    threshold_w: float | None = None
    capacity_w: float | None = None


@record
class Negotiated:
    """A word of the coordinator of negotiations, in our form or the lab's. May come doubled, late, out of order."""

    message: Negotiation | LabAnswer


@record
class MarginAcknowledged:
    """The EMS has a margin report."""


@record
class DeviceAcknowledged:
    """The EMS knows that a device came (``connected``) or went."""

    number: int
    connected: bool


@record
class EmaAcknowledged:
    """The EMS knows that we came (``connected``) or went."""

    connected: bool


ClientHappening = (
    SessionUp
    | EventReceived
    | EventAcknowledged
    | EventAnswerRejected
    | PollAnswered
    | ReportAcknowledged
    | ReportRejected
    | ReportPostponed
    | ReportRequested
    | DeviceControl
    | Dimming
    | ThresholdReceived
    | PriceReceived
    | Negotiated
    | RdrAnswered
    | MarginAcknowledged
    | DeviceAcknowledged
    | EmaAcknowledged
    | Refused
)
ClientOutput = Send | ClientHappening
