"""numpy archives: x_train, y_train, x_test, y_test, or x and y. Never a pickle: object arrays are refused."""

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
from workers.datasets.arrays import MAX_BYTES, Arrays, checked


def names(present: Sequence[str], part: Part, where: str) -> tuple[str, str] | None:
    """Names of the images and labels of a part; None where there is no test part. Raises DataError."""
    if "x_train" in present and "y_train" in present:
        pair = (f"x_{part}", f"y_{part}")
        if part == "train" or (pair[0] in present and pair[1] in present):
            return pair
        if pair[0] in present or pair[1] in present:
            raise DataError(f"{where}: holds {sorted(present)}; allowed: both x_test and y_test, or neither")
        return None
    if "x" in present and "y" in present:
        return ("x", "y") if part == "train" else None
    raise DataError(f"{where}: holds {sorted(present)[:20]}; allowed: x_train, y_train (and x_test, y_test), or x, y")


def read(path: Path, part: Part, roots: Sequence[str | Path]) -> Arrays | None:
    """Images and labels of a part; None where there is no test part. Raises DataError."""
    real = regular_file(path, roots)
    try:
        with zipfile.ZipFile(real) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            pair = names(list(members), part, str(path))
            if pair is None:
                return None
            arrays = [_array(archive, members[name], f"{path}: {name}") for name in pair]
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: not a readable .npz file: {error}") from error
    return checked(arrays[0], arrays[1], f"{path} ({part})")


def from_mapping(arrays: Mapping[str, Any], part: Part, where: str) -> Arrays | None:
    """The same from arrays in memory: what a plug-in of the group ``nas.datasets`` returns. Raises DataError."""
    if not isinstance(arrays, Mapping):
        raise DataError(f"{where}: returned {type(arrays).__name__}; allowed: x_train, y_train, … as a mapping")
    pair = names([str(name) for name in arrays], part, where)
    if pair is None:
        return None
    images, labels = (np.asarray(arrays[name]) for name in pair)
    label_names = tuple(str(name) for name in arrays.get("label_names", ()))
    return checked(images, labels, f"{where} ({part})", label_names)


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
