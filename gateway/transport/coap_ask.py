"""Questions over CoAP as the lab's EMAs put them: text/plain unless said otherwise, no token while one is under way,
blocks where a message outgrows a datagram, confirmable or not."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from gateway.transport.coap import Deadline, answer_to  # isort: skip
import aiocoap
import aiocoap.error
from aiocoap import interfaces
from aiocoap.pipe import Pipe
from aiocoap.protocol import Request

TEXT = 0
LARGEST_DATAGRAM = 1024  # what goes beyond goes in blocks of that
# So long a peer may still send an answer that is apart from its acknowledgement again (RFC 7252, MAX_TRANSMIT_WAIT).
LATE_S = 93.0
# Numbers of the last answers apart from their acknowledgements, to know a copy by.
MOST_ANSWERS = 64


class _Confirmable(Deadline):
    """Sent again within its deadline."""


class _Once(aiocoap.Unreliable):
    """Non-confirmable: sent once."""


def short_tokens(context: aiocoap.Context) -> None:
    """Let a question of ``ask`` go without a token, as in the lab's frames, where none to the same peer is under way
    and the last one was answered: what the peer answers without one can then be meant for this one alone. Blocks and
    observations always have a token."""
    for tokens in context.request_interfaces:
        if not hasattr(tokens, "short_tokens"):  # an EMS above that comes again on the same address
            tokens.short_tokens = True
            _patch(tokens)


def _patch(tokens: Any) -> None:
    request, numbered = tokens.request, tokens.next_token
    short = False
    late: dict[Any, float] = {}  # until then (the loop's seconds) an answer without a token may be an older question's

    def short_request(pipe: Any) -> None:
        nonlocal short
        message, now = pipe.request, asyncio.get_running_loop().time()
        for remote in [remote for remote, until in late.items() if until <= now]:
            del late[remote]
        plain = isinstance(message.transport_tuning, _Confirmable | _Once) and message.opt.block1 is None
        short = plain and message.remote not in late and (b"", message.remote) not in (tokens.outgoing_requests or ())
        if short:
            pipe.on_event(lambda event: note(event, message.remote), is_interest=False)
        request(pipe)

    def note(event: Any, remote: Any) -> bool:
        if event.message is None:
            late[remote] = asyncio.get_running_loop().time() + LATE_S
        return False

    def next_token() -> bytes:
        nonlocal short
        wanted, short = short, False
        return b"" if wanted else bytes(numbered())

    tokens.request, tokens.next_token = short_request, next_token
    _without_doubles(tokens.token_interface)


def _without_doubles(manager: Any) -> None:
    """A network may double an answer. aiocoap looks at its token alone, so that without one the copy would be taken for
    the answer to the next question."""
    dispatch = manager.dispatch_message
    answers: deque[Any] = deque(maxlen=MOST_ANSWERS)

    def dispatch_once(message: Any) -> None:
        if message.code.is_response() and not message.token:
            number = message.remote, message.mid
            if message.mtype is aiocoap.ACK:
                if number not in (manager._active_exchanges or ()):
                    return
            elif number in answers:
                if message.mtype is aiocoap.CON:
                    manager._send_empty_ack(message.remote, message.mid, reason="it came before")
                return
            else:
                answers.append(number)
        dispatch(message)

    manager.dispatch_message = dispatch_once


async def ask(
    context: aiocoap.Context,
    to: interfaces.EndpointAddress | str,
    path: str,
    payload: bytes,
    seconds: float,
    confirmable: bool = True,
    content_format: int = TEXT,
) -> Any:
    """PUT and its answer, whatever its code. ``to``: the address of a message before, else "host:port".

    ``seconds`` are the machine's. Raise ``TransientError`` when no answer comes in that time.
    """
    tuning = _Confirmable(seconds) if confirmable else _Once()
    message = aiocoap.Message(code=aiocoap.PUT, payload=payload, content_format=content_format, transport_tuning=tuning)
    if isinstance(to, str):
        message.set_request_uri(f"coap://{to}/{path}", set_uri_host=False)
    else:
        message.remote = to
        message.opt.uri_path = tuple(path.split("/"))
    return await answer_to(
        context, message, lambda: _request(context, message, not isinstance(to, str)), to, path, seconds
    )


def _request(context: aiocoap.Context, message: aiocoap.Message, known: bool) -> Any:
    """``context.request``, protected where the peer has a key.

    One datagram to an address that is known leaves at once, not two turns of the loop later.
    """
    blocks = len(message.payload) > LARGEST_DATAGRAM
    secured = getattr(message.remote, "request", None)  # gateway.transport.oscore.SecuredAddress
    if secured is not None:
        return secured(context, message, blocks)
    if blocks or not known or len(context.request_interfaces) != 1:
        return context.request(message, handle_blockwise=blocks)
    pipe = Pipe(message, context.log)
    request = Request(pipe, context.loop, context.log)
    try:
        context.request_interfaces[0].request(pipe)
    except Exception as err:
        pipe.add_exception(err)
    return request
