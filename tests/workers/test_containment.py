"""Deadline, log cap, children, and the explanation of a death, each with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from workers import ending
from workers.assignment import Failure
from workers.containment import LOG_LIMIT, CappedLog, descendants, marked_processes, memory_limit
from workers.ending import BIRTH, FAILURE, LOG, TRACE, explain_death, failure_of, write_birth, write_failure

RAY_SAYS = """The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail:
Worker unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was
killed by the OOM killer due to high memory usage, (2) ray stop --force was called, or (3)
the worker crashed unexpectedly due to SIGSEGV."""
CONTAINED = """
import collections, faulthandler, itertools, os, sys
from pathlib import Path
from workers.containment import deadline
from workers.ending import TRACE, write_birth
folder = Path(sys.argv[1])
write_birth(folder)
trace = (folder / TRACE).open("w")
faulthandler.enable(trace)
with deadline(0.3, trace):
    {body}
"""


def contained(folder: Path, body: str) -> int:
    """Run ``body`` in a process of its own under a deadline of 0.3 s; its exit code."""
    script = CONTAINED.replace("{body}", body)
    return subprocess.run([sys.executable, "-c", script, str(folder)], timeout=30, stderr=subprocess.DEVNULL).returncode


def test_a_c_loop_that_holds_the_gil_is_ended_by_the_deadline(tmp_path: Path) -> None:
    started = time.monotonic()
    assert contained(tmp_path, "collections.deque(itertools.repeat(None), maxlen=0)") == 1
    assert time.monotonic() - started < 10
    found = explain_death(tmp_path, RAY_SAYS)
    assert found.kind == "timeout"
    assert "deque" in found.traceback or "<string>" in found.traceback


def test_what_ends_in_time_is_not_touched(tmp_path: Path) -> None:
    assert contained(tmp_path, "pass") == 0
    assert (tmp_path / TRACE).read_text() == ""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("os.kill(os.getpid(), 11)", "Segmentation fault"),
        ("os.abort()", "Aborted"),
        ("os.kill(os.getpid(), 9)", "without a word"),
        ("os._exit(0)", "without a word"),
    ],
)
def test_deaths_without_a_deadline_are_crashes(tmp_path: Path, body: str, message: str) -> None:
    contained(tmp_path, body)
    found = explain_death(tmp_path, RAY_SAYS)
    assert found.kind == "crash"
    assert message in found.message


@pytest.mark.parametrize(
    ("says", "kind"),
    [
        (RAY_SAYS, "crash"),
        ("Task was killed due to the node running low on memory.", "oom"),
        ("ray.exceptions.OutOfMemoryError: Memory on the node was too high", "oom"),
        ("The actor died because its node has died. NodeDiedError", "infrastructure"),
        ("ActorUnavailableError: the actor is unavailable", "infrastructure"),
        ("", "crash"),
    ],
)
def test_what_ray_says_counts_where_the_folder_says_nothing(tmp_path: Path, says: str, kind: str) -> None:
    write_birth(tmp_path)
    assert explain_death(tmp_path, says).kind == kind
    assert explain_death(tmp_path / "gone", says).kind == kind


def test_a_written_failure_counts_most_and_is_forgotten_by_the_next_attempt(tmp_path: Path) -> None:
    known = Failure(kind="crash", message="CUDA error: device-side assert triggered")
    write_failure(tmp_path, known)
    (tmp_path / TRACE).write_text("Timeout (0:00:01)!\n")
    assert explain_death(tmp_path, RAY_SAYS) == known
    (tmp_path / FAILURE).unlink()
    assert explain_death(tmp_path, RAY_SAYS).kind == "timeout"
    write_failure(tmp_path, known)
    write_birth(tmp_path)
    assert explain_death(tmp_path, RAY_SAYS).message.startswith("the process ended without a word")


def test_an_allocator_that_ends_the_process_is_oom(tmp_path: Path) -> None:
    (tmp_path / TRACE).write_text("Fatal Python error: Aborted\n")
    assert explain_death(tmp_path, RAY_SAYS).kind == "crash"
    (tmp_path / LOG).write_text("terminate called after throwing an instance of 'std::bad_alloc'\n")
    assert explain_death(tmp_path, RAY_SAYS).kind == "oom"


def test_the_kernels_count_of_kills_tells_oom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_birth(tmp_path)
    monkeypatch.setattr(ending, "kernel_oom_kills", lambda: json.loads((tmp_path / BIRTH).read_text())["oom_kills"] + 1)
    assert explain_death(tmp_path, RAY_SAYS).kind == "oom"
    monkeypatch.setattr(ending.socket, "gethostname", lambda: "another")
    assert explain_death(tmp_path, RAY_SAYS).kind == "crash"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "oom"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "oom"),
        (RuntimeError("CUDA out of memory."), "oom"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "oom"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), "oom"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "crash"),
        (ZeroDivisionError("x"), "crash"),
        (OSError(28, "No space left on device"), "infrastructure"),
        (FileNotFoundError(2, "gone"), "crash"),
    ],
)
def test_exceptions_have_kinds(error: Exception, kind: str) -> None:
    assert failure_of(error).kind == kind


def test_a_flood_is_cut_off_and_told(tmp_path: Path) -> None:
    path = tmp_path / LOG
    log = CappedLog(path)
    with log.taking_output():
        os.write(1, b"first\n")
        print("from python")
        subprocess.run(["sh", "-c", "echo from a child; echo error >&2"], check=True)
        for _ in range(64):
            os.write(1, b"x" * 2**20)
    log.close()
    text = path.read_text()
    assert text.startswith("first\nfrom python\nfrom a child\nerror\nxxx")
    assert text.endswith("[truncated: more than 1000000 bytes]\n")
    assert len(text) < LOG_LIMIT + 100


def test_a_short_log_is_whole_and_later_output_goes_elsewhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = CappedLog(tmp_path / LOG)
    with log.taking_output():
        print("inside")
    print("outside")
    log.close()
    assert (tmp_path / LOG).read_text() == "inside\n"
    assert capfd.readouterr().out == "outside\n"


CHILDREN = """
import os, subprocess, sys, time
from workers.containment import adopt_orphans, descendants, kill_children
adopt_orphans()
subprocess.Popen(["sh", "-c", "sleep 600 & sleep 600"], start_new_session=True)
if os.fork() == 0:
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
deadline = time.monotonic() + 10
while len(descendants(os.getpid())) < 4 and time.monotonic() < deadline:
    os.sched_yield()
print(len(kill_children(set())), len(descendants(os.getpid())), flush=True)
if len(sys.argv) > 1:
    os.environ["NAS_SEARCH"] = sys.argv[1]
    child = os.fork()
    if child == 0:
        time.sleep(600)
    subprocess.Popen(["sleep", "600"])
    print(child, flush=True)
    time.sleep(600)
"""


def test_children_and_their_orphans_are_killed() -> None:
    done = subprocess.run([sys.executable, "-c", CHILDREN], capture_output=True, text=True, timeout=30, check=True)
    killed, left = map(int, done.stdout.split())
    assert killed >= 3
    assert left == 0


def test_forked_children_die_with_a_killed_worker_and_others_are_marked() -> None:
    search = f"test-{os.getpid()}"
    worker = subprocess.Popen([sys.executable, "-c", CHILDREN, search], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    worker.stdout.readline()
    forked = int(worker.stdout.readline())
    try:
        assert forked in descendants(worker.pid)
        assert until(lambda: len(marked_processes(search)) == 1)
        worker.kill()
        worker.wait()
        assert until(lambda: not alive(forked))
        assert len(marked_processes(search)) == 1
        assert marked_processes(search, trial=3) == []
    finally:
        worker.kill()
        worker.stdout.close()
        for pid in marked_processes(search):
            os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def until(condition: Callable[[], bool]) -> bool:
    """Whether ``condition`` comes true within 10 s."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if condition():
            return True
        os.sched_yield()
    return False


def test_the_memory_limit_holds_and_is_lifted() -> None:
    with memory_limit(1), pytest.raises(MemoryError):
        bytearray(2**28)
    assert len(bytearray(2**28)) == 2**28
