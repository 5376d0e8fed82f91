"""What happened on the link, for whoever wraps ``Server`` or ``Client`` in a transport. ``ema`` is n of gw/<n>."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.links.mir2017.messages import (
    ActiveEnergy,
    DeviceText,
    DistributeEvent,
    LoadProfile,
    ModuleReport,
    Phase,
    PowerMargin,
    Send,
    UpdateReport,
)


@dataclass(frozen=True, slots=True)
class EmaRegistering:
    """An EMA began a session (again): what it knew of the one before is gone."""

    ema: int
    ven_id: str


@dataclass(frozen=True, slots=True)
class EmaRegistered:
    """The set-up is through. Events may be pushed to it."""

    ema: int
    ven_id: str


@dataclass(frozen=True, slots=True)
class EmaConnected:
    """It said so after the set-up."""

    ema: int


@dataclass(frozen=True, slots=True)
class EmaDisconnected:
    """It said good-bye, or the broker did by its last will."""

    ema: int


@dataclass(frozen=True, slots=True)
class Polled:
    """It waits for ``Server.answer_poll``. May come from an EMA that registered before this server started."""

    ema: int
    ven_id: str


@dataclass(frozen=True, slots=True)
class EventAnswered:
    """Its opt. ``request_id`` is that of the event as it was sent. May come twice."""

    ema: int
    event_id: int
    request_id: int
    opt_in: bool


@dataclass(frozen=True, slots=True)
class Reported:
    """A report; it waits for ``Server.acknowledge_report``, to be called once it is stored. May come twice."""

    ema: int
    request_id: int
    report: UpdateReport


@dataclass(frozen=True, slots=True)
class MarginReported:
    """Its margin; already acknowledged."""

    ema: int
    margin: PowerMargin


@dataclass(frozen=True, slots=True)
class DeviceConnected:
    """A device came; it waits for ``Server.acknowledge_device``, to be called once it is stored. May come twice."""

    ema: int
    device: DeviceText


@dataclass(frozen=True, slots=True)
class DeviceDisconnected:
    """A device went; it waits for ``Server.acknowledge_device``, to be called once it is stored. May come twice."""

    ema: int
    device: DeviceText


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device changed. The wire has no answer to it."""

    ema: int
    device: DeviceText


@dataclass(frozen=True, slots=True)
class RdrAsked:
    """Device ``number`` asks ``watts`` back; it waits for ``Server.answer_rdr``, for about two seconds."""

    ema: int
    number: int
    watts: int


@dataclass(frozen=True, slots=True)
class FieldModuleReported:
    """A battery, panel, recloser or load of OpenFMB; already echoed."""

    ema: int
    phase: Phase
    report: ModuleReport


@dataclass(frozen=True, slots=True)
class MeterReported:
    """A smart meter's register or load profile. The wire has no answer to it."""

    ema: int
    report: ActiveEnergy | LoadProfile


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that the profile does not allow: counted, and nothing else was done with it."""

    topic: str
    reason: str


ServerHappening = (
    EmaRegistering
    | EmaRegistered
    | EmaConnected
    | EmaDisconnected
    | Polled
    | EventAnswered
    | Reported
    | MarginReported
    | DeviceConnected
    | DeviceDisconnected
    | DeviceInfo
    | RdrAsked
    | FieldModuleReported
    | MeterReported
    | Refused
)
ServerOutput = Send | ServerHappening


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
