"""Loans, prices and allocation through the EMS's API and its service."""

from __future__ import annotations

from gateway.control.negotiation import messages as n
from gateway.links.mir2017.messages.budget import Budget
from headend.ems.negotiation import load_loans
from tests.headend.support import Bench
from tests.headend.test_api import Api, api  # noqa: F401
from tests.support.wait import until

W = 1000


async def committed(bench: Bench) -> None:
    """Return when all that was handed to the writer is on disk, and what follows was done."""
    await bench.store.writer.run(lambda connection: None)


def said(bench: Bench) -> list[tuple[str, object]]:
    found, bench.head.said = bench.head.said, []
    return found


async def test_a_loan_from_its_ask_to_its_end() -> None:
    """Rows are on disk before what they say leaves; the ledger goes on after a restart."""
    bench = await Bench().start()
    try:
        bench.register("gw/1", "gw/2")
        speak = bench.service.negotiates
        speak("gw/2", "mqtt", n.Offer(1, 1, 300 * W, 200))
        speak("gw/1", "mqtt", n.Offer(1, 1, 0, 0))
        await committed(bench)
        assert said(bench) == [("gw/2", n.Query()), ("gw/1", n.Query())]
        speak("gw/1", "mqtt", n.Ask(7, 90 * W, 90 * W, 250, 600))
        assert said(bench) == [], "the number of the loan is not on disk yet"
        await committed(bench)
        ((lender, prepare),) = said(bench)
        assert isinstance(prepare, n.Prepare)
        assert (lender, prepare.borrower, prepare.mw, prepare.price) == ("gw/2", "gw/1", 90 * W, 200)
        speak("gw/2", "mqtt", n.Lent(prepare.loan_id))
        assert said(bench) == [], "granted, and not on disk yet"
        await committed(bench)
        part = n.Part(prepare.loan_id, "gw/2", 90 * W, 200)
        assert said(bench) == [("gw/1", n.Result(7, (part,), 600, ""))]
        speak("gw/1", "mqtt", n.Taken(7))
        view = bench.service.negotiation.view()
        assert view.balances_w == {"gw/1": 90, "gw/2": -90}
        assert [(loan.stage, loan.watts) for loan in view.loans] == [("granted", 90)]
        assert view.news[0]["kind"] == "granted"

        # Another EMS on the same database: the same ledger, and no number is used again.
        loaded = await bench.store.read(load_loans)
        assert [(e.loan_id, e.mw, e.stage.value) for e in loaded.entries] == [(prepare.loan_id, 90 * W, "granted")]
        assert loaded.reserved is not None
        assert loaded.reserved > prepare.loan_id
        assert set(loaded.members) == {"gw/1", "gw/2"}
        bench.service.negotiation.load(loaded, None)
        assert bench.service.negotiation.view().balances_w == {"gw/1": 90, "gw/2": -90}
        bench.service.negotiation.came("gw/1")
        bench.service.negotiation.came("gw/2")
        await committed(bench)
        assert ("gw/1", n.Result(7, (part,), 600, "")) in said(bench), "until it says that it read it"

        speak("gw/1", "mqtt", n.Returned(prepare.loan_id))
        await committed(bench)
        assert said(bench) == [("gw/2", n.Release(prepare.loan_id)), ("gw/1", n.Closed(prepare.loan_id))]
        speak("gw/2", "mqtt", n.Released(prepare.loan_id))
        await committed(bench)
        assert (await bench.store.read(load_loans)).entries == ()
    finally:
        await bench.stop()


async def test_who_is_away_is_not_asked() -> None:
    bench = await Bench().start()
    try:
        bench.register("gw/1", "gw/2")
        bench.service.negotiates("gw/2", "mqtt", n.Offer(1, 1, 300 * W, 200))
        bench.service.negotiates("gw/1", "mqtt", n.Offer(1, 1, 0, 0))
        bench.service.disconnected("gw/2")
        await committed(bench)
        said(bench)
        bench.service.negotiates("gw/1", "mqtt", n.Ask(7, 90 * W, 90 * W, None, 600))
        await committed(bench)
        ((borrower, result),) = said(bench)
        assert isinstance(result, n.Result)
        assert (borrower, result.parts, result.why) == ("gw/1", (), "90 W of 90 W are missing: nobody lends more")
        bench.register("gw/2")
        assert ("gw/2", n.Query()) in said(bench)
    finally:
        await bench.stop()


async def test_prices_are_set_told_and_kept(api: Api) -> None:  # noqa: F811
    bench, client = api.bench, await api.script()
    bench.service.book.emas["gw/1"].power_w, bench.service.book.emas["gw/1"].threshold_w = 300.0, 500.0
    answer = await client.put("/prices", json={"initial": 1000, "incentive": 260})
    assert answer.json() == {"initial": 1000, "incentive": 260, "negotiation": None}
    told = [budgets for ema, budgets in bench.head.told_prices if ema == "gw/1"]
    assert told == [(Budget("Initial", 1000, "KW", 300, 500), Budget("Incentive", 260, "KW", 300, 500))]
    assert told[0][0].capacity_w == 200
    await client.put("/prices", json={"negotiation": 250, "incentive": None})
    assert bench.service.negotiation.view().going == 250
    assert bench.service.prices.budgets("gw/2") == (Budget("Initial", 1000), Budget("Negotiation", 250))
    assert (await client.get("/prices")).json() == {"initial": 1000, "incentive": None, "negotiation": 250}
    refused = await client.put("/prices", json={"initial": -1})
    assert (refused.status_code, set(refused.json()["fields"])) == (422, {"initial"})
    viewer = await api.logged_in("viewer-1")
    assert (await viewer.put("/prices", json={"initial": 1})).status_code == 403
    assert (await viewer.get("/negotiation")).json()["going"] == 250


# docs/allocation.md, "One example".
EXAMPLE = [
    {"ema": "gw/1", "demand_w": 400, "own_w": 1000, "priority": 3, "ask": 300, "cap": 0},
    {"ema": "gw/2", "demand_w": 700, "own_w": 1000, "priority": 2, "ask": 100, "cap": 0},
    {"ema": "gw/3", "demand_w": 900, "own_w": 500, "priority": 1, "ask": 0, "cap": 150},
    {"ema": "gw/4", "demand_w": 1500, "own_w": 1000, "priority": 2, "ask": 0, "cap": 400},
    {"ema": "gw/5", "demand_w": 1200, "own_w": 500, "priority": 0, "least_w": 100, "ask": 0, "cap": 250},
]


async def test_a_total_is_divided_as_the_page_says(api: Api) -> None:  # noqa: F811
    api.bench.register("gw/3", "gw/4", "gw/5")
    client = await api.script()
    found = {}
    for algorithm in ("priority", "matching", "game", "negotiation"):
        body = {"algorithm": algorithm, "total_w": 4000, "emas": EXAMPLE}
        view = (await client.post("/allocation", json=body)).json()
        assert view["given_w"] == 4000
        found[algorithm] = [part["limit_w"] for part in view["parts"]]
    assert found == {
        "priority": [400, 700, 900, 1500, 500],
        "matching": [500, 700, 500, 1500, 800],
        "game": [400, 700, 900, 950, 1050],
        "negotiation": [800, 700, 500, 1500, 500],
    }
    assert api.bench.head.take() == [], "a preview tells nobody"


async def test_parts_are_told_changed_and_ended(api: Api) -> None:  # noqa: F811
    client, head = await api.script(), api.bench.head
    emas = [{"ema": "gw/1", "demand_w": 300}, {"ema": "gw/2", "demand_w": 500, "priority": 1}]
    body = {"algorithm": "priority", "total_w": 600, "emas": emas, "apply": True, "for_s": 600}
    view = (await client.post("/allocation", json=body)).json()
    assert [(p["ema"], p["limit_w"], p["event"] is not None) for p in view["parts"]] == [
        ("gw/1", 100, True),
        ("gw/2", 500, True),
    ]
    assert sorted(line.split(" ", 2)[1] + line[-4:] for line in head.take()) == ["gw/1 100", "gw/2 500"]
    # The next one changes the same events, less first; who is left out is told that it is over.
    again = {**body, "total_w": 400}
    view2 = (await client.post("/allocation", json=again)).json()
    assert [p["event"] for p in view2["parts"]] == [p["event"] for p in view["parts"]]
    assert sorted(line.split(" ", 2)[1] + line[-4:] for line in head.take()) == ["gw/1.1 0", "gw/2 400"]
    await client.post("/allocation", json={**body, "emas": emas[1:], "total_w": 450})
    assert sum("cancel" in line for line in head.take()) == 1
    assert (await client.delete("/allocation")).json() == {"ended": 1}
    assert (await client.delete("/allocation")).json() == {"ended": 0}
    for wrong, field in (
        ({"emas": ["gw/9"]}, "emas"),
        ({"emas": ["gw/1"]}, "emas"),  # its power is not known
        ({"emas": ["gw/1", "gw/1"]}, "emas"),
        ({"for_s": None}, "end"),
        ({"algorithm": "best"}, "algorithm"),
    ):
        refused = await client.post("/allocation", json={**body, **wrong})
        assert refused.is_client_error, wrong
        assert set(refused.json()["fields"]) == {field}, wrong


async def test_an_ema_of_the_lab_asks_by_its_threshold() -> None:
    """``{ID, energy}``: ACCEPTED, and an event with the higher threshold that ends within the loan; or Reject."""
    bench = await Bench().start()
    try:
        bench.register("gw/1", "gw/2")
        service, head = bench.service, bench.head
        service.asks_threshold("gw/1", "mqtt", 500)
        assert said(bench)[-1] == ("gw/1", ("Reject", 0)), "its own threshold is not known"
        bench.report("gw/1", "1", 390.0, threshold_w=400.0)
        service.asks_threshold("gw/1", "mqtt", 400)
        assert said(bench)[-1] == ("gw/1", ("ACCEPTED", 400)), "it has that already"
        service.negotiates("gw/2", "mqtt", n.Offer(1, 1, 300 * W, 0))
        await committed(bench)
        said(bench)
        head.take()

        service.asks_threshold("gw/1", "mqtt", 800)
        await committed(bench)
        ((_, prepare),) = said(bench)
        service.negotiates("gw/2", "mqtt", n.Lent(prepare.loan_id))
        await committed(bench)
        answer = [("gw/2", n.Release(prepare.loan_id)), ("gw/1", ("Reject", 0))]
        assert said(bench) == answer, "400 W are more than anybody lends"
        service.negotiates("gw/2", "mqtt", n.Released(prepare.loan_id))
        service.negotiates("gw/2", "mqtt", n.Offer(1, 2, 300 * W, 0))
        await committed(bench)

        service.asks_threshold("gw/1", "mqtt", 500)
        await committed(bench)
        ((lender, prepare),) = said(bench)
        assert isinstance(prepare, n.Prepare)
        assert (lender, prepare.mw, prepare.borrower) == ("gw/2", 100 * W, "gw/1")
        service.negotiates("gw/2", "mqtt", n.Lent(prepare.loan_id))
        await until(lambda: ("gw/1", ("ACCEPTED", 500)) in bench.head.said, 5, "accepted")
        said(bench)
        (event,) = [e for e in service.book.events.values() if e.created_by == "loan"]
        assert (event.value_w, list(event.deliveries)) == (500, ["gw/1"])
        assert event.end <= bench.now + prepare.for_s, "it ends before the loan does"
        assert service.negotiation.view().balances_w == {"gw/1": 100, "gw/2": -100}

        # The lender needs it: the event is cancelled, and the loan is returned when the EMA answered that.
        service.negotiates("gw/2", "mqtt", n.Recall(prepare.loan_id))
        await until(lambda: event.cancelled, 5, "cancelled")
        await committed(bench)
        service.tick()
        assert service.negotiation.view().balances_w == {"gw/1": 100, "gw/2": -100}
        service.answered("gw/1", "mqtt", event.id, event.modification, True)
        service.tick()
        await committed(bench)
        assert ("gw/2", n.Release(prepare.loan_id)) in said(bench)
        assert service.negotiation.view().balances_w == {}
    finally:
        await bench.stop()
