"""Who may pass: a session's cookie for pages, a bearer token for scripts; and how a refusal reads."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headend.ems.accounts import Accounts, LockedOut, Role, Who
from headend.ems.api.live import LiveHub
from headend.ems.errors import Conflict, Refused, Unknown
from headend.ems.service import EmsService
from headend.ems.settings import EmsSettings
from headend.ems.store import Store

COOKIE = "smartema_ems"
SAFE = ("GET", "HEAD", "OPTIONS")
# No request of this API comes near; a stranger's gigabyte is not read.
LARGEST_BODY = 65_536
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}


@dataclass(slots=True)
class Context:
    """What the routes work with."""

    settings: EmsSettings
    service: EmsService
    store: Store
    accounts: Accounts
    live: LiveHub
    zone: tzinfo | None

    def audit(self, request: Request, who: str, action: str, detail: str = "") -> None:
        """Write down who did what."""
        self.store.audit(self.service.book.wall, who, source(request), action, detail)


def context(request: Request) -> Context:
    return cast(Context, request.app.state.context)


def source(request: Request) -> str:
    """The address that asks."""
    return request.client.host if request.client is not None else "local"


def whoever(request: Request) -> Who:
    """Who asks, or 401. A cookie only counts for what comes from our own pages (no cross-site request)."""
    ctx = context(request)
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        who = ctx.accounts.by_token(token.strip())
    else:
        secret = request.cookies.get(COOKIE, "")
        who = ctx.accounts.by_session(secret) if secret else None
        origin = request.headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
        if who is not None and foreign and request.method not in SAFE:
            raise HTTPException(403, "this request comes from another site")
    if who is None:
        raise HTTPException(401, "log in first: POST /api/v1/login", {"WWW-Authenticate": "Bearer"})
    return who


def _needs(role: Role) -> Callable[[Request, Who], Who]:
    def check(request: Request, who: Annotated[Who, Depends(whoever)]) -> Who:
        if who.one_time:
            raise HTTPException(403, "change the one-time password first: POST /api/v1/me/password")
        if who.role < role:
            raise HTTPException(403, f"this needs the role {role.name.lower()}; {who.name} is {who.role.name.lower()}")
        return who

    return check


Ctx = Annotated[Context, Depends(context)]
Anyone = Annotated[Who, Depends(whoever)]
Viewer = Annotated[Who, Depends(_needs(Role.VIEWER))]
Operator = Annotated[Who, Depends(_needs(Role.OPERATOR))]
Admin = Annotated[Who, Depends(_needs(Role.ADMIN))]


def error(
    status: int, text: str, fields: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """``{"error": one line, "fields": {field: what is wrong}}``."""
    return JSONResponse({"error": text, "fields": dict(fields or {})}, status, headers)


async def _refused(_: Request, err: Exception) -> JSONResponse:
    refused = cast(Refused, err)
    status = 404 if isinstance(err, Unknown) else 409 if isinstance(err, Conflict) else 422
    return error(status, str(err), {refused.field: str(err)} if refused.field else None)


async def _locked(_: Request, err: Exception) -> JSONResponse:
    return error(429, str(err), headers={"Retry-After": f"{cast(LockedOut, err).wait_s:.0f}"})


async def _invalid(_: Request, err: Exception) -> JSONResponse:
    fields: dict[str, str] = {}
    for found in cast(RequestValidationError, err).errors():
        where = ".".join(str(part) for part in found["loc"][1:] if not str(part).startswith("function-"))
        fields.setdefault(where or str(found["loc"][0]), str(found["msg"]).removeprefix("Value error, "))
    text = "; ".join(f"{field}: {message}" for field, message in fields.items())
    return error(422, text, fields)


async def _http(_: Request, err: Exception) -> JSONResponse:
    known = cast(StarletteHTTPException, err)
    return error(known.status_code, str(known.detail), headers=known.headers)


async def _database(request: Request, err: Exception) -> JSONResponse:
    context(request).service.log.error("%s: database: %s", request.url.path, str(err).splitlines()[0])
    return error(503, "the database cannot be written now; nothing was done")


def install(app: FastAPI) -> None:
    """Refusals as JSON, headers on every answer, a bound on every body."""
    handlers: dict[Any, Callable[[Request, Exception], Awaitable[JSONResponse]]] = {
        Refused: _refused,
        LockedOut: _locked,
        RequestValidationError: _invalid,
        StarletteHTTPException: _http,
        SQLAlchemyError: _database,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    app.add_middleware(_Edge)


class _TooLarge(Exception):
    """The body goes on and on."""


class _Edge:
    """The outermost layer: bodies are bounded while they are read, and answers carry ``HEADERS``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        taken, begun = 0, False

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > LARGEST_BODY:
                raise _TooLarge
            return message

        def refused() -> bool:
            return taken > LARGEST_BODY and not begun

        async def dressed(message: Message) -> None:
            nonlocal begun
            if refused():
                return  # what the application makes of a body that broke off
            if message["type"] == "http.response.start":
                begun = True
                names = {name for name, _ in message["headers"]}
                more = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *(h for h in more if h[0] not in names)]}
            await send(message)

        refusal = error(413, f"a request has {LARGEST_BODY} bytes at most")
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if not said.isdigit() or int(said[:12]) > LARGEST_BODY:
            await refusal(scope, receive, dressed)
            return
        with contextlib.suppress(_TooLarge):
            await self._app(scope, bounded, dressed)
        if refused():
            taken = 0
            await refusal(scope, receive, dressed)
