"""What a worker is told: one architecture, how to evaluate it, its limits, and where to write. JSON-able, no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from workers.dataset_spec import DatasetSource, DatasetSpec
from workers.drill import DrillSettings
from workers.recipe import Recipe

Kind = Literal["oom", "nan", "timeout", "crash", "build", "data", "infrastructure"]


class Part(BaseModel):
    """Frozen, strict, without unknown keys, NaN or infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Failure(Part):
    """Why a candidate failed. ``kind`` is for programs, ``message`` for people, ``traceback`` for whoever mends it."""

    kind: Kind
    message: str
    traceback: str = ""


class Member(Part):
    """One trained network of an ensemble: its architecture as JSON, and its weights."""

    architecture: dict[str, Any]
    weights_path: str
    sha256: str


class LatencyRequest(Part):
    """Measure the latency of the fresh network before it is trained."""

    batch_size: int = Field(default=1, ge=1, le=65_536, description="Images in one forward pass.")
    repeats: int = Field(default=50, ge=5, le=10_000, description="Timed runs.")
    budget_seconds: float = Field(default=10.0, gt=0, le=600, description="Stop timing after so many seconds.")


class ParentWeights(Part):
    """The network whose weights a candidate starts from, as far as they fit."""

    trial: int = Field(ge=0, description="Number of the trial that trained it.")
    architecture: dict[str, Any] = Field(description="Architecture as JSON.")
    path: str = Field(min_length=1, max_length=4096, description="File of its weights.")
    sha256: str = Field(min_length=64, max_length=64, description="SHA-256 of that file, in hexadecimal.")


class TableRow(Part):
    """What a table of trained networks is asked, instead of training."""

    path: str = Field(min_length=1, max_length=4096, description="File of the table.")
    decisions: dict[str, bool | int | float | str] = Field(description="Decisions that led to the architecture.")
    noisy: bool = Field(default=False, description="One training that the seed picks, not the mean of all.")


class Assignment(Part):
    """One candidate of one search. ``directory`` is its own folder: log, checkpoint, weights, traces of its end."""

    search_id: str = Field(min_length=1, max_length=200, description="Search it belongs to.")
    trial: int = Field(ge=0, description="Number of the trial in its search.")
    attempt: int = Field(default=0, ge=0, description="0 for the first run of this trial, then 1, 2, ...")
    architecture: dict[str, Any] = Field(description="Architecture as JSON.")
    evaluator: Literal["train", "drill", "table"] = Field(
        default="train", description="Train it, rehearse a fault, or look it up."
    )
    drill: DrillSettings = Field(default=DrillSettings(), description="How a drill behaves.")
    table: TableRow | None = Field(default=None, description="Where it is looked up; needed for a table.")
    dataset: DatasetSpec | None = Field(default=None, description="Data set and its split; needed to train.")
    source: DatasetSource | None = Field(default=None, description="Where a registered data set lies.")
    train_hash: str | None = Field(
        default=None, description="SHA-256 of the training part; null: whatever is there. Other data are refused."
    )
    data_roots: list[str] = Field(default_factory=list, description="Folders in which data sets may lie.")
    recipe: Recipe = Field(default=Recipe(), description="How it is trained.")
    epochs: int = Field(ge=1, le=100_000, description="Last epoch; the schedule's horizon.")
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Seed of weights, batches, augmentation, dropout.")
    directory: str = Field(min_length=1, max_length=4096, description="Folder of this candidate.")
    timeout_seconds: float | None = Field(default=None, gt=0, le=1e7, description="Hard deadline of the working time.")
    memory_mb: int | None = Field(default=None, ge=16, le=10**8, description="Memory beyond the idle worker's, in MiB.")
    gpus: float = Field(default=0.0, ge=0, le=64, description="Share of a GPU, or number of GPUs; 0 trains on the CPU.")
    checkpoint_seconds: float = Field(
        default=30.0, ge=0, le=1e6, description="Least time between two checkpoints; 0 writes one after every epoch."
    )
    latency: LatencyRequest | None = Field(default=None, description="Measure latency_ms; null: do not.")
    keep_weights: bool = Field(default=False, description="Save the weights of the best epoch.")
    final: bool = Field(default=False, description="A finalist's run; its weights are kept.")
    parent: ParentWeights | None = Field(default=None, description="Start from these weights; null: from fresh ones.")
    resume: bool = Field(default=True, description="Go on from the checkpoint in ``directory`` if there is one.")

    @model_validator(mode="after")
    def _trains_on_something(self) -> Assignment:
        if self.evaluator == "train" and self.dataset is None:
            raise ValueError("dataset is null; allowed: a data set, because evaluator is 'train'")
        if self.evaluator == "table" and self.table is None:
            raise ValueError("table is null; allowed: a row of a table, because evaluator is 'table'")
        return self
