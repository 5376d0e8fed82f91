"""What happened on the link, for whoever wraps ``Server`` in a transport. ``ema`` is n of gw/<n>."""

from __future__ import annotations

from gateway.links.mir2017.client_happenings import Refused
from gateway.links.mir2017.messages import DeviceText, Phase, PowerMargin, Send, UpdateReport
from gateway.links.mir2017.messages.modules import ActiveEnergy, LoadProfile, ModuleReport
from gateway.links.mir2017.messages.negotiation import LabAsk, Negotiation
from gateway.record import record


@record
class EmaRegistering:
    """An EMA began a session (again): what it knew of the one before is gone."""

    ema: int
    ven_id: str


@record
class EmaRegistered:
    """The set-up is through. Events may be pushed to it."""

    ema: int
    ven_id: str


@record
class EmaConnected:
    """It said so after the set-up."""

    ema: int


@record
class EmaDisconnected:
    """It said good-bye, or the broker did by its last will."""

    ema: int


@record
class Polled:
    """It waits for ``Server.answer_poll``. May come from an EMA that registered before this server started."""

    ema: int
    ven_id: str


@record
class EventAnswered:
    """Its opt. ``request_id`` is that of the event as it was sent. May come twice. Answered already, or waits for
    ``Server.acknowledge_opt``."""

    ema: int
    event_id: int
    request_id: int
    opt_in: bool


@record
class Reported:
    """A report; it waits for ``Server.acknowledge_report``, to be called once it is stored. May come twice."""

    ema: int
    request_id: int
    report: UpdateReport


@record
class ReportRefused:
    """A report that can never be taken; its EMA is told already."""

    ema: int
    request_id: int
    reason: str


@record
class MarginReported:
    """Its margin; already acknowledged."""

    ema: int
    margin: PowerMargin


@record
class DeviceConnected:
    """A device came; it waits for ``Server.acknowledge_device``, to be called once it is stored. May come twice."""

    ema: int
    device: DeviceText


@record
class DeviceDisconnected:
    """A device went; it waits for ``Server.acknowledge_device``, to be called once it is stored. May come twice."""

    ema: int
    device: DeviceText


@record
class DeviceInfo:
    """A device changed. The wire has no answer to it."""

    ema: int
    device: DeviceText


@record
class RdrAsked:
    """Device ``number`` asks ``watts`` back; it waits for ``Server.answer_rdr``, for about two seconds."""

    ema: int
    number: int
    watts: int


@record
class NegotiationHeard:
    """A member of a negotiation speaks, in our form or the lab's. May come doubled, late, out of order."""

    ema: int
    message: Negotiation | LabAsk


@record
class FieldModuleReported:
    """A battery, panel, recloser or load of OpenFMB; already echoed."""

    ema: int
    phase: Phase
    report: ModuleReport


@record
class MeterReported:
    """A smart meter's register or load profile. The wire has no answer to it."""

    ema: int
    report: ActiveEnergy | LoadProfile


ServerHappening = (
    EmaRegistering
    | EmaRegistered
    | EmaConnected
    | EmaDisconnected
    | Polled
    | EventAnswered
    | Reported
    | ReportRefused
    | MarginReported
    | DeviceConnected
    | DeviceDisconnected
    | DeviceInfo
    | RdrAsked
    | NegotiationHeard
    | FieldModuleReported
    | MeterReported
    | Refused
)
ServerOutput = Send | ServerHappening
