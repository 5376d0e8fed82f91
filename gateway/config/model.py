"""Every configuration key with its default, its unit and its reason, in one place (docs/architecture.md, rule 10).

The file is TOML with tables and arrays of tables and nothing deeper, so that UCI can mirror it key for key.
``docs/configuration.md`` is generated from these classes; ``smartema check`` reads a file against them.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any

from gateway.record import slim


def key(default: Any, doc: str, unit: str = "", **limits: Any) -> Any:
    """A configuration key. ``limits``: ``least``, ``most`` (inclusive), ``unset`` (allowed beside them), ``choices``,
    ``path`` (relative ones count from the file's folder), ``secret_file``, ``pin`` (a bare number is taken too)."""
    meta = {"doc": doc, "unit": unit, **limits}
    if default is REQUIRED:
        return field(metadata=meta)
    return field(default=default, metadata=meta)


REQUIRED = object()

# The n of an EMA below is added to this: its number among the devices of the site.
EMA_NUMBERS = 90_000


@slim(frozen=True, slots=True, kw_only=True)
class EmaConfig:
    """``[ema]``: who this EMA is, and where it keeps what must survive."""

    number: int = key(1, "the n of gw/<n>; unique below one EMS", least=1, most=99999)
    ven_id: str = key("", "VENID in the lab's messages; empty: MIR_VEN<n>")
    state_dir: str = key("/var/lib/smartema", "the essential journal lives here; on a router: flash", path=True)
    outbox_dir: str = key(
        "", "the fine outbox lives here; on a router: RAM (/tmp). Empty: beside the journal", path=True
    )
    socket: str = key("", "Unix socket of menu, status and why, mode 0660. Empty: <state_dir>/smartema.sock", path=True)
    log_level: str = key("info", "what is logged", choices=("debug", "info", "warning", "error"))

    @property
    def name(self) -> str:
        return f"gw/{self.number}"

    @property
    def ven(self) -> str:
        return self.ven_id or f"MIR_VEN{self.number}"

    @property
    def socket_path(self) -> str:
        return self.socket or f"{self.state_dir.rstrip('/')}/smartema.sock"


@slim(frozen=True, slots=True, kw_only=True)
class JournalConfig:
    """``[journal]``: how much is kept of what the upper side has not acknowledged."""

    outbox_max_age_s: float = key(7 * 86400.0, "a report older than this is dropped: a week of outage", "s", least=60)
    outbox_max_bytes: int = key(
        32_000_000, "the outbox never grows beyond this; oldest dropped and counted", "bytes", least=100_000
    )
    decisions_kept: int = key(10_000, "decisions that `smartema why` can look back on", least=100)


@slim(frozen=True, slots=True, kw_only=True)
class ControlConfig:
    """``[control]``: what the EMA may do (docs/control.md)."""

    threshold_w: float = key(0.0, "default threshold, the soft limit without an event; 0: no threshold", "W", least=0)
    hard_w: float = key(0.0, "fuse and contract; no event, grant or loan lifts it; 0: none", "W", least=0)
    export_w: float = key(-1.0, "most the site may feed in; -1: no limit", "W", least=0, unset=-1)
    fuse_a: tuple[float, ...] = key((), "fuse per phase, three numbers; empty: none", "A")
    pass_s: float = key(1.0, "how often control looks; at once when a change crosses the limit", "s", least=0.05)
    cap_w: float = key(0.0, "most that one pass may shed, so that a site never jumps; 0: no cap", "W", least=0)
    hysteresis_percent: float = key(5.0, "of the limit; a restore needs more room than this", "%", least=0, most=50)
    hysteresis_min_w: float = key(20.0, "and at least this much room", "W", least=0)
    reserve_w: float = key(0.0, "held back from the margin (the lab's experiment: margin 50)", "W", least=0)
    stale_after_s: float = key(30.0, "a reading older than this brings the fail-safe set", "s", least=1)
    lease_s: float = key(60.0, "a device that hears nothing for this long goes to its safe state", "s", least=3)
    restore_delay_s: float = key(60.0, "after an event restores wait a random time up to this", "s", least=0)
    ems_answer_s: float = key(2.0, "an RDR asked upwards and not answered by then is denied", "s", least=0.1)
    latency_s: float = key(2.0, "until a command's effect is read back; then it is sent again", "s", least=0.05)
    opt: str = key(
        "always",
        "answer to events: always in, in only when the site is able to hold it, in only when also its price is right "
        "(docs/price.md), never",
        choices=("always", "able", "price", "never"),
    )
    prepare_s: float = key(0.0, "this long before a known event: charge ESS, delay EV; 0: not at all", "s", least=0)
    min_on_led_s: float = key(0.0, "a lamp may be switched at once", "s", least=0)
    min_on_ev_s: float = key(60.0, "a car's contactor and charger dislike short cycles; also minimum off", "s", least=0)
    min_on_relay_s: float = key(10.0, "a relay's contacts wear; also minimum off", "s", least=0)


@slim(frozen=True, slots=True, kw_only=True)
class ReportsConfig:
    """``[reports]``: what is told upwards, and how often."""

    period_s: float = key(10.0, "a report at least this often", "s", least=0.5)
    change_s: float = key(1.0, "changes within this time share a report (mode 4 reports at once)", "s", least=0)
    change_w: float = key(5.0, "a change of power below this waits for the period", "W", least=0)
    explicit: bool = key(True, "with one entry a device; false: the site's sums only")


@slim(frozen=True, slots=True, kw_only=True)
class UpstreamConfig:
    """``[[upstream]]``: an EMS above. One table each."""

    name: str = key("ems", "how log, menu and `why` call it")
    protocol: str = key("mqtt", "how it is reached; over udp nothing is acknowledged", choices=("mqtt", "coap", "udp"))
    profile: str = key("mir2017", "the message profile: the lab's of 2017, or EMAP 1.0b", choices=("mir2017", "emap1b"))
    ems_name: str = key("MIR_EMS", "emap1b: the EMS's name on the wire; an upper EMA's: its ven_id")
    host: str = key(REQUIRED, "address of the EMS's broker; coap, udp: of the EMS itself")
    port: int = key(
        0,
        "its port; 0: the protocol's own (MQTT 1883, with TLS 8883, CoAP 5683, UDP 9090)",
        least=1,
        most=65535,
        unset=0,
    )
    mode: int = key(
        1,
        "DR mode; mqtt: 1 EMS PUSH, 2 EMS POLL, 3 EMA POLL, 4 EMA PUSH; coap: 0 EMS PUSH, 1 PULL, 2 OBSERVE, 3 none; "
        "udp: 1, 4",
        choices=(0, 1, 2, 3, 4),
    )
    timezone: str = key("", "zone of the lab's HHMM times, such as Asia/Seoul; empty: this machine's")
    username: str = key("", "broker account; empty: none")
    password_file: str = key("", "file with its password, mode 0600", path=True, secret_file=True)
    tls: bool = key(False, "TLS to the broker")
    ca_file: str = key("", "CA certificate; empty: the system's", path=True)
    cert_file: str = key("", "client certificate", path=True)
    key_file: str = key("", "its key, mode 0600", path=True, secret_file=True)
    bind: str = key("", "coap, udp: our address for the EMS; empty: [site_coap] bind, one server for both; udp: any")
    local_port: int = key(
        0, "coap, udp: our port for the EMS; 0: [site_coap] port; udp: any free one", least=1, most=65535, unset=0
    )
    sources: tuple[str, ...] = key((), "coap, udp: addresses or networks that may write to us; empty: the EMS's own")
    oscore_dir: str = key("", "coap: folder with our OSCORE context for this EMS; empty: not protected", path=True)
    confirmable: bool = key(True, "coap: ask with confirmable messages, sent again by CoAP itself until answered")

    @property
    def port_used(self) -> int:
        """The configured port, or the protocol's own."""
        return self.port or {"coap": 5683, "udp": 9090}.get(self.protocol, 8883 if self.tls else 1883)

    @property
    def modes(self) -> tuple[int, ...]:
        """The DR modes that its protocol knows."""
        return {"mqtt": (1, 2, 3, 4), "coap": (0, 1, 2, 3)}.get(self.protocol, (1, 4))

    @property
    def pulls(self) -> bool:
        """Do events and reports wait for our polls."""
        return self.mode in {"coap": (1,), "mqtt": (2, 3)}.get(self.protocol, ())

    @property
    def on_request(self) -> bool:
        """Do reports wait until the EMS asks for one."""
        return self.protocol == "mqtt" and self.mode == 3


@slim(frozen=True, slots=True, kw_only=True)
class SiteBrokerConfig:
    """``[site_broker]``: the broker that devices with link "mqtt" speak to."""

    host: str = key("", "a broker that is there already; empty: the daemon starts mosquitto itself")
    port: int = key(1883, "its port", least=1, most=65535)
    bind: str = key("127.0.0.1", "where our own mosquitto listens; the router's LAN address to let devices in")
    username: str = key("", "our account on a broker that is there already")
    password_file: str = key("", "file with its password, mode 0600", path=True, secret_file=True)
    ca_file: str = key("", "CA certificate of a broker that is there already", path=True)
    cert_file: str = key("", "our own broker's certificate (with key_file: TLS), or our client certificate", path=True)
    key_file: str = key("", "its key, mode 0600", path=True, secret_file=True)
    anonymous: bool = key(False, "our own broker takes devices without account; loopback only")
    open: bool = key(
        False,
        "devices that no [[device]] names may come too; to our own broker with the account guest, "
        "password in <state_dir>/device-passwords/guest",
    )
    most_guests: int = key(
        256, "so many of them at most: a peer must not fill the memory with invented numbers", least=1, most=20_000
    )


@slim(frozen=True, slots=True, kw_only=True)
class SiteCoapConfig:
    """``[site_coap]``: where devices with link "coap" find us."""

    bind: str = key("127.0.0.1", "address we serve on; the router's LAN address to let devices in")
    port: int = key(5683, "CoAP's own port", least=1, most=65535)
    sources: tuple[str, ...] = key((), "addresses or networks that may speak to us; empty: loopback only")
    open: bool = key(False, "devices that no [[device]] names may come too")
    most_guests: int = key(
        256, "so many of them at most: a peer must not fill the memory with invented numbers", least=1, most=20_000
    )


@slim(frozen=True, slots=True, kw_only=True)
class DeviceConfig:
    """``[[device]]``: a device below. One table each; what it leaves out comes from the device itself."""

    number: int = key(REQUIRED, "the d of dev/<d>; unique below this EMA", least=0, most=99999)
    name: str = key("", "how log, menu and page call it; empty: <type>-<number>")
    type: str = key("led", "what it is", choices=("led", "pv", "ess", "ev", "virtual"))
    link: str = key("mqtt", "how it is reached", choices=("mqtt", "coap", "gpio"))
    priority: int = key(-1, "smaller sheds first; -1: what the device says, else 0", least=0, unset=-1)
    never_shed: bool = key(False, "control never touches it")
    value: int = key(
        -1, "what its power is worth beyond its energy; -1: [negotiation] value", "a kWh", least=0, unset=-1
    )
    rated_w: float = key(0.0, "draw when on and undimmed; 0: learnt from its readings", "W", least=0)
    min_w: float = key(0.0, "least power of its set point (ESS: discharge, negative; PV: peak, negative)", "W")
    max_w: float = key(0.0, "most power of its set point", "W")
    step_w: float = key(0.0, "step of its set point; 0: continuous", "W", least=0)
    latency_s: float = key(-1.0, "until a command is read back; -1: [control] latency_s", "s", least=0.05, unset=-1)
    min_on_s: float = key(-1.0, "minimum on and off time; -1: by its type", "s", least=0, unset=-1)
    floor_soc: float = key(20.0, "ESS: reserve that control leaves", "%", least=0, most=100)
    ceiling_soc: float = key(95.0, "ESS: charged no further", "%", least=0, most=100)
    safe: str = key(
        "",
        "where it goes without us: on, off, idle, free, least; empty: by its type",
        choices=("", "on", "off", "idle", "free", "least"),
    )
    exit: str = key("safe", "gpio: outputs when the daemon ends", choices=("safe", "keep", "off"))
    password_file: str = key(
        "", "mqtt: file with its broker account's password, mode 0600", path=True, secret_file=True
    )
    address: str = key("", "coap: its address; empty: any allowed source")
    port: int = key(
        0, "coap: with its address, its port, where it does not announce itself; 0: it does", least=0, most=65535
    )
    pin: str = key("", "gpio: main output (LED, ESS enable, EV contactor): BCM number or chip:line", pin=True)
    pins: tuple[str, ...] = key(
        (), "gpio: further outputs (PV: four curtailment relays; ESS: charge, discharge)", pin=True
    )
    pwm_pin: str = key("", "gpio: PWM output (LED dimming, EV control pilot)", pin=True)
    button_pin: str = key("", "gpio: button that asks the power back", pin=True)
    active_low: bool = key(False, "gpio: relays that close on 0")
    curtail_percent: tuple[float, ...] = key((100.0, 60.0, 30.0, 0.0), "gpio PV: generation left at each relay", "%")
    capacity_wh: float = key(0.0, "ESS: its energy; EV: its battery", "Wh", least=0)

    @property
    def label(self) -> str:
        """The name that log, menu and page call it by."""
        return self.name or f"{self.type}-{self.number}"


@slim(frozen=True, slots=True, kw_only=True)
class NegotiationConfig:
    """``[negotiation]``: power lent to and borrowed from EMAs (docs/negotiation.md), and its price (docs/price.md).
    Prices are whole price units a kWh; which unit is for the operator and the headend to agree on."""

    enabled: bool = key(False, "lend and borrow; off: loans that run end in their time, and no new ones are made")
    upstream: str = key("", "the upstream that coordinates; empty: the first")
    lend: bool = key(True, "lend what is free")
    borrow: str = key(
        "rdr",
        "when to borrow: when a device asks its power back and nobody else grants it, or also when something is shed",
        choices=("rdr", "shed"),
    )
    ask: int = key(-1, "lend from this price on; -1: from the initial price", "a kWh", least=0, unset=-1)
    cap: int = key(-1, "borrow up to this price; -1: up to value", "a kWh", least=0, unset=-1)
    value: int = key(
        -1, "what a load is worth beyond its energy; -1: not stated, shed for nothing", "a kWh", least=0, unset=-1
    )
    for_s: int = key(600, "so long a loan is asked for when something is shed", "s", least=10, most=86400)
    again_s: float = key(60.0, "so long after a refusal it is asked again", "s", least=1)
    longest_s: int = key(3600, "nothing is lent that events known for this time will take", "s", least=10, most=86400)
    reserve_w: float = key(20.0, "of its limit, never lent", "W", least=0)
    guard_s: float = key(30.0, "a lender waits so much longer than the loan's time", "s", least=1, most=3600)
    answer_s: float = key(4.0, "an ask not answered by then is denied; a later result is given back", "s", least=0.5)


@slim(frozen=True, slots=True, kw_only=True)
class EmasBelowConfig:
    """``[emas_below]``: this EMA as the upper node of others (docs/emas.md)."""

    mqtt: bool = key(False, "serve them over the site's broker")
    coap: bool = key(False, "serve them over CoAP")
    bind: str = key("", "coap: address we serve them on; empty: [site_coap] bind")
    port: int = key(0, "coap: its port; 0: [site_coap] port", least=1, most=65535, unset=0)
    sources: tuple[str, ...] = key((), "coap: addresses or networks that may speak to us; empty: loopback only")
    open: bool = key(False, "EMAs that no [[ema_below]] names may come too; our own broker has no account for them")
    timezone: str = key("", "zone of the HHMM times we tell them, such as Asia/Seoul; empty: this machine's")
    poll_s: float = key(2.0, "how often those that poll are asked to", "s", least=0.1, most=3600)
    hold_s: float = key(
        900.0, "a limit told to one below ends after this without us; renewed at half of it", "s", least=120, most=86400
    )
    rdr_wait_s: float = key(2.0, "so long one below waits for the answer to an RDR: its ems_answer_s", "s", least=0.2)
    grant_s: float = key(
        600.0, "so long a grant to one below counts, for its RDR names no time; its devices' usual for_s", "s", least=1
    )
    reports: str = key(
        "each",
        "what is told upwards of them: each one as dev/<90000+n> with every report of its own, or in our sum only",
        choices=("each", "sum"),
    )


@slim(frozen=True, slots=True, kw_only=True)
class EmaBelowConfig:
    """``[[ema_below]]``: an EMA below this one. One table each."""

    number: int = key(REQUIRED, "the n of its gw/<n>; it is dev/<90000+n> of this site", least=1, most=9999)
    name: str = key("", "how log, menu and page call it; empty: gw/<n>")
    priority: int = key(0, "smaller is limited first", least=0)
    min_w: float = key(0.0, "its limit is never set below this", "W", least=0)
    max_w: float = key(
        0.0, "the most it may draw, counted while nothing is heard; 0: the most it reported", "W", least=0
    )
    never_shed: bool = key(False, "control never limits it")
    latency_s: float = key(6.0, "until a new limit is seen in its reports; then it is said again", "s", least=0.5)
    password_file: str = key(
        "", "mqtt: file with its broker account's password, mode 0600; empty: made by us", path=True, secret_file=True
    )

    @property
    def label(self) -> str:
        """The name that log, menu and page call it by."""
        return self.name or f"gw/{self.number}"

    @property
    def resource(self) -> int:
        """Its number among the resources of this site."""
        return EMA_NUMBERS + self.number


@slim(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole file."""

    ema: EmaConfig = EmaConfig()
    journal: JournalConfig = JournalConfig()
    control: ControlConfig = ControlConfig()
    reports: ReportsConfig = ReportsConfig()
    site_broker: SiteBrokerConfig = SiteBrokerConfig()
    site_coap: SiteCoapConfig = SiteCoapConfig()
    upstream: tuple[UpstreamConfig, ...] = ()
    device: tuple[DeviceConfig, ...] = ()
    negotiation: NegotiationConfig = NegotiationConfig()
    emas_below: EmasBelowConfig = EmasBelowConfig()
    ema_below: tuple[EmaBelowConfig, ...] = ()

    def open_to_strangers(self, link: str) -> bool:
        """May devices that no [[device]] names come over this link."""
        if link == "emas":
            return self.serves_emas and self.emas_below.open
        return {"mqtt": self.site_broker.open, "coap": self.site_coap.open}.get(link, False)

    @property
    def most_guests(self) -> int:
        """Devices that no [[device]] names, over all links."""
        return sum(table.most_guests for table in (self.site_broker, self.site_coap) if table.open)

    def reached_over(self, link: str) -> bool:
        """May any device come over this link."""
        if link == "emas":
            return self.serves_emas
        return self.open_to_strangers(link) or any(device.link == link for device in self.device)

    @property
    def serves_emas(self) -> bool:
        """Is this EMA the upper node of others."""
        return self.emas_below.mqtt or self.emas_below.coap

    @property
    def needs_broker(self) -> bool:
        """Does anybody come over the site's broker."""
        return self.reached_over("mqtt") or self.emas_below.mqtt

    @property
    def named(self) -> dict[int, str]:
        """The link of each device and EMA that the file names, by its number among the resources."""
        links = {device.number: device.link for device in self.device}
        return links | {ema.resource: "emas" for ema in self.ema_below if self.serves_emas}
