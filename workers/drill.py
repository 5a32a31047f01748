"""An evaluator that trains nothing: its candidates last, score and end as they are told, to rehearse every fault.

Allowed only where the server's settings say so. Endings other than ``ok`` strike in epoch ``at_epoch``.
"""

from __future__ import annotations

import collections
import ctypes
import hashlib
import itertools
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field

Ending = Literal[
    "ok",
    "raise",
    "exit0",
    "sys-exit0",
    "segfault",
    "abort",
    "oom",
    "hang",
    "hang-gil",
    "busy",
    "nan",
    "flood",
    "fork",
    "kill",
    "no-metric",
    "corrupt-checkpoint",
]


class DrillSettings(BaseModel):
    """How the candidates of a drill behave. Accuracy is q · (1 − exp(−epoch / half_way)), q by architecture."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    endings: dict[str, Ending] = Field(
        default_factory=dict, max_length=10_000, description="Ending by trial number, or 'default'; else ok."
    )
    at_epoch: int = Field(default=1, ge=1, le=10_000, description="Epoch in which an ending other than ok strikes.")
    first_attempt_only: bool = Field(default=False, description="Whether later attempts at a trial end with ok.")
    seconds_per_epoch: float = Field(default=0.05, ge=0, le=3600, description="How long an epoch takes.")
    load: Literal["sleep", "busy"] = Field(default="sleep", description="What the time is spent with.")
    lowest: float = Field(default=0.5, ge=0, le=1, description="Final accuracy of the worst architecture.")
    highest: float = Field(default=0.99, ge=0, le=1, description="Final accuracy of the best architecture.")
    half_way: float = Field(default=2.0, gt=0, le=10_000, description="Epochs until 63 % of the final accuracy.")

    def ending(self, trial: int, attempt: int) -> Ending:
        """What trial ``trial`` ends with in attempt ``attempt`` (0 is the first)."""
        if self.first_attempt_only and attempt > 0:
            return "ok"
        return self.endings.get(str(trial), self.endings.get("default", "ok"))


class DrillError(RuntimeError):
    """What a drill raises when it is told to."""


def accuracy(settings: DrillSettings, fingerprint: str, seed: int, epoch: int) -> float:
    """Validation accuracy after ``epoch`` epochs, a function of its arguments alone."""
    digest = hashlib.sha256(f"{fingerprint}/{seed}".encode()).digest()
    quality = int.from_bytes(digest[:6], "big") / 2**48
    final = settings.lowest + (settings.highest - settings.lowest) * quality
    return final * (1 - math.exp(-epoch / settings.half_way))


def drill(
    settings: DrillSettings, ending: Ending, fingerprint: str, seed: int, epochs: int, folder: Path
) -> Iterator[dict[str, float]]:
    """The reports of all epochs, one at a time; what ``ending`` says happens in ``at_epoch``."""
    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        if epoch == min(settings.at_epoch, epochs):
            if ending == "no-metric":
                return
            if ending != "ok":
                ENDINGS[ending](folder)
        spend(settings.seconds_per_epoch, settings.load)
        val = (
            math.nan if ending == "nan" and epoch >= settings.at_epoch else accuracy(settings, fingerprint, seed, epoch)
        )
        yield {
            "epoch": epoch,
            "train_loss": 1.0 - val,
            "train_accuracy": val,
            "val_loss": 1.0 - val,
            "val_accuracy": val,
            "lr": 0.0,
            "seconds": time.perf_counter() - started,
        }


def spend(seconds: float, load: Literal["sleep", "busy"]) -> None:
    """Let ``seconds`` pass, asleep or computing."""
    until = time.perf_counter() + seconds
    if load == "sleep":
        time.sleep(seconds)
    while time.perf_counter() < until:
        math.sqrt(2.0)


def _raise(folder: Path) -> NoReturn:
    raise DrillError("told to raise")


def _exit(folder: Path) -> NoReturn:
    os._exit(0)


def _sys_exit(folder: Path) -> NoReturn:
    sys.exit(0)


def _segfault(folder: Path) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _abort(folder: Path) -> None:
    os.abort()


def _kill(folder: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _out_of_memory(folder: Path) -> NoReturn:
    """Ask for more than any machine has: 2^60 bytes, which the allocator refuses at once."""
    hoard = [bytearray(2**60)]
    raise MemoryError(f"got {len(hoard)} blocks, which cannot be")


def _hang(folder: Path) -> NoReturn:
    while True:
        time.sleep(3600)


def _hang_holding_the_gil(folder: Path) -> None:
    """A loop in C that never lets another thread of Python run: no signal handler, no watchdog thread gets a turn."""
    ctypes.PyDLL(None).signal(signal.SIGTERM, 1)  # 1 is SIG_IGN: not even a polite request helps
    collections.deque(itertools.repeat(None), maxlen=0)


def _busy(folder: Path) -> NoReturn:
    while True:
        math.sqrt(2.0)


def _nan(folder: Path) -> None:
    """Nothing here: the report of the epoch carries NaN."""


def _flood(folder: Path) -> None:
    """A gigabyte on stdout, then on as if nothing had happened."""
    block = b"flood " * 170_000 + b"\n"
    for _ in range(1024):
        os.write(1, block)


def _fork(folder: Path) -> None:
    """Leave a child of a session of its own behind, then go on."""
    subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=True, stdin=subprocess.DEVNULL
    )


def _corrupt_checkpoint(folder: Path) -> None:
    """Flip one bit of a checkpoint that was just written, then die: the next attempt must notice and start over."""
    for path in folder.glob("checkpoint-*.safetensors"):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    os.kill(os.getpid(), signal.SIGKILL)


ENDINGS: dict[str, Callable[[Path], None]] = {
    "raise": _raise,
    "exit0": _exit,
    "sys-exit0": _sys_exit,
    "segfault": _segfault,
    "abort": _abort,
    "oom": _out_of_memory,
    "hang": _hang,
    "hang-gil": _hang_holding_the_gil,
    "busy": _busy,
    "nan": _nan,
    "flood": _flood,
    "fork": _fork,
    "kill": _kill,
    "corrupt-checkpoint": _corrupt_checkpoint,
}
