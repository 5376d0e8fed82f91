"""What ``smartema setup`` tests before it asks: clock, JSON, and whether a broker takes us."""

from __future__ import annotations

import importlib
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

from gateway.clock import Clock
from gateway.config.model import UpstreamConfig

# A broker on the other side of the world answers in less.
BROKER_S = 5.0
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
