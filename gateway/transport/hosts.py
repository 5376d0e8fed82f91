"""How an address is handed to the resolver."""

from __future__ import annotations

import ipaddress


def for_resolver(host: str) -> str | bytes:
    """An address as bytes: for any text CPython first loads its tables of international names, 0.5 MB that a name
    alone needs."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host
    return host.encode("ascii")
