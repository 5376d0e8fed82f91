"""EMA and EMS over CoAP under OSCORE: the whole session, and everybody else kept out."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

pytest.importorskip("filelock")
pytest.importorskip("cryptography")
pytest.importorskip("cbor2")

from gateway.errors import OperatorError, TransientError
from gateway.site.report import NoticeKind

from gateway.transport.coap import GuardedSite, Sources  # isort: skip
import aiocoap

from gateway.transport.coap_ask import ask
from gateway.transport.coap_shared import CoapHub
from gateway.transport.coap_site import Put
from gateway.transport.oscore import Keys, secured
from gateway.transport.oscore_files import make_pair
from tests.gateway.upstream.peers import notice, site_report
from tests.headend.pair import Pair, up
from tests.support.mosquitto import free_port
from tests.support.wait import until

UNAUTHORIZED = 4 << 5 | 1
# An answer's own code is inside; what everybody sees is always this.
CHANGED_OUTSIDE = 2 << 5 | 4


def recorded(lease: Any) -> list[bytes]:
    """What leaves there from now on, as on the wire."""
    interface = lease.context.request_interfaces[0].token_interface.message_interface
    sent: list[bytes] = []
    send = interface.send

    def noted(message: Any) -> None:
        sent.append(message.encode())
        send(message)

    interface.send = noted
    return sent


async def replayed(datagram: bytes, port: int) -> bytes:
    """The answer to it from another address: the message layer does not know it for a copy."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(("127.0.0.1", 0))
        again.setblocking(False)
        again.sendto(datagram, ("127.0.0.1", port))
        async with asyncio.timeout(10):
            return await asyncio.get_running_loop().sock_recv(again, 2000)


def keyed(tmp_path: Path, profile: str = "mir2017", emas: tuple[int, ...] = (1,)) -> Pair:
    for number in emas:
        make_pair(tmp_path / f"ema-{number}", tmp_path / "keys" / f"ema-{number}", number)
    return Pair(tmp_path / "state", profile, oscore_dir=str(tmp_path / "keys"))


@pytest_asyncio.fixture(params=["mir2017", "emap1b"])
async def pair(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    made = keyed(tmp_path, request.param, (1, 2))
    await made.start_ems()
    yield made
    await made.close()


@pytest.mark.parametrize("mode", [0, 1, 2])
async def test_events_and_reports_in_every_mode(pair: Pair, tmp_path: Path, mode: int) -> None:
    upstream, site, outbox = pair.ema(mode, oscore_dir=str(tmp_path / "ema-1"))
    await until(up(upstream))
    if mode == 2:
        await until(lambda: pair.head.emas.observers)
    for power in (700, 710, 720):
        outbox.append(site_report(power, 90))
    outbox.append(notice(NoticeKind.CONNECTED))
    upstream.wake()
    await until(lambda: outbox.waiting() == 0)
    numbers = [await pair.event(watts) for watts in (800, 790)]
    await until(lambda: len(site.events) == 2)
    assert [(e.event_id, e.limit_w) for e in site.events] == list(zip(numbers, (800, 790), strict=True))
    for number in numbers:
        deliveries = pair.ems.service.book.events[number].deliveries
        await until(lambda deliveries=deliveries: deliveries["gw/1"].answered == 0)  # type: ignore[misc]
    ema = pair.ems.service.book.emas["gw/1"]
    assert (ema.power_w, ema.reports, ema.duplicates) == (720, 3, 0)


@pytest.mark.parametrize("mode", [0, 2])
async def test_both_ends_go_on_after_a_restart_of_either(pair: Pair, tmp_path: Path, mode: int) -> None:
    keys = {"oscore_dir": str(tmp_path / "ema-1")}
    upstream, site, _ = pair.ema(mode, **keys)
    await until(up(upstream))
    if mode == 2:
        await until(lambda: pair.head.emas.observers)
    first = await pair.event(800)
    await until(lambda: site.events)
    await pair.end(upstream)
    upstream, site, outbox = pair.ema(mode, **keys)
    await until(up(upstream))
    await until(lambda: first in [e.event_id for e in site.events] or pair.delivery(first).answered == 0)
    await pair.restart_ems()
    outbox.append(site_report(705))
    upstream.wake()
    await until(lambda: outbox.waiting() == 0, 30)
    assert pair.ems.service.book.emas["gw/1"].reports == 1


async def test_a_report_larger_than_a_datagram(tmp_path: Path) -> None:
    pair = keyed(tmp_path)
    await pair.start_ems()
    try:
        upstream, _, outbox = pair.ema(0, oscore_dir=str(tmp_path / "ema-1"))
        await until(up(upstream))
        lines = tuple(replace(site_report(1).devices[0], number=number) for number in range(4, 44))
        outbox.append(replace(site_report(700), devices=lines))
        upstream.wake()
        await until(lambda: outbox.waiting() == 0)
        assert pair.ems.service.book.emas["gw/1"].reports == 1
    finally:
        await pair.close()


async def test_who_has_a_key_is_not_heard_without(pair: Pair) -> None:
    upstream, _, _ = pair.ema(0)
    other, _, _ = pair.ema(0, number=3)  # without a key, as before
    await until(up(other))
    await until(lambda: pair.head.server.refused > 1)
    assert not up(upstream)()
    assert "gw/1" not in pair.ems.service.book.emas


async def test_a_key_speaks_for_its_own_ema_alone(pair: Pair, tmp_path: Path) -> None:
    secret = tmp_path / "ema-2" / "secret.json"
    secret.write_text(json.dumps(json.loads(secret.read_text()) | {"ema": 1}))
    liar, _, _ = pair.ema(0, oscore_dir=str(tmp_path / "ema-2"))
    await until(lambda: pair.head.server.refused > 1)
    assert not up(liar)()
    assert "gw/1" not in pair.ems.service.book.emas


async def test_a_wrong_key_is_refused(pair: Pair, tmp_path: Path) -> None:
    make_pair(tmp_path / "new", tmp_path / "unused", 1)
    stranger, _, _ = pair.ema(0, oscore_dir=str(tmp_path / "new"))
    key_of = Keys([tmp_path / "ema-2"])
    [key] = key_of.open()
    key.sender_key = bytes(16)  # the right name, another key
    lease = await CoapHub().open(GuardedSite(Sources(())), "127.0.0.9", 0)
    try:
        with pytest.raises(TransientError, match="without protection"):
            await ask(lease.context, secured(key, "127.0.0.1", pair.port), "Poll", b"{}", 4)
        await until(lambda: stranger._carrier._missing)  # type: ignore[attr-defined]
        assert not up(stranger)()
        assert not pair.ems.service.book.emas
    finally:
        await lease.close()
        key_of.close()


async def test_an_ema_with_a_key_takes_no_plain_word(pair: Pair, tmp_path: Path) -> None:
    upstream, site, _ = pair.ema(0, oscore_dir=str(tmp_path / "ema-1"))
    await until(up(upstream))
    path = upstream._carrier._served.paths[0]  # type: ignore[attr-defined]
    lease = await CoapHub().open(GuardedSite(Sources(())), "127.0.0.1", 0)
    try:
        answer = await ask(lease.context, f"127.0.0.2:{pair.port}", path, b"5", 4)
        assert str(answer.code) == "4.01 Unauthorized"
        assert site.thresholds == []
        assert site.events == []
    finally:
        await lease.close()


async def test_a_context_open_to_others_or_of_another_ema_is_named(tmp_path: Path) -> None:
    pair = keyed(tmp_path)
    with pytest.raises(OperatorError, match="is of EMA 1, not 2"):
        pair.ema(0, number=2, oscore_dir=str(tmp_path / "ema-1"))
    (tmp_path / "ema-1" / "secret.json").chmod(0o644)
    with pytest.raises(OperatorError, match=r"secret\.json: is open to others"):
        pair.ema(0, oscore_dir=str(tmp_path / "ema-1"))
    await pair.close()


async def test_what_is_recorded_is_not_taken_again(pair: Pair, tmp_path: Path) -> None:
    upstream, _, outbox = pair.ema(1, oscore_dir=str(tmp_path / "ema-1"))
    await until(up(upstream))
    sent = recorded(upstream._carrier._lease)  # type: ignore[attr-defined]
    outbox.append(site_report(777))
    upstream.wake()
    await until(lambda: outbox.waiting() == 0)
    requests = [data for data in sent if data[1] == 2]  # POST
    assert requests
    assert not any(b"UpdateReport" in data or b"777" in data for data in sent)
    answer = await replayed(requests[-1], pair.port)
    assert answer[1] == UNAUTHORIZED
    assert b"Replay detected" in answer
    assert pair.ems.service.book.emas["gw/1"].duplicates == 0


async def test_after_the_ems_was_killed_a_record_is_not_taken_either(tmp_path: Path) -> None:
    """What was received is not on the disk message by message: the first one has to bring the Echo."""
    make_pair(tmp_path / "ema", tmp_path / "ems", 1)
    taken: list[bytes] = []

    def site(keys: Keys) -> GuardedSite:
        made = GuardedSite(Sources(()), keys, only_secured=True)

        def take(remote: object, payload: bytes) -> aiocoap.Message:
            taken.append(payload)
            return aiocoap.Message(code=aiocoap.CHANGED)

        made.add_resource(["x"], Put(take))
        return made

    port = free_port(socket.SOCK_DGRAM)
    ema, ems = Keys([tmp_path / "ema"]), Keys([tmp_path / "ems"])
    [key] = ema.open()
    peer = secured(key, "127.0.0.1", port)
    client = await CoapHub().open(GuardedSite(Sources(())), "127.0.0.9", 0)
    [heard] = ems.open()
    server = await CoapHub().open(site(ems), "127.0.0.1", port)
    try:
        sent = recorded(client)
        await ask(client.context, peer, "x", b"1", 4)
        await server.close()
        heard.lockfile.release()  # killed: nothing is put down
        again = Keys([tmp_path / "ems"])
        [fresh] = again.open()
        assert not fresh.recipient_replay_window.is_initialized()
        server = await CoapHub().open(site(again), "127.0.0.1", port)
        assert (await replayed(sent[0], port))[1] == CHANGED_OUTSIDE
        assert taken == [b"1"]
        answer = await ask(client.context, peer, "x", b"2", 4)
        assert answer.code is aiocoap.CHANGED
        assert taken == [b"1", b"2"]
        assert fresh.recipient_replay_window.is_initialized()
        again.close()
    finally:
        await server.close()
        await client.close()
        ema.close()
