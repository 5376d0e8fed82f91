"""What a viewer may see: EMAs, devices, power, energy, events, RDR log, limits, counts, and changes live."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import StreamingResponse

from headend.ems import history, views
from headend.ems import view_types as t
from headend.ems.api import schemas as s
from headend.ems.api.guard import COOKIE, Admin, Context, Ctx, Viewer
from headend.ems.errors import Refused, Unknown
from headend.ems.state import Event
from headend.ems.status import StatusView, vtn_views
from headend.ems.status import status as ems_status
from headend.ems.times import moment

router = APIRouter(responses=s.REFUSALS)

# An EMA's HHMM end may lie in the day before; a longer series is asked in parts.
LONGEST_SERIES_S = 400 * 86_400.0
MOST_STEPS = 5000
Limit = Annotated[int, Query(ge=1, le=500)]
Before = Annotated[int | None, Query(ge=1, le=s.MOST_ID, description="older than this id")]


def zone_name(ctx: Context) -> str:
    return ctx.settings.zone or "local"


@router.get("/overview")
async def overview(ctx: Ctx, _: Viewer) -> t.Overview:
    """The first screen: are we under the limit, what is running, is anything wrong."""
    return views.overview(ctx.service.book, ctx.service.events, zone_name(ctx), ctx.service.rdr.policy)


@router.get("/status")
async def status(ctx: Ctx, _: Viewer) -> StatusView:
    """The EMS itself: links, counters, what was refused and why, how full it is."""
    return ems_status(ctx.service)


@router.get("/emas")
async def emas(ctx: Ctx, _: Viewer) -> list[t.EmaView]:
    """Every EMA that ever registered."""
    return views.emas(ctx.service.book, ctx.service.events)


@router.get("/emas/gw/{number}")
async def ema(ctx: Ctx, _: Viewer, number: int) -> t.EmaView:
    """One EMA."""
    return views.ema_view(ctx.service.book, ctx.service.events, ctx.service.book.ema(f"gw/{number}"))


@router.get("/vtns")
async def vtns(ctx: Ctx, _: Viewer) -> list[t.VtnView]:
    """VTNs above that are registered over UDP."""
    return vtn_views(ctx.service)


@router.get("/devices")
async def devices(ctx: Ctx, _: Viewer, ema: str | None = None, kind: str | None = None) -> list[t.DeviceView]:
    """Devices, batteries, panels, reclosers, loads and meters, of all EMAs or one."""
    if ema is not None:
        ctx.service.book.ema(ema)
    return views.devices(ctx.service.book, ema, kind)


@router.get("/events")
async def events(ctx: Ctx, _: Viewer, limit: Limit = 100, before: Before = None, state: str | None = None) -> s.Events:
    """Events, newest first. ``state``: upcoming, running, ended or cancelled."""
    found = await history.events(ctx.store, before, limit)
    book = ctx.service.book
    shown = [_event_view(ctx, book.events.get(event.id, event)) for event in found]
    return s.Events(
        events=[event for event in shown if state is None or event.state == state],
        next=found[-1].id if len(found) == limit else None,
    )


@router.get("/events/{event_id}")
async def event(ctx: Ctx, _: Viewer, event_id: s.Id) -> t.EventView:
    """One event, with what each EMA answered."""
    known = ctx.service.book.events.get(event_id)
    if known is None:
        older = await history.events(ctx.store, event_id + 1, 1)
        if not older or older[0].id != event_id:
            raise Unknown("id", f"event {event_id} is not known")
        known = older[0]
    return _event_view(ctx, known)


def _event_view(ctx: Context, event: Event) -> t.EventView:
    return views.event_view(ctx.service.book, ctx.service.events, event)


def _span(ctx: Context, start: str | None, end: str | None, usual_s: float) -> tuple[float, float]:
    now = ctx.service.book.wall
    last = moment("end", _number(end), now, ctx.zone) if end is not None else now
    first = moment("start", _number(start), now, ctx.zone) if start is not None else last - usual_s
    if not first < last:
        raise Refused("start", "the start is not before the end")
    if last - first > LONGEST_SERIES_S:
        raise Refused("start", "a series spans 400 days at most; ask in parts")
    return first, last


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _chosen(ctx: Context, ema: list[str] | None) -> list[str]:
    names = ema or sorted(ctx.service.book.emas, key=lambda name: (len(name), name))
    return [ctx.service.book.ema(name).name for name in names]


@router.get("/power")
async def power(
    ctx: Ctx,
    _: Viewer,
    ema: Annotated[list[str] | None, Query(max_length=100)] = None,
    start: str | None = None,
    end: str | None = None,
    points: Annotated[int, Query(ge=1, le=MOST_STEPS)] = 300,
) -> s.Series:
    """Power of EMAs over time (the last 15 minutes where nothing is said), in at most ``points`` steps."""
    first, last = _span(ctx, start, end, 900.0)
    series = {
        name: [s.Point.model_validate(point) for point in await history.series(ctx.store, name, first, last, points)]
        for name in _chosen(ctx, ema)[:100]
    }
    found = [event for event in await history.events(ctx.store, None, 500) if event.start < last and event.end > first]
    book = ctx.service.book
    shown = [_event_view(ctx, book.events.get(event.id, event)) for event in found]
    return s.Series(start=first, end=last, emas=series, events=shown)


@router.get("/energy")
async def energy(
    ctx: Ctx,
    _: Viewer,
    ema: Annotated[list[str] | None, Query(max_length=100)] = None,
    start: str | None = None,
    end: str | None = None,
    step_s: Annotated[float, Query(ge=60, le=86_400)] = 3600.0,
) -> s.Energy:
    """Imported and exported energy a step (the last day where nothing is said)."""
    first, last = _span(ctx, start, end, 86_400.0)
    if (last - first) / step_s > MOST_STEPS:
        raise Refused("step_s", f"more than {MOST_STEPS} steps; choose a longer one")
    found = {
        name: [s.EnergyStep.model_validate(row) for row in await history.energy(ctx.store, name, first, last, step_s)]
        for name in _chosen(ctx, ema)[:100]
    }
    return s.Energy(start=first, end=last, step_s=step_s, emas=found)


@router.get("/rdr")
async def rdr(
    ctx: Ctx, _: Viewer, ema: str | None = None, limit: Limit = 100, before: Before = None
) -> list[s.RdrView]:
    """Requests of devices for their power back, newest first, with the answer and its reason."""
    ctx.service.book.flush()
    waiting = {rdr.id: rdr for rdr in ctx.service.book.rdr.values()}
    found = await history.rdr(ctx.store, ema, before, limit)
    return [s.RdrView(**(asdict(waiting[row["id"]]) if row["id"] in waiting else row)) for row in found]


@router.get("/rdr/policy")
async def policy(ctx: Ctx, _: Viewer) -> s.Policy:
    """How RDRs are answered."""
    return s.Policy.model_validate({"policy": ctx.service.rdr.policy})


@router.get("/commands")
async def commands(
    ctx: Ctx, _: Viewer, ema: str | None = None, limit: Limit = 100, before: Before = None
) -> list[s.CommandView]:
    """Commands to devices, newest first, and what became of them."""
    ctx.service.book.flush()
    return [s.CommandView(**row) for row in await history.commands(ctx.store, ema, before, limit)]


@router.get("/limits")
async def limits(ctx: Ctx, _: Viewer) -> list[s.LimitView]:
    """Up to where RDRs are granted, in total and for each EMA."""
    return [s.LimitView(scope=scope, watts=watts) for scope, watts in sorted(ctx.service.book.limits.items())]


@router.get("/reports")
async def reports(ctx: Ctx, _: Viewer) -> dict[str, s.Counts]:
    """Reports of each EMA."""
    counts = await ctx.store.counts()
    return {name: s.Counts(stored=count.stored, duplicates=count.duplicates) for name, count in counts.items()}


@router.get("/audit")
async def audit(ctx: Ctx, _: Admin, limit: Limit = 100, before: Before = None) -> list[s.AuditLine]:
    """Who did what, newest first."""
    return [s.AuditLine(**row) for row in await history.audit(ctx.store, before, limit)]


@router.get("/live", response_class=StreamingResponse)
async def live(request: Request, ctx: Ctx, who: Viewer) -> StreamingResponse:
    """Server-sent events: ``hello`` with the overview, then ``ema device power event rdr command limit link``;
    ``resync`` when this reader fell behind and has to read everything again."""
    if ctx.live.full:
        raise HTTPException(503, "too many pages are open")
    secret = request.cookies.get(COOKIE, "")
    by_token = "authorization" in request.headers
    seen = views.overview(ctx.service.book, ctx.service.events, zone_name(ctx), ctx.service.rdr.policy)
    stream = ctx.live.stream(json.dumps(asdict(seen)), lambda: by_token or ctx.accounts.by_session(secret) is not None)
    return StreamingResponse(stream, media_type="text/event-stream")
