"""One MQTT session that comes back by itself: aiomqtt with the facts of docs/reference built in.

Cannot do: MQTT 5 properties, websockets, ordering across two sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import aiomqtt
from paho.mqtt.client import MQTTMessage

from gateway.clock import Clock
from gateway.errors import OperatorError, TransientError
from gateway.record import slim
from gateway.transport.backoff import Backoff
from gateway.transport.hosts import for_resolver
from gateway.transport.mqtt_session import Session
from gateway.transport.reasons import reason_of

# Without it a QoS 1 exchange stalls for 40 ms now and then (Nagle against delayed ACK).
NODELAY = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)
# A message of the lab's protocol is below 4 kB; an explicit report of 200 devices is near 20 kB.
LARGEST_MESSAGE = 262_144
# Faults told once each; what goes beyond is told at DEBUG only.
MOST_FAULTS = 50
LONGEST_FAULT = 200
# A broker that refuses, then asks for an account, then has a certificate that is too old.
MOST_REASONS = 5


class LinkState(Enum):
    """Where the session stands."""

    DOWN = "down"
    CONNECTING = "connecting"
    UP = "up"


@slim(frozen=True, slots=True)
class Tls:
    """TLS towards a broker. ``ca`` None: the system's. ``certificate``/``key``: a client certificate.

    ``pinned``: trust exactly this server certificate, whatever name it bears (our own broker's).
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    pinned: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Raise ``OperatorError`` that names the file that does not load."""
        for path in (self.ca, self.certificate, self.key, self.pinned):
            if path is not None and not path.is_file():
                raise OperatorError(f"{path}: no such file; TLS needs it")
        try:
            context = ssl.create_default_context(cafile=str(self.pinned or self.ca or "") or None)
            # Python 3.13 asks a CA for extensions that those made in labs and on routers seldom have.
            context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
            if self.pinned is not None:
                context.check_hostname = False
                context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (ssl.SSLError, OSError) as err:
            raise OperatorError(f"TLS files of {self.pinned or self.ca or self.certificate}: {err}") from err
        return context


@slim(frozen=True, slots=True)
class Will:
    """The last will, not retained, QoS 1."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """Where the broker is and who we are there. ``password`` comes from a file or the environment."""

    host: str
    port: int = 1883
    client_id: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    will: Will | None = None
    keepalive_s: int = 15
    subscriptions: tuple[tuple[str, int], ...] = ()
    clean: bool = True

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


class MqttLink:
    """A session towards one broker, held until ``run`` is cancelled.

    ``on_message(topic, payload)`` is called for each message, in order; it must not block. ``on_up`` is awaited
    after the subscriptions stand, ``on_down`` is called when the session broke. Nothing is queued while the
    link is down: ``publish`` then raises ``TransientError`` (paho would deliver it later, and the caller's own
    repetition makes two of it). Retained messages are dropped and counted (``kept``): nothing of our wires is
    retained, and a command or a state of another time would come again with each reconnection.
    """

    def __init__(
        self,
        settings: MqttSettings,
        clock: Clock,
        rng: random.Random,
        on_message: Callable[[str, bytes], None],
        on_up: Callable[[], Awaitable[None]] | None = None,
        on_down: Callable[[], None] | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        self.settings = settings
        self.state = LinkState.DOWN
        self.reconnects = 0
        self.oversized = 0
        self.kept = 0
        self._clock = clock
        self._backoff = Backoff(rng)
        self._on_message = on_message
        self._on_up = on_up
        self._on_down = on_down
        self._log = logger or logging.getLogger(__name__)
        self._client: Session | None = None
        self._failed = False
        self._reasons: set[str] = set()  # why it could not be reached since it was up, as far as they were told
        self._faults: set[str] = set()

    async def run(self) -> None:
        """Connect, serve, reconnect with jittered back-off until cancelled."""
        while True:
            try:
                await self._session()
                reason = "closed"
            except (aiomqtt.MqttError, OSError, ValueError) as err:
                reason = reason_of(err, self.settings)
            finally:
                was_up = self.state is LinkState.UP
                self.state = LinkState.DOWN
                client, self._client = self._client, None
                if client is not None:
                    client.release()
                if was_up and self._on_down is not None:
                    self._on_down()
            level = logging.DEBUG if reason in self._reasons or len(self._reasons) > MOST_REASONS else logging.WARNING
            self._failed = True
            self._reasons.add(reason)
            self._log.log(level, "MQTT %s: %s; trying again", self.settings.address, reason)
            await self._clock.sleep(self._backoff.next())

    async def _session(self) -> None:
        s = self.settings
        self.state = LinkState.CONNECTING
        client = Session(
            s.host if s.tls else for_resolver(s.host),
            s.port,
            username=s.username,
            password=s.password,
            identifier=s.client_id,
            clean_session=s.clean,
            tls_context=s.tls.context() if s.tls else None,
            will=aiomqtt.Will(s.will.topic, s.will.payload, 1, False) if s.will else None,
            keepalive=s.keepalive_s,
            timeout=10,
            max_queued_outgoing_messages=0,
            max_inflight_messages=1000,
            socket_options=NODELAY,
        )
        client.pending_calls_threshold = 10_000
        async with client:
            for topic, qos in s.subscriptions:
                await client.subscribe(topic, qos)
            self._client = client
            self.state = LinkState.UP
            if self._failed:
                self._log.info("MQTT %s: connected again", s.address)
                self.reconnects += 1
            self._failed = False
            self._reasons.clear()
            self._backoff.reset()
            up = asyncio.create_task(self._announce()) if self._on_up is not None else None
            try:
                # First what ``on_up`` says.
                await asyncio.sleep(0)
                await client.serve(self._deliver)
            finally:
                if up is not None:
                    up.cancel()
                    with contextlib.suppress(asyncio.CancelledError, Exception):
                        await up

    async def _announce(self) -> None:
        assert self._on_up is not None
        try:
            await self._on_up()
        except TransientError as err:
            self._log.debug("MQTT %s: %s", self.settings.address, err)
        except Exception as err:
            self._fault("after connecting", err)

    def _fault(self, where: str, err: Exception) -> None:
        """A fault of ours, not the peer's: one line the first time of its kind, the trace at DEBUG."""
        kind = f"{type(err).__name__}: {err}"[:LONGEST_FAULT]
        new = kind not in self._faults and len(self._faults) < MOST_FAULTS
        if new:
            self._faults.add(kind)
        self._log.log(logging.WARNING if new else logging.DEBUG, "MQTT %s: %s: %s", self.settings.address, where, kind)
        self._log.debug("MQTT %s: %s", self.settings.address, where, exc_info=err)

    def _deliver(self, message: MQTTMessage) -> None:
        if message.retain:
            self.kept += 1
            self._log.debug("MQTT %s: a retained message on %s is not taken", self.settings.address, message.topic)
            return
        if len(message.payload) > LARGEST_MESSAGE:
            self.oversized += 1
            return
        try:
            self._on_message(message.topic, bytes(message.payload))
        except Exception as err:
            # A message must never end the session: the peer would send it again for ever.
            self._fault(f"message on {message.topic}", err)

    @property
    def up(self) -> bool:
        return self.state is LinkState.UP

    def publish(self, topic: str, payload: bytes, qos: int = 1) -> Coroutine[Any, Any, None]:
        """On the socket when this returns; awaited it returns when the broker has it (QoS 1: its PUBACK).

        Raise ``TransientError``, here or there, when it has not.
        """
        client, mid = self._put(topic, payload, qos)
        return self._confirmed(client, mid, client.puback_of(mid) if qos else None)

    def _put(self, topic: str, payload: bytes, qos: int) -> tuple[Session, int]:
        client = self._client
        if client is None or self.state is not LinkState.UP:
            raise TransientError(f"MQTT {self.settings.address} is down")
        try:
            return client, client.put(topic, payload, qos)
        except (aiomqtt.MqttError, ValueError, RuntimeError) as err:
            raise TransientError(f"MQTT {self.settings.address}: {err}") from err

    async def _confirmed(self, client: Session, mid: int, confirmation: asyncio.Event | None) -> None:
        if confirmation is None:
            return
        try:
            await client.wait_for_puback(mid, confirmation)
        except aiomqtt.MqttError as err:
            raise TransientError(f"MQTT {self.settings.address}: {err}") from err
        if client is not self._client:
            raise TransientError(f"MQTT {self.settings.address}: the link broke before the broker had it")

    def post(self, topic: str, payload: bytes, qos: int = 1) -> None:
        """Publish without waiting; a failure is logged at DEBUG. For what is said again by its own protocol."""
        try:
            self._put(topic, payload, qos)
        except TransientError as err:
            self._log.debug("%s: %s", topic, err)
