"""The tree of resources that a CoAP server of ours shows, with a list of allowed sources.

Leaner than ``aiocoap.resource``, which it does not import: a router whose devices come over CoAP pays for what it uses.
Resources and trees of that module may be hung in all the same. Cannot do: blocks, in resources of this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# First: it sets what aiocoap reads when it is imported.
from gateway.transport.coap_address import peer_host  # isort: skip
import aiocoap
import aiocoap.error

from gateway.transport.sources import Sources

LINK_FORMAT = 40
WELL_KNOWN = (".well-known", "core")
Path = tuple[str, ...]


class Put:
    """One resource: PUT, one datagram. ``take(remote, payload)`` makes the answer."""

    observable = False

    def __init__(self, take: Callable[[Any, bytes], Any]) -> None:
        self._take = take

    async def render_to_pipe(self, pipe: Any) -> None:
        """Called by aiocoap. What does not fit into a datagram is refused: half a message kept is memory given away."""
        request = pipe.request
        if request.code is not aiocoap.PUT:
            raise aiocoap.error.UnallowedMethod
        block = request.opt.block1
        if block is not None and (block.more or block.block_number):
            answer = aiocoap.Message(code=aiocoap.REQUEST_ENTITY_TOO_LARGE)
        else:
            answer = self._take(request.remote, request.payload)
        if answer.opt.no_response is None:
            answer.opt.no_response = request.opt.no_response
        pipe.add_response(answer, is_last=True)


class Discovery:
    """``.well-known/core`` (RFC 6690): every path of ``sites``."""

    def __init__(self, sites: list[GuardedSite]) -> None:
        self._sites = sites

    async def render_to_pipe(self, pipe: Any) -> None:
        """Called by aiocoap."""
        if pipe.request.code is not aiocoap.GET:
            raise aiocoap.error.UnallowedMethod
        text = ",".join(link for site in self._sites for link in site.links())
        block = pipe.request.opt.block2
        answer = aiocoap.Message(code=aiocoap.CONTENT, payload=text.encode(), content_format=LINK_FORMAT)
        if len(answer.payload) > 1024 or block is not None:
            number, exponent = (block.block_number, block.size_exponent) if block is not None else (0, 6)
            answer = answer._extract_block(number, exponent, 1024)
        pipe.add_response(answer, is_last=True)


class GuardedSite:
    """A tree of resources that answers 4.03 to whoever is not in its list of sources."""

    def __init__(self, sources: Sources, keys: Any = None, only_secured: bool = False) -> None:
        """``keys``: those of ``gateway.transport.oscore``; ``only_secured``: what none of them protected is refused."""
        self.sources = sources
        self.keys = keys
        self._only_secured = only_secured
        self._resources: dict[Path, Any] = {}
        self._trees: dict[Path, Any] = {}

    def add_resource(self, path: list[str] | Path, resource: Any) -> None:
        """``resource``: one of this module, or of ``aiocoap.resource``; a ``PathCapable`` one takes all below it."""
        whole = any(kind.__name__ == "PathCapable" for kind in type(resource).__mro__)
        (self._trees if whole else self._resources)[tuple(path)] = resource

    def paths(self) -> list[Path]:
        """Where its resources and sub-trees stand."""
        return [*self._resources, *self._trees]

    def has(self, path: Path) -> bool:
        """Would it answer a request to that path."""
        return path in self._resources or any(path[: len(root)] == root for root in self._trees)

    def links(self) -> list[str]:
        """Each path as a link of RFC 6690."""
        found = [(path, resource) for path, resource in self._resources.items() if path != WELL_KNOWN]
        found += self._trees.items()
        return [f"</{'/'.join(path)}>{';obs' * hasattr(resource, 'add_observation')}" for path, resource in found]

    async def render_to_pipe(self, pipe: Any) -> None:
        """Called by aiocoap. Raise its errors, which it answers."""
        request = pipe.request
        if not self.sources.allows(peer_host(request.remote)):
            raise aiocoap.error.Forbidden
        if self._only_secured and self.keys.speaker(request.remote) is None:
            raise aiocoap.error.Unauthorized
        path = tuple(request.opt.uri_path)
        resource = self._resources.get(path)
        if resource is None:
            root = next((path[:count] for count in range(len(path) - 1, 0, -1) if path[:count] in self._trees), None)
            if root is None:
                raise aiocoap.error.NotFound
            resource = self._trees[root]
            pipe.request = request.copy(uri_path=path[len(root) :])
        elif not isinstance(resource, Put | Discovery):
            pipe.request = request.copy(uri_path=())
        await resource.render_to_pipe(pipe)
