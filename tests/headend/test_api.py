"""The JSON API: who gets in, who may do what, and how a mistake reads."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from gateway.links.mir2017.messages import zone_named
from headend.ems.accounts import Accounts
from headend.ems.api import build
from headend.ems.api.guard import Context
from headend.ems.api.live import LiveHub
from headend.ems.state_files import PASSWORD_FILE, TOKEN_FILE
from tests.headend.support import Bench
from tests.support.wait import until

PASSWORD = "a long enough one"


class Api:
    """The application without a socket, on a bench."""

    def __init__(self, bench: Bench, accounts: Accounts, state: Path) -> None:
        self.bench = bench
        self.accounts = accounts
        self.state = state
        zone = zone_named("UTC")
        self.live = LiveHub()
        bench.service.book.on_change.append(self.live.tell)
        self.app = build(Context(bench.settings, bench.service, bench.store, accounts, self.live, zone))

    def client(self, source: str = "10.0.0.1", token: str = "") -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, client=(source, 1234))
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(transport=transport, base_url="http://ems/api/v1", headers=headers)

    async def logged_in(self, name: str) -> httpx.AsyncClient:
        client = self.client()
        answer = await client.post("/login", json={"name": name, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        return client

    async def script(self) -> httpx.AsyncClient:
        return self.client(token=(self.state / TOKEN_FILE).read_text().strip())


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    bench = await Bench(state_dir=str(tmp_path)).start()
    # A real password costs 50 ms a try.
    accounts = Accounts(bench.store, bench.clock, tmp_path, 3600.0, cost=16)
    await accounts.start()
    for role in ("viewer", "operator", "admin"):
        await accounts.create(f"{role}-1", role, PASSWORD)
    bench.register("gw/1", "gw/2")
    bench.device("gw/1", 4, on=True, dimming=9, watt=60.0, priority=2, kind="led")
    bench.head.take()
    yield Api(bench, accounts, tmp_path)
    await bench.stop()


def _event(**keys: object) -> dict[str, object]:
    return {"value_w": 800, "start": "now", "for_s": 600, "targets": ["gw/1"], **keys}


async def test_nothing_without_a_log_in(api: Api) -> None:
    client = api.client()
    document = (await client.get("/openapi.json")).json()
    asked = 0
    for path, methods in document["paths"].items():
        if path == "/api/v1/login":
            continue
        for method in methods:
            url = path.removeprefix("/api/v1").replace("{number}", "1").replace("{device}", "4")
            url = url.replace("{event_id}", "1").replace("{rdr_id}", "1").replace("{name}", "x")
            answer = await client.request(method.upper(), url)
            assert answer.status_code == 401, f"{method} {path}"
            assert answer.json() == {"error": "log in first: POST /api/v1/login", "fields": {}}
            asked += 1
    assert asked > 25


async def test_the_first_password_is_for_one_time(api: Api) -> None:
    path = api.state / PASSWORD_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first = path.read_text().strip()
    client = api.client()
    me = (await client.post("/login", json={"name": "admin", "password": first})).json()
    assert me == {"name": "admin", "role": "admin", "must_change_password": True}
    refused = await client.get("/emas")
    assert refused.status_code == 403
    assert "one-time password" in refused.json()["error"]
    changed = await client.post("/me/password", json={"old": first, "new": PASSWORD})
    assert changed.status_code == 200
    assert not path.exists()
    assert (await client.get("/me")).status_code == 401
    again = await api.logged_in("admin")
    assert (await again.get("/emas")).status_code == 200


async def test_the_cookie_is_for_this_site_alone(api: Api) -> None:
    client = api.client()
    answer = await client.post("/login", json={"name": "operator-1", "password": PASSWORD})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    foreign = await client.post("/events", json=_event(), headers={"Origin": "http://evil.example"})
    assert foreign.status_code == 403
    own = await client.post("/events", json=_event(), headers={"Origin": "http://ems"})
    assert own.status_code == 201
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    ("method", "path", "body", "least"),
    [
        ("GET", "/overview", None, "viewer"),
        ("GET", "/devices?ema=gw/1", None, "viewer"),
        ("GET", "/power?ema=gw/1", None, "viewer"),
        ("GET", "/energy", None, "viewer"),
        ("GET", "/rdr", None, "viewer"),
        ("GET", "/reports", None, "viewer"),
        ("GET", "/status", None, "viewer"),
        ("POST", "/events", _event(), "operator"),
        ("POST", "/events/preview", _event(targets="all"), "operator"),
        ("PUT", "/limits", {"scope": "total", "watts": 5000}, "operator"),
        ("PUT", "/rdr/policy", {"policy": "deny"}, "operator"),
        ("POST", "/emas/gw/1/devices/4/command", {"action": "off"}, "operator"),
        ("GET", "/emas/gw/1/devices/4/preview?action=off", None, "operator"),
        ("PATCH", "/emas/gw/1", {"mode": "push"}, "operator"),
        ("POST", "/emas/gw/1/report", None, "operator"),
        ("GET", "/audit", None, "admin"),
        ("GET", "/accounts", None, "admin"),
        ("POST", "/accounts", {"name": "new", "role": "viewer", "password": PASSWORD}, "admin"),
    ],
)
async def test_roles(api: Api, method: str, path: str, body: Any, least: str) -> None:
    order = ["viewer", "operator", "admin"]
    for role in order:
        client = await api.logged_in(f"{role}-1")
        answer = await client.request(method, path, json=body)
        allowed = order.index(role) >= order.index(least)
        if not allowed:
            assert answer.status_code == 403
            assert answer.json()["error"] == f"this needs the role {least}; {role}-1 is {role}"
        else:
            assert answer.status_code < 300 or answer.status_code == 409, answer.text
    if least != "viewer":
        assert api.bench.head.take() == [] or least == "operator"


async def test_five_wrong_passwords_lock_for_this_source_and_longer_each_time(api: Api) -> None:
    here, there = api.client("10.0.0.1"), api.client("10.0.0.2")
    wrong, right = ({"name": "operator-1", "password": word} for word in ("wrong password", PASSWORD))
    for _ in range(5):
        assert (await here.post("/login", json=wrong)).status_code == 401
    locked = await here.post("/login", json=right)
    assert (locked.status_code, locked.headers["retry-after"]) == (429, "30")
    assert (await there.post("/login", json=right)).status_code == 200
    await api.bench.clock.advance(31)
    assert (await here.post("/login", json=wrong)).status_code == 401
    assert (await here.post("/login", json=right)).headers["retry-after"] == "60"
    await api.bench.clock.advance(61)
    assert (await here.post("/login", json=right)).status_code == 200


async def test_a_session_ends_by_time_and_by_log_out(api: Api) -> None:
    client = await api.logged_in("viewer-1")
    other = await api.logged_in("viewer-1")
    secret = client.cookies["smartema_ems"]
    await client.post("/logout")
    client.cookies.set("smartema_ems", secret)
    assert (await client.get("/me")).status_code == 401
    assert (await other.get("/me")).status_code == 200
    await api.bench.clock.advance(3601)
    assert (await other.get("/me")).status_code == 401


async def test_a_script_has_a_token_that_only_its_owner_reads(api: Api) -> None:
    assert stat.S_IMODE((api.state / TOKEN_FILE).stat().st_mode) == 0o600
    client = await api.script()
    assert (await client.get("/me")).json()["name"] == "script"
    assert (await client.get("/audit")).status_code == 403
    assert (await api.client(token="x" * 40).get("/me")).status_code == 401


@pytest.mark.parametrize(
    ("body", "status", "fields"),
    [
        (_event(value_w=-1), 422, {"value_w"}),
        (_event(value_w="800"), 422, {"value_w"}),
        (_event(colour="red"), 422, {"colour"}),
        (_event(start="yesterday"), 422, {"start"}),
        (_event(end="14:00"), 422, {"for_s"}),  # both for_s and end
        (_event(for_s=None), 422, {"end"}),
        (_event(for_s=None, end=0), 422, {"end"}),
        (_event(targets=[]), 422, {"targets"}),
        (_event(targets=["gw/9"]), 404, {"targets"}),
        ({}, 422, {"value_w", "targets"}),
        ([], 422, None),
    ],
)
async def test_a_mistake_is_told_beside_its_field(api: Api, body: Any, status: int, fields: set[str] | None) -> None:
    client = await api.script()
    answer = await client.post("/events", json=body)
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert told["error"]
    assert "\n" not in told["error"]
    if fields is not None:
        # Pydantic names the member of a union behind its field.
        assert {field.partition(".")[0] for field in told["fields"]} == fields
    assert api.bench.head.take() == []


async def test_what_is_no_json_or_too_large_is_refused(api: Api) -> None:
    client = await api.script()
    for body, status in ((b"{", 422), (b"\xff\xfe", 400), (b"[" * 50_000, 422), (b" " * 70_000, 413)):
        answer = await client.post("/events", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (status, 400, 422) if status != 413 else answer.status_code == 413
        assert set(answer.json()) == {"error", "fields"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/events/99999999999999999999999999", None),
        ("GET", "/events?before=99999999999999999999999", None),
        ("DELETE", "/events/0", None),
        ("GET", "/devices?ema=%ff%00", None),
        ("GET", "/power?start=1e400", None),
        ("GET", "/power?start=nan", None),
        ("GET", "/power?start=9999-12-31T23:59", None),
        ("GET", "/energy?start=0&step_s=60", None),
        ("POST", "/login", {"name": "\ud800", "password": "\ud800"}),
        ("POST", "/login", {"name": "a" * 65, "password": "x"}),
        ("POST", "/login", {"name": "a\u0000", "password": "x"}),
        ("PATCH", "/events/1", {"start": 1e300}),
        ("POST", "/emas/gw/99999999999999999999/devices/4/command", {"action": "on"}),
        ("PUT", "/limits", {"scope": "\ud800", "watts": 1}),
    ],
)
async def test_wild_values_are_refused_in_one_line(api: Api, method: str, path: str, body: Any) -> None:
    client = await api.script()
    await client.post("/events", json=_event())
    content = json.dumps(body) if body is not None else None
    answer = await client.request(method, path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (401, 404, 422), answer.text
    assert set(answer.json()) == {"error", "fields"}
    assert "\n" not in answer.json()["error"]


async def test_an_event_from_its_making_to_its_cancel(api: Api) -> None:
    client = await api.script()
    made = (await client.post("/events", json=_event(targets="all"))).json()
    assert (made["state"], made["everyone"], made["created_by"]) == ("running", True, "script")
    number = made["id"]
    assert [delivery["state"] for delivery in made["deliveries"]] == ["sent", "sent"]
    api.bench.service.answered("gw/1", "mqtt", number, 0, True)
    changed = (await client.patch(f"/events/{number}", json={"value_w": 500})).json()
    assert (changed["modification"], changed["value_w"], changed["end"]) == (1, 500, made["end"])
    assert (await client.get(f"/events/{number}")).json()["opted_in"] == 1
    cancelled = (await client.delete(f"/events/{number}")).json()
    assert cancelled["state"] == "cancelled"
    again = await client.delete(f"/events/{number}")
    assert (again.status_code, again.json()["fields"]) == (409, {"id": f"event {number} is cancelled already"})
    assert [event["id"] for event in (await client.get("/events")).json()["events"]] == [number]
    assert (await client.get("/events/7")).status_code == 404
    assert api.bench.head.take() == ["broadcast 1.0 800", "broadcast 1.1 500", "broadcast 1.2 cancel"]
    lines = await (await api.logged_in("admin-1")).get("/audit")
    actions = [line["action"] for line in lines.json() if line["account"] == "script"]
    assert actions == ["event cancel", "event change", "event create"]


async def test_what_it_will_do_is_said_before(api: Api) -> None:
    client = await api.script()
    api.bench.report("gw/1", "1", 1000)
    preview = (await client.post("/events/preview", json=_event(targets="all"))).json()
    assert preview == {
        "words": "gw/1, gw/2 under 800 W each, about -200 W",
        "effect_w": -200.0,
        "not_known": ["gw/2"],
        "away": [],
        "confirm": True,
    }
    off = (await client.get("/emas/gw/1/devices/4/preview", params={"action": "off"})).json()
    assert off == {"words": "dev/4 of gw/1 off, about -60 W", "effect_w": -60.0}
    assert [line for line in api.bench.head.take() if not line.startswith("report")] == []


async def test_power_energy_and_what_ran_then(api: Api) -> None:
    client = await api.script()
    number = (await client.post("/events", json=_event())).json()["id"]
    start = api.bench.now
    for step in range(10):
        api.bench.report("gw/1", str(step), 100.0 + step)
        await api.bench.clock.advance(60)
    series = (await client.get("/power", params={"ema": "gw/1", "start": start, "points": 5})).json()
    assert [point["most_w"] for point in series["emas"]["gw/1"]] == [101, 103, 105, 107, 109]
    assert [event["id"] for event in series["events"]] == [number]
    energy = (await client.get("/energy", params={"start": start, "step_s": 600})).json()
    assert energy["emas"]["gw/1"][0]["import_wh"] == pytest.approx(104.5 * 600 / 3600)
    assert energy["emas"]["gw/2"][0]["known_s"] == 0
    for wrong in ({"start": "now", "end": 5}, {"start": "?"}, {"points": 0}, {"ema": "gw/9"}):
        assert (await client.get("/power", params=wrong)).status_code in (404, 422)


async def test_a_command_and_what_became_of_it(api: Api) -> None:
    client = await api.script()
    sent = (await client.post("/emas/gw/1/devices/4/command", json={"action": "off"})).json()
    assert sent["state"] == "sent"
    api.bench.device("gw/1", 4, on=False)
    shown = (await client.get("/commands")).json()
    assert [(command["state"], command["by"]) for command in shown] == [("confirmed", "script")]
    assert (await client.get("/devices", params={"ema": "gw/1"})).json()[0]["on"] is False
    assert (await client.post("/emas/gw/1/devices/4/command", json={"action": "jump"})).status_code == 422
    assert (await client.post("/emas/gw/1/devices/9/command", json={"action": "on"})).status_code == 404


async def test_an_rdr_is_answered_by_hand(api: Api) -> None:
    client = await api.script()
    await client.put("/rdr/policy", json={"policy": "manual"})
    api.bench.service.asked("gw/1", "mqtt", 4, 60)
    waiting = (await client.get("/rdr")).json()
    assert [(rdr["id"], rdr["state"]) for rdr in waiting] == [(1, "pending")]
    granted = await client.post("/rdr/1", json={"granted": True})
    assert (granted.json()["state"], granted.json()["by"]) == ("granted", "script")
    assert (await client.post("/rdr/1", json={"granted": False})).status_code == 409
    assert [rdr["why"] for rdr in (await client.get("/rdr")).json()] == ["granted by script"]


async def test_limits_are_set_and_removed(api: Api) -> None:
    client = await api.script()
    await client.put("/limits", json={"scope": "total", "watts": 5000})
    both = (await client.put("/limits", json={"scope": "gw/1", "watts": 900})).json()
    assert both == [{"scope": "gw/1", "watts": 900}, {"scope": "total", "watts": 5000}]
    left = (await client.put("/limits", json={"scope": "total", "watts": None})).json()
    assert left == [{"scope": "gw/1", "watts": 900}]
    assert (await client.put("/limits", json={"scope": "gw/9", "watts": 1})).json()["fields"].keys() == {"scope"}


async def test_accounts_are_kept_by_administrators(api: Api) -> None:
    admin = await api.logged_in("admin-1")
    new = {"name": "kim", "role": "viewer", "password": PASSWORD}
    for body, status in (({**new, "password": "short"}, 422), (new, 201), (new, 409)):
        assert (await admin.post("/accounts", json=body)).status_code == status
    kim = await api.logged_in("kim")
    await admin.patch("/accounts/kim", json={"password": PASSWORD + "!"})
    assert (await kim.get("/me")).status_code == 401
    await admin.delete("/accounts/admin")
    last = await admin.patch("/accounts/admin-1", json={"role": "viewer"})
    assert (last.status_code, last.json()["error"]) == (409, "admin-1 is the last administrator")
    assert {account["name"] for account in (await admin.get("/accounts")).json()} == {
        "admin-1",
        "kim",
        "operator-1",
        "viewer-1",
    }


async def test_no_password_is_in_the_database_or_the_audit_log(api: Api) -> None:
    admin = await api.logged_in("admin-1")
    await admin.post("/accounts", json={"name": "kim", "role": "viewer", "password": PASSWORD})
    assert PASSWORD not in (await admin.get("/audit")).text
    assert PASSWORD not in (await admin.get("/accounts")).text


async def test_the_documentation_is_one_page_without_scripts(api: Api) -> None:
    page = (await api.client().get("/docs")).text
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "/api/v1/events/{event_id}" in page


async def test_the_status_says_what_was_not_taken_and_how_full_it_is(api: Api) -> None:
    api.bench.service.refuse("gw/1", "that was wrong")
    api.bench.service.refuse("gw/1", "and this")
    api.bench.report("gw/1", "1", 5)
    await until(lambda: api.bench.service.book.emas["gw/1"].reports)
    told = (await (await api.logged_in("viewer-1")).get("/status")).json()
    assert told["links"][0] == {
        "name": "mqtt",
        "up": True,
        "address": "nowhere",
        "reconnects": 0,
        "kept": 0,
        "oversized": 0,
        "refused": 0,
    }
    assert (told["emas"], told["devices"]["used"], told["connected"]) == ({"used": 2, "most": 1000}, 1, 2)
    assert (told["reports"]["stored"], told["reports"]["rejected"], told["database"]) == (1, 0, "")
    assert [(r["who"], r["count"], r["why"]) for r in told["refusals"]] == [("gw/1", 2, "and this")]


async def test_vtns_are_listed(api: Api) -> None:
    client = await api.logged_in("viewer-1")
    assert (await client.get("/vtns")).json() == []
    api.bench.service.vtns.registered("VTN_1", "10.0.0.9:4000", 3)
    api.bench.service.vtns.reported("VTN_1", "10.0.0.9:4000", 4, 512.5)
    [vtn] = (await client.get("/vtns")).json()
    expected = {"name": "VTN_1", "address": "10.0.0.9:4000", "vens": 4, "value_w": 512.5}
    assert {key: vtn[key] for key in expected} == expected
    assert (await client.get("/status")).json()["vtns"] == [vtn]
