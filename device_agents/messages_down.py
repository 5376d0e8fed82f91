"""What an EMA says to its devices (wire reference, 5a). MicroPython subset; units and rules in protocol.py."""

from device_agents.wire_fields import (
    MAX_COUNTER,
    MAX_DIMMING,
    MAX_MW,
    MAX_SECONDS,
    MAX_TEXT,
    Message,
    WireError,
    flag,
    may,
    number,
    parsed,
    shown,
    string,
    written,
)

ACK = b"ack"

GRANTED = "granted"
PENDING = "pending"
DENIED = "denied"


class Hello(Message):
    """The EMA starts, topic ``hello``: every device answers with ``Connected``. ``ema``: "gw/<n>"."""

    __slots__ = ("boot", "ema")

    def __init__(self, ema: str, boot: int) -> None:
        self.ema = ema
        self.boot = boot

    def encode(self) -> bytes:
        return written((("ema", self.ema), ("boot", self.boot)))

    @staticmethod
    def decode(body: bytes) -> "Hello":
        o = parsed(body, "hello")
        return Hello(string("hello.ema", o.get("ema")), number("hello.boot", o.get("boot"), 0, MAX_COUNTER))


class RdrAnswer(Message):
    """What became of an RDR, to the device: ``rdr`` is GRANTED, PENDING or DENIED; ``why`` one line for a person."""

    __slots__ = ("rdr", "why")

    def __init__(self, rdr: str, why: str = "") -> None:
        self.rdr = rdr
        self.why = why

    def encode(self) -> bytes:
        return written((("rdr", self.rdr), ("why", self.why[:MAX_TEXT] or None)))

    @staticmethod
    def decode(body: bytes) -> "RdrAnswer":
        return RdrAnswer.of(parsed(body, "rdr answer"))

    @staticmethod
    def of(o: dict[str, object]) -> "RdrAnswer":
        rdr = o.get("rdr")
        if rdr not in (GRANTED, PENDING, DENIED):
            raise WireError("rdr answer.rdr: " + shown(rdr) + " is none of granted, pending, denied")
        return RdrAnswer(string("rdr answer.rdr", rdr), string("rdr answer.why", o.get("why", "")))


class Setpoint(Message):
    """A command to a device: absolute, so it can be sent again. None leaves that side as it is.

    ``mw``: ESS charge +, discharge −; EV the most it may take; PV the least it may be. ``free`` is the wire's
    ``"mw": null`` (lifts a set point), to be told from an absent ``mw``; then ``mw`` is None.
    """

    __slots__ = ("dimming", "free", "id", "lease_s", "mw", "on")

    def __init__(
        self,
        id: int,
        lease_s: int,
        on: bool | None = None,
        dimming: int | None = None,
        mw: int | None = None,
        free: bool = False,
    ) -> None:
        self.id = id
        self.lease_s = lease_s
        self.on = on
        self.dimming = dimming
        self.mw = mw
        self.free = free

    def encode(self) -> bytes:
        body = written(
            (
                ("id", self.id),
                ("lease_s", self.lease_s),
                ("on", self.on),
                ("dimming", self.dimming),
                ("mw", None if self.free else self.mw),
            )
        )
        return body[:-1] + b',"mw":null}' if self.free else body

    @staticmethod
    def decode(body: bytes) -> "Setpoint":
        return Setpoint.of(parsed(body, "setpoint"))

    @staticmethod
    def of(o: dict[str, object]) -> "Setpoint":
        get = o.get
        return Setpoint(
            number("setpoint.id", get("id"), 1, MAX_COUNTER),
            number("setpoint.lease_s", get("lease_s"), 1, MAX_SECONDS),
            flag("setpoint.on", get("on")),
            may("setpoint.dimming", get("dimming"), 0, MAX_DIMMING),
            may("setpoint.mw", get("mw"), -MAX_MW, MAX_MW),
            "mw" in o and o["mw"] is None,
        )


class Ack(Message):
    """The EMA is alive: the text ``ack``."""

    __slots__ = ()

    def encode(self) -> bytes:
        return ACK

    @staticmethod
    def decode(body: bytes) -> "Ack":
        if body != ACK:
            raise WireError("ack: " + shown(bytes(body[:40])))
        return Ack()
