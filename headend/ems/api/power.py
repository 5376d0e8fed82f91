"""Loans between EMAs and what power costs: what a viewer may see, what an operator may set."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from headend.ems.api import schemas as s
from headend.ems.api.guard import Ctx, Operator, Viewer
from headend.ems.negotiation import NegotiationView
from headend.ems.prices import LARGEST_PRICE

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
