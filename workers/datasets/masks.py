"""Image and mask folders: train/images/<name>.png with train/masks/<name>.png, and test/… if there is a test part.

A mask is a grey or palette image of the size of its image: a pixel's value is its class, 255 where nobody knows.
``labels.txt`` in the folder may name the classes, one a line, the first is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workers.dataset_spec import DataError, Part, regular_file
from workers.datasets.arrays import Arrays, checked_masks
from workers.datasets.folders import SUFFIXES, image_files, opened, stacked

NAMES = "labels.txt"
MODES = ("1", "L", "P")


def files(folder: Path, part: Part, roots: Sequence[str | Path]) -> list[Path]:
    """Images and masks of a part. Raises DataError without training images; a missing test part is []."""
    extra = [folder / NAMES] if part == "train" and (folder / NAMES).exists() else []
    return [path for pair in _pairs(folder, part, roots) for path in pair] + extra


def read(folder: Path, part: Part, roots: Sequence[str | Path]) -> Arrays | None:
    """Images and masks of a part; None where there is no test part. Raises DataError."""
    pairs = _pairs(folder, part, roots)
    if not pairs:
        return None
    images = stacked([image for image, _ in pairs], str(folder))
    masks = np.empty((len(pairs), *images.shape[2:]), np.uint8)
    for i, (image, mask) in enumerate(pairs):
        masks[i] = _labels(mask, image, images.shape[2:])
    names: tuple[str, ...] = ()
    if (folder / NAMES).exists():
        text = regular_file(folder / NAMES, roots).read_text(encoding="utf-8", errors="replace")
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
    return checked_masks(images, masks, f"{folder} ({part})", names)


def _pairs(folder: Path, part: Part, roots: Sequence[str | Path]) -> list[tuple[Path, Path]]:
    images, masks = folder / part / "images", folder / part / "masks"
    if not images.is_dir() or not masks.is_dir():
        if part == "test" and not (folder / part).exists():
            return []
        raise DataError(
            f"{folder / part}: no folders images and masks; allowed: {part}/images/<name>, {part}/masks/<name>"
        )
    by_stem = {path.stem: path for path in image_files(masks)}
    pairs = []
    for image in image_files(images):
        if image.stem not in by_stem:
            raise DataError(f"{image}: no mask; allowed: {masks / image.stem}.png beside it")
        pairs.append((regular_file(image, roots), regular_file(by_stem[image.stem], roots)))
    if not pairs:
        raise DataError(f"{images}: no images; allowed: files that end in {', '.join(sorted(SUFFIXES))}")
    return pairs


def _labels(mask: Path, image: Path, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """[height, width] of one mask file. Raises DataError."""
    with opened(mask) as file:
        if file.mode not in MODES:
            raise DataError(f"{mask}: a mask in mode {file.mode}; allowed: {', '.join(MODES)}, a class a pixel")
        if (file.height, file.width) != size:
            raise DataError(
                f"{mask}: {(file.height, file.width)} pixels, its image {image.name} has {size}; allowed: the same"
            )
        try:
            return np.asarray(file, np.uint8)
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{mask}: broken image: {error}") from error
