"""``Idempotency-Key``: the same POST sent twice makes one thing."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import Header
from sqlalchemy.orm import Session

from nas_service.database.tables import IdempotencyKey
from nas_service.errors import Conflict

Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=200, description="makes a repeated POST harmless"),
]


def known(session: Session, scope: str, key: str | None, body: Any) -> str | None:
    """Id of what the same request made before, or None. Raises Conflict when the key came with another body."""
    if key is None:
        return None
    row = session.get(IdempotencyKey, (scope, key))
    if row is None:
        return None
    if row.body != _digest(body):
        raise Conflict(f"Idempotency-Key {key!r} was used with another body")
    return row.resource


def remember(session: Session, scope: str, key: str | None, body: Any, resource: str) -> None:
    """Store the key in the transaction that makes the thing; its unique row lets one of parallel requests through."""
    if key is not None:
        session.add(IdempotencyKey(scope=scope, key=key, body=_digest(body), resource=resource, created_at=time.time()))
        session.flush()


def forget(session: Session, resource: str) -> None:
    """What was made is deleted: its keys may make something new."""
    session.execute(sa.delete(IdempotencyKey).where(IdempotencyKey.resource == resource))


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
