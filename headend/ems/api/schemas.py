"""What the API takes and gives beyond ``views``. A time is wall seconds (UTC), or text as in ``ems.times``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from headend.ems.view_types import EventView

Time = float | str
MOST_ID = 2**53
Id = Annotated[int, Path(ge=1, le=MOST_ID)]


class Body(BaseModel):
    """A key that is not known is a mistake, and is told."""

    model_config = ConfigDict(extra="forbid", strict=True)


class LogIn(Body):
    name: str = Field(max_length=64)
    password: str = Field(max_length=256)


class Me(BaseModel):
    """``must_change_password``: nothing else is allowed before."""

    name: str
    role: Literal["viewer", "operator", "admin"]
    must_change_password: bool


class NewPassword(Body):
    old: str = Field(max_length=256)
    new: str = Field(max_length=256)


class NewEvent(Body):
    """Either ``end`` or ``for_s``. ``targets``: a list of EMAs, or "all"."""

    value_w: float = Field(ge=0, le=1e9, description="the limit in W")
    start: Time = "now"
    end: Time | None = None
    for_s: float | None = Field(None, gt=0)
    targets: list[str] | Literal["all"]


class EventChange(Body):
    """What is left out stays. ``for_s`` counts from the (new) start."""

    value_w: float | None = Field(None, ge=0, le=1e9)
    start: Time | None = None
    end: Time | None = None
    for_s: float | None = Field(None, gt=0)
    targets: list[str] | Literal["all"] | None = None


class EventPreview(BaseModel):
    """What an event would do now. ``effect_w``: the change of power expected, of those whose power is known.

    ``confirm``: it reaches more than one EMA, so a page asks first.
    """

    words: str
    effect_w: float
    not_known: list[str]
    away: list[str]
    confirm: bool


class Events(BaseModel):
    """Newest first; ``next``: the ``before`` of the next page."""

    events: list[EventView]
    next: int | None


class EmaChange(Body):
    mode: Literal["auto", "push", "poll"]


class NewCommand(Body):
    action: Literal["on", "off", "up", "down"]


class CommandView(BaseModel):
    """``state``: sent, confirmed, failed (with why)."""

    id: int
    ema: str
    number: int
    action: str
    by: str
    at: float
    state: str
    why: str
    state_at: float


class CommandPreview(BaseModel):
    words: str
    effect_w: float | None


class RdrView(BaseModel):
    """``state``: pending, granted, denied; ``by``: the policy or the account."""

    id: int
    ema: str
    number: int
    watts: float
    asked_at: float
    state: str
    why: str
    by: str
    answered_at: float | None


class RdrDecision(Body):
    granted: bool


class Policy(Body):
    policy: Literal["deny", "grant", "limit", "manual"]


class LimitView(BaseModel):
    """``scope``: "total" or an EMA."""

    scope: str
    watts: float


class NewLimit(Body):
    """``watts`` null removes it."""

    scope: str = Field(max_length=64)
    watts: float | None = Field(ge=0, le=1e9)


class Point(BaseModel):
    """One step of a series: means, and the least and most of the power."""

    at: float
    power_w: float
    least_w: float
    most_w: float
    limit_w: float | None
    margin_w: float | None
    generate_w: float | None
    storage_w: float | None


class Series(BaseModel):
    """``events``: those that touch the span, for its shading."""

    start: float
    end: float
    emas: dict[str, list[Point]]
    events: list[EventView]


class EnergyStep(BaseModel):
    """``known_s``: the seconds of the step whose power is known; the rest counts as nothing."""

    at: float
    import_wh: float
    export_wh: float
    known_s: float


class Energy(BaseModel):
    start: float
    end: float
    step_s: float
    emas: dict[str, list[EnergyStep]]


class Counts(BaseModel):
    """Reports stored once each, and how often one came again."""

    stored: int
    duplicates: int


class AuditLine(BaseModel):
    id: int
    at: float
    account: str
    source: str
    action: str
    detail: str


class Account(BaseModel):
    name: str
    role: str
    one_time: bool
    created_at: float


class NewAccount(Body):
    name: str = Field(max_length=64)
    role: Literal["viewer", "operator", "admin"]
    password: str = Field(max_length=256)


class AccountChange(Body):
    """A password set by an administrator has to be changed at the next log-in."""

    role: Literal["viewer", "operator", "admin"] | None = None
    password: str | None = Field(None, max_length=256)


class Problem(BaseModel):
    """Every refusal."""

    error: str
    fields: dict[str, str]


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": words}
    for status, words in {
        401: "not logged in",
        403: "not allowed to this account",
        404: "not known",
        409: "not now",
        422: "a field is wrong",
    }.items()
}
