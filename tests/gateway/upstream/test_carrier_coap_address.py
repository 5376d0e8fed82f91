"""Where the CoAP carrier asks: the address of the last answer; looked up anew when an answer is missing."""

from __future__ import annotations

import asyncio
import logging
import random
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.coap_site import PULL, EmaEnd, peer
from gateway.clock import SystemClock
from gateway.config.model import EmaConfig, UpstreamConfig
from gateway.errors import TransientError
from gateway.links.mir2017.messages import Send
from gateway.upstream import carrier_coap
from gateway.upstream.carrier import Hooks
from gateway.upstream.carriers import Ways, carrier_of


async def _nothing() -> None: ...


async def test_a_missing_answer_has_the_ems_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    answers: list[Any] = [SimpleNamespace(remote="there"), SimpleNamespace(remote="here"), None, None]

    async def ask(context: object, to: object, *rest: object) -> Any:
        asked.append(to)
        answer = answers.pop(0)
        if answer is None:
            raise TransientError("no answer")
        return answer

    monkeypatch.setattr(carrier_coap, "ask", ask)
    config = UpstreamConfig(host="ems.example", port=5700, protocol="coap", mode=PULL)
    ways = Ways(SystemClock(), random.Random(1), logging.getLogger("test"))
    _, made = carrier_of(config, EmaConfig(number=1), ways)
    carrier: Any = made(Hooks(lambda _: None, _nothing, lambda: None))
    carrier._lease = SimpleNamespace(context=None)
    for _ in range(2):
        await carrier.publish(Send("Poll", b""))
    for _ in range(2):
        with pytest.raises(TransientError):
            await carrier.publish(Send("Poll", b""))
    assert asked == ["ems.example:5700", "there", "here", "ems.example:5700"]


async def test_polls_need_no_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with peer(75) as ends, EmaEnd(ends.ems, PULL).registered() as ema:
        looked: list[object] = []
        loop = asyncio.get_running_loop()
        getaddrinfo = loop.getaddrinfo

        async def counted(*args: Any, **options: Any) -> Any:
            looked.append(args)
            return await getaddrinfo(*args, **options)

        monkeypatch.setattr(loop, "getaddrinfo", counted)
        for _ in range(3):
            await ema.poll()
        assert looked == []
