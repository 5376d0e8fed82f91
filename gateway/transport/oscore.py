"""OSCORE (RFC 8613) on our CoAP endpoints: requests and answers between two peers that share a context.

Needs the extra ``oscore``; imported only where a key is configured. Sender sequence numbers are reserved in blocks,
on the disk before one of them is used, and skipped at a start; what was received before a restart is told from
replays by the Echo of appendix B.1.2. Cannot do: groups, EDHOC, outer blocks (inner ones: yes), proxies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gateway.transport.coap import host_port  # isort: skip
import aiocoap
import aiocoap.error
import filelock
from aiocoap import interfaces, oscore
from aiocoap.message import UndecidedRemote
from aiocoap.pipe import Pipe
from aiocoap.protocol import BlockwiseRequest, Request

from gateway.errors import OperatorError
from gateway.transport.oscore_files import SEQUENCE, ema_of, write

# One write to the disk for so many messages; a start skips at most so many of 2**40.
BLOCK = 1000
OBSERVE_MASK = 0xFFFFFF


class NotSecured(aiocoap.error.Error):
    """The answer to a protected request came without protection."""


class Key(oscore.FilesystemSecurityContext):
    """One end of a pair. ``ema``: the EMA whose pair it is. Raise ``OperatorError`` for a folder that will not do."""

    def __init__(self, folder: Path) -> None:
        self.lockfile: filelock.BaseFileLock | None = None
        self.closed = False
        self.folder = folder
        self.ema = ema_of(folder)
        try:
            super().__init__(str(folder), BLOCK, BLOCK)
        except filelock.Timeout:
            text = "another process uses this context, which is for one process"
            raise OperatorError(f"{folder}: {text}") from None
        except OSError as err:
            raise OperatorError(f"{folder}: {err.strerror or err}") from err
        except (ValueError, LookupError, TypeError) as err:
            if self.lockfile is not None:
                self.lockfile.release()
            raise OperatorError(f"{folder}: {err}") from err

    def __del__(self) -> None:
        """Nothing: what is not closed was killed, and its numbers are skipped."""

    def new_sequence_number(self) -> int:
        """One that was never given and never will be. Raise ``ContextUnavailable``."""
        if self.closed:
            raise oscore.ContextUnavailable(f"{self.folder}: is closed")
        return int(super().new_sequence_number())

    def post_seqnoincrease(self) -> None:
        """Called by aiocoap with the next number, before the last one is used. Its own counts a block as reserved
        whose writing failed."""
        if self.sender_sequence_number > self.sequence_number_persisted:
            self._keep(self.sender_sequence_number + BLOCK, self.replay_window_persisted)

    def _replay_window_changed(self) -> None:
        """Called by aiocoap: after the first message received, the window on the disk is no longer true."""
        if self.replay_window_persisted:
            self._keep(self.sequence_number_persisted, False)

    def _keep(self, reserved: int, window: bool) -> None:
        received = self.recipient_replay_window.persist() if window else "unknown"
        try:
            write(self.folder, SEQUENCE, {"next-to-send": reserved, "received": received})
        except OSError as err:
            raise oscore.ContextUnavailable(f"{self.folder / SEQUENCE}: {err.strerror or err}") from err
        self.sequence_number_persisted = reserved
        self.replay_window_persisted = window

    def unprotect(self, protected_message: Any, request_id: Any = None) -> Any:
        """Raise ``aiocoap.error.Error``."""
        if self.closed:
            raise oscore.ContextUnavailable(f"{self.folder}: is closed")
        return super().unprotect(protected_message, request_id)

    def close(self) -> None:
        """The rest of the block is given back, and the next start needs no Echo."""
        if self.closed:
            return
        self.closed = True
        with contextlib.suppress(aiocoap.error.Error):
            self._keep(self.sender_sequence_number, self.recipient_replay_window.is_initialized())
        if self.lockfile is not None:
            self.lockfile.release()
            self.lockfile = None


class SecuredAddress(interfaces.EndpointAddress):
    """A peer behind a key. A request to it is protected by that key; one from it was."""

    is_multicast = False
    is_multicast_locally = False
    maximum_payload_size = 1024
    maximum_block_size_exp = 6

    def __init__(self, key: Key, address: Any) -> None:
        self.key = key
        self.address = address

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecuredAddress) and (self.key, self.address) == (other.key, other.address)

    def __hash__(self) -> int:
        return hash((self.key, self.address))

    @property
    def hostinfo(self) -> Any:
        return self.address.hostinfo

    @property
    def hostinfo_local(self) -> Any:
        return self.address.hostinfo_local

    @property
    def uri_base(self) -> Any:
        return self.address.uri_base

    @property
    def uri_base_local(self) -> Any:
        return self.address.uri_base_local

    @property
    def scheme(self) -> Any:
        return self.address.scheme

    @property
    def blockwise_key(self) -> Any:
        return self.address.blockwise_key, self.key.recipient_key

    def request(self, context: aiocoap.Context, message: Any, blocks: bool) -> Any:
        """Send ``message``, whose remote this is, over ``context``; as ``context.request``."""
        return _Way(context).request(message, blocks)


def secured(key: Key, host: str, port: int) -> SecuredAddress:
    """A peer that was not heard yet."""
    return SecuredAddress(key, UndecidedRemote("coap", host_port(host, port)))


class Keys:
    """The contexts of one end. ``open`` before use, ``close`` as often: parts of a process share them."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = list(folders)
        self._keys: list[Key] = []
        self._users = 0

    def open(self) -> list[Key]:
        """Raise ``OperatorError`` for a context that cannot be used, or an EMA with two."""
        if not self._users:
            try:
                for folder in self._folders:
                    self._keys.append(Key(folder))
                    if len(self.emas) < len(self._keys):
                        raise OperatorError(f"{folder}: is a second context of EMA {self._keys[-1].ema}")
            except OperatorError:
                self._close()
                raise
        self._users += 1
        return self._keys

    def close(self) -> None:
        self._users -= 1
        if not self._users:
            self._close()

    def _close(self) -> None:
        for key in self._keys:
            key.close()
        self._keys = []

    @property
    def emas(self) -> set[int]:
        """Who has a key."""
        return {key.ema for key in self._keys}

    def speaker(self, remote: Any) -> int | None:
        """The EMA whose key protected a message from ``remote``; None: none of ours did."""
        return remote.key.ema if isinstance(remote, SecuredAddress) and remote.key in self._keys else None

    def find(self, request: Any) -> Key | None:
        """The key that a protected request names; None: none of ours."""
        try:
            named = oscore.verify_start(request)
        except (aiocoap.error.Error, ValueError, LookupError):
            return None
        return next((key for key in self._keys if key.get_oscore_context_for(named) is not None), None)


async def serve(pipe: Any, key: Key, site: Any) -> None:
    """Let ``site`` answer a request that names ``key``. Raise aiocoap's errors for one that it does not protect."""
    try:
        request, request_id = key.unprotect(pipe.request)
    except aiocoap.error.RenderableError:
        raise  # the question for an Echo
    except oscore.ReplayError:
        raise aiocoap.error.Unauthorized("Replay detected") from None
    except (aiocoap.error.Error, ValueError, LookupError) as err:
        logging.getLogger(__name__).debug("%s: %s", key.folder, err)
        raise aiocoap.error.BadRequest("Decryption failed") from None
    request.remote = SecuredAddress(key, pipe.request.remote)
    inner = _Answers(pipe, request, key, request_id)
    try:
        await site.render_to_pipe(inner)
    except aiocoap.error.RenderableError as err:
        inner.add_response(err.to_message(), is_last=True)


class _Answers:
    """What a resource answers into; it leaves protected."""

    def __init__(self, pipe: Any, request: Any, key: Key, request_id: Any) -> None:
        self.request = request
        self._pipe = pipe
        self._key = key
        self._id = request_id

    def add_response(self, response: Any, is_last: bool = False) -> None:
        protected, _ = self._key.protect(response, self._id)
        if response.opt.observe is not None:
            protected.opt.observe = self._key.sender_sequence_number & OBSERVE_MASK
        self._pipe.add_response(protected, is_last=is_last)


class _Way:
    """Asks over a context of aiocoap; looks like one to ``BlockwiseRequest``."""

    def __init__(self, context: aiocoap.Context) -> None:
        self.loop = context.loop
        self.log = context.log
        self._context = context

    async def find_remote_and_interface(self, message: Any) -> Any:
        return self

    def request(self, message: Any, handle_blockwise: bool = True) -> Any:
        if handle_blockwise:
            return BlockwiseRequest(self, message)
        pipe = Pipe(message, self.log)
        request = Request(pipe, self.loop, self.log)
        task = self.loop.create_task(self._ask(pipe))
        pipe.on_interest_end(task.cancel)
        request.secured = task  # the loop alone would let it be collected
        return request

    async def _ask(self, pipe: Any) -> None:
        try:
            if not await self._asked(pipe, None):
                return
        except (aiocoap.error.Error, OSError) as err:
            pipe.add_exception(err)
        except Exception as err:
            pipe.add_exception(NotSecured(f"{type(err).__name__}: {err}"))

    async def _asked(self, pipe: Any, echo: bytes | None) -> bool:
        """``echo``: what the peer wants to hear before it believes that this is no replay."""
        message = pipe.request
        key = message.remote.key
        protected, request_id = key.protect(message if echo is None else message.copy(echo=echo))
        protected.remote = message.remote.address
        protected.transport_tuning = message.transport_tuning
        wire = self._context.request(protected, handle_blockwise=False)
        # At once: a context that is shut down fails on a request that is cancelled but not yet forgotten.
        pipe.on_interest_end(wire._stop_interest)
        try:
            answer = await wire.response
            plain = self._opened(key, answer, request_id)
            if echo is None and plain.code == aiocoap.UNAUTHORIZED and plain.opt.echo is not None:
                return await self._asked(pipe, plain.opt.echo)
            more = message.opt.observe == 0 and answer.opt.observe is not None and plain.code.is_successful()
            last = -1 if plain.opt.observe is None else plain.opt.observe
            plain.opt.observe = 0 if more else None
            if more:
                over = self.loop.create_future()
                self._follow(wire, key, request_id, pipe, last, over)
            pipe.add_response(plain, is_last=not more)
            if more:
                await over
            return True
        finally:
            if wire.observation is not None and not wire.observation.cancelled:
                wire.observation.cancel()
            wire._stop_interest()

    def _opened(self, key: Key, answer: Any, request_id: Any) -> Any:
        if answer.opt.oscore is None:
            text = "without protection: our key is not the one it knows, or it knows none"
            raise NotSecured(f"it answers {answer.code} {text}")
        plain, _ = key.unprotect(answer, request_id)
        plain.remote = SecuredAddress(key, answer.remote)
        return plain

    def _follow(self, wire: Any, key: Key, request_id: Any, pipe: Any, last: int, over: asyncio.Future[None]) -> None:
        """Each notification once and in order (RFC 8613, 7.4.1)."""
        count = 0

        def end(err: Exception | None = None) -> None:
            if not over.done():
                over.set_result(None) if err is None else over.set_exception(err)

        def notified(answer: Any) -> None:
            nonlocal last, count
            if over.done():
                return
            try:
                plain = self._opened(key, answer, request_id)
            except (aiocoap.error.Error, ValueError, LookupError) as err:
                self.log.debug("notification: %s", err)  # anybody may write one
                return
            number = plain.opt.observe
            more = number is not None and plain.code.is_successful()
            if number is not None and number <= last:
                return
            last, count = last if number is None else number, count + 1
            plain.opt.observe = count if more else None
            pipe.add_response(plain, is_last=not more)
            if not more:
                end()

        wire.observation.register_callback(notified, _suppress_deprecation=True)
        wire.observation.register_errback(end, _suppress_deprecation=True)
