"""Why a candidate ended: from an exception in the worker, or from the traces that a dead worker left in its folder."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import traceback
from pathlib import Path

from workers.assignment import Failure, Kind

LOG = "log.txt"
TRACE = "death.txt"
"""Written by faulthandler alone: the stacks at the deadline, or at a fatal signal. Empty while all is well."""
FAILURE = "failure.json"
"""Left by a worker that knows why it must die."""
BIRTH = "birth.json"
"""Host, process and count of kernel out-of-memory kills when the candidate started."""
MAX_TEXT = 20_000

BROKEN_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE})
ALLOCATOR = re.compile(
    r"can't allocate memory|cannot allocate memory|out of memory|bad_alloc|ALLOC(?:ATION)?_FAILED", re.IGNORECASE
)
MEMORY_MONITOR = re.compile(r"running low on memory|memory monitor|OutOfMemoryError|OOMKilled", re.IGNORECASE)
LOST_NODE = re.compile(
    r"node (?:was|has been|is) (?:dead|terminated|removed)|node died|NodeDied|unavailable|owner.*died|RpcError|GCS",
    re.IGNORECASE,
)
RAYS_GUESSES = re.compile(r"(?:Some common causes include|There are some potential root causes).*", re.DOTALL)
"""Ray lists every reason it can think of, out of memory among them; that list is no evidence."""
EXIT_CODE = re.compile(r"exit(?:ed)?[ _](?:with )?(?:exit )?code[: ]+(-?\d+)", re.IGNORECASE)


class EvaluationError(Exception):
    """An error whose kind is known where it is raised."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind: Kind = kind


def failure_of(error: BaseException) -> Failure:
    """The failure that an exception inside the worker means."""
    text = "".join(traceback.format_exception(error))
    return Failure(kind=kind_of(error), message=_one_line(error), traceback=text[-MAX_TEXT:])


def kind_of(error: BaseException) -> Kind:
    """Kind of failure of an exception. Anything unknown is a crash."""
    if is_out_of_memory(error):
        return "oom"
    if isinstance(error, EvaluationError):
        return error.kind
    if isinstance(error, ArithmeticError) and type(error).__name__ == "NonFinite":
        return "nan"
    if isinstance(error, OSError) and error.errno in BROKEN_DISK:
        return "infrastructure"
    return "crash"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator gave up: Python's, numpy's, torch's on the CPU or on a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and ALLOCATOR.search(str(error)) is not None


def explain_death(directory: str | Path, error_text: str) -> Failure:
    """Why the worker of ``directory`` is gone. ``error_text`` is what Ray says about it.

    Evidence in the folder counts first: a failure the worker wrote down, the deadline's stacks, a fatal signal's. Then
    Ray's memory monitor, the kernel's out-of-memory killer, a lost node; a process that left without a word is a crash.
    """
    folder = Path(directory)
    known = _written_failure(folder)
    if known is not None:
        return known
    trace = _text(folder / TRACE)
    log = _text(folder / LOG)
    if trace.startswith("Timeout ("):
        return Failure(kind="timeout", message="ran past its deadline and was killed", traceback=trace)
    said = RAYS_GUESSES.sub("", error_text)
    evidence = trace or said[-MAX_TEXT:]
    if ALLOCATOR.search(log[-2000:]) and trace:
        return Failure(kind="oom", message="an allocation failed and ended the process", traceback=evidence)
    signal = re.match(r"Fatal Python error: (.+)", trace)
    if signal is not None:
        return Failure(kind="crash", message=f"the process was ended by: {signal[1]}", traceback=trace)
    if MEMORY_MONITOR.search(said):
        return Failure(kind="oom", message="killed by Ray's memory monitor", traceback=evidence)
    if _kernel_kills_since_birth(folder):
        return Failure(kind="oom", message="killed by the kernel, which ran out of memory", traceback=evidence)
    code = EXIT_CODE.search(said)
    if code is not None and code[1] != "2":  # 2 is Ray's own code for a lost connection
        return Failure(kind="crash", message=f"the process exited with code {code[1]} by itself", traceback=evidence)
    if LOST_NODE.search(said):
        return Failure(kind="infrastructure", message="the node or its connection was lost", traceback=evidence)
    return Failure(
        kind="crash", message="the process ended without a word: it exited or was killed", traceback=evidence
    )


def write_failure(folder: Path, failure: Failure) -> None:
    """Leave a failure for ``explain_death``."""
    (folder / FAILURE).write_text(failure.model_dump_json())


def forget_death(folder: Path) -> None:
    """Remove what an earlier attempt left for ``explain_death``."""
    for name in (FAILURE, TRACE, BIRTH):
        (folder / name).unlink(missing_ok=True)


def write_birth(folder: Path) -> None:
    """Note where and when a candidate started, and forget the traces of an earlier attempt."""
    forget_death(folder)
    birth = {"host": socket.gethostname(), "pid": os.getpid(), "oom_kills": kernel_oom_kills()}
    (folder / BIRTH).write_text(json.dumps(birth))


def kernel_oom_kills() -> int:
    """How many processes the kernel has killed for lack of memory, by the machine's count and the control group's."""
    total = 0
    for path in ("/proc/vmstat", "/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        found = re.search(r"^oom_kill (\d+)", _text(Path(path)), re.MULTILINE)
        total += int(found[1]) if found else 0
    return total


def _kernel_kills_since_birth(folder: Path) -> bool:
    text = _text(folder / BIRTH)
    if not text:
        return False
    try:
        birth = json.loads(text)
        return bool(birth["host"] == socket.gethostname() and kernel_oom_kills() > birth["oom_kills"])
    except (ValueError, KeyError, TypeError):
        return False


def _written_failure(folder: Path) -> Failure | None:
    text = _text(folder / FAILURE)
    try:
        return Failure.model_validate_json(text) if text else None
    except ValueError:
        return None


def _text(path: Path) -> str:
    """Last MAX_TEXT characters of a small text file, empty where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(2_000_000).decode("utf-8", "replace")[-MAX_TEXT:]
    except OSError:
        return ""


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    name = type(error).__name__
    if isinstance(error, EvaluationError):
        return text[:500]
    return f"{name}: {text}"[:500] if text else name
