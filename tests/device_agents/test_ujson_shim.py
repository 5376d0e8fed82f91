"""The shim over the standard library: bytes, values and refusals (under MicroPython: scenario.py)."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import sys
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agents import ujson_shim

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


def test_takes_the_standard_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else is installed: a second JSON library is memory that a gateway has not."""
    library = ModuleType("ujson")
    monkeypatch.setitem(sys.modules, "ujson", library)
    spec = importlib.util.spec_from_file_location("shim_again", ujson_shim.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module._loads is json.loads


@given(value=VALUES)
def test_round_trip(value: object) -> None:
    text = ujson_shim.dumps(value)
    assert text.isascii()
    assert json.loads(text) == value
    assert ujson_shim.loads(text) == value
    assert ujson_shim.loads(text.encode()) == value


@given(body=st.binary(max_size=100) | st.text(max_size=50).map(str.encode))
def test_loads_raises_value_error_only(body: bytes) -> None:
    with contextlib.suppress(ValueError):
        ujson_shim.loads(body)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000, b'"\xff"', b"\xff\xfe[\x00]\x00"])
def test_deep_long_and_wrongly_encoded(body: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(ujson_shim.loads(body), int | list | str)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), {1: 2}, object(), b"x", {"a": [set()]}])
def test_what_json_has_not_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="JSON has no"):
        ujson_shim.dumps(value)


def test_streams() -> None:
    stream = io.StringIO()
    ujson_shim.dump({"a": "é/"}, stream)
    assert stream.getvalue() == '{"a":"\\u00e9/"}'
    stream.seek(0)
    assert ujson_shim.load(stream) == {"a": "é/"}
