"""The EMS's end of profile ``emap1b`` over CoAP, sans-I/O: requests in, answers and happenings out.

Driven like ``links.mir2017.coap.server``. Cannot do: know where an EMA listens (who wraps it keeps the address that an
EMA asks from); else what ``emap1b.server`` cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from gateway.errors import PeerError
from gateway.links.emap1b import messages as emap
from gateway.links.emap1b.messages import Channel
from gateway.links.emap1b.server import EmaSession, Server
from gateway.links.mir2017 import happenings as h
from gateway.links.mir2017 import messages as neutral
from gateway.links.mir2017.coap.server import Answer, ServerOutput, Write
from gateway.links.mir2017.messages import Send

LONGEST_REASON = 200


class CoapServer:
    """All EMAs below the EMS ``server``.

    Hand every PUT to ``requested``: (key, outputs). Where no ``Answer`` with ``key`` None is among the outputs, the
    request waits for a later ``Answer`` with that key; several may wait for one key (a double), all get it.
    """

    controls_devices = False

    def __init__(self, server: Server) -> None:
        self._server = server

    @property
    def speaks(self) -> Callable[[int], bool]:
        """May whoever sent what is handled now speak for this EMA; who knows keys replaces it."""
        return self._server.speaks

    @speaks.setter
    def speaks(self, speaks: Callable[[int], bool]) -> None:
        self._server.speaks = speaks

    @property
    def refused(self) -> int:
        return self._server.refused

    @property
    def emas(self) -> dict[int, EmaSession]:
        """The EMAs heard of since this server started, by number. Read only."""
        return self._server.emas

    @property
    def paths(self) -> list[str]:
        """Every resource that an EMA writes to; it observes one below ``EMAP1.0b``."""
        return [emap.coap_path(emap.topic(self._server.name, channel)) for channel in Channel]

    # What came in

    def requested(self, path: str, body: bytes) -> tuple[Hashable, list[ServerOutput]]:
        """One PUT. Never raises: what the profile does not allow is counted and one ``Refused``, without answer."""
        key: Hashable = None
        outputs: list[ServerOutput] = []
        for output in self._server.received(emap.coap_topic(path), body):
            if isinstance(output, Send):
                outputs.append(Answer(None, output.body))
                continue
            outputs.append(output)
            match output:
                case h.Polled(ema):
                    key = ("poll", ema)
                case h.Reported(ema, number):
                    key = ("report", ema, number)
                case h.DeviceConnected(ema, device):
                    key = ("device", ema, device.device, True)
                case h.DeviceDisconnected(ema, device):
                    key = ("device", ema, device.device, False)
                case h.RdrAsked(ema, number):
                    key = ("rdr", ema, number)
                case h.EventAnswered(ema):
                    key = self._opt_key(ema, -1)
        return key, outputs

    def observed(self, rest: str) -> int:
        """The EMA that observes ``EMAP1.0b/<rest>``; answer ``messages.INITIAL``. Raise ``PeerError``."""
        number = emap.observed(f"{emap.PROFILE}/{rest}")
        if not self._server.admits(number):
            raise PeerError(f"{emap.PROFILE}/{rest}: as many EMAs as may be are served already")
        return number

    # What goes out

    def distribute(self, ema: int, event: neutral.DistributeEvent, observed: bool = False) -> Write:
        """An event for one EMA: written to it, or a notification where it observes."""
        [send] = self._server.distribute(ema, event)
        return Write(ema, "" if observed else emap.coap_path(send.topic), send.body)

    def budget(self, ema: int, signal: emap.Signal, observed: bool = False) -> Write:
        """A price for one EMA, likewise."""
        [send] = self._server.budget(ema, signal)
        return Write(ema, "" if observed else emap.coap_path(send.topic), send.body)

    def answer_poll(self, ema: int, event: neutral.DistributeEvent | None = None, want_report: bool = False) -> Answer:
        """Answer a ``Polled``: with the oldest event that this EMA has not answered, or without one."""
        [send] = self._server.answer_poll(ema, event, want_report)
        return Answer(("poll", ema), send.body)

    def acknowledge_report(self, ema: int, request_id: int, code: int = emap.OK, description: str = "OK") -> Answer:
        """Only after the report is stored durably, or ``code`` 4xx: never to be, 5xx: not now."""
        [send] = self._server.refuse_report(ema, request_id, code, description)
        return Answer(("report", ema, request_id), send.body)

    def refuse_report(self, ema: int, request_id: int, code: int, why: str) -> Answer:
        """The report is not taken, ever (4xx) or now (5xx)."""
        return self.acknowledge_report(ema, request_id, code, why[:LONGEST_REASON])

    def acknowledge_device(self, ema: int, device: int, connected: bool) -> Answer:
        """Only after a ``DeviceConnected`` or ``DeviceDisconnected`` is stored durably; empty: nothing waits."""
        return self._last(("device", ema, device, connected), self._server.acknowledge_device(ema, device, connected))

    def acknowledge_opt(self, ema: int, code: int = emap.OK) -> Answer:
        """Only after an ``EventAnswered`` is stored durably, where the server was told so: the oldest of that EMA;
        empty: nothing waits."""
        return self._last(self._opt_key(ema, 0), self._server.acknowledge_opt(ema, code))

    def answer_rdr(self, ema: int, number: int, granted: bool, description: str = "") -> Answer:
        """Grant or refuse the power that a device asked back; empty: nothing waits."""
        return self._last(("rdr", ema, number), self._server.answer_rdr(ema, number, granted, description))

    def _opt_key(self, ema: int, index: int) -> Hashable:
        session = self.emas.get(ema)
        return "opt", ema, session.opts[index] if session is not None and session.opts else ""

    @staticmethod
    def _last(key: Hashable, sends: list[Send]) -> Answer:
        return Answer(key, sends[-1].body if sends else b"")
