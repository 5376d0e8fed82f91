"""The device wire, both ends: every message between an EMA and the devices below it (docs/devices.md).

Wire reference, sections 2 (the lab's bytes), 5 (its text forms) and 5a (our JSON). Kept to the MicroPython subset: a
board runs this very file. Units on the wire: integers in mW, mWh, mV, mHz, per mille of SoC; consumption positive.

``encode`` writes only what applies, in the reference's key order, ASCII; it trusts its own program. ``decode`` trusts
nobody: it raises ``WireError`` that names the field and what it held, ignores unknown keys, and bounds every number.
"""

from device_agents.ujson_shim import dumps, loads

TYPES = ("led", "pv", "ess", "ev", "virtual")
CAPS = ("switch", "level", "setpoint")

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

ACK = b"ack"

GRANTED = "granted"
PENDING = "pending"
DENIED = "denied"

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

# Longest body taken; the longest of ours, a Connected with every key, is near 400 bytes.
MAX_BODY = 2048
MAX_TEXT = 200
MAX_DEV = 99999
MAX_PRIORITY = 999999
MAX_DIMMING = 9
# What every JSON library holds exactly.
MAX_COUNTER = 9007199254740991
MAX_MW = 1000000000000
MAX_MWH = 1000000000000000
MAX_MV = 1000000000
MAX_MHZ = 1000000
MAX_SOC = 1000
MAX_SECONDS = 31622400


_NOT_JSON = object()


class WireError(ValueError):
    """A peer sent what the device wire does not allow; the text names the field and what it held."""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _object(body: bytes, what: str) -> dict[str, object]:
    if len(body) > MAX_BODY:
        raise WireError(what + ": " + str(len(body)) + " bytes, more than " + str(MAX_BODY))
    try:
        value = loads(body)
    except ValueError:
        value = _NOT_JSON  # raised below: MicroPython has no exception chaining and warns of `from`
    if value is _NOT_JSON:
        raise WireError(what + ": not JSON: " + _shown(bytes(body[:40])))
    if not isinstance(value, dict):
        raise WireError(what + ": " + _shown(value) + " is not an object")
    return value


def _number(field: str, value: object, least: int, most: int) -> int:
    # type() and not isinstance(): a bool is an int to Python.
    if type(value) is not int or value < least or value > most:
        raise WireError(field + ": " + _shown(value) + " is not an integer from " + str(least) + " to " + str(most))
    return value


def _may(field: str, value: object, least: int, most: int) -> int | None:
    return None if value is None else _number(field, value, least, most)


def _flag(field: str, value: object) -> bool | None:
    if value is None or value is True or value is False:
        return value
    raise WireError(field + ": " + _shown(value) + " is not true or false")


def _string(field: str, value: object, most: int = MAX_TEXT) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise WireError(field + ": " + _shown(value) + " is not a text of at most " + str(most) + " characters")
    return value


def _write(pairs: tuple[tuple[str, object], ...]) -> bytes:
    """An object of those pairs, in that order, without the ones that are None."""
    return ("{" + ",".join(['"' + k + '":' + dumps(v) for k, v in pairs if v is not None]) + "}").encode()


class Message:
    """Equality and a readable form by the fields, for tests and logs."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        return all([getattr(self, name) == getattr(other, name) for name in self.__slots__])

    def __repr__(self) -> str:
        return type(self).__name__ + "(" + ", ".join([n + "=" + repr(getattr(self, n)) for n in self.__slots__]) + ")"


class Hello(Message):
    """The EMA starts, topic ``hello``: every device answers with ``Connected``. ``ema``: "gw/<n>"."""

    __slots__ = ("boot", "ema")

    def __init__(self, ema: str, boot: int) -> None:
        self.ema = ema
        self.boot = boot

    def encode(self) -> bytes:
        return _write((("ema", self.ema), ("boot", self.boot)))

    @staticmethod
    def decode(body: bytes) -> "Hello":
        o = _object(body, "hello")
        return Hello(_string("hello.ema", o.get("ema")), _number("hello.boot", o.get("boot"), 0, MAX_COUNTER))


class Connected(Message):
    """A device comes, ``connected``. ``addr``/``port``: where it serves CoAP; None over MQTT. ``meter``: "host:port".

    Ours beyond the reference, each optional: ``rated_mw`` (draw when on and undimmed), ``min_mw``, ``max_mw`` and
    ``step_mw`` of its set point, ``min_soc``, ``max_soc`` (per mille) and ``capacity_mwh`` of a battery or car.
    """

    __slots__ = (
        "addr", "boot", "capacity_mwh", "caps", "dev", "max_mw", "max_soc", "meter", "min_mw", "min_soc", "port",
        "priority", "rated_mw", "step_mw", "type",
    )  # fmt: skip

    def __init__(
        self,
        dev: int,
        type: str,
        priority: int,
        boot: int,
        addr: str | None,
        port: int | None,
        caps: tuple[str, ...],
        meter: str | None = None,
        rated_mw: int | None = None,
        min_mw: int | None = None,
        max_mw: int | None = None,
        step_mw: int | None = None,
        min_soc: int | None = None,
        max_soc: int | None = None,
        capacity_mwh: int | None = None,
    ) -> None:
        self.dev = dev
        self.type = type
        self.priority = priority
        self.boot = boot
        self.addr = addr
        self.port = port
        self.caps = caps
        self.meter = meter
        self.rated_mw = rated_mw
        self.min_mw = min_mw
        self.max_mw = max_mw
        self.step_mw = step_mw
        self.min_soc = min_soc
        self.max_soc = max_soc
        self.capacity_mwh = capacity_mwh

    def encode(self) -> bytes:
        head = _write((("dev", self.dev), ("type", self.type), ("priority", self.priority), ("boot", self.boot)))
        # Both are written as null over MQTT: the reference wants the keys there.
        where = f',"addr":{dumps(self.addr)},"port":{dumps(self.port)},"caps":{dumps(self.caps)}'
        more = _write(
            (
                ("meter", self.meter),
                ("rated_mw", self.rated_mw),
                ("min_mw", self.min_mw),
                ("max_mw", self.max_mw),
                ("step_mw", self.step_mw),
                ("min_soc", self.min_soc),
                ("max_soc", self.max_soc),
                ("capacity_mwh", self.capacity_mwh),
            )
        )
        return head[:-1] + where.encode() + (b"}" if more == b"{}" else b"," + more[1:])

    @staticmethod
    def decode(body: bytes) -> "Connected":
        o = _object(body, "connected")
        get = o.get
        kind = get("type")
        if kind not in TYPES:
            raise WireError("connected.type: " + _shown(kind) + " is none of " + ", ".join(TYPES))
        caps = get("caps", [])
        if not isinstance(caps, list) or len(caps) > 16:
            raise WireError("connected.caps: " + _shown(caps) + " is not a list of at most 16")
        addr = get("addr")
        meter = get("meter")
        return Connected(
            _number("connected.dev", get("dev"), 0, MAX_DEV),
            _string("connected.type", kind),
            _number("connected.priority", get("priority", 0), 0, MAX_PRIORITY),
            _number("connected.boot", get("boot"), 0, MAX_COUNTER),
            None if addr is None else _string("connected.addr", addr, 64),
            _may("connected.port", get("port"), 1, 65535),
            tuple([cap for cap in CAPS if cap in caps]),
            None if meter is None else _endpoint("connected.meter", meter),
            _may("connected.rated_mw", get("rated_mw"), 0, MAX_MW),
            _may("connected.min_mw", get("min_mw"), -MAX_MW, MAX_MW),
            _may("connected.max_mw", get("max_mw"), -MAX_MW, MAX_MW),
            _may("connected.step_mw", get("step_mw"), 0, MAX_MW),
            _may("connected.min_soc", get("min_soc"), 0, MAX_SOC),
            _may("connected.max_soc", get("max_soc"), 0, MAX_SOC),
            _may("connected.capacity_mwh", get("capacity_mwh"), 0, MAX_MWH),
        )


def _endpoint(field: str, value: object) -> str:
    text = _string(field, value, 80)
    host, _, port = text.rpartition(":")
    if not host or not _digits(port, 5) or not 0 < int(port) < 65536:
        raise WireError(field + ": " + _shown(value) + " is not host:port")
    return text


def _digits(text: str, most: int) -> bool:
    return 0 < len(text) <= most and all([c in "0123456789" for c in text])


class Status(Message):
    """A device's state, ``status``; None is "does not apply". ``done``: id of the last command carried out.

    ``mw`` now (negative: it gives), ``mwh`` net energy taken since ``boot``. Ours beyond the reference: ``need_mwh``
    and ``depart_s`` (seconds from now) say what an EV still wants and until when; ``safe`` is true while it stands in
    its safe state because its lease ended.
    """

    __slots__ = (
        "boot", "depart_s", "dev", "dimming", "done", "mhz", "mv", "mw", "mwh", "need_mwh", "on", "plugged", "safe",
        "seq", "soc",
    )  # fmt: skip

    def __init__(
        self,
        dev: int,
        boot: int,
        seq: int,
        on: bool | None = None,
        dimming: int | None = None,
        mw: int | None = None,
        mwh: int | None = None,
        mv: int | None = None,
        mhz: int | None = None,
        soc: int | None = None,
        plugged: bool | None = None,
        done: int | None = None,
        need_mwh: int | None = None,
        depart_s: int | None = None,
        safe: bool | None = None,
    ) -> None:
        self.dev = dev
        self.boot = boot
        self.seq = seq
        self.on = on
        self.dimming = dimming
        self.mw = mw
        self.mwh = mwh
        self.mv = mv
        self.mhz = mhz
        self.soc = soc
        self.plugged = plugged
        self.done = done
        self.need_mwh = need_mwh
        self.depart_s = depart_s
        self.safe = safe

    def encode(self) -> bytes:
        return _write(
            (
                ("dev", self.dev),
                ("boot", self.boot),
                ("seq", self.seq),
                ("on", self.on),
                ("dimming", self.dimming),
                ("mw", self.mw),
                ("mwh", self.mwh),
                ("mv", self.mv),
                ("mhz", self.mhz),
                ("soc", self.soc),
                ("plugged", self.plugged),
                ("done", self.done),
                ("need_mwh", self.need_mwh),
                ("depart_s", self.depart_s),
                ("safe", self.safe),
            )
        )

    @staticmethod
    def decode(body: bytes) -> "Status":
        get = _object(body, "status").get
        return Status(
            _number("status.dev", get("dev"), 0, MAX_DEV),
            _number("status.boot", get("boot"), 0, MAX_COUNTER),
            _number("status.seq", get("seq"), 0, MAX_COUNTER),
            _flag("status.on", get("on")),
            _may("status.dimming", get("dimming"), 0, MAX_DIMMING),
            _may("status.mw", get("mw"), -MAX_MW, MAX_MW),
            _may("status.mwh", get("mwh"), -MAX_MWH, MAX_MWH),
            _may("status.mv", get("mv"), 0, MAX_MV),
            _may("status.mhz", get("mhz"), 0, MAX_MHZ),
            _may("status.soc", get("soc"), 0, MAX_SOC),
            _flag("status.plugged", get("plugged")),
            _may("status.done", get("done"), 0, MAX_COUNTER),
            _may("status.need_mwh", get("need_mwh"), 0, MAX_MWH),
            _may("status.depart_s", get("depart_s"), 0, MAX_SECONDS),
            _flag("status.safe", get("safe")),
        )


class Rdr(Message):
    """A device asks its power back, ``rdr``: ``mw`` more for ``for_s`` seconds."""

    __slots__ = ("boot", "dev", "for_s", "mw", "seq")

    def __init__(self, dev: int, boot: int, seq: int, mw: int, for_s: int) -> None:
        self.dev = dev
        self.boot = boot
        self.seq = seq
        self.mw = mw
        self.for_s = for_s

    def encode(self) -> bytes:
        return _write(
            (("dev", self.dev), ("boot", self.boot), ("seq", self.seq), ("mw", self.mw), ("for_s", self.for_s))
        )

    @staticmethod
    def decode(body: bytes) -> "Rdr":
        get = _object(body, "rdr").get
        return Rdr(
            _number("rdr.dev", get("dev"), 0, MAX_DEV),
            _number("rdr.boot", get("boot"), 0, MAX_COUNTER),
            _number("rdr.seq", get("seq"), 0, MAX_COUNTER),
            _number("rdr.mw", get("mw"), 1, MAX_MW),
            _number("rdr.for_s", get("for_s"), 1, MAX_SECONDS),
        )


class RdrAnswer(Message):
    """What became of an RDR, to the device: ``rdr`` is GRANTED, PENDING or DENIED; ``why`` one line for a person."""

    __slots__ = ("rdr", "why")

    def __init__(self, rdr: str, why: str = "") -> None:
        self.rdr = rdr
        self.why = why

    def encode(self) -> bytes:
        return _write((("rdr", self.rdr), ("why", self.why[:MAX_TEXT] or None)))

    @staticmethod
    def decode(body: bytes) -> "RdrAnswer":
        return RdrAnswer._of(_object(body, "rdr answer"))

    @staticmethod
    def _of(o: dict[str, object]) -> "RdrAnswer":
        rdr = o.get("rdr")
        if rdr not in (GRANTED, PENDING, DENIED):
            raise WireError("rdr answer.rdr: " + _shown(rdr) + " is none of granted, pending, denied")
        return RdrAnswer(_string("rdr answer.rdr", rdr), _string("rdr answer.why", o.get("why", "")))


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
        body = _write(
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
        return Setpoint._of(_object(body, "setpoint"))

    @staticmethod
    def _of(o: dict[str, object]) -> "Setpoint":
        get = o.get
        return Setpoint(
            _number("setpoint.id", get("id"), 1, MAX_COUNTER),
            _number("setpoint.lease_s", get("lease_s"), 1, MAX_SECONDS),
            _flag("setpoint.on", get("on")),
            _may("setpoint.dimming", get("dimming"), 0, MAX_DIMMING),
            _may("setpoint.mw", get("mw"), -MAX_MW, MAX_MW),
            "mw" in o and o["mw"] is None,
        )


class Gone(Message):
    """A device goes, ``disconnected``; also the last will of an MQTT device."""

    __slots__ = ("boot", "dev")

    def __init__(self, dev: int, boot: int) -> None:
        self.dev = dev
        self.boot = boot

    def encode(self) -> bytes:
        return _write((("dev", self.dev), ("boot", self.boot)))

    @staticmethod
    def decode(body: bytes) -> "Gone":
        get = _object(body, "disconnected").get
        return Gone(
            _number("disconnected.dev", get("dev"), 0, MAX_DEV),
            _number("disconnected.boot", get("boot"), 0, MAX_COUNTER),
        )


class Ack(Message):
    """The EMA is alive: the text ``ack``."""

    __slots__ = ()

    def encode(self) -> bytes:
        return ACK


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
        raise WireError("light: " + _shown(bytes(body[:40])) + " is none of the lab's control bytes")


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
        words = _ascii("light", body).replace("/", " ").split()
        if not 0 < len(words) < 3 or not all([_digits(word, 5) for word in words]):
            raise WireError("light: " + _shown(bytes(body[:40])) + " is no console code")
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
        text = _ascii("connected", body).strip()
        parts = [part for part in text.split("/") if part]
        if len(parts) >= 2 and parts[0] == "dev" and _digits(parts[1], 5):
            dev = int(parts[1])
            rest = parts[2:]
            kind = rest.pop(0) if rest and rest[0] in TYPES else "led"
            if not rest or (len(rest) == 1 and _digits(rest[0], 6)):
                return LabHello(None, dev, int(rest[0]) if rest else 0, kind)
        elif len(parts) == 2 and _digits(parts[1], 6) and _is_address(parts[0]):
            return LabHello(parts[0], None, int(parts[1]))
        raise WireError("connected: " + _shown(text) + " is neither JSON nor <ip>/<priority>/ nor dev/<d>/<priority>/")


def _is_address(text: str) -> bool:
    return len(text) <= 45 and ("." in text or ":" in text) and all([c in "0123456789abcdefABCDEF.:" for c in text])


def _ascii(field: str, body: bytes) -> str:
    if not 0 < len(body) <= MAX_TEXT or not all([32 <= byte < 127 for byte in body]):
        raise WireError(field + ": " + _shown(bytes(body[:40])) + " is not a short text")
    return bytes(body).decode()


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
    o = _object(body, "dev")
    return RdrAnswer._of(o) if "rdr" in o else Setpoint._of(o)


def topic_number(topic: str, prefix: str) -> int:
    """The <d> of "status/<d>", "rdr/<d>" or "dev/<d>"."""
    tail = topic[len(prefix) :]
    if topic[: len(prefix)] != prefix or not _digits(tail, 5):
        raise WireError("topic: " + _shown(topic) + " is not " + prefix + "<number>")
    return int(tail)
