"""Who may speak to a listener, by address."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

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
        allowed = self.would_allow(host)
        self.refused += not allowed
        return allowed

    def would_allow(self, host: str) -> bool:
        """The same, not counted."""
        try:
            address = ipaddress.ip_address(host.strip("[]").split("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks if network.version == address.version)
