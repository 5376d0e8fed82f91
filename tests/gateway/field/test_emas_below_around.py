"""What stands around EMAs below: configuration, accounts and rights, reports upwards, status and menu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.cli.check import _summary, _summary_lines
from gateway.cli.menu_items import ITEMS
from gateway.cli.status import status_lines
from gateway.clock import SystemClock
from gateway.config.load import examine, read
from gateway.config.model import EmaBelowConfig, ReportsConfig, SiteBrokerConfig
from gateway.config.template import render
from gateway.field.broker import SiteBroker
from gateway.field.broker_files import generate_ems_acl, generate_site_acl
from gateway.reporting import Reporter
from gateway.site.picture import ResourceState
from gateway.site.report import SiteReport
from gateway.site.resource import Kind, Reading, Resource
from tests.gateway.cli.fake_daemon import STATUS
from tests.gateway.test_reporting import Log

BELOW = "[control]\nthreshold_w = 100\n[emas_below]\nmqtt = true\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[ema_below]]\nnumber = 2", "2 ema_below[0].number: nothing serves it; set mqtt = true or coap = true"),
        (BELOW + "[[ema_below]]\nnumber = 1", "6 ema_below[0].number: 1 is our own number"),
        (BELOW + "[[ema_below]]\nnumber = 10000", "6 ema_below[0].number: 10000 is too great; 1 to 9999 is right"),
        (BELOW + "[[ema_below]]\nnumber = 2\n[[ema_below]]\nnumber = 2", "8 ema_below[1].number: 2 is already"),
        (BELOW + '[[ema_below]]\nnumber = 2\nname = "a b"', '7 ema_below[0].name: "a b" holds a blank'),
        (BELOW + "[[ema_below]]\nnumber = 2\nmin_w = 5\nmax_w = 3", "7 ema_below[0].min_w: 5 is above max_w 3"),
        (
            BELOW + "[[ema_below]]\nnumber = 2\n[[device]]\nnumber = 90002",
            "6 ema_below[0].number: 2 is dev/90002 of this site, which is device[0] already",
        ),
        (BELOW + "port = 5690", "5 emas_below.port: belongs to coap = true"),
        (BELOW + "hold_s = 30", "5 emas_below.hold_s: 30 is too small; 120 to 86400 s is right"),
        (BELOW + 'timezone = "Seoul"', "5 emas_below.timezone: "),
        (
            BELOW + '[site_broker]\nhost = "10.0.0.1"\n[[upstream]]\nhost = "10.0.0.1"',
            "4 emas_below.mqtt: true, and [site_broker] is the broker of upstream[0]",
        ),
        (
            '[emas_below]\ncoap = true\nopen = true\n[[device]]\nnumber = 1\nlink = "coap"',
            "emas_below.port: 5683 is where devices find us ([site_coap])",
        ),
    ],
)
def test_mistakes_of_an_operator(text: str, expected: str) -> None:
    found = examine(text)
    assert any(expected in mistake for mistake in found.mistakes), found.mistakes


def test_what_check_shows() -> None:
    text = BELOW + 'coap = true\nport = 5690\n[[ema_below]]\nnumber = 2\nname = "hall"\nmax_w = 500\npriority = 3'
    config = read(text)
    lines = "\n".join(_summary_lines(config))
    assert "EMAs below: MQTT own mosquitto on 127.0.0.1:1883, CoAP 127.0.0.1:5690" in lines
    assert "hall       90002  3              0 W    500 W" in lines
    assert _summary(config)["emas_below"]["emas"][0]["number"] == 2
    assert read(render(config)) == config
    assert config.named == {90_002: "emas"}


def test_rights_are_those_on_an_ems_broker() -> None:
    site, ems = generate_site_acl([], emas=[2, 3]), generate_ems_acl([2, 3])
    for number in (2, 3):
        part = f"user gw-{number}\ntopic read gw/{number}/#\ntopic read gw/pushall/#\ntopic write EMS/#\n"
        assert part in site
        assert part in ems, "as where an EMS stands above"
    assert "user ems" not in site, "we are it, with our own account"


def test_an_account_each_with_a_password_that_stays(tmp_path: Path) -> None:
    def made(*numbers: int) -> str:
        import random

        emas = tuple(EmaBelowConfig(number=n) for n in numbers)
        broker = SiteBroker(SiteBrokerConfig(), (), tmp_path, SystemClock(), random.Random(1), emas=emas)
        broker.prepare()
        return (tmp_path / "broker" / "passwords").read_text()

    made(2)
    secret = (tmp_path / "ema-passwords" / "gw-2").read_text()
    assert (tmp_path / "ema-passwords" / "gw-2").stat().st_mode & 0o777 == 0o600
    text = made(2, 3)
    assert "gw-2:" in text
    assert "gw-3:" in text
    assert (tmp_path / "ema-passwords" / "gw-2").read_text() == secret


@pytest.mark.parametrize(("each", "devices"), [(True, [90_002]), (False, [])])
def test_reports_upwards(each: bool, devices: list[int]) -> None:
    log = Log()
    resource = Resource("gw/2", 90_002, Kind.EMA, 3)
    before = ResourceState(resource, reading=Reading(0.0, 300.0, True))
    states = {90_002: before}
    reporter = Reporter(ReportsConfig(), log, states, lambda: (300.0, 500.0, 200.0), lambda: None)
    reporter.has_readers, reporter.each_ema, reporter.below = True, each, lambda: (-40.0, 25.0)
    reporter.connected(before, 1000.0)
    assert len(log.notices) == len(devices)
    after = ResourceState(resource, reading=Reading(1.0, 301.0, True))
    states[90_002] = after
    reporter.changed(before, after, 1.0, 1001.0)
    assert len(log.reports) == len(devices), "with every report of its own, also where little changed"
    reporter.changed(before, after, 7.0, 1007.0)
    assert len(log.reports) == len(devices), "what was held up is no news"
    reporter.tick(20.0, 1020.0)
    last = log.reports[-1]
    assert isinstance(last, SiteReport)
    assert [(line.number, line.power_w) for line in last.devices] == [(d, 301.0) for d in devices]
    assert (last.power_w, last.generate_w, last.storage_w) == (300.0, -40.0, 25.0), "in our sums in both cases"


def test_status_and_menu_60() -> None:
    ema: dict[str, Any] = {
        "ema": "gw/2", "name": "hall", "link": "coap", "here": True, "heard_s": 1.2, "power_w": 290.0,
        "threshold_w": 300.0, "margin_w": 10.0, "generate_w": 0.0, "storage_w": 0.0, "devices": 3, "most_w": 500.0,
        "limit_w": 300, "limit_until": 1_760_000_000.0, "opt": "in", "granted_w": 40.0,
    }  # fmt: skip
    status = {**STATUS, "field": [{"name": "emas", "links": {}, "reports": 4, "opted_out": 0, "emas": [ema]}]}
    row = next(line for line in status_lines(status) if line.startswith("hall"))
    assert " ".join(row.split()) == "hall coap here 290 W 300 W 10 W 300 W takes it 40 W 500 W 1 s"
    menu = ITEMS["60"].act(lambda body: status, [])
    assert "EMAs below" in menu.lines
    assert any(row.strip() in line for line in menu.lines)
    nobody = ITEMS["60"].act(lambda body: {**STATUS, "field": []}, [])
    assert "EMAs below" not in nobody.lines
