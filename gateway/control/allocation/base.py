"""What the algorithms share: the parties, exact division in whole mW, floors and ceilings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Party:
    """An EMA that gets a part of the total. Powers in mW, prices a kWh.

    ``demand_mw``: what it would draw. ``own_mw``: its standing threshold. ``priority``: the smaller number gives way
    first. ``least_mw``: what it cannot shed. ``most_mw``: what its connection carries (None: any). ``ask``, ``cap``: it
    lends from there on, it pays no more than that (None: any price). ``weight``: its bargaining power.
    """

    name: str
    demand_mw: int
    own_mw: int
    priority: int = 0
    least_mw: int = 0
    most_mw: int | None = None
    ask: int = 0
    cap: int | None = None
    weight: int = 1

    @property
    def wants_mw(self) -> int:
        """The demand, no less than its floor and no more than its ceiling."""
        wanted = max(self.demand_mw, self.least_mw)
        return wanted if self.most_mw is None else min(wanted, self.most_mw)


@dataclass(frozen=True, slots=True)
class Share:
    """The limit that one EMA gets, and one line that says why."""

    name: str
    limit_mw: int
    why: str


# The sum of the limits is the total, unless every party's ceiling is reached: min(total, sum of the ceilings).
Allocate = Callable[[int, Sequence[Party]], tuple[Share, ...]]


def check(total_mw: int, parties: Sequence[Party]) -> None:
    """Raise ``ValueError`` that names what cannot be."""
    if total_mw < 0:
        raise ValueError(f"a total of {total_mw} mW cannot be divided")
    seen: set[str] = set()
    for party in parties:
        if party.name in seen:
            raise ValueError(f"{party.name} is there twice")
        seen.add(party.name)
        most = party.most_mw
        if min(party.least_mw, party.own_mw) < 0 or party.weight < 1 or (most is not None and most < party.least_mw):
            raise ValueError(f"{party.name}: {party} contradicts itself")


def divide(amount: int, weights: Sequence[int]) -> list[int]:
    """All of ``amount`` in proportion to ``weights``, in whole mW: the largest remainders get one more, then the first.

    Equal parts where all weights are 0.
    """
    if not weights:
        return []
    if sum(weights) == 0:
        weights = [1] * len(weights)
    whole = sum(weights)
    parts = [amount * weight // whole for weight in weights]
    order = sorted(range(len(weights)), key=lambda n: (-(amount * weights[n] % whole), n))
    for n in order[: amount - sum(parts)]:
        parts[n] += 1
    return parts


def fill(amount: int, rooms: Sequence[int | None], weights: Sequence[int]) -> list[int]:
    """``amount`` in proportion to ``weights``, but to each no more than its room (None: any); what is left over stays.

    Like water in vessels as wide as the weights: whoever is full stops, the others share on.
    """
    parts = [0] * len(rooms)
    open_ = [n for n, room in enumerate(rooms) if room is None or room > 0]
    while open_ and amount > 0:
        flat = sum(weights[n] for n in open_) == 0
        whole = len(open_) if flat else sum(weights[n] for n in open_)
        weight = {n: 1 if flat else weights[n] for n in open_}
        full = [n for n in open_ if (room := rooms[n]) is not None and room * whole <= amount * weight[n]]
        if not full:
            for n, part in zip(open_, divide(amount, [weight[n] for n in open_]), strict=True):
                parts[n] = part
            break
        for n in full:
            parts[n] = rooms[n] or 0
        amount -= sum(parts[n] for n in full)
        open_ = [n for n in open_ if n not in full]
    return parts


def floors(total_mw: int, parties: Sequence[Party]) -> list[int]:
    """What nobody can shed comes first; where the total is less, in proportion to it."""
    least = [party.least_mw for party in parties]
    return least if sum(least) <= total_mw else divide(total_mw, least)


def add(limits: Sequence[int], parts: Sequence[int]) -> list[int]:
    """Both together, one by one."""
    return [limit + part for limit, part in zip(limits, parts, strict=True)]


def rest_to_all(total_mw: int, limits: Sequence[int], parties: Sequence[Party]) -> list[int]:
    """Everybody has what it wants: the rest goes equally to all, up to their ceilings."""
    rooms = [None if p.most_mw is None else p.most_mw - limit for p, limit in zip(parties, limits, strict=True)]
    return add(limits, fill(total_mw - sum(limits), rooms, [1] * len(parties)))


def entitled(total_mw: int, parties: Sequence[Party]) -> list[int]:
    """The total in proportion to the standing thresholds above the floors; their sum is the total: the thresholds."""
    limits = floors(total_mw, parties)
    rooms = [None if p.most_mw is None else p.most_mw - limit for p, limit in zip(parties, limits, strict=True)]
    weights = [max(party.own_mw - party.least_mw, 0) for party in parties]
    return add(limits, fill(total_mw - sum(limits), rooms, weights))


def watts(mw: int) -> str:
    """As a person reads it."""
    return f"{mw // 1000} W" if mw % 1000 == 0 else f"{mw / 1000:.3f} W"


def satisfied(party: Party, limit: int) -> str:
    """How the limit stands to what it wants."""
    short = party.wants_mw - limit
    return "all that it wants" if short <= 0 else f"{watts(short)} less than it wants"
