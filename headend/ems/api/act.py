"""What an operator may do: events, device commands, RDRs, limits. Everything is in the audit log."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request

from headend.ems import view_types as t
from headend.ems import views
from headend.ems.api import schemas as s
from headend.ems.api.guard import Context, Ctx, Operator
from headend.ems.errors import Refused
from headend.ems.events import EVERYONE
from headend.ems.state import Event
from headend.ems.times import moment

router = APIRouter(responses=s.REFUSALS)


def _times(
    ctx: Context, start: s.Time | None, end: s.Time | None, for_s: float | None, usual_start: float
) -> tuple[float | None, float | None]:
    now = ctx.service.book.wall
    if end is not None and for_s is not None:
        raise Refused("for_s", "end and for_s say the same; give one")
    first = moment("start", start, now, ctx.zone) if start is not None else None
    if for_s is not None:
        return first, (usual_start if first is None else first) + for_s
    return first, moment("end", end, now, ctx.zone) if end is not None else None


def _view(ctx: Context, event: Event) -> t.EventView:
    return views.event_view(ctx.service.book, ctx.service.events, event)


@router.post("/events", status_code=201)
async def create(request: Request, ctx: Ctx, who: Operator, body: s.NewEvent) -> t.EventView:
    """Make an event and send it: pushed to EMAs that are there, with the next poll to those that poll, later to
    those that are away."""
    first, last = _times(ctx, body.start, body.end, body.for_s, ctx.service.book.wall)
    if first is None or last is None:
        raise Refused("end", "say when it ends: end, or for_s")
    event = await ctx.service.events.create(body.value_w, first, last, body.targets, by=who.name)
    ctx.audit(request, who.name, "event create", str(ctx.service.event_line(event)))
    return _view(ctx, event)


@router.post("/events/preview")
async def preview(ctx: Ctx, who: Operator, body: s.NewEvent) -> s.EventPreview:
    """What the event would do if it ran now; nothing is sent."""
    book = ctx.service.book
    names = list(book.emas) if body.targets == EVERYONE else body.targets
    effect, unknown, away = 0.0, [], []
    for name in names:
        ema = book.ema(name, "targets")
        power = book.power(ema)
        if not ema.connected:
            away.append(name)
        if power is None:
            unknown.append(name)
        else:
            effect -= max(0.0, power - body.value_w)
    words = f"{', '.join(sorted(names)[:5])}{' …' if len(names) > 5 else ''} under {body.value_w:.0f} W each"
    words += f", about {effect:.0f} W" if effect else ", no change now"
    return s.EventPreview(words=words, effect_w=effect, not_known=unknown, away=away, confirm=len(names) > 1)


@router.patch("/events/{event_id}")
async def change(request: Request, ctx: Ctx, who: Operator, event_id: s.Id, body: s.EventChange) -> t.EventView:
    """The same event with a higher modification number."""
    known = ctx.service.book.events.get(event_id)
    first, last = _times(ctx, body.start, body.end, body.for_s, known.start if known is not None else 0.0)
    event = await ctx.service.events.change(event_id, body.value_w, first, last, body.targets)
    ctx.audit(request, who.name, "event change", str(ctx.service.event_line(event)))
    return _view(ctx, event)


@router.delete("/events/{event_id}")
async def cancel(request: Request, ctx: Ctx, who: Operator, event_id: s.Id) -> t.EventView:
    """Cancel it, now or before it runs; it stays in the list."""
    event = await ctx.service.events.cancel(event_id)
    ctx.audit(request, who.name, "event cancel", str(ctx.service.event_line(event)))
    return _view(ctx, event)


@router.patch("/emas/gw/{number}")
async def mode(request: Request, ctx: Ctx, who: Operator, number: int, body: s.EmaChange) -> t.EmaView:
    """How events reach an EMA: auto (pushed, unless it polls), push or poll."""
    ema = await ctx.service.set_mode(f"gw/{number}", body.mode)
    ctx.audit(request, who.name, "ema mode", f"{ema.name} {body.mode}")
    return views.ema_view(ctx.service.book, ctx.service.events, ema)


@router.post("/emas/gw/{number}/report", status_code=202)
async def want_report(ctx: Ctx, who: Operator, number: int) -> dict[str, str]:
    """Ask for a report with the answer to its next poll (DR mode EMA POLL)."""
    ctx.service.want_report(f"gw/{number}")
    return {"state": "asked with the next poll"}


@router.post("/emas/gw/{number}/devices/{device}/command", status_code=202)
async def command(
    request: Request, ctx: Ctx, who: Operator, number: int, device: int, body: s.NewCommand
) -> s.CommandView:
    """Switch or dim a device. What became of it: ``/commands``, or live."""
    sent = ctx.service.commands.send(f"gw/{number}", device, body.action, who.name)
    ctx.audit(request, who.name, "device command", f"gw/{number} dev/{device} {body.action}")
    return s.CommandView.model_validate(asdict(sent))


@router.get("/emas/gw/{number}/devices/{device}/preview")
async def command_preview(
    ctx: Ctx, who: Operator, number: int, device: int, action: Annotated[str, Query(max_length=8)]
) -> s.CommandPreview:
    """What the command would do; nothing is sent."""
    words, effect = ctx.service.commands.preview(f"gw/{number}", device, action)
    return s.CommandPreview(words=words, effect_w=effect)


@router.put("/rdr/policy")
async def policy(request: Request, ctx: Ctx, who: Operator, body: s.Policy) -> s.Policy:
    """How RDRs are answered from now on."""
    await ctx.service.rdr.set_policy(body.policy)
    ctx.audit(request, who.name, "rdr policy", body.policy)
    return body


@router.post("/rdr/{rdr_id}")
async def decide(request: Request, ctx: Ctx, who: Operator, rdr_id: s.Id, body: s.RdrDecision) -> s.RdrView:
    """Answer one by hand, before its deadline (policy manual)."""
    rdr = await ctx.service.rdr.answer(rdr_id, body.granted, who.name)
    ctx.audit(request, who.name, "rdr answer", f"{rdr.id} {rdr.ema} dev/{rdr.number} {rdr.state}")
    return s.RdrView.model_validate(asdict(rdr))


@router.put("/limits")
async def limit(request: Request, ctx: Ctx, who: Operator, body: s.NewLimit) -> list[s.LimitView]:
    """Set a limit, or remove it (``watts`` null); all limits come back."""
    await ctx.service.set_limit(body.scope, body.watts)
    ctx.audit(request, who.name, "limit", f"{body.scope} {body.watts}")
    return [s.LimitView(scope=scope, watts=watts) for scope, watts in sorted(ctx.service.book.limits.items())]
