"""One CoAP server an address, shared by the parts of a process that serve there: devices below, an EMS above.

Each part brings its own tree of resources with its own list of sources. Cannot do: two parts with the same path on
one address (the second is an ``OperatorError``).
"""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.transport.coap import GuardedSite, Sources, open_server, shut  # isort: skip
import aiocoap
import aiocoap.error

from gateway.errors import OperatorError
from gateway.transport.coap_site import WELL_KNOWN, Discovery


class _AnyOf(Sources):
    """Whoever one of the trees allows may reach the message layer; each tree looks again."""

    def __init__(self, sites: list[GuardedSite]) -> None:
        super().__init__(())
        self._sites = sites

    def allows(self, host: str) -> bool:
        if any(site.sources.would_allow(host) for site in self._sites):
            return True
        for site in self._sites:
            site.sources.refused += 1
        return False


class _Trees(GuardedSite):
    """Several trees as one."""

    def __init__(self) -> None:
        self.sites: list[GuardedSite] = []
        super().__init__(_AnyOf(self.sites))
        self.add_resource(WELL_KNOWN, Discovery(self.sites))

    async def render_to_pipe(self, request: Any) -> None:
        if request.request.opt.oscore is not None:
            await self._secured(request)
            return
        path = tuple(request.request.opt.uri_path)
        for site in self.sites:
            if site.has(path):
                await site.render_to_pipe(request)
                return
        await super().render_to_pipe(request)

    async def _secured(self, pipe: Any) -> None:
        """Its path is known only once it is opened."""
        for site in self.sites:
            key = site.keys.find(pipe.request) if site.keys is not None else None
            if key is not None:
                from gateway.transport.oscore import serve

                await serve(pipe, key, self)
                return
        raise aiocoap.error.Unauthorized("Security context not found")


class _Server:
    """An open address and who uses it."""

    def __init__(self, trees: _Trees, context: aiocoap.Context) -> None:
        self.trees = trees
        self.context = context


class Lease:
    """A part's share of a server: send requests through ``context``; ``close`` when the part ends."""

    def __init__(self, hub: CoapHub, key: tuple[str, int], server: _Server, site: GuardedSite) -> None:
        self.context = server.context
        self.port = key[1]
        self._hub = hub
        self._key = key
        self._server = server
        self._site = site

    async def close(self) -> None:
        """The part's resources are gone; the address is free when its last part went."""
        sites = self._server.trees.sites
        if self._site in sites:
            sites.remove(self._site)
            if not sites:
                self._hub.forget(self._key)
                await shut(self._server.context)


class CoapHub:
    """The CoAP servers of one process."""

    def __init__(self, ipv6: bool | None = None) -> None:
        self._ipv6 = ipv6
        self._servers: dict[tuple[str, int], _Server] = {}
        self._opening = asyncio.Lock()

    async def open(self, site: GuardedSite, host: str, port: int) -> Lease:
        """Serve ``site`` at ``host:port``. Raise ``OperatorError`` when that is taken by another process, is not an
        address of ours, or serves the same path already."""
        key = (host, port)
        async with self._opening:  # parts start side by side
            server = self._servers.get(key)
            if server is None:
                trees = _Trees()
                server = _Server(trees, await open_server(trees, host, port, self._ipv6))
                if port:
                    self._servers[key] = server
        for path in site.paths():
            if any(other.has(path) for other in server.trees.sites):
                raise OperatorError(f"CoAP {host}:{port}: two parts serve /{'/'.join(path)}; give one another port")
        server.trees.sites.append(site)
        return Lease(self, key, server, site)

    def forget(self, key: tuple[str, int]) -> None:
        """Its last part went."""
        self._servers.pop(key, None)
