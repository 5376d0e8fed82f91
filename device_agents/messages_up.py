"""What a device says to its EMA (wire reference, 5a). MicroPython subset; units and rules in protocol.py."""

from device_agents.ujson_shim import dumps
from device_agents.wire_fields import (
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
    Message,
    WireError,
    endpoint,
    flag,
    may,
    number,
    parsed,
    shown,
    string,
    written,
)

TYPES = ("led", "pv", "ess", "ev", "virtual")
CAPS = ("switch", "level", "setpoint")


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
        head = written((("dev", self.dev), ("type", self.type), ("priority", self.priority), ("boot", self.boot)))
        # Both are written as null over MQTT: the reference wants the keys there.
        where = f',"addr":{dumps(self.addr)},"port":{dumps(self.port)},"caps":{dumps(self.caps)}'
        more = written(
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
        o = parsed(body, "connected")
        get = o.get
        kind = get("type")
        if kind not in TYPES:
            raise WireError("connected.type: " + shown(kind) + " is none of " + ", ".join(TYPES))
        caps = get("caps", [])
        if not isinstance(caps, list) or len(caps) > 16:
            raise WireError("connected.caps: " + shown(caps) + " is not a list of at most 16")
        addr = get("addr")
        meter = get("meter")
        return Connected(
            number("connected.dev", get("dev"), 0, MAX_DEV),
            string("connected.type", kind),
            number("connected.priority", get("priority", 0), 0, MAX_PRIORITY),
            number("connected.boot", get("boot"), 0, MAX_COUNTER),
            None if addr is None else string("connected.addr", addr, 64),
            may("connected.port", get("port"), 1, 65535),
            tuple([cap for cap in CAPS if cap in caps]),
            None if meter is None else endpoint("connected.meter", meter),
            may("connected.rated_mw", get("rated_mw"), 0, MAX_MW),
            may("connected.min_mw", get("min_mw"), -MAX_MW, MAX_MW),
            may("connected.max_mw", get("max_mw"), -MAX_MW, MAX_MW),
            may("connected.step_mw", get("step_mw"), 0, MAX_MW),
            may("connected.min_soc", get("min_soc"), 0, MAX_SOC),
            may("connected.max_soc", get("max_soc"), 0, MAX_SOC),
            may("connected.capacity_mwh", get("capacity_mwh"), 0, MAX_MWH),
        )


class Status(Message):
    """A device's state, ``status``; None is "does not apply". ``done``: id of the last command carried out.

    ``mw`` now (negative: it gives), ``mwh`` net energy taken since ``boot``. Ours beyond the reference: ``need_mwh``
    and ``depart_s`` (seconds from now) say what an EV still wants and until when; ``safe`` is true from the end of its
    lease, where it went to its safe state, to the next command.
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
        return written(
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
        get = parsed(body, "status").get
        return Status(
            number("status.dev", get("dev"), 0, MAX_DEV),
            number("status.boot", get("boot"), 0, MAX_COUNTER),
            number("status.seq", get("seq"), 0, MAX_COUNTER),
            flag("status.on", get("on")),
            may("status.dimming", get("dimming"), 0, MAX_DIMMING),
            may("status.mw", get("mw"), -MAX_MW, MAX_MW),
            may("status.mwh", get("mwh"), -MAX_MWH, MAX_MWH),
            may("status.mv", get("mv"), 0, MAX_MV),
            may("status.mhz", get("mhz"), 0, MAX_MHZ),
            may("status.soc", get("soc"), 0, MAX_SOC),
            flag("status.plugged", get("plugged")),
            may("status.done", get("done"), 0, MAX_COUNTER),
            may("status.need_mwh", get("need_mwh"), 0, MAX_MWH),
            may("status.depart_s", get("depart_s"), 0, MAX_SECONDS),
            flag("status.safe", get("safe")),
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
        return written(
            (("dev", self.dev), ("boot", self.boot), ("seq", self.seq), ("mw", self.mw), ("for_s", self.for_s))
        )

    @staticmethod
    def decode(body: bytes) -> "Rdr":
        get = parsed(body, "rdr").get
        return Rdr(
            number("rdr.dev", get("dev"), 0, MAX_DEV),
            number("rdr.boot", get("boot"), 0, MAX_COUNTER),
            number("rdr.seq", get("seq"), 0, MAX_COUNTER),
            number("rdr.mw", get("mw"), 1, MAX_MW),
            number("rdr.for_s", get("for_s"), 1, MAX_SECONDS),
        )


class Gone(Message):
    """A device goes, ``disconnected``; also the last will of an MQTT device, which says ``lost``."""

    __slots__ = ("boot", "dev", "lost")

    def __init__(self, dev: int, boot: int, lost: bool = False) -> None:
        self.dev = dev
        self.boot = boot
        self.lost = lost

    def encode(self) -> bytes:
        return written((("dev", self.dev), ("boot", self.boot), ("lost", True if self.lost else None)))

    @staticmethod
    def decode(body: bytes) -> "Gone":
        get = parsed(body, "disconnected").get
        return Gone(
            number("disconnected.dev", get("dev"), 0, MAX_DEV),
            number("disconnected.boot", get("boot"), 0, MAX_COUNTER),
            flag("disconnected.lost", get("lost")) is True,
        )
