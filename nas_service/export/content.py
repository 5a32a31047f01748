"""What goes into a take-home package, and what is said about it: plain frozen data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nas_service.errors import NasError
from search_spaces.architecture import Architecture
from search_spaces.choose import Scalar

CHECKED_SAMPLES = 64
"""At most this many sample inputs are written."""

LABEL_SHAPES: Mapping[str, Callable[[tuple[int, int, int]], tuple[int, ...]]] = {
    "classification": lambda shape: (),
    "segmentation": lambda shape: shape[1:],
    "localisation": lambda shape: (5,),
}
"""Shape of one label by the kind of the task."""


class ExportError(NasError):
    """A package could not be made; the detail says at which step, and why."""

    title = "Export failed"


Photos = Literal["as they are", "fitted"]


@dataclass(frozen=True)
class DataDescription:
    """The data that the network was trained on.

    ``label_names`` [classes]; ``mean`` and ``std`` [channels] of the training pixels as they are stored, so that the
    network sees (pixels - mean) / std; ``input_shape`` (channels, height, width) of a stored image.
    """

    name: str
    label_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_shape: tuple[int, int, int]
    content_hash: str
    photos: Photos | None = None
    """The images are files in folders, all of one size, or brought to it; None: they are no files."""


@dataclass(frozen=True)
class Latency:
    """Median milliseconds of one forward pass on one device; ``spread_ms`` is the interquartile range."""

    device: str
    batch_size: int
    latency_ms: float
    spread_ms: float | None = None


@dataclass(frozen=True)
class HeldOut:
    """Images that training never saw, as an ``.npz`` file with ``images`` [n, c, h, w] (as stored), ``labels`` [n, …].

    ``score`` is what these very weights are known to reach on it, 0 to 1; the certificate must reach it again. It is
    the first metric of the task: accuracy, mean IoU, accuracy at IoU 0.5.
    """

    path: Path
    score: float | None = None


@dataclass(frozen=True)
class PackageContent:
    """Everything that a package is made of.

    ``weights`` is a safetensors file with the state dict of ``build(architecture)``. ``metric`` is what the network is
    judged by (accuracy, miou, …), ``val_scores`` are that on validation, one a seed, 0 to 1. ``samples`` [n, c, h, w]
    are stored pixels (uint8 or float32) before normalisation, ``sample_labels`` [n, …].
    ``costs``: name to number. ``versions``: of the libraries that trained it.
    """

    architecture: Architecture
    weights: Path
    data: DataDescription
    samples: npt.NDArray[Any]
    sample_labels: npt.NDArray[Any]
    title: str = ""
    metric: str = "accuracy"
    val_scores: tuple[float, ...] = ()
    test_score: float | None = None
    costs: Mapping[str, float | int | None] = field(default_factory=dict)
    latency: tuple[Latency, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    search_id: str = ""
    search_name: str = ""
    strategy: str = ""
    decisions: Mapping[str, Scalar] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    held_out: HeldOut | None = None

    def __post_init__(self) -> None:
        task = self.architecture.task
        channels = task.input_shape[0]
        if len(self.data.label_names) != task.classes:
            raise ExportError(
                f"label_names has {len(self.data.label_names)} names; allowed: {task.classes}, one a class"
            )
        for name, values in (("mean", self.data.mean), ("std", self.data.std)):
            if len(values) != channels or not all(math.isfinite(value) for value in values):
                raise ExportError(f"{name} is {values}; allowed: {channels} finite numbers, one a channel")
        if not all(value > 0 for value in self.data.std):
            raise ExportError(f"std is {self.data.std}; allowed: numbers above 0")
        if self.samples.ndim != 4 or self.samples.shape[1:] != self.data.input_shape or len(self.samples) == 0:
            raise ExportError(
                f"samples have shape {self.samples.shape}; allowed: 1 or more images of {self.data.input_shape}"
            )
        if self.samples.dtype not in (np.uint8, np.float32):
            raise ExportError(f"samples are {self.samples.dtype}; allowed: uint8, float32")
        wanted = (len(self.samples), *LABEL_SHAPES[task.kind](self.data.input_shape))
        if self.sample_labels.shape != wanted:
            raise ExportError(f"sample_labels have shape {self.sample_labels.shape}; allowed: {wanted}")


@dataclass(frozen=True)
class FormatReport:
    """How the conversion to one format went: the largest difference of its outputs, or the reason."""

    file: str
    ok: bool
    max_difference: float | None
    reason: str | None


@dataclass(frozen=True)
class Manifest:
    """What a package holds: SHA-256 and bytes of each file, formats, versions; ``certificate`` of the clean check."""

    fingerprint: str
    tolerance: float
    files: Mapping[str, Mapping[str, str | int]]
    formats: tuple[FormatReport, ...]
    versions: Mapping[str, str]
    certificate: Mapping[str, Any] = field(default_factory=dict)
