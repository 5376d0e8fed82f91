"""The device wire, both ends: every message between an EMA and the devices below it (docs/devices.md).

Wire reference, sections 2 (the lab's bytes), 5 (its text forms) and 5a (our JSON). Kept to the MicroPython subset: a
board runs this very file. Units on the wire: integers in mW, mWh, mV, mHz, per mille of SoC; consumption positive.

``encode`` writes only what applies, in the reference's key order, ASCII; it trusts its own program. ``decode`` trusts
nobody: it raises ``WireError`` that names the field and what it held, ignores unknown keys, and bounds every number.
"""

from device_agents.lab_forms import (
    CONSOLE_CHARGE,
    CONSOLE_NO_ACTION,
    CONSOLE_OFF,
    CONSOLE_ON,
    CONSOLE_QUIT,
    CONSOLE_SEND_WATT,
    LAB_DOWN,
    LAB_DOWN_OTHER,
    LAB_OFF,
    LAB_ON,
    LAB_STEPS,
    LAB_UP,
    Console,
    LabHello,
    Light,
)
from device_agents.messages_down import ACK, DENIED, GRANTED, PENDING, Ack, Hello, RdrAnswer, Setpoint
from device_agents.messages_up import CAPS, TYPES, Connected, Gone, Rdr, Status
from device_agents.wire_fields import (
    MAX_BODY,
    MAX_COUNTER,
    MAX_DEV,
    MAX_DIMMING,
    MAX_MHZ,
    MAX_MV,
    MAX_MW,
    MAX_MWH,
    MAX_PRIORITY,
    MAX_SECONDS,
    MAX_SOC,
    MAX_TEXT,
    Message,
    WireError,
    digits,
    parsed,
    shown,
)

__all__ = [
    "ACK",
    "CAPS",
    "CONSOLE_CHARGE",
    "CONSOLE_NO_ACTION",
    "CONSOLE_OFF",
    "CONSOLE_ON",
    "CONSOLE_QUIT",
    "CONSOLE_SEND_WATT",
    "DENIED",
    "GRANTED",
    "LAB_DOWN",
    "LAB_DOWN_OTHER",
    "LAB_OFF",
    "LAB_ON",
    "LAB_STEPS",
    "LAB_UP",
    "MAX_BODY",
    "MAX_COUNTER",
    "MAX_DEV",
    "MAX_DIMMING",
    "MAX_MHZ",
    "MAX_MV",
    "MAX_MW",
    "MAX_MWH",
    "MAX_PRIORITY",
    "MAX_SECONDS",
    "MAX_SOC",
    "MAX_TEXT",
    "PATH_ACK",
    "PATH_CONNECTED",
    "PATH_DISCONNECTED",
    "PATH_LIGHT",
    "PATH_RDR",
    "PATH_SETPOINT",
    "PATH_STATUS",
    "PENDING",
    "PREFIX_DEVICE",
    "PREFIX_RDR",
    "PREFIX_STATUS",
    "TOPIC_CONNECTED",
    "TOPIC_DISCONNECTED",
    "TOPIC_HELLO",
    "TYPES",
    "Ack",
    "Connected",
    "Console",
    "Gone",
    "Hello",
    "LabHello",
    "Light",
    "Message",
    "Rdr",
    "RdrAnswer",
    "Setpoint",
    "Status",
    "WireError",
    "decode_connected",
    "decode_light",
    "decode_status",
    "decode_to_device",
    "is_json",
    "topic_number",
]

# Topics below the site's broker; "dev/<d>", "status/<d>" and "rdr/<d>" carry the device's number.
TOPIC_HELLO = "hello"
TOPIC_CONNECTED = "connected"
TOPIC_DISCONNECTED = "disconnected"
PREFIX_STATUS = "status/"
PREFIX_RDR = "rdr/"
PREFIX_DEVICE = "dev/"

# CoAP paths. On the EMA: connected, status, rdr, disconnected. On a device: setpoint, ack, rdr, light.
PATH_CONNECTED = "connected"
PATH_STATUS = "status"
PATH_RDR = "rdr"
PATH_DISCONNECTED = "disconnected"
PATH_SETPOINT = "setpoint"
PATH_ACK = "ack"
PATH_LIGHT = "light"


def is_json(body: bytes) -> bool:
    """Is this a body of section 5a, or one of the lab's text and byte forms."""
    return body[:1] == b"{" or body[:1] in (b" ", b"\t", b"\r", b"\n")


def decode_connected(body: bytes) -> "Connected | LabHello":
    """Body of ``connected``, ours or the lab's."""
    return Connected.decode(body) if is_json(body) else LabHello.decode(body)


def decode_status(body: bytes) -> "Status | LabHello":
    """Body of ``status``, ours or the lab's (whose CoAP devices send the same text as for ``connected``)."""
    return Status.decode(body) if is_json(body) else LabHello.decode(body)


def decode_light(body: bytes) -> "Light | Console":
    """Body of ``PUT /light``: two or three control bytes, or longer text with a console code."""
    # 0x31 is also the digit 1, so only whole control bytes are taken as such.
    if body in (LAB_ON, LAB_OFF) or body in LAB_STEPS:
        return Light.decode(body)
    return Console.decode(body)


def decode_to_device(body: bytes) -> "Ack | Setpoint | RdrAnswer | Light | Console":
    """Whatever comes on ``dev/<d>``."""
    if body == ACK:
        return Ack()
    if not is_json(body):
        return decode_light(body)
    o = parsed(body, "dev")
    return RdrAnswer.of(o) if "rdr" in o else Setpoint.of(o)


def topic_number(topic: str, prefix: str) -> int:
    """The <d> of "status/<d>", "rdr/<d>" or "dev/<d>"."""
    tail = topic[len(prefix) :]
    if topic[: len(prefix)] != prefix or not digits(tail, 5):
        raise WireError("topic: " + shown(topic) + " is not " + prefix + "<number>")
    return int(tail)
