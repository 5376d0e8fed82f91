"""The plain form of the site's values, and back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.errors import PeerError
from gateway.journal.plain import dumps, from_plain, loads, to_plain
from gateway.site.command import Command
from gateway.site.decision import Decision
from gateway.site.event import DrEvent, Grant, Loan
from gateway.site.picture import ResourceState, Site
from gateway.site.report import DeviceLine, DeviceNotice, Record, SiteReport
from gateway.site.resource import Reading, Resource, Setpoint, Setting
from tests.gateway.journal.samples import battery, command, decision, event, lamp, notice, report

numbers = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    "value",
    [
        lamp(1),
        battery(2),
        event(17, 1.0, 2.5),
        Grant("ems", "lamp-1", 50.0, 12.0),
        Loan(3, "gw/2", -50.0, 12.0),
        command(9),
        decision(3, "lamp-1", "lamp-2", kept=("ess-1",)),
        report(812.5, 20),
        report(0.0, 0),
        notice(4),
        Setting(),
        ResourceState(battery(2), reading=Reading(12.0, power_w=1.0), held=Setting(setpoint_w=-150.0)),
        Site((ResourceState(lamp(1)),)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_there_and_back(value: Any) -> None:
    text = dumps(value)
    assert loads(type(value), text) == value
    assert json.loads(text) == to_plain(value)
    assert "\n" not in text


@pytest.mark.parametrize(
    "cls", [Command, Decision, DrEvent, Grant, Loan, SiteReport, DeviceNotice, Resource, Reading, Setpoint, DeviceLine]
)
@given(data=st.data())
def test_every_value_of_a_type(cls: type, data: st.DataObject) -> None:
    value = data.draw(st.from_type(cls))
    assert same(loads(cls, dumps(value)), value)


def same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)  # nan is not equal to itself, but it is written as it is


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Page:
    one: int
    names: dict[str, Setting]
    pair: tuple[int, str] = (1, "a")
    many: list[Colour] | None = None
    anything: Any = None


@dataclass(frozen=True)
class Single:
    only: Colour


@dataclass(frozen=True)
class Tree:
    name: str
    child: Tree | None = None


def test_a_type_that_holds_itself() -> None:
    tree = Tree("a", Tree("b"))
    assert loads(Tree, dumps(tree)) == tree
    with pytest.raises(PeerError, match=r"Tree.child: Tree.name: 3 is no text"):
        loads(Tree, '{"name":"a","child":{"name":3}}')


def test_all_forms() -> None:
    page = Page(1, {"x": Setting(on=True)}, (2, "b"), [Colour.RED], {"deep": [1, None]})
    assert from_plain(Page, json.loads(dumps(page))) == page
    assert to_plain(Single(Colour.RED)) == {"only": "red"}
    assert from_plain(Single, {"only": "red"}) == Single(Colour.RED)


def test_free_forms_of_the_control_socket() -> None:
    answer = {"devices": (Setting(on=True), Colour.RED), Colour.RED: {"n": 1}, "none": None}
    assert to_plain(answer) == {
        "devices": [{"on": True, "level": None, "setpoint_w": None, "free": False}, "red"],
        "red": {"n": 1},
        "none": None,
    }
    assert type(to_plain(Colour.RED)) is str
    with pytest.raises(TypeError, match="object has no plain form"):
        to_plain(object())


def test_versions() -> None:
    """An older program reads what a newer one added; a newer one fills in what an older one did not know."""
    assert loads(Setting, '{"on":true,"colour":"red"}') == Setting(on=True)
    assert loads(Page, '{"one":1,"names":{}}') == Page(1, {})


@pytest.mark.parametrize(
    ("cls", "text", "said"),
    [
        (Setting, '{"level":"3"}', "Setting.level: '3' is no whole number"),
        (Setting, '{"level":true}', "Setting.level: True is no whole number"),
        (Setting, '{"on":1}', "Setting.on: 1 is no true or false"),
        (Setting, '{"setpoint_w":"x"}', "Setting.setpoint_w: 'x' is no number"),
        (Setting, "[]", r"\[\] is no Setting"),
        (Setting, "{", "Setting: no JSON: "),
        (Setting, "[" * 100_000, "Setting: no JSON: "),
        (Grant, '{"upstream":1}', "Grant.upstream: 1 is no text"),
        (Grant, '{"upstream":"ems"}', "Grant.resource: missing"),
        (
            Resource,
            '{"name":"a","number":1,"kind":"cat"}',
            "Resource.kind: 'cat' is no Kind .led, pv, ess, ev, virtual.",
        ),
        (Resource, '{"name":"a","number":1,"kind":[]}', r"Resource.kind: \[\] is no Kind"),
        (Page, '{"one":1,"names":{"x":{"on":"yes"}}}', "Page.names: Setting.on: 'yes' is no true or false"),
        (Page, '{"one":1,"names":[]}', r"Page.names: \[\] is no object"),
        (Page, '{"one":1,"names":{},"pair":[1]}', r"Page.pair: \[1\] is no list of 2"),
        (Page, '{"one":1,"names":{},"many":3}', "Page.many: 3 is no list"),
        (Grant, '{"upstream":"' + "x" * 100 + '","resource":{"a":"' + "x" * 100 + '"}}', r"\.\.\. is no text$"),
    ],
)
def test_what_is_wrong_is_named(cls: type, text: str, said: str) -> None:
    with pytest.raises(PeerError, match=said):
        loads(cls, text)


def test_a_union_of_two_is_the_programs_mistake() -> None:
    with pytest.raises(TypeError, match=r"only X \| None can"):
        from_plain(Record, {"boot": 1, "seq": 1, "body": {}})
