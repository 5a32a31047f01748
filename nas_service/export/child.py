"""A step of an export in a child process with a deadline: a crash or hang of an exporter is a reason, no more."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KEPT_OUTPUT = 1500


def run_child(arguments: Sequence[str], result: Path, deadline_seconds: float, folder: Path) -> dict[str, Any]:
    """The JSON that ``python *arguments`` writes to ``result``; ``{"reason": …}`` where it wrote none.

    The child and all that it started are killed at the deadline. ``folder``: where its output is kept while it runs.
    """
    log = folder / "child.log"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=deadline_seconds)
        except subprocess.TimeoutExpired:
            return {"reason": f"not done after {deadline_seconds:g} s"}
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code != 0 or not result.is_file():
        tail = log.read_bytes()[-KEPT_OUTPUT:].decode(errors="replace").strip()
        ending = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return {"reason": f"the process {ending}: {tail}"}
    found: dict[str, Any] = json.loads(result.read_text())
    return found
