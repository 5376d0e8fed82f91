"""Loans and prices on the wire, both ends (docs/wire.md, "Loans", "Prices")."""

from __future__ import annotations

import pytest

from gateway.control.negotiation import messages as n
from gateway.errors import PeerError
from gateway.links.mir2017.client import Client, Negotiated, PriceReceived
from gateway.links.mir2017.coap.client import Client as CoapClient
from gateway.links.mir2017.coap.server import Answer
from gateway.links.mir2017.coap.server import Server as CoapServer
from gateway.links.mir2017.happenings import NegotiationHeard
from gateway.links.mir2017.messages import negotiation as wire
from gateway.links.mir2017.messages.budget import Budget, BudgetMessage
from gateway.links.mir2017.server import Server
from gateway.negotiation_words import from_coordinator, from_member, written

MEMBER = [
    n.Ask(7, 90_000, 10_000, 300, 600),
    n.Ask(8, 90_000, 90_000, None, 600),
    n.Offer(3, 4, 300_000, 200),
    n.Lent(5),
    n.Refused(5, "90 W asked, 10 W free", n.Offer(3, 5, 10_000, 200)),
    n.Taken(7),
    n.Returned(5),
    n.Recall(5),
    n.Released(5),
    n.Still(5, 3),
]
COORDINATOR = [
    n.Query(),
    n.Prepare(5, "gw/1", 90_000, 200, 600),
    n.Result(7, (n.Part(5, "gw/2", 60_000, 200), n.Part(6, "gw/3", 30_000, 210)), 600, ""),
    n.Result(7, (), 600, "nobody lends more"),
    n.GiveBack(5),
    n.Closed(5),
    n.Release(5),
    n.Kept(5, 3, 120),
]


@pytest.mark.parametrize("message", MEMBER, ids=str)
def test_what_a_member_says_is_what_the_coordinator_hears(message: n.FromMember) -> None:
    (send,) = Client(1, "MIR_VEN1").negotiate(written(1, message))
    assert send.topic == "EMS/negotiation"
    (heard,) = Server().received(send.topic, send.body)
    assert isinstance(heard, NegotiationHeard)
    assert (heard.ema, from_member(heard.message)) == (1, message)
    (ask,) = CoapClient(1, "VEN_MIR1").negotiate(written(1, message))
    assert ask.topic == "negotiation"
    key, (heard, answer) = CoapServer().requested(ask.topic, ask.body)
    assert (key, answer) == (None, Answer(None, b"negotiation"))
    assert from_member(heard.message) == message


@pytest.mark.parametrize("message", COORDINATOR, ids=str)
def test_what_the_coordinator_says_is_what_a_member_hears(message: n.FromCoordinator) -> None:
    (send,) = Server().negotiate(1, written(1, message))
    assert send.topic == "gw/1/nego_result"
    (heard,) = Client(1, "MIR_VEN1").received(send.topic, send.body)
    assert isinstance(heard, Negotiated)
    assert from_coordinator(heard.message) == message
    write = CoapServer().negotiate(1, written(1, message))
    assert (write.ema, write.path) == (1, "nego_result")
    right, (heard,) = CoapClient(1, "VEN_MIR1").requested(write.path, write.body)
    assert right
    assert from_coordinator(heard.message) == message


def test_to_the_byte() -> None:
    ask = (
        b'{"Service":"Negotiation","GW":"gw/1","Type":"Ask",'
        b'"Ask":7,"Power":90000,"Least":10000,"Cap":300,"Duration":600}'
    )
    assert written(1, MEMBER[0]).encode() == ask
    result = (
        b'{"Service":"Negotiation","GW":"gw/1","Type":"Result","Ask":7,"Duration":600,"Why":"",'
        b'"Loans":[{"Loan":5,"Lender":"gw/2","Power":60000,"Price":200},'
        b'{"Loan":6,"Lender":"gw/3","Power":30000,"Price":210}]}'
    )
    assert written(1, COORDINATOR[2]).encode() == result
    assert wire.LabAsk(1, 500).encode() == b'{"ID":"gw/1","energy":500}'
    assert wire.LabAnswer(True, 500).encode() == b'{"Check":"ACCEPTED","Margin":500}'
    assert wire.LabAnswer(False, 0).encode() == b'{"Check":"Reject","Margin":0}'
    budget = Budget("Initial", 1000, "KW", 300, 500)
    said = (
        b'{"Service":"oadrDistributeBudget","VENID":"MIR_VEN1","Response":200,"EMADREventInformation":[{"signalName":'
        b'"Initial","currentValue":300,"threshold":500,"capacity":200}],"EMADRPriceInformation":[{"price":1000,"unit":"KW"}]}'
    )
    assert BudgetMessage("MIR_VEN1", (budget,)).encode() == said
    assert BudgetMessage.decode(said).budgets == (budget,)


@pytest.mark.parametrize("ident", ["gw/7", "MIR_VEN7", "VEN_MIR7", "7", 7])
def test_the_labs_ask_names_its_ema(ident: object) -> None:
    import json

    assert wire.upwards(json.dumps({"ID": ident, "energy": 500}).encode()) == wire.LabAsk(7, 500)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"ID":"gw/0","energy":5}',
        b'{"ID":"gw/1","energy":-5}',
        b'{"GW":"gw/1","Type":"Query"}',
        b'{"GW":"gw/1","Type":"Ask","Ask":1,"Power":1.5,"Least":1,"Cap":1,"Duration":1}',
        b'{"GW":"gw/1","Type":"Lent","Loan":-1}',
        b'{"GW":"gw/1","Type":"Refused","Loan":1,"Why":"x","Offer":[]}',
    ],
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(PeerError):
        wire.upwards(body)
    with pytest.raises(PeerError):
        wire.downwards(body.replace(b"Query", b"Ask"))


def test_prices_come_with_the_set_up_and_when_they_change() -> None:
    budgets = (Budget("Initial", 1000, "KW", 300, 500), Budget("Negotiation", 250))
    told = [
        PriceReceived(0, "Initial", 1000, "KW", 300, 500, 200),
        PriceReceived(0, "Negotiation", 250, "KW", None, None, None),
    ]
    (send,) = Server().tell_prices(1, budgets)
    assert send.topic == "gw/1/oadr/Budget"
    assert Client(1, "MIR_VEN1").received(send.topic, send.body) == told
    write = CoapServer().tell_prices(1, budgets)
    assert CoapClient(1, "VEN_MIR1").requested(write.path, write.body) == (True, told)

    client, server = Client(1, "MIR_VEN1"), Server(prices=lambda ema: budgets)
    waiting, happened = list(client.connected()), []
    while waiting:
        send = waiting.pop(0)
        for answer in server.received(send.topic, send.body):
            if hasattr(answer, "topic"):
                outputs = client.received(answer.topic, answer.body)
                happened += outputs
                waiting += [output for output in outputs if hasattr(output, "topic")]
    assert [h for h in happened if isinstance(h, PriceReceived)] == told
