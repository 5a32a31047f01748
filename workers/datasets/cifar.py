"""CIFAR-10 and CIFAR-100, binary version: records of one or two label bytes and 3 × 32 × 32 pixels.

Layout: https://www.cs.toronto.edu/~kriz/cifar.html. The pickled "python version" is never read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workers.dataset_spec import DataError, Part, regular_file
from workers.datasets.arrays import MAX_BYTES, Arrays, checked

PIXELS = 3 * 32 * 32


def files(folder: Path, part: Part, roots: Sequence[str | Path], fine: bool) -> list[Path]:
    """The binary files of a part in order. Raises DataError without training files; a missing test part is []."""
    if fine:
        present = [folder / f"{part}.bin"] if (folder / f"{part}.bin").exists() else []
        wanted = f"{part}.bin"
    elif part == "train":
        present = sorted(path for path in folder.glob("data_batch_*.bin") if re.fullmatch(r"data_batch_\d+", path.stem))
        wanted = "data_batch_*.bin"
    else:
        present = [folder / "test_batch.bin"] if (folder / "test_batch.bin").exists() else []
        wanted = "test_batch.bin"
    if not present and part == "train":
        raise DataError(f"{folder}: no {wanted}; allowed: a folder with the binary version of CIFAR")
    return [regular_file(path, roots) for path in present]


def read(folder: Path, part: Part, roots: Sequence[str | Path], fine: bool) -> Arrays | None:
    """Images and labels of a part (``fine``: CIFAR-100); None where there is no test part. Raises DataError."""
    paths = files(folder, part, roots, fine)
    if not paths:
        return None
    label_bytes = 2 if fine else 1
    record = label_bytes + PIXELS
    images, labels = [], []
    if sum(path.stat().st_size for path in paths) > MAX_BYTES:
        raise DataError(f"{folder}: more than {MAX_BYTES} bytes")
    for path in paths:
        data = np.fromfile(path, np.uint8)
        if len(data) == 0 or len(data) % record:
            raise DataError(f"{path}: {len(data)} bytes, not a multiple of {record}: truncated, or not a CIFAR file")
        rows = data.reshape(-1, record)
        labels.append(rows[:, label_bytes - 1])
        images.append(rows[:, label_bytes:].reshape(-1, 3, 32, 32))
    return checked(np.concatenate(images), np.concatenate(labels), f"{folder} ({part})", _names(folder, roots, fine))


def _names(folder: Path, roots: Sequence[str | Path], fine: bool) -> tuple[str, ...]:
    path = folder / ("fine_label_names.txt" if fine else "batches.meta.txt")
    if not path.exists():
        return ()
    text = regular_file(path, roots).read_bytes()[:100_000].decode("utf-8", "replace")
    return tuple(line.strip()[:100] for line in text.splitlines() if line.strip())
