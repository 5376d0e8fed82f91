"""Every message against its bytes in tests/vectors/emap1b."""

from __future__ import annotations

import json

import pytest

from gateway.errors import PeerError
from gateway.links.emap1b import messages as emap
from tests.gateway.links.emap1b.vectors import INDEX, MESSAGES, VECTORS, body


def test_every_vector_is_used_and_every_file_is_in_the_index() -> None:
    files = {path.name for path in VECTORS.iterdir()} - {"index.tsv", "README.md"}
    assert set(INDEX) == files == set(MESSAGES)


def test_every_message_of_the_profile_has_a_vector() -> None:
    assert {type(message) for message in MESSAGES.values()} == {*emap.TO_EMA.values(), *emap.TO_EMS.values()}


@pytest.mark.parametrize("name", MESSAGES)
def test_message_to_the_byte(name: str) -> None:
    message = MESSAGES[name]
    assert message.encode() == body(name)
    assert type(message).decode(body(name)) == message


@pytest.mark.parametrize("name", MESSAGES)
def test_the_topic_says_to_whom_and_what_about(name: str) -> None:
    message = MESSAGES[name]
    place = emap.parse_topic(INDEX[name])
    assert place.dest == message.dest
    assert emap.topic(place.dest, place.channel) == INDEX[name]


@pytest.mark.parametrize("name", MESSAGES)
def test_unknown_keys_do_no_harm(name: str) -> None:
    assert type(MESSAGES[name]).decode(body(name)[:-1] + b',"unknown":[1,{"a":null}]}') == MESSAGES[name]


# what is not read: said by the topic, by another key, or of no use to us
IGNORED = {"profile", "optReason", "marketContext", "requestID", "registrationID"}


@pytest.mark.parametrize("name", MESSAGES)
def test_every_key_of_a_wrong_type_is_refused_by_name(name: str) -> None:
    keys = json.loads(body(name))
    ignored = IGNORED | ({"report"} if "Report.json" in name else set())
    for key in keys:
        if key in ignored or isinstance(keys[key], bool):
            continue
        wrong = json.dumps({**keys, key: {"a": 1}}).encode()
        with pytest.raises(PeerError, match=rf"\b{key}\b"):
            type(MESSAGES[name]).decode(wrong)


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("key", ["SrcEMA", "DestEMA", "service"])
def test_what_every_message_says_may_not_be_missing(name: str, key: str) -> None:
    keys = json.loads(body(name))
    del keys[key]
    with pytest.raises(PeerError, match=key):
        type(MESSAGES[name]).decode(json.dumps(keys).encode())


@pytest.mark.parametrize("name", MESSAGES)
def test_what_breaks_off_is_refused(name: str) -> None:
    whole = body(name)
    for length in range(0, len(whole), max(1, len(whole) // 50)):
        with pytest.raises(PeerError):
            type(MESSAGES[name]).decode(whole[:length])


@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_larger_than_a_message_is_refused(name: str) -> None:
    with pytest.raises(PeerError, match="more than 262144"):
        type(MESSAGES[name]).decode(body(name) + b" " * 262_144)


def test_another_service_is_refused() -> None:
    with pytest.raises(PeerError, match="service"):
        emap.Poll.decode(body("RequestEvent.json"))
