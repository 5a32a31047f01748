"""Data sets: what is there, and registering one's own."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from nas_service import datasets
from nas_service.api.auth import Admin, Viewer
from nas_service.api.state import StateDep
from nas_service.errors import InvalidRequest, NotFound
from workers.datasets import DatasetSource

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])


@router.get("")
def list_datasets(_: Viewer, state: StateDep) -> list[dict[str, Any]]:
    """Data sets by name, with what is in them, or why they cannot be read."""
    return [_view(source, state) for source in datasets.sources(state.database, state.settings).values()]


@router.get("/{name}")
def get_dataset(name: str, _: Viewer, state: StateDep) -> dict[str, Any]:
    """One data set."""
    known = datasets.sources(state.database, state.settings)
    if name not in known:
        raise NotFound(f"no data set {name!r}; there are: {', '.join(sorted(known))}")
    return _view(known[name], state)


def _view(source: DatasetSource, state: StateDep) -> dict[str, Any]:
    view: dict[str, Any] = {
        "name": source.name,
        "source": source.model_dump(mode="json"),
        "info": None,
        "problem": None,
    }
    try:
        view["info"] = asdict(datasets.info(source, state.settings))
    except InvalidRequest as error:
        view["problem"] = error.detail
    return view


@router.post("", status_code=201)
def register_dataset(body: DatasetSource, _: Admin, state: StateDep) -> dict[str, Any]:
    """Register files that lie inside the server's data folders; a relative path counts from these."""
    return _view(datasets.register(body, state.database, state.settings), state)


@router.delete("/{name}", status_code=204)
def forget_dataset(name: str, _: Admin, state: StateDep) -> None:
    """Forget a registered data set; its files stay."""
    datasets.forget(name, state.database)
