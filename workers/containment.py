"""What keeps a candidate from harming its neighbours: memory limit, hard deadline, capped log, no children left."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

LOG_LIMIT = 1_000_000
"""Bytes of a candidate's output that are kept."""
WRITER = (
    f"head -c {LOG_LIMIT}; "
    'if [ "$(head -c 1 | wc -c)" -eq 1 ]; then '
    f"printf '\\n[truncated: more than {LOG_LIMIT} bytes]\\n'; cat >/dev/null; fi"
)
"""Copies the log and drops what is too much. A process of its own: it survives a crash and needs no GIL."""


def data_bytes() -> int:
    """Writable private memory of this process in bytes, as RLIMIT_DATA counts it (VmData)."""
    found = re.search(r"^VmData:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


@contextlib.contextmanager
def memory_limit(limit_bytes: int | None) -> Iterator[None]:
    """Allocations fail that would push VmData over ``limit_bytes``; the old limit comes back at the end."""
    if limit_bytes is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextlib.contextmanager
def deadline(seconds: float | None, trace: IO[str]) -> Iterator[None]:
    """After ``seconds`` all stacks go to ``trace`` and the process ends, even in a C loop that holds the GIL."""
    if seconds is None:
        yield
        return
    faulthandler.dump_traceback_later(max(seconds, 0.001), exit=True, file=trace)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


class CappedLog:
    """A file that takes what this process and its children write to stdout and stderr, up to LOG_LIMIT bytes."""

    def __init__(self, path: Path) -> None:
        reader, self._pipe = os.pipe()
        with path.open("ab") as file:
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", WRITER], stdin=reader, stdout=file, start_new_session=True
            )
        os.close(reader)

    @contextlib.contextmanager
    def taking_output(self) -> Iterator[None]:
        """Within, file descriptors 1 and 2 go to the log, so C code and children are caught as well.

        ``sys.stdout`` and ``sys.stderr`` are replaced too, because somebody may have led them elsewhere.
        """
        kept = os.dup(1), os.dup(2)
        _flush()
        os.dup2(self._pipe, 1)
        os.dup2(self._pipe, 2)
        streams = [open(number, "w", buffering=1, closefd=False, errors="replace") for number in (1, 2)]  # noqa: SIM115
        try:
            with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
                yield
        finally:
            for stream in streams:
                stream.close()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            for descriptor in kept:
                os.close(descriptor)

    def close(self) -> None:
        """Wait until everything is on disk; a writer that others still feed is stopped after 2 s."""
        os.close(self._pipe)
        try:
            self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a closed or full stream is not the candidate's fault
            stream.flush()


def children(pid: int) -> set[int]:
    """Direct children of a process."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found.update(int(child) for child in (task / "children").read_text().split())
    return found


def descendants(pid: int) -> set[int]:
    """Children, their children, and so on."""
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in children(waiting.pop()) - found:
            found.add(child)
            waiting.append(child)
    return found


def kill_children(spared: set[int]) -> list[int]:
    """Kill and reap every descendant of this process but ``spared``; the pids.

    Orphans come to this process (``adopt_orphans``) only when their parents are dead, hence the passes.
    """
    killed: set[int] = set()
    for _ in range(20):
        victims = descendants(os.getpid()) - spared
        for victim in victims:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(victim, signal.SIGKILL)
        for victim in victims:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(victim, 0)
        if not victims:
            break
        killed |= victims
    return sorted(killed)


def adopt_orphans() -> None:
    """Make grandchildren whose parent dies children of this process, and let forked children die with it (Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)
    set_child_subreaper, set_parent_death_signal = 36, 1  # prctl(2)
    libc.prctl(set_child_subreaper, 1, 0, 0, 0)
    forking = os.getpid()

    def before() -> None:
        nonlocal forking
        forking = os.getpid()

    def in_child() -> None:
        libc.prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != forking:  # the parent died before the signal was asked for
            os.kill(os.getpid(), signal.SIGKILL)

    os.register_at_fork(before=before, after_in_child=in_child)


def marked_processes(search_id: str, trial: int | None = None) -> list[int]:
    """Processes that candidates of a search started here, by NAS_SEARCH (and NAS_TRIAL) in their environment."""
    wanted = {f"NAS_SEARCH={search_id}".encode()}
    if trial is not None:
        wanted.add(f"NAS_TRIAL={trial}".encode())
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                if wanted <= set((folder / "environ").read_bytes().split(b"\0")):
                    found.append(int(folder.name))
    return sorted(found)
