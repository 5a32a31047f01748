"""What reading large files gave, kept on disk: photos are decoded, and data sets described, once a machine and not in
every process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import PIL
from numpy.typing import NDArray

from workers.dataset_spec import Stamp, stamp

T = TypeVar("T")
WORTH_BYTES = 4 * 2**20
"""Files of fewer bytes in all are read again: that takes a moment."""
KEPT, KEPT_BYTES = 1000, 8 * 2**30
"""Files that stay, and their bytes together; the longest unused go first."""
FREE = 10
"""Nothing is kept where the disk has not so many times its bytes free: others need it more."""
ABANDONED_SECONDS = 3600.0
"""Age at which a file that was never finished is deleted."""


def folder() -> Path:
    """Where it lies: NAS_CACHE_DIR, else ``nas-service`` in XDG_CACHE_HOME or in ~/.cache."""
    own = os.environ.get("NAS_CACHE_DIR")
    return Path(own or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nas-service")


def array(files: Stamp, how: object, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
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


def document(files: Stamp, how: object, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The same for a JSON object; tuples come back as lists."""
    return _once(files, how, ".json", make, json.load, lambda made, file: file.write(json.dumps(made).encode()))


def _once(
    files: Stamp,
    how: object,
    suffix: str,
    make: Callable[[], T],
    load: Callable[[BinaryIO], T],
    save: Callable[[T, BinaryIO], object],
) -> T:
    if sum(size for _, size, *_ in files) < WORTH_BYTES:
        return make()
    here = Path(__file__).parent
    readers = stamp([*sorted(here.glob("*.py")), here.parent / "dataset_spec.py"])
    key = json.dumps([readers, PIL.__version__, np.__version__, how, files])
    name = hashlib.sha256(key.encode()).hexdigest() + suffix
    try:
        place = folder() / name
        os.utime(place)
        with place.open("rb") as file:
            return load(file)
    except (OSError, ValueError, EOFError, RuntimeError):  # not there, not whole, no home
        made = make()
    with contextlib.suppress(OSError, RuntimeError):
        if stamp(Path(path) for path, *_ in files) == tuple(files):  # else they changed while they were read
            _keep(lambda file: save(made, file), folder() / name)
    return made


def _keep(write: Callable[[BinaryIO], object], place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=place.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if os.stat(scratch).st_size * FREE > shutil.disk_usage(place.parent).free:
            raise OSError("the disk is nearly full")
        os.replace(scratch, place)
    except BaseException:
        os.unlink(scratch)
        raise
    for part in place.parent.glob("*.part"):  # what a process that was killed has left
        if part.stat().st_mtime < time.time() - ABANDONED_SECONDS:
            part.unlink(missing_ok=True)
    total = 0
    found = [(path.stat().st_mtime, path.stat().st_size, path) for path in place.parent.glob("*.[nj]*")]
    for i, (_, size, path) in enumerate(sorted(found, reverse=True)):
        total += size
        if i and (i >= KEPT or total > KEPT_BYTES):
            path.unlink(missing_ok=True)
