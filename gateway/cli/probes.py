"""What ``smartema setup`` tests before it asks: clock, JSON, and whether a broker or an EMS takes us."""

from __future__ import annotations

import importlib
import os
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

from gateway.clock import Clock
from gateway.config.model import UpstreamConfig

# A broker on the other side of the world answers in less.
BROKER_S = 5.0
EMS_S = 5.0
EMS_PORT = 5683
REFUSED_CREDENTIALS = (4, 5, 134, 135)


@dataclass(frozen=True, slots=True)
class BrokerAnswer:
    """``reached``: it let us in. ``credentials``: it wants another account or password."""

    reached: bool
    credentials: bool
    line: str


def clock_lines(clock: Clock) -> tuple[bool, list[str]]:
    """The lab's time test; False while the clock cannot be right."""
    now = clock.now()
    local = time.localtime(now.wall)
    lines = [
        "===OpenWrt TIME TEST===",
        time.strftime("Current day:%Y%m%d, Current time:%H%M", local),
    ]
    if not now.trusted:
        lines.append(f"the clock says {local.tm_year}: set it by NTP; until then events wait for the right time")
    return now.trusted, lines


def json_lines() -> tuple[bool, list[str]]:
    """The lab's JSON test, there and back through the same shim that the devices use."""
    document = {"LAB": "MIR", "YEAR": 2017}
    lines = ["===OpenWrt JSON TEST===", '{ "LAB": "MIR", "YEAR": 2017 }']
    back = loads(dumps(document))
    lines += [f"{name} : {value}" for name, value in back.items()]
    return back == document, lines


def _json() -> Any:
    try:
        return importlib.import_module("device_agents.ujson_shim")
    except ImportError:
        return importlib.import_module("json")  # a router's package may leave the device agents out


def dumps(document: object) -> str:
    return str(_json().dumps(document))


def loads(text: str) -> Any:
    return _json().loads(text)


def try_broker(upstream: UpstreamConfig, password: str | None = None, timeout_s: float = BROKER_S) -> BrokerAnswer:
    """A TCP connection and an MQTT CONNECT, with a time-out; what became of it in one line."""
    where = f"MQTT broker {upstream.host}:{upstream.port_used}"
    try:
        socket.create_connection((upstream.host, upstream.port_used), timeout_s).close()
    except socket.gaierror:
        return BrokerAnswer(False, False, f"{where}: no such host; check the name, or give the IP")
    except TimeoutError:
        return BrokerAnswer(False, False, f"{where}: no answer within {timeout_s:g} s; check IP, port and firewall")
    except OSError as err:
        return BrokerAnswer(False, False, f"{where}: {(err.strerror or str(err)).lower()}; is a broker running there?")
    return _mqtt_connect(upstream, password, timeout_s, where)


def _mqtt_connect(upstream: UpstreamConfig, password: str | None, timeout_s: float, where: str) -> BrokerAnswer:
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    answered = threading.Event()
    codes: list[tuple[int, str]] = []

    def on_connect(client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        codes.append((int(reason.value), str(reason)))
        answered.set()

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = on_connect
    client.connect_timeout = timeout_s
    if upstream.username:
        client.username_pw_set(upstream.username, password)
    try:
        if upstream.tls:
            client.tls_set(upstream.ca_file or None, upstream.cert_file or None, upstream.key_file or None)
        client.connect(upstream.host, upstream.port_used)
        client.loop_start()
        answered.wait(timeout_s)
    except (OSError, ValueError) as err:
        return BrokerAnswer(False, False, f"{where}: {err}")
    finally:
        client.disconnect()
        client.loop_stop()
    if not codes:
        hint = "is it MQTT, and does it want TLS?" if not upstream.tls else "is it MQTT over TLS?"
        return BrokerAnswer(False, False, f"{where}: TCP connects, but no MQTT answer within {timeout_s:g} s; {hint}")
    code, words = codes[0]
    if code == 0:
        return BrokerAnswer(True, False, f"{where}: connected")
    return BrokerAnswer(False, code in REFUSED_CREDENTIALS, f"{where}: refused: {words.lower()}")


@dataclass(frozen=True, slots=True)
class EmsAnswer:
    """What became of a question to an EMS over CoAP, in one line."""

    reached: bool
    line: str


def our_address(host: str) -> str:
    """The address that this machine speaks to ``host`` from, as far as it can be told without asking anybody."""
    try:
        family, _, _, _, place = socket.getaddrinfo(host, EMS_PORT, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(place)  # a datagram socket's connect sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def try_ems(upstream: UpstreamConfig, timeout_s: float = EMS_S) -> EmsAnswer:
    """GET /.well-known/core from the address that we will speak from, sent again like any confirmable message."""
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    where = f"EMS coap://{host}:{upstream.port_used}"
    try:
        family, _, _, _, place = socket.getaddrinfo(upstream.host, upstream.port_used, type=socket.SOCK_DGRAM)[0]
    except OSError:
        return EmsAnswer(False, f"{where}: no such host; check the name, or give the IP")
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as wire:
            if upstream.bind:
                wire.bind((upstream.bind, 0))
            wire.connect(place)
            answer = _well_known(wire, timeout_s)
    except ConnectionRefusedError:
        return EmsAnswer(False, f"{where}: connection refused; does an EMS with --coap run there?")
    except TimeoutError:
        return EmsAnswer(False, f"{where}: no answer within {timeout_s:g} s; check IP, port and firewall")
    except OSError as err:
        return EmsAnswer(False, f"{where}: {(err.strerror or str(err)).lower()}")
    code = f"{answer[1] >> 5}.{answer[1] & 0x1F:02}"
    if code == "4.03":
        return EmsAnswer(False, f"{where}: refused: {upstream.bind} is not in its list of sources (--coap-sources)")
    if code != "2.05":
        return EmsAnswer(False, f"{where}: answers {code} to GET /.well-known/core; is it an EMS?")
    if b"</Poll>" not in answer and b"1.0b" not in answer:
        return EmsAnswer(False, f"{where}: a CoAP server, but no EMS: it lists no resource that EMAs speak to")
    return EmsAnswer(True, f"{where}: answers")


def _well_known(wire: socket.socket, timeout_s: float) -> bytes:
    """The datagram that answers. Raise ``OSError``."""
    number = os.urandom(2)
    options = b"\xbb.well-known\x04core"
    question = b"\x42\x01" + number + number + options
    began = time.monotonic()
    due, sendings = began, 0
    while (now := time.monotonic()) < began + timeout_s:
        if now >= due:
            wire.send(question)
            sendings += 1
            due = now + timeout_s / 8 * 2**sendings
        wire.settimeout(max(min(due, began + timeout_s) - time.monotonic(), 0.001))
        try:
            answer = wire.recv(2048)
        except TimeoutError:
            continue
        if len(answer) >= 6 and answer[0] & 0xCF == 0x42 and answer[4:6] == number and answer[1] >= 0x40:
            return answer
    raise TimeoutError
