"""What a data set is called, where it lies and how it is split: plain data, no torch, no numpy."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Format = Literal["digits", "idx", "cifar10", "cifar100", "folder", "npz", "masks", "scenes", "plugin"]
Part = Literal["train", "test"]
UNKNOWN = 255
"""Label of a pixel that nobody knows: it enters neither the loss nor the scores."""


class DataError(ValueError):
    """A data set that is missing, broken, or not inside the allowed folders. Says the file and what is allowed."""


class DatasetSpec(BaseModel):
    """Which data set a search uses and how its training part is split. The test part is never touched by it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=200, description="Name of a built-in, registered or plug-in data set.")
    validation_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="Share of each class of the training part that is kept for validation."
    )
    seed: int = Field(
        default=0, ge=0, le=2**32 - 1, description="Seed of the split and of the choice of max_train images."
    )
    max_train: int | None = Field(
        default=None,
        ge=2,
        le=10**9,
        description="Use at most so many training images, classes in proportion; null: all.",
    )
    max_validation: int | None = Field(
        default=None,
        ge=2,
        le=10**9,
        description="Use at most so many validation images, classes in proportion; null: all.",
    )


class SceneSpec(BaseModel):
    """Scenes of real digits or garments on a canvas, drawn by seed: the same pixels on every machine.

    Every scene takes its objects from one of 20 pools of source images, and a split keeps pools together; the test part
    is made of source images of the test part: no source image is on both sides.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    objects: Literal["digits", "garments"] = Field("digits", description="What lies on the canvas.")
    task: Literal["segmentation", "localisation"] = Field(
        "segmentation", description="Several objects with a label a pixel (0 is the background), or one with its box."
    )
    size: int = Field(32, ge=16, le=512, description="Height and width of the canvas in pixels.")
    most: int = Field(3, ge=1, le=16, description="Objects of a scene at most, at least 1; a box is around one alone.")
    smallest: float = Field(0.3, gt=0.05, le=1, description="Height of an object at least, as a share of the canvas.")
    largest: float = Field(0.6, gt=0.05, le=1, description="Height of an object at most, as a share of the canvas.")
    noise: int = Field(32, ge=0, le=255, description="Brightest pixel of the random background.")
    train: int = Field(2000, ge=40, le=1_000_000, description="Scenes for training and validation.")
    test: int = Field(500, ge=1, le=1_000_000, description="Scenes for the test.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of everything that is drawn.")

    @model_validator(mode="after")
    def _ordered(self) -> SceneSpec:
        if self.smallest > self.largest:
            raise ValueError(f"smallest is {self.smallest}, above largest {self.largest}")
        return self


class DatasetSource(BaseModel):
    """Where a data set lies. ``path`` is a folder, for npz a file; it counts only inside the configured roots.

    - idx: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-…, each plain or .gz
    - cifar10: data_batch_*.bin, test_batch.bin; cifar100: train.bin, test.bin
    - folder: train/<class>/*.png, and test/<class>/*.png if there is a test part; grey images of 16 bits keep them
    - npz: x_train, y_train, x_test, y_test, or x and y; for segmentation masks_train, … in place of y; for localisation
      boxes_train, … beside y
    - masks: train/images/<name>.png and train/masks/<name>.png, test/… likewise; labels.txt may name the classes
    - scenes: drawn as ``scenes`` says
    - plugin: ``path`` is the name in the entry point group nas.datasets
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=200, description="Name by which searches refer to it.")
    format: Format = Field(description="How the files are written.")
    path: str = Field(default="", max_length=4096, description="Folder, or file of an npz; empty for digits, scenes.")
    scenes: SceneSpec | None = Field(default=None, description="What is drawn, for format scenes.")
    size: int | None = Field(
        default=None,
        ge=4,
        le=1024,
        description="For format folder: photos are turned upright, scaled, and cut around their centre, to so many "
        "pixels in height and width; null: all images must have one size.",
    )

    @model_validator(mode="after")
    def _draws(self) -> DatasetSource:
        if (self.format == "scenes") != (self.scenes is not None):
            raise ValueError(
                f"format {self.format!r} with scenes {self.scenes}; allowed: scenes for format 'scenes' alone"
            )
        if self.size is not None and self.format != "folder":
            raise ValueError(f"size {self.size} with format {self.format!r}; allowed: size for format 'folder' alone")
        return self


def inside(path: str | Path, roots: Iterable[str | Path]) -> Path:
    """The real path, links followed, if it lies inside one of ``roots``. Raises DataError if not, or if missing."""
    allowed = [Path(root).resolve() for root in roots]
    try:
        real = Path(path).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links; ValueError: a NUL byte
        why = getattr(error, "strerror", None) or error
        raise DataError(f"data set path {str(path)!r} cannot be opened: {why}") from error
    if not any(real.is_relative_to(root) for root in allowed):
        raise DataError(
            f"data set path {str(path)!r} lies outside the data folders; allowed: {[str(r) for r in allowed]}"
        )
    return real


def regular_file(path: Path, roots: Iterable[str | Path]) -> Path:
    """``inside``, and an ordinary file: no folder, pipe or device. Raises DataError."""
    real = inside(path, roots)
    if not real.is_file():
        raise DataError(f"{path} is not an ordinary file")
    return real


Stamp = tuple[tuple[str, int, int, int], ...]


def stamp(paths: Iterable[Path]) -> Stamp:
    """(path, size, times of modification and of change in ns) of every file: equal stamps mean that nothing has to be
    read again. The second time is the system's own: a file that is put in another's place with its time differs.
    """
    stats = [(str(path), os.stat(path)) for path in paths]
    return tuple((name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in stats)
