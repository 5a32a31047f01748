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
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

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
"""Deaths for each worker of the pool while they start, with none that can work, after which the search fails."""
START_AGAIN_SECONDS = 5.0
"""Pause before a worker that died while it started is started again."""
START_SECONDS = 180.0
"""How long a worker may take to load torch, or to end a candidate, before it is taken for stuck."""
TEST_ATTEMPTS = 3
SILENCE_SECONDS = 30.0
"""How long past its own deadline a worker may be silent: it ends itself, unless its machine is frozen or cut off."""
TEST_SECONDS = 3600.0
"""How long the reading of the test split may take where a candidate has no deadline."""
EXPLAIN_SECONDS = 10.0
"""How long nobody may work before the search says what it waits for."""


@dataclass(eq=False)
class Worker:
    """One actor, and the candidate that it has."""

    actor: Any
    placed: Any
    """Reference that answers when the cluster has room for it."""
    starting: Any
    """Reference that answers when it can take a candidate; None from then on."""
    assignment: Assignment | None = None
    asked: deque[Any] = field(default_factory=deque)
    """References of the reports to come."""
    asked_epochs: int = 0
    since: float | None = None
    """When what is due was begun, at the earliest; monotonic seconds. None: the cluster has no room for it yet."""

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
        self._size = size
        self._workers = [self._new() for _ in range(size)]
        self._failed_starts = 0
        self._start_at: list[float] = []
        """When workers that died while they started are started again."""
        self._idle_since = time.monotonic()
        self._explained = False

    def run(self, source: Source, scheduler: Scheduler, *, last: bool = False) -> None:
        """Run a source until it has no more; after the ``last`` one, workers that get nothing more are ended.

        Raises what the source raises, and NasError when no worker can start.
        """
        while not source.finished:
            answer = self._hand_out(source, scheduler)
            if answer is Nothing.MORE and not any(worker.assignment for worker in self._workers):
                return
            if answer is not None and last:
                self._release()
            self._explain()
            self._collect(source, scheduler)
        source.next()  # it writes what it has deferred

    def test(
        self, assignment: Assignment, weights_path: str, sha256: str, ensemble: Sequence[Member] = ()
    ) -> dict[str, float]:
        """``workers.run.scores_on_test`` on one of the workers, tried again where a worker dies."""
        for attempt in range(1, TEST_ATTEMPTS + 1):
            worker = self._any_ready()
            try:
                patience = (assignment.timeout_seconds or TEST_SECONDS) + SILENCE_SECONDS
                told = assignment.model_dump_json(), weights_path, sha256, ensemble
                return dict(ray.get(worker.actor.test.remote(*told), timeout=patience))
            except (RayActorError, GetTimeoutError):
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

    def _start_failed(self, worker: Worker, error: Exception | str) -> None:
        """Try again a little later; unless nobody can work and it keeps happening: then it is no candidate's fault."""
        self._failed_starts += 1
        log.error("a worker died before it had a candidate (%d in a row): %s", self._failed_starts, error)
        if self._failed_starts >= FAILED_STARTS * self._size and not self._any_ready_now():
            raise NasError(f"{self._failed_starts} workers died one after the other while they started: {error}")
        ray.kill(worker.actor)
        self._workers.remove(worker)
        self._start_at.append(time.monotonic() + START_AGAIN_SECONDS)

    def _start_again(self) -> None:
        due = [at for at in self._start_at if at <= time.monotonic()]
        self._start_at = [at for at in self._start_at if at not in due]
        self._workers += [self._new() for _ in due]

    def _any_ready_now(self) -> bool:
        return any(worker.starting is None for worker in self._workers)

    def _any_ready(self) -> Worker:
        while True:
            ready = next((worker for worker in self._workers if worker.starting is None), None)
            if ready is not None:
                return ready
            self._explain()
            self._wait()

    def _wait(self) -> list[Worker]:
        """Workers whose report has come; those that became ready are ready. Waits a second at most."""
        self._start_again()
        due = {worker.due: worker for worker in self._workers if worker.due is not None}
        if not due:
            time.sleep(0.05)
            return []
        done, _ = ray.wait(list(due), num_returns=1, timeout=1.0)
        if done and len(due) > 1:
            done, _ = ray.wait(list(due), num_returns=len(due), timeout=0)
        for worker in [due[reference] for reference in done if due[reference].starting is not None]:
            self._started(worker)
        for worker in [worker for worker in self._workers if worker.starting is not None]:
            self._check_start(worker)
        return [due[reference] for reference in done if due[reference].assignment is not None]

    def _check_start(self, worker: Worker) -> None:
        """Replace a worker that has room but does not become ready: a stopped process, a disk that does not answer."""
        if worker.since is None:
            if ray.wait([worker.placed], timeout=0)[0]:
                worker.since = time.monotonic()
        elif time.monotonic() - worker.since > START_SECONDS and not ray.wait([worker.starting], timeout=0)[0]:
            self._start_failed(worker, f"not ready after {START_SECONDS:g} s")

    def _release(self) -> None:
        """Give back the resources of workers that have nothing to do, all but one: the test needs it."""
        for worker in [worker for worker in self._workers if worker.assignment is None]:
            if len(self._workers) > 1:
                ray.kill(worker.actor)
                self._workers.remove(worker)
        self._start_at.clear()

    def _explain(self) -> None:
        """Say why nothing runs, when the cluster has had no room for any worker for a while."""
        if self._any_ready_now() or self._any_placed():
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
        waiting = [worker.placed for worker in self._workers]
        return bool(waiting and ray.wait(waiting, num_returns=1, timeout=0)[0])

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
        """Take in the reports that are there; wait a second at most for the first."""
        for worker in self._wait():
            self._take(worker, source, scheduler)
        for worker in list(self._workers):
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
        done = bool(report.get("done"))
        unwanted = source.report(key, report)
        if unwanted and not done and worker.asked and worker.asked_epochs >= worker.assignment.epochs:
            return  # its last epoch is on the way, and with it its checkpoint goes: it completes
        pruned = not unwanted and not done and scheduler.stops(key, report)
        if not (unwanted or pruned or done):
            self._ask(worker, scheduler)
            return
        if not done:
            worker.starting = worker.actor.end.remote()  # behind an epoch that may still run: nobody else begins before
        worker.asked.clear()
        worker.assignment = None
        source.ended(key, pruned=pruned, death=None)

    def _lost(self, worker: Worker, source: Source, death: Failure) -> None:
        assert worker.assignment is not None, "only busy workers are lost with a candidate"
        self._replace(worker)
        source.ended(assignment_key(worker.assignment), pruned=False, death=death)

    def _check_silence(self, worker: Worker, source: Source) -> None:
        """End a worker that should have ended itself: a frozen machine does not count its own seconds."""
        if worker.assignment is None or worker.assignment.timeout_seconds is None or worker.since is None:
            return
        silent = time.monotonic() - worker.since
        if silent > worker.assignment.timeout_seconds + SILENCE_SECONDS and not ray.wait([worker.due], timeout=0)[0]:
            message = f"its worker was silent for {silent:.0f} s, allowed are {worker.assignment.timeout_seconds:g} s"
            self._lost(worker, source, Failure(kind="infrastructure", message=message, traceback=""))
