"""Make one package in a process of its own: ``python -m nas_service.export.job EXPORT_ID``; it prints the result."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
import torch
from safetensors.torch import load as parse
from safetensors.torch import save_file
from sqlalchemy.orm import Session

from nas_service.database.session import Database
from nas_service.database.tables import ArchitectureRow, Export, Finalist, Measurement, Search, Trial
from nas_service.datasets import of_search
from nas_service.errors import Conflict
from nas_service.export.content import (
    CHECKED_SAMPLES,
    DataDescription,
    ExportError,
    HeldOut,
    Latency,
    PackageContent,
    Photos,
)
from nas_service.export.package import write_package, write_zip
from nas_service.search.request import SearchRequest
from nas_service.search.status import score_of
from nas_service.settings import Settings, load_settings
from search_spaces.architecture import Architecture
from search_spaces.auxiliary import without_auxiliary
from search_spaces.build import build
from workers import latency
from workers.checkpoint import read_verified
from workers.datasets import Dataset, DatasetSource, load
from workers.ending import is_out_of_memory
from workers.scores import own_score

BATCHES = (1, 32)
"""Batch sizes whose latency is measured for the card."""


def make(database: Database, settings: Settings, export_id: str) -> dict[str, Any]:
    """Write the package of an export; {folder, manifest, certificate}, folder relative to the data folder."""
    with database.read() as session:
        export = session.get_one(Export, export_id)
        search = session.get_one(Search, export.search_id)
        trial = session.get_one(Trial, (export.search_id, export.number))
        architecture = Architecture.from_json(session.get_one(ArchitectureRow, trial.fingerprint).architecture)
        costs = dict(session.get_one(ArchitectureRow, trial.fingerprint).costs)
        chosen = sa.select(Finalist).where(Finalist.search_id == search.id, Finalist.number == trial.number)
        finalists = list(session.scalars(chosen.where(Finalist.state == "completed").order_by(Finalist.seed)))
    trained = [f for f in finalists if f.weights]
    score, own = score_of(search, [trial]), own_score(architecture.task.kind)
    kept = next((f for f in trained if f.seed == export.seed), None)
    if kept is None and trained:  # a finalist that did not win: its full training, not the short one of the search
        kept = max(trained, key=lambda f: float(f.metrics.get(score) or 0.0))
    weights = kept.weights if kept else trial.weights
    if not weights:
        raise Conflict(f"the weights of trial {trial.number} are gone")
    request = SearchRequest.model_validate(search.request)
    if request.evaluator.name != "train":
        raise ExportError(f"evaluator {request.evaluator.name!r} trains nothing; there is no network to pack")
    source, info = of_search(search, database, settings)
    data = load(request.dataset, settings.roots(), source)
    path = settings.data_dir / weights["path"]
    metrics = kept.metrics if kept else trial.metrics
    with database.read() as session:
        expected = _score_of_weights(session, own, kept, trial, weights, metrics)
    folder = settings.exports_dir / search.id / f"{_slug(search.name)}-{export_id}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)  # what an export that was cut off has left
    with tempfile.TemporaryDirectory() as scratch:
        held_out = Path(scratch) / "validation.npz"
        images, labels = data.validation.images.numpy(), data.validation.labels.numpy()
        np.savez(held_out, images=images, labels=labels)
        stripped = without_auxiliary(architecture)
        if stripped is not architecture:
            path = _without_heads(stripped, path, weights["sha256"], Path(scratch) / "weights.safetensors")
        content = PackageContent(
            architecture=stripped,
            weights=path,
            data=_description(data, info.content_hash, photos=_photos(source)),
            samples=images[:CHECKED_SAMPLES],
            sample_labels=labels[:CHECKED_SAMPLES],
            title=search.name,
            metric=score.removeprefix("val_"),
            val_scores=tuple(f.metrics[score] for f in trained) or (trial.metrics[score],),
            test_score=_tested(search, trial.number, export.seed, score.replace("val_", "test_")),
            costs=costs,
            latency=_latencies(stripped, path),
            recipe={
                **request.recipe.model_dump(mode="json"),
                "epochs": (kept or trial).epoch,
                "weights_of_epoch": weights["epoch"],
            },
            search_id=search.id,
            search_name=search.name,
            strategy=str(request.strategy["name"]),
            decisions={name: answer for name, _, answer in trial.questions},
            versions={name: version(name) for name in ("nas-service", "torch", "numpy", "safetensors")},
            held_out=HeldOut(held_out, expected),
        )
        manifest = write_package(folder, content)
    write_zip(folder, folder.with_name(folder.name + ".zip"))
    certificate = dict(manifest.certificate)
    return {
        "folder": str(folder.relative_to(settings.data_dir)),
        "manifest": {k: v for k, v in asdict(manifest).items() if k != "certificate"},
        "certificate": certificate,
    }


def _without_heads(architecture: Architecture, path: Path, sha256: str, target: Path) -> Path:
    """The weights without those of auxiliary heads, in ``target``."""
    tensors = parse(read_verified(path, sha256))
    wanted = build(architecture).state_dict()
    save_file({name: tensors[name] for name in wanted}, target)
    return target


def _score_of_weights(
    session: Session,
    score: str,
    kept: Finalist | None,
    trial: Trial,
    weights: dict[str, Any],
    metrics: dict[str, Any],
) -> float | None:
    """``score`` of the epoch whose weights were kept; None where that epoch's figure is not at hand."""
    if kept is not None:
        return next((float(p[score]) for p in kept.curve if p["epoch"] == weights["epoch"]), None)
    if weights["epoch"] == trial.epoch:
        return float(metrics[score])
    key = {"search_id": trial.search_id, "number": trial.number, "epoch": weights["epoch"]}
    point = session.get(Measurement, key)
    return float(point.metrics[score]) if point else None


def _tested(search: Search, number: int, seed: int | None, name: str) -> float | None:
    winner = search.winner
    if winner and winner["trial"] == number and winner["seed"] == seed and winner.get("test"):
        return float(winner["test"][name])
    return None


def _photos(source: DatasetSource) -> Photos | None:
    """How the files of a folder become images."""
    if source.format != "folder":
        return None
    return "as they are" if source.size is None else "fitted"


def _description(data: Dataset, content_hash: str, photos: Photos | None) -> DataDescription:
    return DataDescription(
        name=data.name,
        label_names=data.label_names,
        mean=tuple(data.train.mean.flatten().tolist()),
        std=tuple(data.train.std.flatten().tolist()),
        input_shape=data.input_shape,
        content_hash=content_hash,
        photos=photos,
    )


def _latencies(architecture: Architecture, path: Path) -> tuple[Latency, ...]:
    """Measured here, on the CPU with one thread, and on the GPU where there is one."""
    network = build(architecture)
    network.load_state_dict(parse(path.read_bytes()))
    devices = [torch.device("cpu")] + ([torch.device("cuda")] if torch.cuda.is_available() else [])
    found = []
    for device in devices:
        for batch in BATCHES:
            shape = architecture.task.input_shape
            try:
                timed = latency.measure(network.to(device), shape, device, batch, budget_seconds=5)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                # A search may fill the GPU now: the package is worth more.
                logging.getLogger(__name__).warning("no latency on %s, batch %s: %s", device, batch, error)
                continue
            found.append(Latency(timed.device, batch, timed.median_ms, timed.iqr_ms))
    return tuple(found)


def _slug(name: str) -> str:
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower())
    return "-".join(part for part in kept.split("-") if part)[:60] or "network"


def main() -> None:
    """Entry of the export process."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    torch.set_num_threads(1)
    settings = load_settings()
    result = make(Database(settings.url), settings, sys.argv[1])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
