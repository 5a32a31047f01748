"""What reading large files gave, kept on disk: photos are decoded, and data sets described, once a machine and not in
every process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import PIL
from numpy.typing import NDArray

from workers.dataset_spec import stamp

T = TypeVar("T")
Files = Sequence[tuple[str, int, int]]
"""(path, modification time, size) of each, as ``stamp`` has them."""
WORTH_BYTES = 4 * 2**20
"""Files of fewer bytes in all are read again: that takes a moment."""
KEPT = 16
"""Arrays that stay, and as many descriptions; the longest unused go first."""

ABANDONED_SECONDS = 86_400.0
"""Age at which a file that was never finished is deleted."""


def folder() -> Path:
    """Where it lies: ``nas-service`` in XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nas-service"


def array(files: Files, how: object, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """What ``make`` reads from these files, or has read from the same files ``how`` before.

    ``how``: what else decides the result, as JSON. Where a file or this package's readers have changed, or where
    nothing can be kept (no place, no right to write), it is made anew. Raises what ``make`` raises.
    """
    return _once(
        files,
        how,
        ".npy",
        make,
        lambda file: np.lib.format.read_array(file, allow_pickle=False),
        lambda made, file: np.lib.format.write_array(file, made, allow_pickle=False),
    )


def document(files: Files, how: object, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The same for a JSON object; tuples come back as lists."""
    return _once(files, how, ".json", make, json.load, lambda made, file: file.write(json.dumps(made).encode()))


def _once(
    files: Files,
    how: object,
    suffix: str,
    make: Callable[[], T],
    load: Callable[[BinaryIO], T],
    save: Callable[[T, BinaryIO], object],
) -> T:
    if sum(size for _, _, size in files) < WORTH_BYTES:
        return make()
    readers = stamp(sorted(Path(__file__).parent.glob("*.py")))
    name = hashlib.sha256(json.dumps([readers, PIL.__version__, how, files]).encode()).hexdigest() + suffix
    try:
        place = folder() / name
        os.utime(place)
        with place.open("rb") as file:
            return load(file)
    except (OSError, ValueError, EOFError, RuntimeError):  # not there, not whole, no home
        made = make()
    with contextlib.suppress(OSError, RuntimeError):
        _keep(lambda file: save(made, file), folder() / name)
    return made


def _keep(write: Callable[[BinaryIO], object], place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=place.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.replace(scratch, place)
    except BaseException:
        os.unlink(scratch)
        raise
    for part in place.parent.glob("*.part"):  # what a process that was killed has left
        if part.stat().st_mtime < time.time() - ABANDONED_SECONDS:
            part.unlink(missing_ok=True)
    by_use = sorted(place.parent.glob(f"*{place.suffix}"), key=lambda kept: kept.stat().st_mtime)
    for unused in by_use[:-KEPT]:
        unused.unlink(missing_ok=True)
