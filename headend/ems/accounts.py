"""Who may do what: accounts with scrypt hashes, log-ins, tokens for scripts, and a lock after failures."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import sqlalchemy as sql

from gateway.clock import Clock
from gateway.errors import OperatorError
from headend.ems.errors import Conflict, Refused, Unknown
from headend.ems.models import AccountRow
from headend.ems.state_files import PASSWORD_FILE, TOKEN_FILE, private_file, read_token
from headend.ems.store import Store

# 16 MB and about 50 ms a try: what OWASP names for an interactive log-in.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**14, 8, 1
SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 256
# So many wrong passwords, then the account is locked for the source that sent them, each time twice as long.
FREE_FAILURES = 5
FIRST_LOCK_S = 30.0
LONGEST_LOCK_S = 900.0
MOST_LOCKS = 10_000
MOST_SESSIONS = 10_000


class Role(IntEnum):
    """Each may do all that the ones before may."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @classmethod
    def named(cls, name: str) -> Role:
        """Raise ``Refused``."""
        try:
            return cls[name.upper()]
        except KeyError:
            raise Refused("role", f"{name!r} is none of viewer, operator, admin") from None


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody who is logged in. ``one_time``: the password has to be changed first."""

    name: str
    role: Role
    one_time: bool = False


class LockedOut(OperatorError):
    """Too many failures. ``wait_s`` until the next try counts."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many wrong log-ins; try again in {wait_s:.0f} s")
        self.wait_s = wait_s


@dataclass(slots=True)
class _Session:
    who: Who
    until: float


@dataclass(slots=True)
class _Lock:
    failures: int = 0
    until: float = 0.0
    last: float = 0.0


def hash_password(password: str, cost: int = SCRYPT_N, salt: bytes | None = None) -> str:
    """``scrypt$<cost>$<salt>$<hash>``."""
    salt = salt or os.urandom(16)
    digest = hashlib.scrypt(password.encode(), salt=salt, n=cost, r=SCRYPT_R, p=SCRYPT_P)
    return f"scrypt${cost}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def password_fits(password: str, stored: str) -> bool:
    """In constant time."""
    try:
        _, cost, salt, _ = stored.split("$")
        return hmac.compare_digest(hash_password(password, int(cost), base64.b64decode(salt)), stored)
    except ValueError:
        return False


class Accounts:
    """Accounts in the store, sessions in memory. ``tell`` shows the first start's one-time password, once."""

    def __init__(self, store: Store, clock: Clock, state_dir: Path, session_s: float, cost: int = SCRYPT_N) -> None:
        self._store = store
        self._clock = clock
        self._state = state_dir
        self._session_s = session_s
        self._sessions: dict[str, _Session] = {}
        self._tokens: dict[str, Who] = {}
        self._locks: dict[tuple[str, str], _Lock] = {}
        # Two threads of their own: each takes a core and 16 MB, which malloc keeps for the thread that once had it.
        self._hashing = ThreadPoolExecutor(2, "password")
        self._cost = cost
        self._nobody = ""

    async def start(self, tell: Callable[[str], None] | None = None) -> None:
        """Make ``admin`` on the first start and the token file when it is not there."""
        self._nobody = await self._hash(secrets.token_urlsafe(16))
        if not await self.all():
            password = secrets.token_urlsafe(12)
            await self._insert("admin", Role.ADMIN, password, one_time=True)
            if tell is not None:
                tell(password)
            else:
                private_file(self._state / PASSWORD_FILE, password)
        path = self._state / TOKEN_FILE
        if not path.exists():
            private_file(path, secrets.token_urlsafe(32))
        token = read_token(path)
        self._tokens = {_digest(token): Who("script", Role.OPERATOR)}

    async def all(self) -> list[dict[str, object]]:
        """Every account, without its password."""
        query = sql.select(AccountRow.name, AccountRow.role, AccountRow.one_time, AccountRow.created_at)
        found = await self._store.read(lambda connection: connection.execute(query.order_by(AccountRow.name)).all())
        return [{"name": n, "role": r, "one_time": o, "created_at": at} for n, r, o, at in found]

    async def log_in(self, name: str, password: str, source: str) -> tuple[str, Who] | None:
        """A session's secret, or None when name or password are wrong. Raise ``LockedOut``."""
        key = (name[:64], source)
        now = self._clock.monotonic()
        lock = self._locks.get(key)
        if lock is not None and lock.until > now:
            raise LockedOut(lock.until - now)
        query = sql.select(AccountRow.role, AccountRow.password, AccountRow.one_time).where(AccountRow.name == name)
        row = await self._store.read(lambda connection: connection.execute(query).first())
        # A name that is not there takes as long as a wrong password.
        stored = row.password if row is not None else self._nobody
        fits = len(password) <= LONGEST_PASSWORD and await self._fits(password, stored)
        if row is None or not fits:
            self._failed(key, now)
            return None
        self._locks.pop(key, None)
        return self._session(Who(name, Role.named(row.role), row.one_time))

    async def _fits(self, password: str, stored: str) -> bool:
        return await asyncio.get_running_loop().run_in_executor(self._hashing, password_fits, password, stored)

    def _session(self, who: Who) -> tuple[str, Who]:
        now = self._clock.monotonic()
        if len(self._sessions) >= MOST_SESSIONS:
            self._sessions = {key: session for key, session in self._sessions.items() if session.until > now}
        while len(self._sessions) >= MOST_SESSIONS:
            self._sessions.pop(next(iter(self._sessions)))
        secret = secrets.token_urlsafe(32)
        self._sessions[_digest(secret)] = _Session(who, now + self._session_s)
        return secret, who

    def _failed(self, key: tuple[str, str], now: float) -> None:
        if len(self._locks) >= MOST_LOCKS:
            oldest = min(self._locks, key=lambda known: self._locks[known].last)
            del self._locks[oldest]
        lock = self._locks.setdefault(key, _Lock())
        lock.failures += 1
        lock.last = now
        over = lock.failures - FREE_FAILURES
        if over >= 0:
            lock.until = now + min(FIRST_LOCK_S * 2.0 ** min(over, 10), LONGEST_LOCK_S)

    def by_session(self, secret: str) -> Who | None:
        """Who holds this cookie."""
        session = self._sessions.get(_digest(secret))
        if session is None or session.until <= self._clock.monotonic():
            return None
        return session.who

    def by_token(self, token: str) -> Who | None:
        """Who holds this bearer token."""
        return self._tokens.get(_digest(token))

    def log_out(self, secret: str) -> None:
        self._sessions.pop(_digest(secret), None)

    async def change_password(self, name: str, old: str, new: str, source: str) -> None:
        """One's own; other log-ins of the account end. Raise ``Refused`` or ``LockedOut``."""
        _check_password(new)
        if new == old:
            raise Refused("new", "the new password is the old one")
        opened = await self.log_in(name, old, source)
        if opened is None:
            raise Refused("old", "the old password is wrong")
        await self._update(name, {"password": await self._hash(new), "one_time": False})
        (self._state / PASSWORD_FILE).unlink(missing_ok=True)
        self._drop(name)

    async def create(self, name: str, role: str, password: str) -> None:
        """Raise ``Refused`` or ``Conflict``."""
        if not 1 <= len(name) <= 64 or not name.isprintable() or name != name.strip():
            raise Refused("name", "a name has 1 to 64 printable characters")
        if any(account["name"] == name for account in await self.all()) or name in ("script", "ems"):
            raise Conflict("name", f"{name} is taken")
        _check_password(password)
        await self._insert(name, Role.named(role), password, one_time=False)

    async def change(self, name: str, role: str | None, password: str | None) -> None:
        """An administrator sets role or password; the account's log-ins end. Raise ``Refused``, ``Unknown``."""
        accounts = await self._known(name)
        values: dict[str, object] = {}
        if role is not None:
            values["role"] = Role.named(role).name.lower()
            self._keep_admin(accounts, name, Role.named(role))
        if password is not None:
            _check_password(password)
            values |= {"password": await self._hash(password), "one_time": True}
        if values:
            await self._update(name, values)
            self._drop(name)

    async def delete(self, name: str) -> None:
        """Raise ``Unknown``, or ``Conflict`` for the last administrator."""
        self._keep_admin(await self._known(name), name, Role.VIEWER)
        statement = sql.delete(AccountRow).where(AccountRow.name == name)
        await self._store.writer.run(lambda connection: connection.execute(statement) and None)
        self._drop(name)

    async def _known(self, name: str) -> list[dict[str, object]]:
        accounts = await self.all()
        if all(account["name"] != name for account in accounts):
            raise Unknown("name", f"{name} is not an account")
        return accounts

    @staticmethod
    def _keep_admin(accounts: list[dict[str, object]], name: str, role: Role) -> None:
        others = any(account["role"] == "admin" and account["name"] != name for account in accounts)
        if role is not Role.ADMIN and not others:
            raise Conflict("name", f"{name} is the last administrator")

    async def _hash(self, password: str) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._hashing, hash_password, password, self._cost)

    async def _insert(self, name: str, role: Role, password: str, one_time: bool) -> None:
        values = {
            "name": name,
            "role": role.name.lower(),
            "password": await self._hash(password),
            "one_time": one_time,
            "created_at": self._clock.now().wall,
        }
        await self._store.writer.run(lambda connection: connection.execute(sql.insert(AccountRow), values) and None)

    async def _update(self, name: str, values: dict[str, object]) -> None:
        statement = sql.update(AccountRow).where(AccountRow.name == name).values(**values)
        await self._store.writer.run(lambda connection: connection.execute(statement) and None)

    def _drop(self, name: str) -> None:
        self._sessions = {key: session for key, session in self._sessions.items() if session.who.name != name}


def _check_password(password: str) -> None:
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise Refused("password", f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
