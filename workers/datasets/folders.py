"""Image folders: train/<class>/<image>, and test/<class>/<image> if there is a test part. Classes by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from workers.dataset_spec import DataError, Part, regular_file, stamp
from workers.datasets import kept
from workers.datasets.arrays import MAX_BYTES, Arrays

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF")
DEEP = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
"""Pillow's modes of grey images with more than 8 bits a pixel: radiographs, micrographs."""
MAX_PIXELS = 4096 * 4096
MAX_PHOTO = 100_000_000
"""Pixels of a photo that is brought to a smaller size."""
THREADS, THREAD_PIXELS = 4, 50_000_000
"""Photos that are decoded, and in memory, at the same time: at most so many, with so many pixels together."""


def files(folder: Path, part: Part, roots: Sequence[str | Path]) -> list[Path]:
    """Every image file of a part, sorted. Raises DataError without a train folder; a missing test part is []."""
    return [path for _, paths in _classes(folder, part, roots) for path in paths]


def read(folder: Path, part: Part, roots: Sequence[str | Path], size: int | None = None) -> Arrays | None:
    """All images of a part, grey if every image is grey; None where there is no test part. Raises DataError."""
    classes = _classes(folder, part, roots)
    if not classes:
        return None
    paths = [(path, label) for label, (_, members) in enumerate(classes) for path in members]
    images = stacked([path for path, _ in paths], str(folder), size)
    labels = np.array([label for _, label in paths], np.int64)
    return Arrays(images, labels, tuple(name for name, _ in classes))


def stacked(paths: list[Path], where: str, side: int | None = None) -> NDArray[Any]:
    """[n, channels, height, width]: image files of one size, or brought to ``side`` × ``side``; grey if every image is
    grey. uint8; float32 with the values of the files where these have more than 8 bits. Raises DataError.
    """
    return kept.array(stamp(paths), side, lambda: _decoded(paths, where, side))


def _decoded(paths: list[Path], where: str, side: int | None) -> NDArray[Any]:
    (width, height), mode, threads = _common_form(paths, where, side)
    channels, dtype = 3 if mode == "RGB" else 1, np.dtype(np.float32 if mode == "F" else np.uint8)
    if len(paths) * channels * width * height * dtype.itemsize > MAX_BYTES:
        raise DataError(f"{where}: {len(paths)} images of {width} × {height} need more than {MAX_BYTES} bytes")
    images = np.empty((len(paths), channels, height, width), dtype)
    with ThreadPoolExecutor(threads) as pool:
        for i, pixels in enumerate(pool.map(lambda path: _pixels(path, mode, side), paths)):
            images[i] = pixels
    return images


def _classes(folder: Path, part: Part, roots: Sequence[str | Path]) -> list[tuple[str, list[Path]]]:
    top = folder / part
    if not top.is_dir():
        if part == "test":
            return []
        raise DataError(f"{folder}: no folder train; allowed: train/<class>/<image>, and test/<class>/<image>")
    with os.scandir(top) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"{top}: no class folders; allowed: {part}/<class>/<image>")
    if part == "test":
        expected = [name for name, _ in _classes(folder, "train", roots)]
        if set(names) - set(expected):
            strange = sorted(set(names) - set(expected))
            raise DataError(f"{top}: classes {strange} do not occur in train; allowed: {expected}")
        names = expected
    classes = []
    for name in names:
        present = image_files(top / name) if (top / name).is_dir() else []
        classes.append((name, [regular_file(path, roots) for path in present]))
    return classes


def image_files(folder: Path) -> list[Path]:
    """Images that lie in a folder, sorted; hidden ones, which some systems put beside each image, are none."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


def _common_form(paths: list[Path], where: str, side: int | None) -> tuple[tuple[int, int], str, int]:
    """(width, height) of every image, the mode that holds all (L for grey, F for grey of more than 8 bits, RGB), and
    how many of them may be decoded at once.

    Raises DataError when some have 8 bits and others more, or when sizes differ and ``side``, to which all are brought,
    is None.
    """
    if not paths:
        raise DataError(f"{where}: no images; allowed: files that end in {', '.join(sorted(SUFFIXES))}")
    size = None if side is None else (side, side)
    grey, deep, largest = True, None, 1
    for path in paths:
        with opened(path) as image:
            most = MAX_PIXELS if side is None else MAX_PHOTO
            if image.width * image.height > most:
                raise DataError(f"{path}: {image.width} × {image.height} pixels; allowed: {most} pixels")
            pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
            if pages > 1:
                raise DataError(f"{path}: a TIFF of {pages} pages; allowed: one page")
            size, largest = size or image.size, max(largest, image.width * image.height)
            if side is None and image.size != size:
                raise DataError(
                    f"{path}: width, height {image.size}, but {paths[0]} is {size}; allowed: one size; a data set of "
                    "format folder that is registered with a 'size' brings photos of any to it"
                )
            grey = grey and image.mode in {"1", "L", *DEEP}
            if deep is None:
                deep = image.mode in DEEP
            if deep != (image.mode in DEEP):
                raise DataError(
                    f"{path}: {'8 bits' if deep else 'more than 8 bits'} a pixel and channel (mode {image.mode}), "
                    f"unlike {paths[0]}; allowed: one depth"
                )
    assert size is not None, "there is a path"
    return size, "F" if deep else "L" if grey else "RGB", max(1, min(THREADS, THREAD_PIXELS // largest))


def _pixels(path: Path, mode: str, side: int | None) -> NDArray[Any]:
    """[channels, height, width] uint8, for mode F float32."""
    with opened(path) as image:
        try:
            if side is None:
                array = np.asarray(image.convert(mode))
            else:
                # A JPEG is read at a fraction of its size, in a sixth of the time.
                image.draft(None, (2 * side, 2 * side))
                array = np.asarray(ImageOps.fit(ImageOps.exif_transpose(image).convert(mode), (side, side)))
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{path}: broken image: {error}") from error
    if mode == "F" and not np.isfinite(array).all():
        raise DataError(f"{path}: values that are not finite (NaN or infinity); allowed: numbers")
    return array.transpose(2, 0, 1) if mode == "RGB" else array[None]


def opened(path: Path) -> Image.Image:
    try:
        return Image.open(path, formats=FORMATS)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: not an image: {error}") from error
