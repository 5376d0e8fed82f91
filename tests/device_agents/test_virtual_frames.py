"""The frames of virtual LEDs against aiocoap's own, in both directions, and against what a stranger may send."""

from __future__ import annotations

import random

import aiocoap
import pytest
from aiocoap.numbers.types import ACK, CON, NON

from device_agents import virtual_frames as coap


def theirs(data: bytes) -> aiocoap.Message:
    return aiocoap.Message.decode(data)


def request(path: str, payload: bytes = b"", kind: object = CON, token: bytes = b"\x01\x02", **more: object) -> bytes:
    message = aiocoap.Message(code=aiocoap.PUT, payload=payload, _mtype=kind, _mid=7, _token=token, **more)
    message.opt.uri_path = tuple(path.split("/"))
    return message.encode()


def test_a_request_of_ours_is_theirs_to_read() -> None:
    message = theirs(coap.put(0x1234, b"\xab\xcd", "connected", b'{"dev":1}'))
    assert (message.code, message.mtype, message.mid, message.token) == (aiocoap.PUT, CON, 0x1234, b"\xab\xcd")
    assert (message.opt.uri_path, message.opt.content_format, message.payload) == (("connected",), 50, b'{"dev":1}')


@pytest.mark.parametrize(
    ("kind", "answered", "mid"),
    [(CON, ACK, 7), (NON, NON, 99)],
)
def test_an_answer_of_ours_is_theirs_to_read(kind: object, answered: object, mid: int) -> None:
    asked = coap.decode(request("ack", b"ack", kind))
    message = theirs(coap.answer(asked, coap.CHANGED, 99, b'{"dev":1}', json=True))
    assert (message.code, message.mtype, message.mid, message.token) == (aiocoap.CHANGED, answered, mid, b"\x01\x02")
    assert (message.opt.content_format, message.payload) == (50, b'{"dev":1}')
    bare = theirs(coap.answer(asked, coap.NOT_FOUND, 99))
    assert (bare.code, bare.payload) == (aiocoap.NOT_FOUND, b"")


def test_an_empty_message_is_theirs_to_read() -> None:
    assert theirs(coap.empty(coap.ACK, 300)).code is aiocoap.EMPTY
    assert theirs(coap.empty(coap.RST, 300)).mid == 300


@pytest.mark.parametrize("path", ["setpoint", "a" * 12, "b" * 13, "c" * 300, "gw/1/dev/2/control"])
def test_a_request_of_theirs_is_ours_to_read(path: str) -> None:
    frame = coap.decode(request(path, b"x" * 900, content_format=50, uri_host="h" * 20))
    assert frame.request
    assert (frame.kind, frame.code, frame.mid, frame.token) == (coap.CON, coap.PUT, 7, b"\x01\x02")
    assert (frame.path, frame.payload, frame.bad, frame.block) == (path, b"x" * 900, False, False)


@pytest.mark.parametrize(
    ("block", "several"),
    [((0, False, 6), False), ((0, True, 6), True), ((3, False, 6), True)],
)
def test_one_of_several_blocks_is_known(block: tuple[int, bool, int], several: bool) -> None:
    message = aiocoap.Message(code=aiocoap.PUT, payload=b"x", _mtype=CON, _mid=7, uri_path=("setpoint",))
    message.opt.block1 = block
    assert coap.decode(message.encode()).block is several


def test_a_critical_option_that_nobody_knows_is_bad() -> None:
    # If-Match (1) is critical; Size1 (60) is not.
    assert coap.decode(bytes.fromhex("40030007 10".replace(" ", ""))).bad
    assert not coap.decode(bytes.fromhex("40030007 d12f01".replace(" ", ""))).bad


@pytest.mark.parametrize(
    "data",
    ["", "40", "400300", "80030007", "49030007", "4803000701", "40030007ff", "40030007b5", "40030007f0"],
)
def test_what_is_no_coap_is_refused(data: str) -> None:
    with pytest.raises(coap.FrameError):
        coap.decode(bytes.fromhex(data))


def test_whatever_comes_is_read_or_refused() -> None:
    rng = random.Random(11)
    whole = request("setpoint", b'{"id":1}', content_format=50)
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            coap.decode(bytes(data[: rng.randrange(len(data) + 1)]))
        except coap.FrameError:
            continue
