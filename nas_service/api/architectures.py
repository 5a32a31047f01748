"""Architectures by fingerprint: data, drawing, code, costs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse
from sqlalchemy.orm import Session

from nas_service.api.auth import Viewer
from nas_service.api.state import StateDep
from nas_service.database.tables import ArchitectureRow, Trial
from nas_service.errors import NotFound
from search_spaces.architecture import Architecture
from search_spaces.auxiliary import without_auxiliary
from search_spaces.drawing import dot, svg
from search_spaces.source import source

router = APIRouter(prefix="/v1/architectures/{fingerprint}", tags=["architectures"])


def _find(session: Session, fingerprint: str) -> ArchitectureRow:
    row = session.get(ArchitectureRow, fingerprint)
    if row is None:
        raise NotFound(f"no architecture {fingerprint!r}")
    return row


@router.get("")
def get_architecture(fingerprint: str, _: Viewer, state: StateDep) -> dict[str, Any]:
    """Nodes, costs, and the trials that it was."""
    with state.database.read() as session:
        row = _find(session, fingerprint)
        trials = session.execute(
            sa.select(Trial.search_id, Trial.number).where(Trial.fingerprint == fingerprint).limit(100)
        )
        seen = [{"search": search, "trial": number} for search, number in trials]
        return {"fingerprint": fingerprint, "architecture": row.architecture, "costs": row.costs, "trials": seen}


@router.get("/costs")
def get_costs(fingerprint: str, _: Viewer, state: StateDep) -> dict[str, Any]:
    """params, macs, activations, memory_mb, depth."""
    with state.database.read() as session:
        return dict(_find(session, fingerprint).costs)


@router.get("/graph")
def get_graph(
    fingerprint: str,
    _: Viewer,
    state: StateDep,
    drawn_as: Annotated[Literal["svg", "dot"], Query(alias="format")] = "svg",
) -> Response:
    """The drawing: SVG, or its source for Graphviz."""
    with state.database.read() as session:
        architecture = Architecture.from_json(_find(session, fingerprint).architecture)
    headers = {"Cache-Control": "private, max-age=86400"}
    if drawn_as == "dot":
        return PlainTextResponse(dot(architecture), media_type="text/vnd.graphviz", headers=headers)
    return Response(svg(architecture), media_type="image/svg+xml", headers=headers)


@router.get("/code", response_class=PlainTextResponse)
def get_code(fingerprint: str, _: Viewer, state: StateDep) -> PlainTextResponse:
    """The stand-alone model.py, without auxiliary heads."""
    with state.database.read() as session:
        architecture = Architecture.from_json(_find(session, fingerprint).architecture)
    return PlainTextResponse(source(without_auxiliary(architecture)), media_type="text/x-python")
