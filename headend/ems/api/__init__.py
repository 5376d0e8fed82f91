"""The JSON API under ``/api/v1``: ``build(context)`` is the ASGI application."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, RedirectResponse

from gateway import __version__
from headend.ems.api import act, guard, look, page, people, power

PREFIX = "/api/v1"

__all__ = ["PREFIX", "build"]


def build(context: guard.Context) -> FastAPI:
    """The application. Reading needs a viewer, acting an operator, accounts and audit an administrator."""
    app = FastAPI(
        title="smartema EMS",
        version=__version__,
        description="The EMS above smartema's EMAs: EMAs, devices, power, events, RDR log, limits.",
        openapi_url=f"{PREFIX}/openapi.json",
        # FastAPI's own pages fetch their scripts from another host.
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = context
    guard.install(app)
    for part, tag in ((people.router, "accounts"), (look.router, "look"), (act.router, "act"), (power.router, "power")):
        app.include_router(part, prefix=PREFIX, tags=[tag])

    @app.get(f"{PREFIX}/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page.render(app.openapi()))

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse(f"{PREFIX}/docs")

    return app
