"""Addresses of CoAP peers as text. Imports no aiocoap: it sets what that library reads when it is imported."""

from __future__ import annotations

import os
from typing import Any

# aiocoap sets SO_REUSEPORT, and a second server would take the same port silently.
os.environ.setdefault("AIOCOAP_REUSE_PORT", "0")


def host_port(host: str, port: int) -> str:
    """ "host:port" with the brackets that IPv6 needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def peer_host(remote: Any) -> str:
    """The peer's bare address, "192.168.1.200", without port, brackets and IPv4-in-IPv6 prefix."""
    text = str(remote.hostinfo)
    if text.startswith("["):
        text = text[1:].split("]")[0]
    elif text.count(":") == 1:
        text = text.rsplit(":", 1)[0]
    if text.startswith("::ffff:"):
        text = text[7:]
    return text


def peer_port(remote: Any) -> int:
    """The peer's port; 5683 when the address does not say one."""
    text = str(remote.hostinfo)
    tail = text.rsplit(":", 1)[-1]
    if text.startswith("[") and "]:" not in text:
        return 5683
    return int(tail) if ":" in text and tail.isdigit() else 5683
