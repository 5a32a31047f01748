"""The Ray Tune trainable: one architecture in, one report an epoch out, in a warm process that outlives its candidates.

``run`` does the same in this process, without Ray. What a candidate can do to its process is contained here: its output
goes to log.txt, its deadline is hard, its children die with it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import time
from collections.abc import Iterator
from pathlib import Path
from traceback import format_stack
from typing import IO, Any, NoReturn

from ray.tune import Trainable

from workers.assignment import Assignment, Failure
from workers.containment import CappedLog, adopt_orphans, children, deadline, kill_children
from workers.ending import LOG, TRACE, explain_death, write_birth, write_failure
from workers.run import Member, Report, run, scores_on_test, warm_up

__all__ = ["Assignment", "Candidate", "Failure", "Member", "explain_death", "run", "scores_on_test"]


class Candidate(Trainable):  # type: ignore[misc]  # ray comes without types
    """Evaluates ``config["assignment"]``, an Assignment as JSON. Meant for ``reuse_actors=True``, no Tune checkpoints.

    A fault that the process survives is the last report, with ``failure``; one that it does not survive is
    explained to the driver by ``explain_death(directory, error_text)``.
    """

    _reports: Iterator[Report] | None = None
    _waiting: dict[str, Any]
    """Config of the next candidate. Its folder is not touched before its first step: Tune sometimes makes an actor for
    a trial that it then gives to another one, and the one that came too late must not wipe out the other's traces."""

    def setup(self, config: dict[str, Any]) -> None:
        adopt_orphans()
        warm_up()
        self._note_exits()
        self._waiting = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._end()
        self._waiting = new_config
        return True

    def step(self) -> Report:
        """The next report. The deadline counts the time spent in here, not the time that the driver takes to answer."""
        if self._reports is None:
            self._begin(self._waiting)
        assert self._reports is not None, "_begin sets it"
        started = time.monotonic()
        limit = self._assignment.timeout_seconds
        with self._log.taking_output(), deadline(None if limit is None else limit - self._worked, self._trace):
            report = next(self._reports)
        self._worked += time.monotonic() - started
        if report["done"]:
            self._end()
            self._die_if_poisoned(report)
        return report

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: candidates keep their own checkpoints in their directory, and go on from there by themselves."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing, see ``save_checkpoint``."""

    def cleanup(self) -> None:
        self._end()

    def _begin(self, config: dict[str, Any]) -> None:
        self._assignment = Assignment.model_validate(config["assignment"])
        folder = Path(self._assignment.directory)
        folder.mkdir(parents=True, exist_ok=True)
        write_birth(folder)
        os.environ["NAS_SEARCH"] = self._assignment.search_id
        os.environ["NAS_TRIAL"] = str(self._assignment.trial)
        os.environ["NAS_ATTEMPT"] = str(self._assignment.attempt)
        self._trace: IO[str] = (folder / TRACE).open("w")
        faulthandler.enable(self._trace)
        self._before = children(os.getpid())
        self._log = CappedLog(folder / LOG)
        self._worked = 0.0
        self._reports = run(self._assignment)

    def _end(self) -> None:
        """End the candidate: its generator, its children, its log. Safe to call twice."""
        if self._reports is None:
            return
        with contextlib.suppress(
            Exception
        ):  # the candidate is over; whatever its generator still throws concerns nobody
            self._reports.close()  # type: ignore[attr-defined]  # a generator
        self._reports = None
        kill_children(self._before | {self._log.process.pid} | children(self._log.process.pid))
        self._log.close()
        faulthandler.enable()
        self._trace.close()
        with contextlib.suppress(OSError):
            trace = Path(self._assignment.directory) / TRACE
            if trace.stat().st_size == 0:
                trace.unlink()

    def _note_exits(self) -> None:
        """Leave word when Python code calls os._exit, to tell it from a kill. Forked children exit as ever."""
        owner, leave = os.getpid(), os._exit

        def noted(status: int) -> NoReturn:
            if os.getpid() == owner and self._reports is not None:
                failure = Failure(
                    kind="crash", message=f"called os._exit({status!r})", traceback="".join(format_stack())
                )
                write_failure(Path(self._assignment.directory), failure)
            leave(status)

        os._exit = noted

    def _die_if_poisoned(self, report: Report) -> None:
        """After an error of the CUDA driver no kernel runs in this process any more: leave the reason behind and go."""
        failure = report.get("failure")
        if failure is not None and failure["kind"] == "crash" and "CUDA error" in failure["traceback"]:
            write_failure(Path(self._assignment.directory), Failure.model_validate(failure))
            os._exit(1)
