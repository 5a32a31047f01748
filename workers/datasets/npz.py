"""numpy archives: x_train, y_train, x_test, y_test, or x and y. Never a pickle: object arrays are refused.

masks_train, masks_test (or masks) in place of y make it a segmentation; boxes_train, boxes_test (or boxes) beside y a
localisation.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.dataset_spec import DataError, Part, regular_file
from workers.datasets.arrays import MAX_BYTES, Arrays, checked, checked_boxes, checked_masks

ALLOWED = "x_train, y_train (and x_test, y_test), or x, y; masks for y in a segmentation; boxes beside y for boxes"


def names(present: Sequence[str], part: Part, where: str) -> tuple[str, ...] | None:
    """Names of the images and the labels (and boxes) of a part; None where there is no test part. Raises DataError."""
    for ending in ("_train", ""):
        if f"x{ending}" in present:
            kinds = {f"{kind}{ending}" for kind in ("y", "masks", "boxes")} & set(present)
            if kinds == {f"masks{ending}"}:
                stems: tuple[str, ...] = ("x", "masks")
            elif f"y{ending}" in kinds and f"masks{ending}" not in kinds:
                stems = ("x", "y", "boxes") if f"boxes{ending}" in kinds else ("x", "y")
            else:
                break
            wanted = tuple(f"{stem}_{part}" if ending else stem for stem in stems)
            if part == "train" or (ending and set(wanted) <= set(present)):
                return wanted
            if ending and set(wanted) & set(present):
                every = f"{'both' if len(wanted) == 2 else 'all of'} {' and '.join(wanted)}"
                raise DataError(f"{where}: holds {sorted(present)}; allowed: {every}, or neither")
            return None
    raise DataError(f"{where}: holds {sorted(present)[:20]}; allowed: {ALLOWED}")


def read(path: Path, part: Part, roots: Sequence[str | Path]) -> Arrays | None:
    """Images and labels of a part; None where there is no test part. Raises DataError."""
    real = regular_file(path, roots)
    try:
        with zipfile.ZipFile(real) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            found = names(list(members), part, str(path))
            if found is None:
                return None
            arrays = {name: _array(archive, members[name], f"{path}: {name}") for name in found}
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: not a readable .npz file: {error}") from error
    return _checked(arrays, f"{path} ({part})")


def _checked(arrays: Mapping[str, NDArray[Any]], where: str, label_names: tuple[str, ...] = ()) -> Arrays:
    """The arrays called x, y, masks or boxes, whatever the ending of their names, in their final form."""
    by_stem = {name.partition("_")[0]: array for name, array in arrays.items()}
    if "masks" in by_stem:
        return checked_masks(by_stem["x"], by_stem["masks"], where, label_names)
    if "boxes" in by_stem:
        return checked_boxes(by_stem["x"], by_stem["y"], by_stem["boxes"], where, label_names)
    return checked(by_stem["x"], by_stem["y"], where, label_names)


def from_mapping(arrays: Mapping[str, Any], part: Part, where: str) -> Arrays | None:
    """The same from arrays in memory: what a plug-in of the group ``nas.datasets`` returns. Raises DataError."""
    if not isinstance(arrays, Mapping):
        raise DataError(f"{where}: returned {type(arrays).__name__}; allowed: x_train, y_train, … as a mapping")
    found = names([str(name) for name in arrays], part, where)
    if found is None:
        return None
    label_names = tuple(str(name) for name in arrays.get("label_names", ()))
    return _checked({name: np.asarray(arrays[name]) for name in found}, f"{where} ({part})", label_names)


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> NDArray[Any]:
    """One array, its header checked first: no objects, no size that the file does not hold. Raises DataError."""
    with archive.open(info) as file:
        try:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(file)
        except ValueError as error:
            raise DataError(f"{where}: not a numpy array: {error}") from error
    if dtype.hasobject:
        raise DataError(f"{where}: an array of Python objects, which would have to be unpickled; allowed: numbers")
    size = math.prod(shape) * dtype.itemsize
    if size > MAX_BYTES or size > info.file_size:
        raise DataError(
            f"{where}: declares shape {shape} of {dtype}, {size} bytes, holds {info.file_size}; "
            f"allowed: {MAX_BYTES} bytes, all of them there"
        )
    with archive.open(info) as file:
        try:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
        except ValueError as error:
            raise DataError(f"{where}: cannot be read: {error}") from error


def has_test(path: Path) -> bool:
    """Whether the archive has a test part. Raises DataError."""
    try:
        with zipfile.ZipFile(path) as archive:
            return names([name.removesuffix(".npy") for name in archive.namelist()], "test", str(path)) is not None
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable .npz file: {error}") from error
