"""The links of the demo's site through proxies that count what passes, and impair it where they are told to."""

from __future__ import annotations

import random

from lab.impair import Impairment, Tally
from lab.impair_tcp import TcpLink
from lab.impair_udp import UdpLink

Address = tuple[str, int]
# Devices over CoAP are on this host, so that the proxy can stand at their port on the EMA's.
DEVICES_HOST = "127.0.0.9"
# On a busy machine.
PROXY_S = 0.2


class Wires:
    """One proxy a link, by name: ``ems mqtt``, ``ems coap``, ``ems udp``, ``site mqtt``, ``site coap``."""

    def __init__(self, impairment: Impairment, seed: int) -> None:
        self.impairment = impairment
        self._seed = seed
        self._links: dict[str, TcpLink | UdpLink] = {}

    @property
    def slack_s(self) -> float:
        """Seconds of the machine's clock that an exchange may need beyond its own: there and back, once repeated."""
        return PROXY_S + 4 * self.impairment.delay_s + (0.5 if self.impairment.share else 0.0)

    async def tcp(self, name: str, target: Address) -> Address:
        """Where to connect instead."""
        link = TcpLink(target, self.impairment, self._rng(name))
        self._links[name] = link
        return await link.open()

    async def udp(self, name: str, target: Address, same_port: bool = False) -> Address:
        """Where to send instead."""
        link = UdpLink(target, self.impairment, self._rng(name), same_port=same_port)
        self._links[name] = link
        return await link.open()

    def ways(self, name: str) -> tuple[Tally, Tally]:
        """(towards the target, back): what passed so far."""
        link = self._links[name]
        if isinstance(link, TcpLink):
            return link.up + Tally(), link.down + Tally()
        return link.up.tally + Tally(), link.down.tally + Tally()

    def total(self) -> Tally:
        """Of all links, both ways."""
        return sum((tally for name in self._links for tally in self.ways(name)), Tally())

    async def close(self) -> None:
        """Nothing passes any more."""
        for link in self._links.values():
            await link.close()

    def _rng(self, name: str) -> random.Random:
        """Each link its own, so that more on one does not change the fate of another."""
        return random.Random(f"{self._seed} {name}")
