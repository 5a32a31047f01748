"""Data sets in memory: ``load`` (training and validation), ``load_test`` (the test part, once), ``describe``.

Pixels stay as they are stored (uint8, or float32); ``Split.batch`` normalises them on the device, one batch at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workers.dataset_spec import DataError, DatasetSource, DatasetSpec, Format, SceneSpec, inside
from workers.datasets import arrays, find, kept
from workers.datasets.arrays import Arrays
from workers.datasets.find import Roots, builtin, source_of

__all__ = [
    "DataError", "Dataset", "DatasetInfo", "DatasetSource", "DatasetSpec", "Format", "SceneSpec", "Split", "builtin",
    "describe", "inside", "load", "load_test", "source_of",
]  # fmt: skip

CACHED = 2
"""Data sets that a worker keeps: the one in use and the one before."""


@dataclass(frozen=True)
class Split:
    """``images`` [n, channels, height, width] as stored, ``labels`` [n, …] as ``workers.tasks`` has them for ``task``.

    ``mean`` and ``std`` [channels, 1, 1] are those of the training pixels; ``size`` is the (height, width) that the
    network wants, None for the stored one.
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor
    size: tuple[int, int] | None = None
    task: str = "classification"

    def batch(self, indices: Tensor | slice) -> Tensor:
        """(pixels − mean) / std of some images: [b, channels, height, width] float32."""
        return torch.sub(self.images[indices], self.mean).div_(self.std)  # never in place: a slice of floats is a view

    def to(self, device: torch.device) -> Split:
        moved = {name: getattr(self, name).to(device) for name in ("images", "labels", "mean", "std")}
        return replace(self, **moved)


@dataclass(frozen=True)
class Dataset:
    """Training and validation part on one device. ``content_hash`` identifies pixels, labels and split, ``train_hash``
    pixels and labels of the whole training part."""

    name: str
    train: Split
    validation: Split
    classes: int
    input_shape: tuple[int, int, int]
    content_hash: str
    train_hash: str
    label_names: tuple[str, ...]

    @property
    def task(self) -> str:
        """What the labels are: a key of ``workers.tasks.TASKS``."""
        return self.train.task

    def resized(self, size: tuple[int, int]) -> Dataset:
        """The same data for a network whose input is (height, width) = ``size``; batches are resized in use."""
        return replace(self, train=replace(self.train, size=size), validation=replace(self.validation, size=size))


@dataclass(frozen=True)
class DatasetInfo:
    """What a data set is. ``class_counts``, ``mean`` and ``std`` (in pixel units) are those of training.

    ``content_hash`` is the SHA-256 of both parts, ``train_hash`` that of the training part.

    A segmentation counts pixels, the others images.
    """

    name: str
    classes: int
    input_shape: tuple[int, int, int]
    train: int
    test: int
    class_counts: tuple[int, ...]
    content_hash: str
    label_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    task: str = "classification"
    train_hash: str = ""


_cache: OrderedDict[Hashable, Dataset] = OrderedDict()


def load(
    spec: DatasetSpec, roots: Roots, source: DatasetSource | None = None, device: torch.device | str = "cpu"
) -> Dataset:
    """Training and validation part; the test part's images are not opened. Kept in memory until the files change.

    Files are only opened inside ``roots`` and Debian's /usr/share/datasets. Raises DataError.
    """
    place = torch.device(device)
    chosen = source_of(spec, roots, source)
    key = (spec, chosen, tuple(map(str, roots)), find.source_stamp(chosen, roots), str(place))
    if key not in _cache:
        _cache[key] = _loaded(spec, chosen, find.read(chosen, "train", roots), place)
        while len(_cache) > CACHED:
            _cache.popitem(last=False)
    _cache.move_to_end(key)
    return _cache[key]


def _loaded(spec: DatasetSpec, source: DatasetSource, whole: Arrays, device: torch.device) -> Dataset:
    kept, held = whole.divided(spec.validation_fraction, spec.seed)
    kept = arrays.at_most(kept, whole.strata, spec.max_train, spec.seed)
    held = arrays.at_most(held, whole.strata, spec.max_validation, spec.seed)
    train = whole.part(kept)
    mean, std = _moments(train)
    parts = [
        Split(torch.from_numpy(part.images), torch.from_numpy(part.labels), mean, std, task=whole.task).to(device)
        for part in (train, whole.part(held))
    ]
    channels, height, width = whole.images.shape[1:]
    content_hash, train_hash = arrays.digests(whole, spec.model_dump(exclude={"name"}), {})
    return Dataset(
        name=source.name,
        train=parts[0],
        validation=parts[1],
        classes=len(whole.label_names),
        input_shape=(channels, height, width),
        content_hash=content_hash,
        train_hash=train_hash,
        label_names=whole.label_names,
    )


def load_test(
    spec: DatasetSpec,
    roots: Roots,
    source: DatasetSource | None = None,
    device: torch.device | str = "cpu",
    size: tuple[int, int] | None = None,
) -> Split:
    """The test part, normalised like training. Only for the last step of a search. Raises DataError."""
    data = load(spec, roots, source, device)
    test = find.read(source_of(spec, roots, source), "test", roots)
    place = torch.device(device)
    return replace(
        data.train,
        images=torch.from_numpy(np.ascontiguousarray(test.images)).to(place),
        labels=torch.from_numpy(test.labels).to(place),
        size=size,
    )


def describe(source: DatasetSource, roots: Roots) -> DatasetInfo:
    """Read both parts of a data set, check them, and say what is in them; large files are read again only when they
    change. Raises DataError.
    """
    found = kept.document(
        find.source_stamp(source, roots), source.model_dump(), lambda: asdict(_described(source, roots))
    )
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
    return DatasetInfo(**fields)


def _described(source: DatasetSource, roots: Roots) -> DatasetInfo:
    train, test = find.read(source, "train", roots), find.read(source, "test", roots)
    mean, std = _moments(train)
    channels, height, width = train.images.shape[1:]
    content_hash, train_hash = arrays.digests(train, {"test": arrays.digest(test)}, {})
    return DatasetInfo(
        name=source.name,
        classes=len(train.label_names),
        input_shape=(channels, height, width),
        train=len(train.labels),
        test=len(test.labels),
        class_counts=_class_counts(train),
        content_hash=content_hash,
        label_names=train.label_names,
        mean=tuple(mean.flatten().tolist()),
        std=tuple(std.flatten().tolist()),
        task=train.task,
        train_hash=train_hash,
    )


def _class_counts(train: Arrays) -> tuple[int, ...]:
    classes = len(train.label_names)
    labels = train.labels.ravel() if train.task == "segmentation" else train.strata
    return tuple(np.bincount(labels, minlength=classes)[:classes].tolist())


def _moments(train: Arrays) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, [channels, 1, 1] float32; a constant channel counts as std 1."""
    flat = train.images.transpose(1, 0, 2, 3).reshape(train.images.shape[1], -1)
    mean = flat.mean(axis=1, dtype=np.float64)
    std = flat.std(axis=1, dtype=np.float64)
    std[std == 0] = 1.0
    return tuple(torch.tensor(v, dtype=torch.float32).reshape(-1, 1, 1) for v in (mean, std))  # type: ignore[return-value]  # two of them
