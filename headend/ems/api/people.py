"""Log-in, log-out, passwords; accounts for administrators."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response

from headend.ems.accounts import LockedOut, Who
from headend.ems.api import schemas as s
from headend.ems.api.guard import COOKIE, Admin, Anyone, Ctx, source

router = APIRouter(responses=s.REFUSALS)


def _me(who: Who) -> s.Me:
    return s.Me.model_validate({"name": who.name, "role": who.role.name.lower(), "must_change_password": who.one_time})


@router.post("/login")
async def log_in(request: Request, response: Response, ctx: Ctx, body: s.LogIn) -> s.Me:
    """Open a session; its cookie comes back. After five wrong passwords the account is locked for this source."""
    try:
        opened = await ctx.accounts.log_in(body.name, body.password, source(request))
    except LockedOut:
        ctx.audit(request, body.name, "login locked")
        raise
    if opened is None:
        ctx.audit(request, body.name, "login failed")
        raise HTTPException(401, "name or password is wrong")
    secret, who = opened
    ctx.audit(request, who.name, "login")
    response.set_cookie(
        COOKIE,
        secret,
        max_age=int(ctx.settings.session_hours * 3600),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path="/",
    )
    return _me(who)


@router.post("/logout")
async def log_out(request: Request, response: Response, ctx: Ctx, who: Anyone) -> dict[str, str]:
    """End this session."""
    ctx.accounts.log_out(request.cookies.get(COOKIE, ""))
    ctx.audit(request, who.name, "logout")
    response.delete_cookie(COOKIE, path="/")
    return {"state": "logged out"}


@router.get("/me")
async def me(who: Anyone) -> s.Me:
    """Who is logged in here."""
    return _me(who)


@router.post("/me/password")
async def password(request: Request, ctx: Ctx, who: Anyone, body: s.NewPassword) -> dict[str, str]:
    """Change one's own password; all its sessions end."""
    await ctx.accounts.change_password(who.name, body.old, body.new, source(request))
    ctx.audit(request, who.name, "password changed")
    return {"state": "changed; log in again"}


@router.get("/accounts")
async def accounts(ctx: Ctx, _: Admin) -> list[s.Account]:
    """Who may log in."""
    return [s.Account.model_validate(account) for account in await ctx.accounts.all()]


@router.post("/accounts", status_code=201)
async def create(request: Request, ctx: Ctx, who: Admin, body: s.NewAccount) -> list[s.Account]:
    """A new account."""
    await ctx.accounts.create(body.name, body.role, body.password)
    ctx.audit(request, who.name, "account create", f"{body.name} {body.role}")
    return await accounts(ctx, who)


@router.patch("/accounts/{name}")
async def change(request: Request, ctx: Ctx, who: Admin, name: str, body: s.AccountChange) -> list[s.Account]:
    """Another role, or a new password that has to be changed at the next log-in."""
    await ctx.accounts.change(name, body.role, body.password)
    what = [f"role {body.role}"] * (body.role is not None) + ["password"] * (body.password is not None)
    ctx.audit(request, who.name, "account change", f"{name}: {', '.join(what) or 'nothing'}")
    return await accounts(ctx, who)


@router.delete("/accounts/{name}")
async def delete(request: Request, ctx: Ctx, who: Admin, name: str) -> list[s.Account]:
    """Remove an account; the last administrator stays."""
    await ctx.accounts.delete(name)
    ctx.audit(request, who.name, "account delete", name)
    return await accounts(ctx, who)
