"""A pool of warm Ray actors that run a source's assignments, each one candidate after another.

A worker is asked for its next epoch while the report of the last is still being written down, except where the
scheduler may stop the candidate: a worker waits for nobody, and trains no epoch too many.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from nas_service.errors import NasError
from nas_service.search.request import ResourceSpec
from nas_service.search.source import Nothing, Source, assignment_key
from workers.assignment import Assignment, Failure, Member
from workers.ending import explain_death, failure_of, forget_death
from workers.evaluate import Candidate

if TYPE_CHECKING:  # brings torch, which takes seconds: workers are made before it is loaded here
    from nas_service.search.schedulers import Scheduler

log = logging.getLogger(__name__)

AHEAD = 2
"""Epochs that a worker has been asked for at the same time."""
FAILED_STARTS = 5
"""Workers that die one after the other while they start, after which the search fails with the reason."""
TEST_ATTEMPTS = 3
SILENCE_SECONDS = 30.0
"""How long past its own deadline a worker may be silent: it ends itself, unless its machine is frozen or cut off."""
EXPLAIN_SECONDS = 10.0
"""How long nobody may work before the search says what it waits for."""


@dataclass(eq=False)
class Worker:
    """One actor, and the candidate that it has."""

    actor: Any
    placed: Any
    """Reference that answers when the cluster has room for it."""
    starting: Any
    """Reference that answers when it can work; None from then on."""
    assignment: Assignment | None = None
    asked: deque[Any] = field(default_factory=deque)
    """References of the reports to come."""
    asked_epochs: int = 0
    since: float = 0.0
    """When the report that is due was begun, at the earliest; monotonic seconds."""

    @property
    def due(self) -> Any:
        """The reference that answers next; None where the worker is idle."""
        return self.starting if self.starting is not None else self.asked[0] if self.asked else None


class Pool:
    """``size`` actors with the resources of one candidate each; those that die are replaced.

    ``waiting`` is told why no candidate can run, and "" when one can again. Close it to give the resources back.
    """

    def __init__(self, resources: ResourceSpec, size: int, waiting: Callable[[str], None]) -> None:
        self._resources, self._waiting = resources, waiting
        self._actor_class = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_restarts=0)(Candidate)
        self._workers = [self._new() for _ in range(size)]
        self._failed_starts = 0
        self._idle_since = time.monotonic()
        self._explained = False

    def run(self, source: Source, scheduler: Scheduler) -> None:
        """Run a source until it has no more. Raises what the source raises, and NasError when no worker can start."""
        while True:
            answer = self._hand_out(source, scheduler)
            if answer is Nothing.MORE and not any(worker.assignment for worker in self._workers):
                return
            self._explain()
            self._collect(source, scheduler)

    def test(
        self, assignment: Assignment, weights_path: str, sha256: str, ensemble: Sequence[Member] = ()
    ) -> dict[str, float]:
        """``workers.run.scores_on_test`` on one of the workers, tried again where a worker dies."""
        for attempt in range(1, TEST_ATTEMPTS + 1):
            worker = self._any_ready()
            try:
                told = assignment.model_dump_json(), weights_path, sha256, ensemble
                return dict(ray.get(worker.actor.test.remote(*told)))
            except RayActorError:
                self._replace(worker)
                if attempt == TEST_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            ray.kill(worker.actor)
        self._workers.clear()

    # -- workers ---------------------------------------------------------------------------------------------------

    def _new(self) -> Worker:
        actor = self._actor_class.remote()
        return Worker(actor, placed=actor.placed.remote(), starting=actor.ready.remote())

    def _replace(self, worker: Worker) -> None:
        ray.kill(worker.actor)
        self._workers[self._workers.index(worker)] = self._new()

    def _started(self, worker: Worker) -> None:
        try:
            ray.get(worker.starting)
        except RayError as error:
            self._start_failed(worker, error)
            return
        worker.starting, self._failed_starts = None, 0

    def _start_failed(self, worker: Worker, error: Exception) -> None:
        """Try again, unless it keeps happening: then something is wrong with the machines, not with a candidate."""
        self._failed_starts += 1
        log.error("a worker died before it had a candidate (%d in a row): %s", self._failed_starts, error)
        if self._failed_starts >= FAILED_STARTS:
            raise NasError(f"{self._failed_starts} workers died one after the other while they started: {error}")
        self._replace(worker)

    def _any_ready(self) -> Worker:
        while True:
            ready = next((worker for worker in self._workers if worker.starting is None), None)
            if ready is not None:
                return ready
            self._explain()
            done, _ = ray.wait([worker.starting for worker in self._workers], num_returns=1, timeout=1.0)
            for worker in [worker for worker in self._workers if worker.starting in done]:
                self._started(worker)

    def _explain(self) -> None:
        """Say why nothing runs, when the cluster has had no room for any worker for a while."""
        if any(worker.starting is None for worker in self._workers) or self._any_placed():
            self._idle_since = time.monotonic()
            if self._explained:
                self._waiting("")
                self._explained = False
        elif not self._explained and time.monotonic() - self._idle_since > EXPLAIN_SECONDS:
            free = ray.available_resources()
            self._waiting(
                f"waits for a worker: each needs {self._resources.cpus:g} CPUs and {self._resources.gpus:g} GPUs; free "
                f"in the cluster are {free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs"
            )
            self._explained = True

    def _any_placed(self) -> bool:
        placed, _ = ray.wait([worker.placed for worker in self._workers], num_returns=1, timeout=0)
        return bool(placed)

    # -- candidates ------------------------------------------------------------------------------------------------

    def _hand_out(self, source: Source, scheduler: Scheduler) -> Nothing | None:
        """Give each idle worker a candidate; why there was none for one of them, or None."""
        for worker in self._workers:
            if worker.starting is None and worker.assignment is None:
                found = source.next()
                if isinstance(found, Nothing):
                    return found
                with contextlib.suppress(OSError):  # what a disk has against it, the worker will say
                    forget_death(Path(found.directory))
                worker.assignment, worker.asked_epochs, worker.since = found, 1, time.monotonic()
                worker.asked.append(worker.actor.step.remote(found.model_dump_json()))
                self._ask(worker, scheduler)
        return None

    def _ask(self, worker: Worker, scheduler: Scheduler) -> None:
        """Ask for the next report, and for the one after it where nothing is decided in between."""
        assert worker.assignment is not None, "only busy workers are asked"
        while not worker.asked or (
            len(worker.asked) < AHEAD
            and worker.asked_epochs < worker.assignment.epochs
            and not scheduler.decides(worker.asked_epochs)
        ):
            worker.asked.append(worker.actor.step.remote())
            worker.asked_epochs += 1

    def _collect(self, source: Source, scheduler: Scheduler) -> None:
        """Take in the answers that are there; wait a second at most for the first."""
        due = {worker.due: worker for worker in self._workers if worker.due is not None}
        if not due:
            time.sleep(0.05)
            return
        done, _ = ray.wait(list(due), num_returns=1, timeout=1.0)
        if done and len(due) > 1:
            done, _ = ray.wait(list(due), num_returns=len(due), timeout=0)
        for reference in done:
            worker = due[reference]
            if worker.starting is not None:
                self._started(worker)
            else:
                self._take(worker, source, scheduler)
        for worker in self._workers:
            self._check_silence(worker, source)

    def _take(self, worker: Worker, source: Source, scheduler: Scheduler) -> None:
        """One report: write it down, and let the candidate go on or end it."""
        assert worker.assignment is not None, "only busy workers report"
        key = assignment_key(worker.assignment)
        try:
            report = ray.get(worker.asked[0])
        except RayTaskError as error:  # the process lives, but could not begin: a full disk, for instance
            self._lost(worker, source, failure_of(error.cause))
            return
        except RayError as error:
            self._lost(worker, source, explain_death(worker.assignment.directory, str(error)))
            return
        worker.asked.popleft()
        worker.since = time.monotonic()
        unwanted = source.report(key, report)
        pruned = not unwanted and not report.get("done") and scheduler.stops(key, report)
        if not (unwanted or pruned or report.get("done")):
            self._ask(worker, scheduler)
            return
        if not report.get("done"):
            worker.actor.end.remote()
        worker.asked.clear()
        worker.assignment = None
        source.ended(key, pruned=pruned, death=None)

    def _lost(self, worker: Worker, source: Source, death: Failure) -> None:
        assert worker.assignment is not None, "only busy workers are lost with a candidate"
        self._replace(worker)
        source.ended(assignment_key(worker.assignment), pruned=False, death=death)

    def _check_silence(self, worker: Worker, source: Source) -> None:
        """End a worker that should have ended itself: a frozen machine does not count its own seconds."""
        if worker.assignment is None or worker.assignment.timeout_seconds is None or not worker.asked:
            return
        silent = time.monotonic() - worker.since
        if silent > worker.assignment.timeout_seconds + SILENCE_SECONDS:
            message = f"its worker was silent for {silent:.0f} s, allowed are {worker.assignment.timeout_seconds:g} s"
            self._lost(worker, source, Failure(kind="timeout", message=message, traceback=""))
