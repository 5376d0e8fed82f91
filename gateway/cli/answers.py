"""What an answer to ``smartema setup`` may be where it names a place: addresses, networks, files."""

from __future__ import annotations

import os
from collections.abc import Callable

from gateway.cli.asking import whole
from gateway.config.places import is_address


def joined(given: tuple[str, ...], addresses: tuple[str, ...]) -> tuple[str, ...]:
    """The networks, and each address that is in none of them."""
    import ipaddress

    parsed = [ipaddress.ip_network(text, strict=False) for text in given]
    outside = [a for a in addresses if not any(ipaddress.ip_address(a) in network for network in parsed)]
    return (*given, *outside)


def network_of(address: str) -> str:
    import ipaddress

    return str(ipaddress.ip_network(f"{address}/{64 if ':' in address else 24}", strict=False))


def networks(text: str) -> tuple[str, ...]:
    import ipaddress

    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        for part in parts:
            ipaddress.ip_network(part, strict=False)
    except ValueError as err:
        raise ValueError(f"{err}; write such as 192.168.1.0/24") from None
    return parts


def host_port(usual: int) -> Callable[[str], tuple[str, int]]:
    """``host`` or ``host:port``, the usual port where none is said; "none" is no host."""

    def parse(text: str) -> tuple[str, int]:
        if text.lower() in ("none", "-"):
            return "", 0
        host, _, port = text.rpartition(":") if text.count(":") == 1 else (text, "", str(usual))
        if not host or any(char.isspace() or char == "/" for char in host):
            example = f"write an address such as 192.168.1.50, with :port if it is not {usual}, or none"
            raise ValueError(f"{text!r}: {example}")
        return host, whole(1, 65535)(port)

    return parse


def address(text: str) -> str:
    if not is_address(text):
        raise ValueError(f"{text!r}: write an IP address such as 192.168.1.1")
    return text


def address_or_none(text: str) -> str:
    return address(text) if text else ""


def readable(text: str) -> str:
    if text and not os.path.isfile(text):
        raise ValueError(f"{text}: no such file")
    return os.path.abspath(text) if text else ""


def absolute(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text))
