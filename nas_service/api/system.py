"""Health, readiness, the cluster, tokens."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field, StringConstraints

from nas_service import __version__
from nas_service.api.auth import Admin, Viewer, create_token, revoke_token
from nas_service.api.state import StateDep
from nas_service.api.views import iso
from nas_service.database.tables import Search, Token
from nas_service.errors import NasError, Unavailable
from nas_service.search.request import Strict

router = APIRouter(tags=["system"])


class Health(BaseModel):
    """The process answers."""

    status: str = "alive"
    version: str = __version__


class TokenRequest(Strict):
    """A token to make."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)] = Field(
        description="whose it is"
    )
    role: Literal["viewer", "runner", "admin"] = Field(
        description="viewer reads, runner also searches, admin also manages"
    )


class TokenView(BaseModel):
    """A token; its text only in the answer that makes it."""

    id: str
    name: str
    role: str
    created_at: str | None
    revoked_at: str | None
    token: str | None = None


@router.get("/healthz")
def healthz() -> Health:
    """Alive, whatever else is away."""
    return Health()


@router.get("/readyz", responses={503: {"description": "not ready, with the reason"}})
def readyz(state: StateDep, response: Response) -> dict[str, Any]:
    """Ready to take searches: started, database and Ray answer."""
    reason = state.not_ready
    if not reason:
        try:
            with state.database.read() as session:
                session.execute(sa.select(Search.id).limit(1))
            if state.cluster is not None:
                state.cluster.version()
        except NasError as error:
            reason = error.detail
    if reason:
        response.status_code = 503
        response.headers["Retry-After"] = "5"
    return {"ready": not reason, "reason": reason}


@router.get("/v1/cluster")
def get_cluster(_: Viewer, state: StateDep) -> dict[str, Any]:
    """Where candidates run."""
    if state.cluster is None:
        return {"executor": "inline", "nodes": []}
    try:
        return {"executor": "ray", "dashboard": "/ray/", "nodes": state.cluster.nodes(), "ray": state.cluster.version()}
    except Unavailable as error:
        return {"executor": "ray", "dashboard": "/ray/", "nodes": [], "problem": error.detail}


@router.get("/v1/tokens")
def list_tokens(_: Admin, state: StateDep) -> list[TokenView]:
    """Tokens, without their texts."""
    with state.database.read() as session:
        return [_view(row) for row in session.scalars(sa.select(Token).order_by(Token.created_at))]


@router.post("/v1/tokens", status_code=201)
def make_token(body: TokenRequest, _: Admin, state: StateDep) -> TokenView:
    """Make a token; its text is shown this once."""
    text, row = create_token(state.database, body.name, body.role)
    return _view(row).model_copy(update={"token": text})


@router.delete("/v1/tokens/{token_id}", status_code=204)
def drop_token(token_id: str, _: Admin, state: StateDep) -> None:
    """Refuse a token from now on."""
    revoke_token(state.database, token_id)


def _view(row: Token) -> TokenView:
    return TokenView(
        id=row.id, name=row.name, role=row.role, created_at=iso(row.created_at), revoked_at=iso(row.revoked_at)
    )
