"""CoAP endpoints over aiocoap, on kernels with and without IPv6, with a list of allowed sources.

Cannot do: DTLS, multicast discovery. OSCORE comes with its own extra.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Sequence
from typing import Any

# aiocoap sets SO_REUSEPORT, and a second server would take the same port silently.
os.environ.setdefault("AIOCOAP_REUSE_PORT", "0")

import aiocoap
import aiocoap.error
import aiocoap.resource
from aiocoap import interfaces

from gateway.errors import OperatorError


class Sources:
    """Which addresses may speak to a listener: single addresses or networks; an empty list allows loopback only."""

    def __init__(self, allowed: Sequence[str]) -> None:
        texts = list(allowed) or ["127.0.0.0/8", "::1"]
        try:
            self._networks = [ipaddress.ip_network(text, strict=False) for text in texts]
        except ValueError as err:
            raise OperatorError(f"sources: {err}; write an address or a network such as 192.168.1.0/24") from err
        self.refused = 0

    def allows(self, host: str) -> bool:
        """Is this peer's address in the list. Counts what is not."""
        try:
            address = ipaddress.ip_address(host.strip("[]").split("%")[0])
        except ValueError:
            self.refused += 1
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in self._networks if network.version == address.version):
            return True
        self.refused += 1
        return False


class GuardedSite(aiocoap.resource.Site):
    """A tree of resources that answers 4.03 to whoever is not in its list of sources."""

    def __init__(self, sources: Sources) -> None:
        super().__init__()
        self.sources = sources

    async def render_to_pipe(self, request: Any) -> None:
        pipe = request
        remote = pipe.request.remote
        if not self.sources.allows(peer_host(remote)):
            raise aiocoap.error.Forbidden
        await super().render_to_pipe(pipe)


def peer_host(remote: interfaces.EndpointAddress) -> str:
    """The peer's bare address, "192.168.1.200", without port, brackets and IPv4-in-IPv6 prefix."""
    text = str(remote.hostinfo)
    if text.startswith("["):
        text = text[1:].split("]")[0]
    elif text.count(":") == 1:
        text = text.rsplit(":", 1)[0]
    if text.startswith("::ffff:"):
        text = text[7:]
    return text


def peer_port(remote: interfaces.EndpointAddress) -> int:
    """The peer's port; 5683 when the address does not say one."""
    text = str(remote.hostinfo)
    tail = text.rsplit(":", 1)[-1]
    if text.startswith("[") and "]:" not in text:
        return 5683
    return int(tail) if ":" in text and tail.isdigit() else 5683


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


async def open_server(site: aiocoap.resource.Site, host: str, port: int, ipv6: bool | None = None) -> aiocoap.Context:
    """A context that serves ``site`` on ``host:port`` and sends requests from there.

    Raise ``OperatorError`` when the port is taken or the address is not ours.
    """
    use6 = has_ipv6() if ipv6 is None else ipv6
    transport = "udp6" if use6 else "simplesocketserver"
    if not use6 and host in ("", "0.0.0.0", "::"):
        raise OperatorError(f"coap bind {host or '*'}: without IPv6 in the kernel one address has to be named")
    _check_free(host, port)
    try:
        return await aiocoap.Context.create_server_context(site, bind=(host, port), transports=[transport])
    except OSError as err:
        raise OperatorError(f"CoAP {host}:{port}: {err.strerror or err}; choose another address or port") from err


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
