"""Images and labels as numpy arrays: the checks that every data set must pass, its splits, and its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.dataset_spec import UNKNOWN, DataError

MAX_BYTES = 8 * 2**30
"""Largest array that is read, in bytes: declared sizes are checked before any memory is taken."""
USUAL = (1, 3, 4)
"""Numbers of channels that are looked for first."""
MAX_CLASSES = 100_000
HELD_OUT = 0.2
"""Share of each class that becomes the test part where a data set has none."""


@dataclass(frozen=True)
class Arrays:
    """``images`` [n, channels, height, width] uint8 or float32, K ``label_names``.

    ``labels`` as ``workers.tasks`` has them: classification [n] int64, segmentation [n, height, width] uint8,
    localisation [n, 5] float32. ``groups`` [n]: images of one group must not be parted by a split.
    """

    images: NDArray[Any]
    labels: NDArray[Any]
    label_names: tuple[str, ...] = ()
    task: str = "classification"
    groups: NDArray[np.int64] | None = None

    @property
    def strata(self) -> NDArray[np.int64]:
        """[n] what a split keeps in proportion: the class, or 0 for every image of a segmentation."""
        if self.task == "localisation":
            return self.labels[:, 0].astype(np.int64)
        return self.labels if self.task == "classification" else np.zeros(len(self.labels), np.int64)

    def part(self, rows: NDArray[np.int64]) -> Arrays:
        """Some of the images."""
        groups = None if self.groups is None else self.groups[rows]
        return replace(self, images=self.images[rows], labels=self.labels[rows], groups=groups)

    def divided(self, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices (kept, held out): ``fraction`` of each class, or of the groups where there are groups."""
        if self.groups is None:
            return split(self.strata, fraction, seed)
        kept, _ = split(np.zeros(int(self.groups.max()) + 1, np.int64), fraction, seed)
        inside = np.isin(self.groups, kept)
        return np.flatnonzero(inside), np.flatnonzero(~inside)


def checked(images: NDArray[Any], labels: NDArray[Any], where: str, label_names: tuple[str, ...] = ()) -> Arrays:
    """Arrays in their final form. Raises DataError for wrong shapes, wrong types, and values that are not finite.

    Images: [n, height, width], [n, channels, height, width] or [n, height, width, channels]; the channels are the axis
    of length 1, 3 or 4, else the one that is shorter than the image's sides.
    Integers of 0 to 255 become uint8, other numbers float32.
    """
    if images.dtype.kind not in "buif" or labels.dtype.kind not in "bui":
        raise DataError(
            f"{where}: images of type {images.dtype}, labels of type {labels.dtype}; "
            "allowed: images of integers or floats, labels of integers"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or len(labels) != len(images):
        raise DataError(
            f"{where}: labels of shape {labels.shape} for images of shape {images.shape}; "
            "allowed: one label an image, shape (n,)"
        )
    images = _channels_first(images, where)
    if images.size == 0:
        raise DataError(f"{where}: no images (shape {images.shape})")
    if images.dtype.kind == "f":
        images = images.astype(np.float32, copy=False)
        if not np.isfinite(images).all():
            bad = int(np.argmax(~np.isfinite(images).reshape(len(images), -1).all(axis=1)))
            raise DataError(f"{where}: image {bad} has values that are not finite (NaN or infinity)")
    elif images.dtype != np.uint8:
        low, high = int(images.min()), int(images.max())
        images = images.astype(np.uint8 if low >= 0 and high <= 255 else np.float32)
    return Arrays(np.ascontiguousarray(images), labels.astype(np.int64), label_names)


def checked_masks(images: NDArray[Any], masks: NDArray[Any], where: str, names: tuple[str, ...] = ()) -> Arrays:
    """Images with a label a pixel in their final form. Raises DataError.

    ``masks``: [n, height, width] integers, 0 to K − 1, or 255 where nobody knows.
    """
    checked_images = checked(images, np.zeros(len(images), np.int64), where).images
    wanted = (len(checked_images), *checked_images.shape[2:])
    if masks.dtype.kind not in "bui" or masks.shape != wanted:
        raise DataError(f"{where}: masks of type {masks.dtype} and shape {masks.shape}; allowed: integers of {wanted}")
    if masks.size and (int(masks.min()) < 0 or int(masks.max()) > UNKNOWN):
        raise DataError(
            f"{where}: masks hold {int(masks.min())} to {int(masks.max())}; allowed: 0 to {UNKNOWN - 1}, and {UNKNOWN} "
            "where the label is not known"
        )
    empty = (masks == UNKNOWN).all(axis=(1, 2))
    if empty.any():
        raise DataError(f"{where}: mask {int(np.argmax(empty))} has no pixel whose label is known")
    return Arrays(checked_images, np.ascontiguousarray(masks.astype(np.uint8)), names, "segmentation")


def checked_boxes(
    images: NDArray[Any], labels: NDArray[Any], boxes: NDArray[Any], where: str, names: tuple[str, ...] = ()
) -> Arrays:
    """Images with a class and a box each in their final form. Raises DataError.

    ``boxes``: [n, 4] centre x, centre y, width, height, as shares of the image's width and height; sides above 0.
    """
    plain = checked(images, labels, where)
    if boxes.dtype.kind not in "uif" or boxes.shape != (len(plain.images), 4):
        wanted = (len(plain.images), 4)
        raise DataError(f"{where}: boxes of type {boxes.dtype} and shape {boxes.shape}; allowed: numbers of {wanted}")
    boxes = boxes.astype(np.float32)
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    good = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    good &= (low >= -1e-3).all(axis=1) & (high <= 1 + 1e-3).all(axis=1)
    if not good.all():
        bad = int(np.argmin(good))
        raise DataError(
            f"{where}: box {bad} is {boxes[bad].tolist()}; allowed: centre x, centre y, width, height as shares of the "
            "image, inside it, sides above 0"
        )
    return Arrays(plain.images, np.column_stack([plain.labels.astype(np.float32), boxes]), names, "localisation")


def check_pixels(masks: NDArray[np.uint8], where: str, classes: int | None = None) -> int:
    """Number of classes K of masks. Raises DataError unless there are two at least, and none beyond ``classes``."""
    known = masks[masks != UNKNOWN]
    high = int(known.max())
    if classes is not None and high >= classes:
        raise DataError(f"{where}: a pixel has label {high}; allowed: 0 to {classes - 1}, and {UNKNOWN} for unknown")
    if classes is None and high < 1:
        raise DataError(f"{where}: only one class of pixels; allowed: two classes or more")
    return high + 1 if classes is None else classes


def _channels_first(images: NDArray[Any], where: str) -> NDArray[Any]:
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4:
        raise DataError(
            f"{where}: images of shape {images.shape}; "
            "allowed: (n, height, width), (n, channels, height, width), (n, height, width, channels)"
        )
    _, first, middle, last = images.shape
    found = first in USUAL, last in USUAL
    if not any(found):  # a satellite's bands: fewer than the rows and columns of an image
        found = first < min(middle, last), last < min(first, middle)
    if found[0] == found[1]:
        raise DataError(
            f"{where}: cannot tell which axis of {images.shape} are the channels; allowed: one of axis 1 and axis 3 "
            "alone of length 1, 3 or 4, or shorter than the image's height and width"
        )
    return images if found[0] else images.transpose(0, 3, 1, 2)


def check_classes(labels: NDArray[np.int64], where: str, least: int, classes: int | None = None) -> int:
    """Number of classes K. Raises DataError unless the labels are 0 to K − 1, K ≥ 2, each at least ``least`` times."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MAX_CLASSES:
        raise DataError(f"{where}: labels run from {low} to {high}; allowed: 0 to K − 1, at most {MAX_CLASSES} classes")
    counts = np.bincount(labels, minlength=classes or 0)
    if classes is not None and len(counts) > classes:
        raise DataError(f"{where}: label {high}; allowed: 0 to {classes - 1}, the labels of the training part")
    if len(counts) < 2:
        raise DataError(f"{where}: only one class; allowed: two classes or more")
    missing = np.flatnonzero(counts == 0)
    if len(missing) and classes is None:
        raise DataError(
            f"{where}: labels run from 0 to {high}, but {missing[:5].tolist()} never occur; "
            "allowed: 0 to K − 1, each present"
        )
    few = np.flatnonzero(counts < least)
    if len(few):
        raise DataError(
            f"{where}: class {int(few[0])} has {int(counts[few[0]])} images; allowed: at least {least} of each class"
        )
    return len(counts)


def split(labels: NDArray[np.int64], fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices (kept, held out), each ascending: of every class ``fraction`` is held out, at least 1 and not all.

    Drawn by numpy's RandomState, whose stream is frozen for good, so that a seed means the same split in every version.
    """
    random = np.random.RandomState(seed)
    held = []
    for label in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels == label)
        count = min(max(round(len(members) * fraction), 1), len(members) - 1)
        held.append(random.permutation(members)[:count])
    chosen = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def at_most(indices: NDArray[np.int64], labels: NDArray[np.int64], limit: int | None, seed: int) -> NDArray[np.int64]:
    """At most ``limit`` of ``indices``, classes in proportion, at least one of each. Raises DataError."""
    if limit is None or limit >= len(indices):
        return indices
    classes = np.unique(labels[indices])
    if limit < len(classes):
        raise DataError(f"a limit of {limit} images; allowed: at least {len(classes)}, one of each class")
    random = np.random.RandomState(seed)
    groups = [random.permutation(indices[labels[indices] == label]) for label in classes]
    shares = np.array([len(group) * limit / len(indices) for group in groups])
    counts = np.maximum(np.floor(shares).astype(int), 1)
    order = np.argsort(-(shares - np.floor(shares)), kind="stable")
    for i in order[: max(limit - int(counts.sum()), 0)]:  # largest remainders first
        counts[i] += 1
    while counts.sum() > limit:  # classes that were rounded up to one image pushed the sum over the limit
        counts[int(np.argmax(counts))] -= 1
    return np.sort(np.concatenate([group[:count] for group, count in zip(groups, counts, strict=True)]))


def digest(arrays: Arrays, parameters: Mapping[str, object] | None = None) -> str:
    """SHA-256 of shapes, types, pixels, labels, and the parameters of the split."""
    return digests(arrays, parameters or {})[0]


def digests(arrays: Arrays, *parameters: Mapping[str, object]) -> list[str]:
    """The digest with each of these parameters; the pixels are read once."""
    sha = hashlib.sha256()
    for array in (arrays.images, arrays.labels):
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        if array is arrays.images and array.dtype == np.float32:
            sha.update(b"unchanged")  # results before this was here came of pixels that each validation had changed
        sha.update(np.ascontiguousarray(array).data)
    found = []
    for each in parameters:
        ending = sha.copy()
        ending.update(repr(sorted(each.items())).encode())
        found.append(ending.hexdigest())
    return found
