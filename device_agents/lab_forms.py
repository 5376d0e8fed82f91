"""The lab's own forms on the device wire: control bytes, console codes, text announcements (sections 2 and 5).

MicroPython subset.
"""

from device_agents.messages_up import TYPES
from device_agents.wire_fields import Message, WireError, ascii_text, digits, shown

LAB_ON = b"\x11\x1f"
LAB_OFF = b"\x11\x10"
LAB_UP = b"\x31\x1a\x01"
LAB_DOWN = b"\x31\x1a\x00"
# One down on the lab's UDP and OpenADR links; taken, never sent.
LAB_DOWN_OTHER = b"\x31\x1a\xff"
LAB_STEPS = (LAB_UP, LAB_DOWN, LAB_DOWN_OTHER)

# The lab's console: "<n> 11" and "<n> 15" at the EMA, 7, 8, 9 and 3 at an ESS.
CONSOLE_ON = 11
CONSOLE_OFF = 15
CONSOLE_SEND_WATT = 7
CONSOLE_CHARGE = 8
CONSOLE_NO_ACTION = 9
CONSOLE_QUIT = 3


class Light(Message):
    """The lab's control bytes: ``on`` None leaves it, ``step`` is +1, −1 or 0 of the dimming (relative)."""

    __slots__ = ("on", "step")

    def __init__(self, on: bool | None = None, step: int = 0) -> None:
        self.on = on
        self.step = step

    def encode(self) -> bytes:
        if self.on is not None:
            return LAB_ON if self.on else LAB_OFF
        return LAB_UP if self.step > 0 else LAB_DOWN

    @staticmethod
    def decode(body: bytes) -> "Light":
        if body in (LAB_ON, LAB_OFF):
            return Light(on=body == LAB_ON)
        if body in LAB_STEPS:
            return Light(step=1 if body == LAB_UP else -1)
        raise WireError("light: " + shown(bytes(body[:40])) + " is none of the lab's control bytes")


class Console(Message):
    """The lab's console text ``[<n>] <code>``: ``number`` is the device's (None: the one asked), 11 on, 15 off."""

    __slots__ = ("code", "number")

    def __init__(self, code: int, number: int | None = None) -> None:
        self.code = code
        self.number = number

    def encode(self) -> bytes:
        return (f"{self.code}" if self.number is None else f"{self.number} {self.code}").encode()

    @staticmethod
    def decode(body: bytes) -> "Console":
        words = ascii_text("light", body).replace("/", " ").split()
        if not 0 < len(words) < 3 or not all([digits(word, 5) for word in words]):
            raise WireError("light: " + shown(bytes(body[:40])) + " is no console code")
        return Console(int(words[-1]), int(words[0]) if len(words) == 2 else None)


class LabHello(Message):
    """How a device of the lab comes: text ``<device ip>/<priority>/`` over CoAP (``addr``), or over MQTT, where the
    content is open and ours is ``dev/<d>[/<type>][/<priority>][/]`` (``dev``)."""

    __slots__ = ("addr", "dev", "priority", "type")

    def __init__(self, addr: str | None, dev: int | None, priority: int = 0, type: str = "led") -> None:
        self.addr = addr
        self.dev = dev
        self.priority = priority
        self.type = type

    def encode(self) -> bytes:
        if self.dev is None:
            return f"{self.addr}/{self.priority}/".encode()
        return f"dev/{self.dev}/{self.type}/{self.priority}/".encode()

    @staticmethod
    def decode(body: bytes) -> "LabHello":
        text = ascii_text("connected", body).strip()
        parts = [part for part in text.split("/") if part]
        if len(parts) >= 2 and parts[0] == "dev" and digits(parts[1], 5):
            dev = int(parts[1])
            rest = parts[2:]
            kind = rest.pop(0) if rest and rest[0] in TYPES else "led"
            if not rest or (len(rest) == 1 and digits(rest[0], 6)):
                return LabHello(None, dev, int(rest[0]) if rest else 0, kind)
        elif len(parts) == 2 and digits(parts[1], 6) and _is_address(parts[0]):
            return LabHello(parts[0], None, int(parts[1]))
        raise WireError("connected: " + shown(text) + " is neither JSON nor <ip>/<priority>/ nor dev/<d>/<priority>/")


def _is_address(text: str) -> bool:
    return len(text) <= 45 and ("." in text or ":" in text) and all([c in "0123456789abcdefABCDEF.:" for c in text])
