"""Who may do what: bearer tokens or a cookie made from one, three roles, and a wall against foreign pages."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
from fastapi import Depends, Request
from sqlalchemy.orm import Session

from nas_service.api.state import State, StateDep
from nas_service.database.session import Database
from nas_service.database.tables import Token
from nas_service.errors import Forbidden, Misconfigured, NotFound, Unauthenticated
from nas_service.settings import Settings

ROLES = ("viewer", "runner", "admin")
"""viewer reads, runner also starts and steers searches, admin also manages data sets and tokens."""
COOKIE = "nas_token"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Caller:
    """Who asks: the token's id and role."""

    id: str
    role: str


def digest(token: str) -> bytes:
    """SHA-256: tokens have 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).digest()


def create_token(database: Database, name: str, role: str) -> tuple[str, Token]:
    """A new token; the text is returned once and never stored."""
    text = f"nas_{secrets.token_urlsafe(32)}"
    row = Token(id=secrets.token_hex(6), name=name, role=role, digest=digest(text), created_at=time.time())

    def work(session: Session) -> None:
        session.merge(row)

    database.write(work)
    return text, row


def revoke_token(database: Database, token_id: str) -> None:
    """The token is refused from now on. Raises NotFound."""

    def work(session: Session) -> None:
        row = session.get(Token, token_id)
        if row is None:
            raise NotFound(f"no token {token_id!r}")
        row.revoked_at = row.revoked_at or time.time()

    database.write(work)


def first_token(database: Database, settings: Settings) -> Path:
    """The file with the admin token that is made at the first start; only its owner can read it."""
    path = settings.data_dir / "admin.token"
    with database.read() as session:
        known = path.exists() and find_token(session, path.read_text().strip()) is not None
    if not known:
        text, _ = create_token(database, "first start", "admin")
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text + "\n")
    return path


def find_token(session: Session, text: str) -> Token | None:
    """The valid token with this text."""
    wanted = digest(text)
    row = session.scalars(sa.select(Token).where(Token.digest == wanted, Token.revoked_at.is_(None))).first()
    return row if row is not None and hmac.compare_digest(row.digest, wanted) else None


def check_binding(settings: Settings) -> None:
    """No token is needed only on loopback. Raises Misconfigured."""
    if settings.insecure_loopback and settings.host not in LOOPBACK:
        raise Misconfigured(
            f"insecure_loopback needs a loopback host; host is {settings.host!r}, allowed: {', '.join(LOOPBACK)}"
        )


def identify(state: State, authorization: str | None, cookie: str | None) -> Caller | None:
    """The caller that a header or a cookie proves, or None."""
    if state.settings.insecure_loopback:
        return Caller("loopback", "admin")
    scheme, _, text = (authorization or "").partition(" ")
    token = text.strip() if scheme.lower() == "bearer" else cookie
    if not token:
        return None
    with state.database.read() as session:
        row = find_token(session, token)
    return Caller(row.id, row.role) if row else None


def caller(request: Request, state: StateDep) -> Caller:
    """Dependency: the signed-in caller. Raises Unauthenticated."""
    found = identify(state, request.headers.get("authorization"), request.cookies.get(COOKIE))
    if found is None:
        raise Unauthenticated("a token is needed: send 'Authorization: Bearer <token>', or sign in at /login")
    return found


CallerDep = Annotated[Caller, Depends(caller)]


def needs(role: str) -> Callable[[Caller], Caller]:
    """Dependency: a caller with at least this role. Raises Forbidden."""

    def check(who: CallerDep) -> Caller:
        if ROLES.index(who.role) < ROLES.index(role):
            raise Forbidden(f"this needs the role {role!r}; the token's role is {who.role!r}")
        return who

    return check


Viewer = Annotated[Caller, Depends(needs("viewer"))]
Runner = Annotated[Caller, Depends(needs("runner"))]
Admin = Annotated[Caller, Depends(needs("admin"))]
