"""A Ray actor: one architecture in, one report an epoch out, in a warm process that outlives its candidates.

``workers.run.run`` does the same in this process, without Ray. What a candidate can do to its process is contained
here: its output goes to log.txt, its deadline is hard, its children die with it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from traceback import format_stack
from typing import IO, Any, NoReturn

from workers.assignment import Assignment, Failure, Member
from workers.containment import CappedLog, adopt_orphans, children, deadline, kill_children
from workers.ending import LOG, TRACE, write_birth, write_failure

Report = dict[str, Any]


class Candidate:
    """Evaluates one assignment after another: a ``step`` for each report, ``end`` to stop before the last.

    A fault that the process survives is the last report, with ``failure``; one that it does not survive is
    explained to the driver by ``ending.explain_death(directory, error_text)``.
    """

    def __init__(self) -> None:
        self._reports: Iterator[Report] | None = None
        adopt_orphans()
        self._note_exits()

    def placed(self) -> None:
        """Answers when a machine has room for the process, which then needs seconds until it is ``ready``."""

    def ready(self) -> None:
        """Answers when torch is loaded."""
        from workers.run import warm_up  # not above: whoever makes the actor does not need torch

        warm_up()

    def step(self, assignment: str | None = None) -> Report:
        """The next report, of a new assignment where one is given, as JSON; {} when the candidate has ended.

        The deadline counts the time spent in here, not the time that the driver takes to answer.
        """
        if assignment is not None:
            self.end()
            self._begin(Assignment.model_validate_json(assignment))
        if self._reports is None:
            return {}
        started = time.monotonic()
        limit = self._assignment.timeout_seconds
        with self._log.taking_output(), deadline(None if limit is None else limit - self._worked, self._trace):
            report = next(self._reports)
        self._worked += time.monotonic() - started
        if report["done"]:
            self.end()
            self._die_if_poisoned(report)
        return report

    def test(
        self, assignment: str, weights_path: str, sha256: str, ensemble: Sequence[Member] = ()
    ) -> dict[str, float]:
        """``run.scores_on_test`` of an assignment as JSON."""
        from workers.run import scores_on_test

        return scores_on_test(Assignment.model_validate_json(assignment), weights_path, sha256, ensemble)

    def _begin(self, assignment: Assignment) -> None:
        from workers.run import run

        self._assignment = assignment
        folder = Path(assignment.directory)
        folder.mkdir(parents=True, exist_ok=True)
        write_birth(folder)
        os.environ["NAS_SEARCH"] = assignment.search_id
        os.environ["NAS_TRIAL"] = str(assignment.trial)
        os.environ["NAS_ATTEMPT"] = str(assignment.attempt)
        self._trace: IO[str] = (folder / TRACE).open("w")
        faulthandler.enable(self._trace)
        self._before = children(os.getpid())
        self._log = CappedLog(folder / LOG)
        self._worked = 0.0
        self._reports = run(assignment)

    def end(self) -> None:
        """End the candidate: its generator, its children, its log. Safe to call twice."""
        if self._reports is None:
            return
        with contextlib.suppress(Exception):  # whatever the generator still throws concerns nobody
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
        if failure is None or failure["kind"] != "crash":
            return
        from workers.run import gpu_is_broken

        if "CUDA error" in failure["traceback"] or gpu_is_broken():
            with contextlib.suppress(OSError):
                write_failure(Path(self._assignment.directory), Failure.model_validate(failure))
            os._exit(1)
