"""The end of a CoAP server while questions of its own are under way."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from gateway.transport.coap import GuardedSite, Sources
from gateway.transport.coap_ask import ask
from gateway.transport.coap_shared import CoapHub
from tests.support.mosquitto import free_port
from tests.support.wait import until


async def test_the_address_is_free_though_questions_were_given_up_in_the_same_turn() -> None:
    port = free_port(socket.SOCK_DGRAM)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        lease = await CoapHub().open(GuardedSite(Sources(())), "127.0.0.1", port)
        to = f"127.0.0.1:{deaf.getsockname()[1]}"
        asked = [asyncio.create_task(ask(lease.context, to, "a", b"", 5.0)) for _ in range(3)]
        tokens = lease.context.request_interfaces[0]
        await until(lambda: len(tokens.outgoing_requests) == 3, what="they are under way")
        for task in asked:
            task.cancel()
        await lease.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(("127.0.0.1", port))
    for task in asked:
        with contextlib.suppress(asyncio.CancelledError):
            await task
