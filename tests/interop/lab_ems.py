"""An EMS of the lab on CoAP, as its slides show it: a socket and bytes, nothing of ours."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass
from typing import Any

VEN = "VEN_MIR1"
_TAIL = {"RequestID": 1, "RegistrationID": 1, "Version": 2}
_WHO = {"VENID": VEN, "VTNID": "MIR_VTN", "TransportName": "MIR_VTN"}
_PLAIN = {"Service": "Response", "VENID": VEN, "Response": 200, "RequestID": 1}
ANSWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "QueryRegistration": ("DR ", {"Service": "CreatedPartyRegistration", **_WHO, "Duration": 200, **_TAIL}),
    "CreatePartyRegistration": (
        "DR ",
        {"Service": "CreatedPartyRegistration2", **_WHO, "Response": 200, "Duration": 200, **_TAIL},
    ),
    "RegisterReport": ("DR ", {"Service": "RegisteredReport", **_WHO, "Response": 200, **_TAIL}),
    "RegisteredReport": ("DR ", {**_PLAIN, "Service": "Response"}),
    "RequestEvent": ("DR ", {"Service": "DistributeEvent", "VENID": VEN, "Response": "ACK_SUCCESS", **_TAIL}),
    "createdEvent": ("DR ", _PLAIN),
    "UpdateReport": ("DR ", {"RequestID": 1, "VENID": VEN, "Response": 200, "Responsedescription": "MIR"}),
    "DeviceConnect": ("DR ", {"gw": "gw/1", "dev": "dev/4", "onoff": "null", "dimming": "null"}),
}
SET_UP_POLL = ("DR ", {"Service": "RegisterReport", **_WHO, "Response": "ACK_SUCCESS", "Duration": 200, **_TAIL})
NO_EVENT = ("DR_P ", _PLAIN)


@dataclass(frozen=True)
class Heard:
    """One request: the datagram, and what of it matters."""

    raw: bytes
    path: str
    body: bytes

    @property
    def keys(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


class LabEms:
    """``heard``: every request, oldest first; ``event`` answers the next poll after the set-up.

    ``observers``: each question to observe, answered where it is ``observable``.
    """

    def __init__(self) -> None:
        self.wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.wire.bind(("127.0.0.1", 0))
        self.wire.setblocking(False)
        self.port = self.wire.getsockname()[1]
        self.heard: list[Heard] = []
        self.event: dict[str, Any] | None = None
        self.observers: list[bytes] = []
        self.observable = True
        self._polled = False
        asyncio.get_running_loop().add_reader(self.wire, self._read)

    def on(self, path: str) -> list[Heard]:
        return [request for request in self.heard if request.path == path]

    def _read(self) -> None:
        data, peer = self.wire.recvfrom(4096)
        length = data[0] & 0x0F
        if data[1] == 1 and b"obs" in data:
            self.observers.append(data)
            if self.observable:
                head = bytes([0x60 | length, 0x45]) + data[2 : 4 + length]
                self.wire.sendto(head + b"\x61\x01\x60\xff" + b"Initial_Success", peer)
        if data[1] != 3:  # nothing else but PUT
            return
        path, at = [], 4 + length
        number = 0
        while at < len(data) and data[at] != 0xFF:
            delta, size = data[at] >> 4, data[at] & 0x0F
            at += 1
            if size == 13:
                size, at = data[at] + 13, at + 1
            assert delta < 13
            number += delta
            if number == 11:
                path.append(data[at : at + size].decode())
            at += size
        request = Heard(data, "/".join(path), data[at + 1 :])
        self.heard.append(request)
        word, keys = self._answer(request)
        text = f"{word}{json.dumps(keys)}" if keys else word
        # Acknowledgement with the answer in it, its message id and token; text/plain.
        head = bytes([0x60 | length, 0x45]) + data[2 : 4 + length]
        self.wire.sendto(head + b"\xc0\xff" + text.encode(), peer)

    def _answer(self, request: Heard) -> tuple[str, dict[str, Any]]:
        if request.path != "Poll":
            return ANSWERS.get(request.path, (request.path, {}))
        if not self._polled:
            self._polled = True
            return SET_UP_POLL
        event, self.event = self.event, None
        return NO_EVENT if event is None else ("DR_E ", event)

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self.wire)
        self.wire.close()
