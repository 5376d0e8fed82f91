"""Every topic of the profile in one table (wire reference, sections 1 and 2)."""

from __future__ import annotations

from enum import StrEnum

from gateway.errors import PeerError
from gateway.links.mir2017.messages.fields import ema_name, parse_device, parse_ema, shown
from gateway.record import record


class Up(StrEnum):
    """EMA → EMS. ``POWER_MARGIN`` is followed by ``/gw/<n>``."""

    QUERY_REGISTRATION = "EMS/oadrinit/QueryRegistration"
    CREATE_PARTY_REGISTRATION = "EMS/oadrinit/CreatePartyRegistration"
    REGISTER_REPORT = "EMS/oadrinit/RegisterReport"
    SETUP_POLL = "EMS/oadrinit/Poll"
    REGISTERED_REPORT = "EMS/oadrinit/RegisteredReport"
    REQUEST_EVENT = "EMS/oadrinit/RequestEvent"
    POLL = "EMS/oadrPoll/Poll"
    CREATED_EVENT = "EMS/oadrPoll/CreatedEvent"
    UPDATE_REPORT = "EMS/UpdateReport"
    POWER_MARGIN = "EMS/PowerMargin"
    CONNECTED = "EMS/connected"
    DISCONNECTED = "EMS/disconnected"
    DEVICE_CONNECT = "EMS/DeviceConnect"
    DEVICE_DISCONNECT = "EMS/DeviceDisconnect"
    DEVICE_INFO = "EMS/info"
    RDR_REQUEST = "EMS/RDRrequest"
    ACTIVE_ENERGY = "EMS/active_energy"
    LOAD_PROFILE = "EMS/load_profile"
    NEGOTIATION = "EMS/negotiation"  # ours: the lab named no topic


class Down(StrEnum):
    """EMS → EMA, what follows ``gw/<n>/``."""

    CONNECT_ACK = "connectACK"
    DISCONNECT_ACK = "disconnectACK"
    POWER_MARGIN_ACK = "PowerMarginACK"
    CREATED_PARTY_REGISTRATION = "oadrinit/CreatedPartyRegistration"
    REGISTERED_REPORT = "oadrinit/RegisteredReport"
    REGISTER_REPORT = "oadrinit/RegisterReport"
    SETUP_RESPONSE = "oadrinit/Response"
    SETUP_EVENT = "oadrinit/DistributeEvent"
    POLL_RESPONSE = "oadrPoll/Response"
    PULLED_EVENT = "drevent/oadrDistributeEvent"
    EVENT_RESPONSE = "drevent/Response"
    UPDATED_REPORT = "oadrUpdatedReport"
    PUSHED_EVENT = "oadr/DistributeEvent"
    RDR_RESPONSE = "RDRresponse"
    NEGOTIATED = "nego_result"  # ours, as the CoAP resource is called
    BUDGET = "oadr/Budget"  # ours


class DeviceDown(StrEnum):
    """EMS → EMA, what follows ``gw/<n>/dev/<d>/``."""

    CONNECT_ACK = "DeviceConnectACK"
    DISCONNECT_ACK = "DeviceDisconnectACK"
    CONTROL = "control"
    DIMMING = "dimming"


class Module(StrEnum):
    """What OpenFMB reports, as its topics and ids call it."""

    ESS = "ESS"
    PV = "PV"
    RECLOSER = "RECLOSER"
    RESOURCE = "RESOURCE"


class Phase(StrEnum):
    """What follows the module's name in ``EMS/<module><phase>``."""

    CONNECT = "Connect"
    INIT = "init"
    REPORT = ""
    DISCONNECT = "Disconnect"


PUSH_ALL = "gw/pushall/DistributeEvent"
MODULE_TOPICS: dict[str, tuple[Module, Phase]] = {
    f"EMS/{module}{phase}": (module, phase) for module in Module for phase in Phase
}
# The lab has three answers for four topics; "init" is answered like a report (ours).
MODULE_ACKS: dict[Phase, str] = {
    Phase.CONNECT: "ConnectACK",
    Phase.INIT: "ACK",
    Phase.REPORT: "ACK",
    Phase.DISCONNECT: "DisconnectACK",
}
_MODULE_ACK_NAMES = frozenset(f"{module}{ack}" for module in Module for ack in MODULE_ACKS.values())

EMS_SUBSCRIPTIONS = ("EMS/#",)
LONGEST_TOPIC = 128


def ema_subscriptions(ema: int) -> tuple[str, ...]:
    """What an EMA listens to on the EMS's broker."""
    return (f"{ema_name(ema)}/#", "gw/pushall/#")


def down(ema: int, what: Down) -> str:
    """``gw/<n>/<what>``."""
    return f"{ema_name(ema)}/{what}"


def device_down(ema: int, device: int, what: DeviceDown) -> str:
    """``gw/<n>/dev/<d>/<what>``."""
    return f"{ema_name(ema)}/dev/{device}/{what}"


def module_ack(ema: int, module: Module, phase: Phase) -> str:
    """``gw/<n>/<module>{ACK,ConnectACK,DisconnectACK}``."""
    return f"{ema_name(ema)}/{module}{MODULE_ACKS[phase]}"


def margin_topic(ema: int) -> str:
    """``EMS/PowerMargin/gw/<n>``."""
    return f"{Up.POWER_MARGIN}/{ema_name(ema)}"


@record
class DownTopic:
    """A topic below ``gw/``, taken apart. ``ema`` None: to all. ``what`` None: the echo of an OpenFMB report."""

    ema: int | None
    what: Down | DeviceDown | None
    device: int | None = None


def parse_down(topic: str) -> DownTopic:
    """Raise ``PeerError`` for a topic that the profile does not know."""
    if topic == PUSH_ALL:
        return DownTopic(None, Down.PUSHED_EVENT)
    parts = topic.split("/", 4) if len(topic) <= LONGEST_TOPIC else []
    if len(parts) < 3:
        raise PeerError(f"topic {shown(topic)}: is not in the profile")
    ema = parse_ema("/".join(parts[:2]), "topic")
    rest = topic.split("/", 2)[2]
    try:
        if parts[2] == "dev" and len(parts) == 5:
            return DownTopic(ema, DeviceDown(parts[4]), parse_device(f"dev/{parts[3]}", "topic"))
        if rest in _MODULE_ACK_NAMES:
            return DownTopic(ema, None)
        return DownTopic(ema, Down(rest))
    except ValueError:
        raise PeerError(f"topic {shown(topic)}: is not in the profile") from None
