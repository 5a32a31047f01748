"""Architectures by fingerprint: data, drawing, code, costs, and larger ones made of them."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field, model_validator
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from nas_service.api.auth import Runner, Viewer
from nas_service.api.state import StateDep
from nas_service.database.tables import ArchitectureRow, Trial
from nas_service.errors import InvalidRequest, NotFound
from nas_service.search.plan import network_costs
from nas_service.search.request import Strict
from search_spaces.architecture import Architecture, ArchitectureError, Task
from search_spaces.auxiliary import without_auxiliary
from search_spaces.build import walk
from search_spaces.catalogue import REFERENCES, unknown
from search_spaces.drawing import dot, svg
from search_spaces.scaling import compound, restacked, scaled
from search_spaces.source import source

router = APIRouter(prefix="/v1/architectures", tags=["architectures"])


class GivenArchitecture(Strict):
    """An architecture to keep: its JSON, or the name of a published network."""

    architecture: dict[str, Any] | None = Field(None, description="nodes and task, as other answers give them")
    reference: str | None = Field(None, max_length=100, description="name of a published network")

    @model_validator(mode="after")
    def _one_of_them(self) -> GivenArchitecture:
        if (self.architecture is None) == (self.reference is None):
            raise ValueError("architecture and reference; allowed: exactly one of them")
        return self


Coefficient = Annotated[float, Field(ge=1, le=3)]
Multiplier = Annotated[float, Field(ge=0.1, le=10)]


class ScaleRequest(Strict):
    """How to scale: by ``phi``, by ``depth`` and ``width``, or by ``cells`` and ``filters``; and for which data."""

    phi: float | None = Field(None, ge=-4, le=10, description="depth * alpha^phi, width * beta^phi, side * gamma^phi")
    alpha: Coefficient = Field(1.2, description="of depth")
    beta: Coefficient = Field(1.1, description="of width")
    gamma: Coefficient = Field(1.15, description="of the image's side")
    depth: Multiplier | None = Field(None, description="times the blocks of each run, rounded up")
    width: Multiplier | None = Field(None, description="times the channels, rounded to multiples of 8")
    cells: int | None = Field(None, ge=1, le=100, description="N: cells in a stack")
    filters: int | None = Field(None, ge=1, le=4096, description="F: filters of the first stack")
    stem: int | None = Field(None, ge=1, le=4096, description="with cells: channels of the stem of NASNet's cells")
    skip_reductions: bool = Field(
        False, description="with cells: after a reduction NASNet's cells read what stands two before it"
    )
    input_shape: Annotated[list[int], Field(min_length=3, max_length=3)] | None = Field(
        None, description="channels, height, width; left out: as they are, or scaled by gamma"
    )
    classes: int | None = Field(None, ge=1, le=100_000, description="number of labels; left out: as it is")

    @model_validator(mode="after")
    def _one_way(self) -> ScaleRequest:
        ways = {
            "phi": self.phi is not None,
            "depth and width": self.depth is not None or self.width is not None,
            "cells and filters": self.cells is not None or self.filters is not None,
        }
        asked = [name for name, given in ways.items() if given]
        if len(asked) > 1:
            raise ValueError(f"{', '.join(asked)} together; allowed: one of {', '.join(ways)}")
        if (self.cells is None) != (self.filters is None):
            raise ValueError(f"cells {self.cells} and filters {self.filters}; allowed: both or none")
        if not asked and self.input_shape is None and self.classes is None:
            raise ValueError(f"nothing to scale; allowed: {', '.join(ways)}, input_shape, classes")
        return self

    def apply(self, architecture: Architecture) -> Architecture:
        """The scaled architecture. Raises ArchitectureError where it cannot be built."""
        old = architecture.task
        classes = self.classes or old.classes
        shape = old.input_shape
        if self.input_shape is not None:
            shape = (self.input_shape[0], self.input_shape[1], self.input_shape[2])
        task = Task(shape, classes, old.kind)
        if self.phi is not None:
            if self.input_shape is None:
                return compound(architecture, self.phi, self.alpha, self.beta, self.gamma, classes)
            return scaled(architecture, self.alpha**self.phi, self.beta**self.phi, task)
        if self.cells is not None and self.filters is not None:
            return restacked(architecture, self.cells, self.filters, task, self.stem, self.skip_reductions)
        return scaled(architecture, self.depth or 1.0, self.width or 1.0, task)


class ArchitectureView(BaseModel):
    """An architecture that is kept, and its costs."""

    fingerprint: str
    costs: dict[str, float]
    architecture: dict[str, Any]


def _keep(state: StateDep, architecture: Architecture, response: Response) -> ArchitectureView:
    """Store an architecture under its fingerprint; 200 where it is known already."""
    looked_into = walk(architecture)
    complete = looked_into.architecture
    fingerprint, costs = complete.fingerprint(), network_costs(looked_into)

    def work(session: Session) -> bool:
        if session.get(ArchitectureRow, fingerprint) is not None:
            return False
        row = ArchitectureRow(
            fingerprint=fingerprint, architecture=complete.to_json(), costs=dict(costs), created_at=time.time()
        )
        session.add(row)
        return True

    try:
        fresh = state.database.write(work)
    except IntegrityError:  # somebody else was faster
        fresh = False
    response.status_code = 201 if fresh else 200
    response.headers["Location"] = f"/v1/architectures/{fingerprint}"
    return ArchitectureView(fingerprint=fingerprint, costs=dict(costs), architecture=complete.to_json())


KEPT: dict[int | str, dict[str, Any]] = {200: {"description": "it was known already"}}


@router.post("", status_code=201, responses=KEPT)
def keep_architecture(body: GivenArchitecture, _: Runner, state: StateDep, response: Response) -> ArchitectureView:
    """Keep an architecture of your own, or a published one, to look at, to scale or to train."""
    if body.reference is not None:
        if body.reference not in REFERENCES:
            raise InvalidRequest(unknown("reference", body.reference, REFERENCES), pointer="/reference")
        return _keep(state, REFERENCES[body.reference].build(), response)
    try:
        return _keep(state, Architecture.from_json(body.architecture), response)
    except ArchitectureError as error:
        raise InvalidRequest(str(error), pointer=f"/architecture{error.pointer}") from error


@router.post("/{fingerprint}/scale", status_code=201, responses=KEPT)
def scale_architecture(
    fingerprint: str, body: ScaleRequest, _: Runner, state: StateDep, response: Response
) -> ArchitectureView:
    """A larger or smaller network of the same design, kept under its own fingerprint."""
    with state.database.read() as session:
        architecture = Architecture.from_json(_find(session, fingerprint).architecture)
    try:
        return _keep(state, body.apply(architecture), response)
    except ArchitectureError as error:
        raise InvalidRequest(f"it cannot be scaled so: {error}", pointer=error.pointer.replace("/task", "")) from error


def _find(session: Session, fingerprint: str) -> ArchitectureRow:
    row = session.get(ArchitectureRow, fingerprint)
    if row is None:
        raise NotFound(f"no architecture {fingerprint!r}")
    return row


@router.get("/{fingerprint}")
def get_architecture(fingerprint: str, _: Viewer, state: StateDep) -> dict[str, Any]:
    """Nodes, costs, and the trials that it was."""
    with state.database.read() as session:
        row = _find(session, fingerprint)
        trials = session.execute(
            sa.select(Trial.search_id, Trial.number).where(Trial.fingerprint == fingerprint).limit(100)
        )
        seen = [{"search": search, "trial": number} for search, number in trials]
        return {"fingerprint": fingerprint, "architecture": row.architecture, "costs": row.costs, "trials": seen}


@router.get("/{fingerprint}/costs")
def get_costs(fingerprint: str, _: Viewer, state: StateDep) -> dict[str, Any]:
    """params, macs, activations, memory_mb, depth."""
    with state.database.read() as session:
        return dict(_find(session, fingerprint).costs)


@router.get("/{fingerprint}/graph")
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


@router.get("/{fingerprint}/code", response_class=PlainTextResponse)
def get_code(fingerprint: str, _: Viewer, state: StateDep) -> PlainTextResponse:
    """The stand-alone model.py, without auxiliary heads."""
    with state.database.read() as session:
        architecture = Architecture.from_json(_find(session, fingerprint).architecture)
    return PlainTextResponse(source(without_auxiliary(architecture)), media_type="text/x-python")
