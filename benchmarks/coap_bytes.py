"""Bytes of the same messages in every profile over every link, with the same ids, beside the lab's frames of a poll.

Made by the ends themselves, without a wire. Payload, and in brackets the frame around it: Ethernet, IPv4 and UDP with
CoAP's head and options (no token), or TCP with time stamps and MQTT's head and topic at QoS 1. A payload that CoAP
takes in blocks says how many instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

# First: it sets what aiocoap reads when it is imported.
from gateway.transport.coap_ask import LARGEST_DATAGRAM, TEXT  # isort: skip
import aiocoap

from gateway.links.emap1b import messages as emap
from gateway.links.emap1b.client import Client as EmapClient
from gateway.links.emap1b.coap import CoapClient as EmapCoapClient
from gateway.links.emap1b.coap_server import CoapServer as EmapCoapServer
from gateway.links.emap1b.server import Server as EmapServer
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.client import Client
from gateway.links.mir2017.coap.client import Client as CoapClient
from gateway.links.mir2017.coap.server import Server as CoapServer
from gateway.links.mir2017.server import Server

VEN = "VEN_MIR1"
WALL = 1_760_000_000.0
# As long as the random numbers that requestIDs are made of.
RUN = 2**51 + 1
DEVICES = 20
LAB_POLL, LAB_ANSWER = 139, 123
ETHERNET_IP_UDP = 14 + 20 + 8
ETHERNET_IP_TCP = 14 + 20 + 32
LINKS = ("mir2017 MQTT", "mir2017 CoAP", "emap1b MQTT", "emap1b CoAP")
ANSWER, NOTIFICATION = "answer", "notification"

EVENT = wire.DistributeEvent(59_862_068, 0, WALL, WALL + 3600, 800, request_id=59_862_068 % 2**19 * 4096, target=VEN)
REPORT = wire.UpdateReport(1, VEN, wire.request_id(3, 42), round(WALL * 1000), 730, 800, 70, -120, -50)
EXPLICIT = wire.UpdateReport(
    *(getattr(REPORT, name) for name in ("ema", "ven_id", "request_id", "time_ms", "power", "threshold")),
    *(REPORT.margin, REPORT.generate, REPORT.storage),
    tuple(wire.DeviceEntry(number, True, 9, 60, number) for number in range(1, DEVICES + 1)),
)


class Cell:
    """One message on one link. ``path``: its topic or CoAP path, or what else it is."""

    def __init__(self, path: str, body: bytes, coap: bool, content_format: int = TEXT) -> None:
        self.payload = len(body)
        self.blocks = math.ceil(len(body) / LARGEST_DATAGRAM) if coap else 1
        self.frame = _coap_frame(path, body, content_format) if coap else _mqtt_frame(path, body)

    def __str__(self) -> str:
        return f"{self.payload:,} ({self.blocks} blocks)" if self.blocks > 1 else f"{self.payload:,} ({self.frame:,})"


def _mqtt_frame(topic: str, body: bytes) -> int:
    rest = 2 + len(topic) + 2 + len(body)
    return ETHERNET_IP_TCP + 1 + (1 if rest < 128 else 2 if rest < 16_384 else 3) + rest


def _coap_frame(path: str, body: bytes, content_format: int) -> int:
    message = aiocoap.Message(code=aiocoap.PUT, payload=body, content_format=content_format, _mid=1, _token=b"")
    message.mtype = aiocoap.CON
    if path in (ANSWER, NOTIFICATION):
        message.code = aiocoap.CONTENT
        message.opt.observe = 17 if path == NOTIFICATION else None
    else:
        message.opt.uri_path = tuple(path.removeprefix("/").split("/"))
    return ETHERNET_IP_UDP + len(message.encode())


def mir2017_mqtt() -> dict[str, Cell]:
    """Every message over MQTT."""
    return _mqtt(Client(1, VEN, wire.zone_named("UTC")), Server(zone=wire.zone_named("UTC")))


def emap1b_mqtt() -> dict[str, Cell]:
    """The same in the other profile."""
    client = EmapClient(1, VEN, wire.zone_named("UTC"), wall=lambda: WALL, run=RUN)
    return _mqtt(client, EmapServer(wall=lambda: WALL, run=RUN))


def _mqtt(client: Any, server: Any) -> dict[str, Cell]:
    def cell(sends: list[wire.Send]) -> Cell:
        (send,) = sends
        return Cell(send.topic, send.body, coap=False)

    polled = client.poll()
    cells = {"poll": cell(polled)}
    _hear(server, polled)
    cells["its answer"] = cell(server.answer_poll(1))
    cells["event, polled"] = cell(server.answer_poll(1, EVENT))
    pushed = server.distribute(1, EVENT)
    cells["event, pushed"] = cell(pushed)
    _hear(client, pushed)
    cells["opt"] = cell(client.created_event(EVENT.event_id, EVENT.request_id, True))
    for name, report in (("report, explicit", EXPLICIT), ("report, implicit", REPORT)):
        cells[name] = cell(client.report(report))
    cells["its acknowledgement"] = cell(server.acknowledge_report(1, REPORT.request_id))
    return cells


def _hear(end: Any, sends: list[wire.Send]) -> None:
    for send in sends:
        end.received(send.topic, send.body)


def mir2017_coap() -> dict[str, Cell]:
    """Every message over CoAP."""
    return _coap(CoapClient(1, VEN, wire.zone_named("UTC")), CoapServer(zone=wire.zone_named("UTC")), TEXT)


def emap1b_coap() -> dict[str, Cell]:
    """The same in the other profile."""
    client = EmapCoapClient(1, VEN, wire.zone_named("UTC"), wall=lambda: WALL, run=RUN)
    server = EmapCoapServer(EmapServer(wall=lambda: WALL, run=RUN, opts_at_once=False))
    return _coap(client, server, emap.CONTENT_FORMAT)


def _coap(client: Any, server: Any, content_format: int) -> dict[str, Cell]:
    def cell(path: str, body: bytes) -> Cell:
        return Cell(path, body, True, content_format)

    def asked(sends: list[wire.Send]) -> Cell:
        (send,) = sends
        server.requested(send.topic, send.body)
        return cell(send.topic, send.body)

    cells = {"poll": asked(client.poll())}
    cells["its answer"] = cell(ANSWER, server.answer_poll(1).body)
    cells["event, polled"] = cell(ANSWER, server.answer_poll(1, EVENT).body)
    pushed = server.distribute(1, EVENT)
    cells["event, pushed"] = cell(pushed.path, pushed.body)
    noticed = server.distribute(1, EVENT, observed=True)
    cells["event, observed"] = cell(NOTIFICATION, noticed.body)
    client.requested(pushed.path, pushed.body)
    cells["opt"] = asked(client.created_event(EVENT.event_id, EVENT.request_id, True))
    for name, report in (("report, explicit", EXPLICIT), ("report, implicit", REPORT)):
        cells[name] = asked(client.report(report))
    cells["its acknowledgement"] = cell(ANSWER, server.acknowledge_report(1, REPORT.request_id).body)
    return cells


MAKERS: dict[str, Callable[[], dict[str, Cell]]] = dict(
    zip(LINKS, (mir2017_mqtt, mir2017_coap, emap1b_mqtt, emap1b_coap), strict=True)
)


def table() -> list[tuple[str, ...]]:
    """Its lines: a message each, a link each column, the lab's frames where they are known."""
    columns = {link: make() for link, make in MAKERS.items()}
    lab = {"poll": LAB_POLL, "its answer": LAB_ANSWER}
    names = list(columns["mir2017 CoAP"])
    lines: list[tuple[str, ...]] = [("payload (frame)", *LINKS, "the lab's frame")]
    for name in names:
        cells = [str(columns[link].get(name, "–")) for link in LINKS]
        lines.append((name, *cells, str(lab.get(name, ""))))
    return lines


def text() -> str:
    """The table for people."""
    lines = table()
    first, *widths = (max(len(line[i]) for line in lines) for i in range(len(lines[0])))
    rows = [(line[0].ljust(first), *(c.rjust(w) for c, w in zip(line[1:], widths, strict=True))) for line in lines]
    return "\n".join("  ".join(row).rstrip() for row in rows)


def run() -> list[dict[str, Any]]:
    print(f"bytes of messages, {DEVICES} devices\n{text()}\n")
    made = mir2017_coap()
    return [
        {"name": name, "value": frame, "unit": "bytes", "floor": lab, "ratio": frame / lab}
        for name, frame, lab in (
            ("poll_frame", made["poll"].frame, LAB_POLL),
            ("poll_answer_frame", made["its answer"].frame, LAB_ANSWER),
        )
    ]
