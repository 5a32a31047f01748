"""Take-home packages: ask for one, download it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse
from pydantic import Field
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from nas_service.api import idempotency
from nas_service.api.auth import Runner, Viewer
from nas_service.api.state import State, StateDep
from nas_service.api.views import ExportView, Page, PageSize, PageToken, export_view, page_key, page_token
from nas_service.database.tables import Export
from nas_service.errors import Conflict, NotFound
from nas_service.export import worker
from nas_service.search.request import Strict

router = APIRouter(prefix="/v1/exports", tags=["exports"])


class ExportRequest(Strict):
    """Which network to pack."""

    search: str = Field(max_length=32, description="id of the search")
    trial: int | None = Field(None, ge=0, le=2**31 - 1, description="left out: the winner")


@router.post("", status_code=201)
def create_export(
    body: ExportRequest, who: Runner, state: StateDep, response: Response, key: idempotency.Key = None
) -> ExportView:
    """Pack the winner of a search, or a trial whose weights were kept. The package is made in the background."""
    scope, content = f"POST /v1/exports {who.id}", body.model_dump(mode="json")

    def work(session: Session) -> tuple[str, bool]:
        before = idempotency.known(session, scope, key, content)
        if before is not None:
            return before, False
        export, fresh = worker.request_export(session, body.search, body.trial)
        idempotency.remember(session, scope, key, content, export.id)
        return export.id, fresh

    try:
        export_id, fresh = state.database.write(work)
    except IntegrityError:  # a parallel request with the same key was faster
        export_id, fresh = state.database.write(work)
    if state.exporter is not None:
        state.exporter.wake()
    response.status_code = 201 if fresh else 200
    response.headers["Location"] = f"/v1/exports/{export_id}"
    with state.database.read() as session:
        return export_view(_find(session, export_id))


@router.get("")
def list_exports(
    _: Viewer,
    state: StateDep,
    page_size: PageSize = 50,
    page: PageToken = None,
    search: Annotated[str | None, Query(max_length=32, description="only of this search")] = None,
) -> Page[ExportView]:
    """Packages, newest first."""
    after = page_key(page, str)
    with state.database.read() as session:
        query = sa.select(Export).order_by(Export.id.desc()).limit(page_size + 1)
        query = query.where(Export.search_id == search) if search else query
        rows = list(session.scalars(query.where(Export.id < after) if after else query))
    items = [export_view(row) for row in rows[:page_size]]
    return Page(items=items, next_page=page_token(rows[page_size - 1].id) if len(rows) > page_size else None)


@router.get("/{export_id}")
def get_export(export_id: str, _: Viewer, state: StateDep) -> ExportView:
    """One package, with its manifest and certificate when it is ready."""
    with state.database.read() as session:
        return export_view(_find(session, export_id))


@router.delete("/{export_id}", status_code=204)
def delete_export(export_id: str, _: Runner, state: StateDep) -> None:
    """Delete a package and its files."""

    def work(session: Session) -> str | None:
        export = _find(session, export_id)
        if export.state == "running":
            raise Conflict(f"export {export_id} is running")
        idempotency.forget(session, export_id)
        session.delete(export)
        return export.folder

    folder = state.database.write(work)
    if folder:
        shutil.rmtree(state.settings.data_dir / folder, ignore_errors=True)
        (state.settings.data_dir / f"{folder}.zip").unlink(missing_ok=True)


@router.get("/{export_id}/files")
def list_files(export_id: str, _: Viewer, state: StateDep) -> list[dict[str, str | int]]:
    """Files of a package."""
    folder = _ready_folder(state, export_id)
    return [{"name": path.name, "bytes": path.stat().st_size} for path in sorted(folder.iterdir()) if path.is_file()]


@router.get("/{export_id}/files/{name}", response_class=FileResponse)
def get_file(export_id: str, name: str, _: Viewer, state: StateDep) -> FileResponse:
    """One file of a package, or ``package.zip`` with all of them."""
    folder = _ready_folder(state, export_id)
    if name == "package.zip":
        return FileResponse(
            folder.with_name(folder.name + ".zip"), media_type="application/zip", filename=f"{folder.name}.zip"
        )
    names = {path.name for path in folder.iterdir() if path.is_file()}
    if name not in names:
        raise NotFound(f"export {export_id} has no file {name!r}; there are: {', '.join(sorted(names))}, package.zip")
    return FileResponse(folder / name, filename=name)


def _find(session: Session, export_id: str) -> Export:
    export = session.get(Export, export_id)
    if export is None:
        raise NotFound(f"no export {export_id!r}")
    return export


def _ready_folder(state: State, export_id: str) -> Path:
    with state.database.read() as session:
        export = _find(session, export_id)
    if export.state != "ready" or not export.folder:
        raise Conflict(f"export {export_id} is {export.state}{': ' + export.reason if export.reason else ''}")
    return state.settings.data_dir / export.folder
