"""CoAP endpoints over aiocoap, on kernels with and without IPv6, with a list of allowed sources.

Cannot do: DTLS, multicast discovery; OSCORE is in ``gateway.transport.oscore``. Without IPv6 an unreachable peer is
noticed by its silence only: that transport of aiocoap gets no ICMP errors.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

# First: it sets what aiocoap reads when it is imported.
from gateway.transport.coap_address import host_port, peer_host, peer_port  # isort: skip
import aiocoap
import aiocoap.error
from aiocoap import interfaces

from gateway.errors import OperatorError, TransientError
from gateway.transport.coap_site import GuardedSite
from gateway.transport.hosts import for_resolver
from gateway.transport.sources import Sources

__all__ = [
    "Deadline",
    "Guard",
    "GuardedSite",
    "Sources",
    "answer_to",
    "has_ipv6",
    "host_port",
    "open_server",
    "peer_host",
    "peer_port",
    "put",
    "shut",
]

# aiocoap warns of every datagram that it cannot read, so anybody could fill a log; what matters is counted here.
WIRE_LOG = "gateway.transport.coap.wire"
logging.getLogger(WIRE_LOG).setLevel(logging.CRITICAL)
# aiocoap keeps each request and its answer for 247 s to know a repetition; at 200 requests a second that is more
# memory than the whole daemon. All that comes here is idempotent or carries its own sequence number.
REMEMBER_REQUESTS_S = 15.0
MOST_REMEMBERED = 8192
# How often one request is sent within its deadline.
SENDINGS = 3


class Guard:
    """Stands before aiocoap's message layer, which remembers whatever reaches it.

    A stranger's request is answered by one stateless 4.03 and forgotten, a flood is dropped, and what makes the
    library fail ends no listener. ``dropped`` and ``broken`` count. What nobody waits for any more is not sent again.
    """

    def __init__(self, manager: Any, sources: Sources | None) -> None:
        self._manager = manager
        self._sources = sources
        self._take = manager.dispatch_message
        self.dropped = 0
        self.broken = 0
        self._send = manager.send_message
        manager.dispatch_message = self.dispatch
        manager.send_message = self._unless_withdrawn
        interface = manager.message_interface
        for name in ("datagram_msg_received", "_received_datagram"):
            if hasattr(interface, name):
                setattr(interface, name, self._unbreakable(getattr(interface, name)))

    def _unbreakable(self, receive: Callable[..., None]) -> Callable[..., None]:
        """A datagram on which aiocoap's own decoding fails is dropped; else the listener would go with it."""

        def received(*args: Any) -> None:
            try:
                receive(*args)
            except Exception as err:
                self.broken += 1
                logging.getLogger(__name__).debug("CoAP datagram: %r", err)

        return received

    def dispatch(self, message: Any) -> None:
        """One datagram that could be read."""
        try:
            if message.code.is_request() or (message.code is aiocoap.EMPTY and message.mtype is aiocoap.CON):
                if self._sources is not None and not self._sources.allows(peer_host(message.remote)):
                    self._forbid(message)
                    return
                if len(self._manager._recent_messages) >= MOST_REMEMBERED:
                    self.dropped += 1
                    return
                message.transport_tuning = _Incoming
            self._take(message)
        except Exception as err:
            self.broken += 1
            logging.getLogger(__name__).debug("CoAP message from %s: %r", message.remote, err)

    def withdraw(self, message: Any) -> None:
        """Neither send it again nor, while it waits for another to the same peer, at all; aiocoap would do both."""
        message.withdrawn = True
        manager = self._manager
        if manager._active_exchanges is None:
            return
        exchange = manager._active_exchanges.pop((message.remote, message.mid), None)
        if exchange is not None:
            exchange[1].cancel()
            manager._continue_backlog(message.remote)
        elif message.remote in manager._backlogs:
            backlog = manager._backlogs[message.remote]
            backlog[:] = [waiting for waiting in backlog if waiting[0] is not message]

    def _unless_withdrawn(self, message: Any, monitor: Any) -> Any:
        """A request whose peer's name was still being looked up comes here after it was given up."""
        if getattr(message, "withdrawn", False):
            return None
        manager, remote = self._manager, message.remote
        active = manager._active_exchanges
        if active is not None and remote in manager._backlogs and not any(peer == remote for peer, _ in active):
            # A sending that failed in the middle left a queue that nothing empties; each request after it would fail.
            manager._continue_backlog(remote)
        return self._send(message, monitor)

    def _forbid(self, message: Any) -> None:
        if message.mtype is not aiocoap.CON or not message.code.is_request() or message.remote.is_multicast_locally:
            return
        answer = aiocoap.Message(code=aiocoap.FORBIDDEN, _mtype=aiocoap.ACK, _mid=message.mid, _token=message.token)
        answer.remote = message.remote.as_response_address()
        self._manager.message_interface.send(answer)


class _IncomingTuning(aiocoap.TransportTuning):
    EXCHANGE_LIFETIME = REMEMBER_REQUESTS_S


_Incoming = _IncomingTuning()


class Deadline(aiocoap.Reliable):
    """Sendings spread over ``seconds``, after which nothing of the request is left; aiocoap's own takes 93 s."""

    MAX_RETRANSMIT = SENDINGS - 1

    def __init__(self, seconds: float) -> None:
        self.ACK_TIMEOUT = seconds / ((2**SENDINGS - 1) * self.ACK_RANDOM_FACTOR)


async def put(
    context: aiocoap.Context,
    to: interfaces.EndpointAddress | str,
    path: str,
    payload: bytes,
    seconds: float,
    **options: Any,
) -> Any:
    """PUT and its answer, whatever its code. ``to``: the address of a message before, else "host:port".

    ``seconds`` are the machine's. Raise ``TransientError`` when no answer comes in that time; after that, and once
    cancelled, it is not sent again. Sending to the address of an earlier message costs 0.15 ms less than to a text:
    keep the answer's ``remote``.
    """
    message = aiocoap.Message(code=aiocoap.PUT, payload=payload, transport_tuning=Deadline(seconds), **options)
    if isinstance(to, str):
        message.set_request_uri(f"coap://{to}/{path}")
    else:
        message.remote = to
        message.opt.uri_path = tuple(path.split("/"))
    return await answer_to(
        context, message, lambda: context.request(message, handle_blockwise=False), to, path, seconds
    )


async def answer_to(
    context: aiocoap.Context,
    message: aiocoap.Message,
    request: Callable[[], Any],
    to: interfaces.EndpointAddress | str,
    path: str,
    seconds: float,
) -> Any:
    """The answer to ``message``, which ``request`` sends. Raise ``TransientError`` when none comes in ``seconds``;
    after that, and once cancelled, it is not sent again."""
    asked: asyncio.Future[Any] | None = None
    try:
        asked = request().response
        await asyncio.wait((asked,), timeout=seconds)
        if not asked.done():
            raise TimeoutError
        return asked.result()
    except (aiocoap.error.Error, OSError, TimeoutError) as err:
        peer = to if isinstance(to, str) else to.hostinfo
        raise TransientError(f"CoAP {peer}: PUT /{path}: {_reason(err, seconds)}") from err
    finally:
        # First withdrawn, then cancelled: what aiocoap sends again for an answer that is cancelled fails in its timer.
        for guard in getattr(context, "guards", ()):
            guard.withdraw(message)
        if asked is not None:
            asked.cancel()


def _reason(err: Exception, seconds: float) -> str:
    if isinstance(err, (TimeoutError, aiocoap.error.ConRetransmitsExceeded)):
        return f"no answer within {seconds:.3g} s"
    return str(err.__cause__ or "") or str(err) or type(err).__name__


async def shut(context: aiocoap.Context) -> None:
    """Close a context and its socket. aiocoap's own way stops in the middle, the socket open, at each request whose
    answer was given up in this very turn."""
    while True:
        try:
            await context.shutdown()
            return
        except asyncio.InvalidStateError:
            continue  # that request is forgotten now, and the next one is its turn


def has_ipv6() -> bool:
    """Does this kernel have IPv6 (aiocoap's usual transport needs it)."""
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


async def open_server(site: Any, host: str, port: int, ipv6: bool | None = None) -> aiocoap.Context:
    """A context that serves ``site`` on ``host:port`` and sends requests from there.

    A ``GuardedSite``'s sources are held already before aiocoap remembers a message (``Guard``).
    Raise ``OperatorError`` when the port is taken or the address is not ours.
    """
    use6 = has_ipv6() if ipv6 is None else ipv6
    transport = "udp6" if use6 else "simplesocketserver"
    to_bind: Any = for_resolver(host) if use6 else host
    if not use6 and host in ("", "0.0.0.0", "::"):
        raise OperatorError(f"coap bind {host or '*'}: without IPv6 in the kernel one address has to be named")
    _check_free(host, port)
    try:
        context = await aiocoap.Context.create_server_context(
            site, bind=(to_bind, port), transports=[transport], loggername=WIRE_LOG
        )
    except OSError as err:
        raise OperatorError(f"CoAP {host}:{port}: {err.strerror or err}; choose another address or port") from err
    sources = site.sources if isinstance(site, GuardedSite) else None
    context.guards = [Guard(tokens.token_interface, sources) for tokens in context.request_interfaces]
    return context


def _check_free(host: str, port: int) -> None:
    """A plain bind tells what aiocoap's reuse flags would hide."""
    if port == 0:
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, port))
        except OSError as err:
            raise OperatorError(f"CoAP {host}:{port}: {err.strerror}; choose another address or port") from err
