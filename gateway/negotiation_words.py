"""Between the messages of a negotiation and their wire form (``links.mir2017.messages.negotiation``), for both ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.control.negotiation import messages as n
from gateway.links.mir2017.messages.negotiation import Negotiation

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(n.Ask, n.Offer, n.Lent, n.Refused, n.Taken, n.Returned, n.Recall, n.Released, n.Still),
        *(n.Query, n.Prepare, n.Result, n.GiveBack, n.Closed, n.Release, n.Kept),
    )
}


def written(ema: int, message: n.FromMember | n.FromCoordinator) -> Negotiation:
    """As the wire has it; ``ema``: the member's number, whoever speaks."""
    values = _values(message)
    parts = tuple(_values(part) for part in values.pop("parts", ()))
    offer = values.pop("offer", None)
    return Negotiation(ema, type(message).__name__, values, parts, None if offer is None else _values(offer))


def from_member(said: Negotiation) -> n.FromMember:
    """What a member says; its ``kind`` was checked by the wire."""
    message: n.FromMember = _read(said)
    return message


def from_coordinator(said: Negotiation) -> n.FromCoordinator:
    """What the coordinator says; its ``kind`` was checked by the wire."""
    message: n.FromCoordinator = _read(said)
    return message


def _read(said: Negotiation) -> Any:
    values: dict[str, Any] = dict(said.values)
    if said.kind == "Result":
        values["parts"] = tuple(n.Part(**part) for part in said.parts)  # type: ignore[arg-type]
    if said.offer is not None:
        values["offer"] = n.Offer(**said.offer)  # type: ignore[arg-type]
    return _KINDS[said.kind](**values)


def _values(message: Any) -> dict[str, Any]:
    names: Mapping[str, object] = type(message).__dataclass_fields__
    return {name: getattr(message, name) for name in names}
