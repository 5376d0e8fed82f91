"""Every key of the EMS with its default, its unit and its reason; read from ``ems.toml`` or the command line."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.errors import OperatorError
from gateway.links.emap1b.messages.names import check_name

NO_BROKER = "none"
SHARINGS = ("cheapest", "equal")
POLICIES = ("deny", "grant", "limit", "manual")


def default_state_dir() -> str:
    """systemd's StateDirectory, else the user's own state folder."""
    given = os.environ.get("STATE_DIRECTORY")
    if given:
        return given.split(":")[0]
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "smartema-ems")


def _key(default: Any, doc: str) -> Any:
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, slots=True, kw_only=True)
class EmsSettings:
    """One EMS. The same names, with ``_`` for ``-``, stand in ``ems.toml`` and on the command line."""

    broker: str = _key("127.0.0.1:1883", 'HOST:PORT of the MQTT broker that EMS and EMAs share; "none": no MQTT')
    user: str = _key("", "broker account of the EMS; empty: none")
    password_file: str = _key("", "file with its password, mode 0600")
    ca_file: str = _key("", "CA certificate of the broker; given: TLS")
    cert_file: str = _key("", "client certificate towards the broker")
    key_file: str = _key("", "its key, mode 0600")
    tls: bool = _key(False, "TLS with the system's CA certificates; ca_file includes it")
    coap: str = _key("", "HOST:PORT where EMAs reach us over CoAP, such as 127.0.0.1:5683; empty: not served")
    coap_sources: str = _key("", "addresses or networks that may speak to it, by commas; empty: loopback only")
    oscore_dir: str = _key("", "folder with one OSCORE context an EMA; empty: CoAP is not protected")
    udp: str = _key("", "HOST:PORT where VTNs and EMAs reach us over UDP, such as 127.0.0.1:9090; empty: not served")
    udp_sources: str = _key("", "addresses or networks that may speak to it, by commas; empty: loopback only")
    udp_emas: str = _key("", "EMAs that report over UDP without their number, such as 1=10.0.0.5,2=10.0.0.6:9091")
    ems_name: str = _key(
        "MIR_EMS", "the EMS's name in profile emap1b, which is served beside mir2017; empty: it is not"
    )
    http: str = _key("127.0.0.1:8080", "HOST:PORT of the API; another host than loopback lets the network in")
    http_cert: str = _key("", "certificate of the API (with http_key: HTTPS)")
    http_key: str = _key("", "its key, mode 0600")
    state_dir: str = _key("", "database, token and lock file; empty: $STATE_DIRECTORY or ~/.local/state/smartema-ems")
    db: str = _key("", "SQLAlchemy URL of the database; empty: SQLite in the state folder")
    zone: str = _key("", "zone of the protocol's HHMM times, such as Asia/Seoul; empty: this machine's")
    duration_ms: int = _key(2000, "poll interval asked of the EMAs, in ms (the lab's)")
    resend_s: float = _key(3.0, "an event without CreatedEvent is sent again after this, then after twice this, …")
    resend_most: int = _key(8, "so often; then the EMA is shown as not answering until it registers again")
    command_s: float = _key(10.0, "a device command not confirmed by the device's state in this time has failed")
    stale_s: float = _key(60.0, "a power older than this counts as not known (no grants from it)")
    report_s: float = _key(20.0, "an EMA that polls and has not reported for so long is asked to (DR mode 3)")
    rdr_policy: str = _key("limit", "answer to an RDR: deny, grant, limit (see docs/ems.md), manual")
    rdr_manual_s: float = _key(1.5, "manual: an RDR nobody answered by then is denied; an EMA waits 2 s by default")
    rdr_hold_s: float = _key(30.0, "a grant counts as used for this long, until the EMA's own reading shows it")
    loan_sharing: str = _key("cheapest", "who lends: the cheapest first, or equal shares of all (the lab's)")
    loan_answer_s: float = _key(2.0, "an ask for a loan is decided in this time; an EMA waits 4 s by default")
    loan_longest_s: float = _key(3600.0, "no loan lasts longer")
    most_emas: int = _key(1000, "further EMAs are refused: a stranger's numbers must not fill the memory")
    most_devices: int = _key(1000, "devices an EMA may have, for the same reason")
    most_devices_all: int = _key(20_000, "devices of all EMAs together (about 10 MB)")
    report_days: float = _key(31.0, "reports are kept (and recognised when doubled) this long; an EMA's outbox: 7")
    sample_days: float = _key(400.0, "power series, RDR log, commands and audit log are kept this long")
    session_hours: float = _key(12.0, "a log-in lasts this long")

    @property
    def state(self) -> Path:
        return Path(self.state_dir or default_state_dir())

    @property
    def database(self) -> str:
        return self.db or f"sqlite:///{self.state / 'ems.db'}"

    def check(self) -> EmsSettings:
        """Raise ``OperatorError`` that names the key; return self."""
        if self.broker != NO_BROKER:
            parse_address("broker", self.broker)
        if self.coap:
            parse_address("coap", self.coap)
        if self.oscore_dir and not self.coap:
            raise OperatorError("oscore_dir: belongs to coap, which is not served")
        if self.udp:
            parse_address("udp", self.udp)
        if self.broker == NO_BROKER and not self.coap and not self.udp:
            raise OperatorError('broker: "none" and neither coap nor udp: nobody can reach this EMS; name one of them')
        if self.ems_name:
            check_name("ems_name", self.ems_name)
        parse_address("http", self.http)
        if self.rdr_policy not in POLICIES:
            raise OperatorError(f"rdr_policy: {self.rdr_policy!r} is none of {', '.join(POLICIES)}")
        if self.loan_sharing not in SHARINGS:
            raise OperatorError(f"loan_sharing: {self.loan_sharing!r} is none of {', '.join(SHARINGS)}")
        for key in dataclasses.fields(self):
            value = getattr(self, key.name)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and not value > 0:
                raise OperatorError(f"{key.name}: {value} is not above 0")
        if bool(self.http_cert) != bool(self.http_key):
            raise OperatorError("http_cert and http_key: HTTPS needs both")
        return self


def parse_address(key: str, text: str) -> tuple[str, int]:
    """``HOST:PORT`` (IPv6 in brackets). Raise ``OperatorError`` that names the key."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise OperatorError(f"{key}: {text!r} is not HOST:PORT, such as 127.0.0.1:1883")
    return host, int(port)


def parse_sources(text: str) -> list[str]:
    """A list by commas or blanks."""
    return text.replace(",", " ").split()


def load(path: str) -> dict[str, Any]:
    """The keys of a TOML file, checked by name and type. Raise ``OperatorError`` that names file and key."""
    import tomllib

    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as err:
        raise OperatorError(f"{path}: {err.strerror}") from err
    except tomllib.TOMLDecodeError as err:
        raise OperatorError(f"{path}: {err}") from err
    known = {key.name: key for key in dataclasses.fields(EmsSettings)}
    wrong = []
    for name, value in table.items():
        name_ = name.replace("-", "_")
        if name_ not in known:
            wrong.append(f"{path} {name}: unknown key; known are {', '.join(sorted(known))}")
            continue
        want = type(known[name_].default)
        number = want is float and isinstance(value, int) and not isinstance(value, bool)
        if not number and type(value) is not want:
            wrong.append(f"{path} {name}: {value!r} is not {_WORDS[want]}")
    if wrong:
        raise OperatorError("\n".join(wrong))
    return {name.replace("-", "_"): value for name, value in table.items()}


_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def secret(key: str, path: str) -> str | None:
    """The first line of a secret's file (None: no file named). Refuse one that others can read."""
    if not path:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            line = file.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as err:
        raise OperatorError(f"{key}: {path}: {getattr(err, 'strerror', None) or 'not UTF-8'}") from err
    if mode & 0o077:
        raise OperatorError(f"{key}: {path} can be read by others; chmod 600 {path}")
    return line
