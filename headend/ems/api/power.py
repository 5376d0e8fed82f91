"""Loans between EMAs and what power costs: what a viewer may see, what an operator may set."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from headend.ems.allocation import AllocationView, Stated
from headend.ems.api import schemas as s
from headend.ems.api.guard import Context, Ctx, Operator, Viewer
from headend.ems.errors import Refused
from headend.ems.negotiation import NegotiationView
from headend.ems.prices import LARGEST_PRICE
from headend.ems.times import moment

router = APIRouter(responses=s.REFUSALS)

Price = Annotated[int | None, Field(ge=0, le=LARGEST_PRICE)]


class NewPrices(s.Body):
    """Whole price units a kWh. What is left out stays; null: not set any more."""

    initial: Price = None
    incentive: Price = None
    negotiation: Price = None


@router.get("/negotiation")
async def negotiation(ctx: Ctx, _: Viewer) -> NegotiationView:
    """The ledger of loans, what EMAs offer, and what became of the last asks."""
    return ctx.service.negotiation.view()


@router.get("/prices")
async def prices(ctx: Ctx, _: Viewer) -> dict[str, int | None]:
    """What EMAs are told."""
    return ctx.service.prices.prices


@router.put("/prices")
async def set_prices(request: Request, ctx: Ctx, who: Operator, body: NewPrices) -> dict[str, int | None]:
    """Set prices and tell every EMA."""
    changes = body.model_dump(exclude_unset=True)
    told = await ctx.service.set_prices(changes)
    ctx.audit(request, who.name, "prices", str(changes))
    return told


Watts = Annotated[float, Field(ge=0, le=1e9)]


class StatedParty(s.Body):
    """One EMA; what is left out is what the EMS knows of it (power, limit or threshold), or the algorithm's default."""

    ema: str = Field(max_length=64)
    demand_w: Watts | None = None
    own_w: Watts | None = None
    priority: int = Field(0, ge=0, le=1_000_000)
    least_w: Watts = 0.0
    most_w: Watts | None = None
    ask: int = Field(0, ge=0, le=LARGEST_PRICE)
    cap: int | None = Field(None, ge=0, le=LARGEST_PRICE)
    weight: int = Field(1, ge=1, le=1_000_000)


class NewAllocation(s.Body):
    """Divide ``total_w`` among ``emas`` (names, or with what is stated of them; left out: all that are connected).
    ``apply``: tell each its part, from ``start`` for ``for_s`` or to ``end``; else nothing is sent."""

    algorithm: Literal["priority", "matching", "game", "negotiation"] = "priority"
    total_w: Watts
    emas: list[StatedParty | str] | None = Field(None, max_length=10_000)
    apply: bool = False
    start: s.Time = "now"
    end: s.Time | None = None
    for_s: float | None = Field(None, gt=0)


def _stated(ctx: Context, body: NewAllocation) -> dict[str, Stated]:
    if body.emas is None:
        return {ema.name: Stated() for ema in ctx.service.book.emas.values() if ema.connected}
    stated: dict[str, Stated] = {}
    for said in body.emas:
        name = said if isinstance(said, str) else said.ema
        if name in stated:
            raise Refused("emas", f"{name} is there twice")
        stated[name] = Stated() if isinstance(said, str) else Stated(**said.model_dump(exclude={"ema"}))
    return stated


@router.post("/allocation")
async def allocation(request: Request, ctx: Ctx, who: Operator, body: NewAllocation) -> AllocationView:
    """Divide one total among EMAs: a preview, or with ``apply`` the limits that they hold."""
    desk, stated = ctx.service.allocation, _stated(ctx, body)
    if not body.apply:
        return desk.preview(body.algorithm, body.total_w, stated)
    now = ctx.service.book.wall
    first = moment("start", body.start, now, ctx.zone)
    if (body.end is None) is (body.for_s is None):
        raise Refused("end", "say when it ends: end or for_s, one of them")
    last = moment("end", body.end, now, ctx.zone) if body.end is not None else first + (body.for_s or 0.0)
    view = await desk.apply(body.algorithm, body.total_w, stated, first, last)
    told = ", ".join(f"{part.ema} {part.limit_w:.0f} W" for part in view.parts)
    ctx.audit(request, who.name, "allocation", f"{body.algorithm} {body.total_w:.0f} W: {told}")
    return view


@router.delete("/allocation")
async def end_allocation(request: Request, ctx: Ctx, who: Operator) -> dict[str, int]:
    """No EMA has a part any more."""
    ended = await ctx.service.allocation.end()
    ctx.audit(request, who.name, "allocation", "ended")
    return {"ended": ended}
