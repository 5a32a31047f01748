"""IDX files, the format of MNIST: a magic number, big-endian sizes, bytes (http://yann.lecun.com/exdb/mnist)."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.dataset_spec import DataError, Part, regular_file
from workers.datasets.arrays import MAX_BYTES, Arrays, checked

STEMS = {"train": "train", "test": "t10k"}


def files(folder: Path, part: Part, roots: Sequence[str | Path]) -> list[Path]:
    """The image file and the label file of a part. Raises DataError where one is missing; a missing test part is []."""
    found = []
    for kind, dimensions in (("images", 3), ("labels", 1)):
        names = [f"{STEMS[part]}-{kind}{dot}idx{dimensions}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
        present = [folder / name for name in names if (folder / name).exists()]
        if present:
            found.append(regular_file(present[0], roots))
        elif part == "train":
            raise DataError(f"{folder}: no IDX file; looked for {', '.join(names)}")
    if len(found) == 1:
        raise DataError(f"{folder}: {found[0].name} has no partner; allowed: an image file and a label file")
    return found


def read(folder: Path, part: Part, roots: Sequence[str | Path]) -> Arrays | None:
    """Images and labels of a part; None where the folder has no test part. Raises DataError."""
    paths = files(folder, part, roots)
    if not paths:
        return None
    images, labels = (read_idx(path) for path in paths)
    return checked(images, labels, f"{folder} ({part})")


def read_idx(path: Path) -> NDArray[Any]:
    """The bytes of one IDX file as an array. Raises DataError when it is none, truncated, or too large."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] != 8 or not 1 <= head[3] <= 4:
                raise DataError(f"{path}: starts with {head!r}; allowed: 0, 0, 8, 1 to 4 (IDX, unsigned bytes)")
            sizes = file.read(4 * head[3])
            if len(sizes) < 4 * head[3]:
                raise DataError(f"{path}: truncated in its header")
            shape = struct.unpack(f">{head[3]}I", sizes)
            expected = math.prod(shape)
            if expected > MAX_BYTES:
                raise DataError(f"{path}: declares shape {shape}, {expected} bytes; allowed: {MAX_BYTES}")
            if path.suffix != ".gz" and expected > path.stat().st_size:
                raise DataError(f"{path}: truncated: declares {expected} bytes, the file has {path.stat().st_size}")
            data = _exactly(file, expected, path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    return np.frombuffer(data, np.uint8).reshape(shape)


def _exactly(file: Any, expected: int, path: Path) -> bytes:
    """``expected`` bytes and not one more, read in pieces so that a lying header takes no memory. Raises DataError."""
    pieces, count = [], 0
    while count <= expected and (piece := file.read(min(expected + 1 - count, 2**24))):
        pieces.append(piece)
        count += len(piece)
    if count != expected:
        raise DataError(f"{path}: declares {expected} bytes, has {'more' if count > expected else count}")
    return b"".join(pieces)
