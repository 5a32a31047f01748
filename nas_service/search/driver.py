"""One process a search: holds its lease, runs its stages, ends. Killed at any point, the next one goes on.

``python -m nas_service.search.driver SEARCH_ID [NAME]``; settings come from the environment.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import ray
import sqlalchemy as sa
import torch

from nas_service.database.session import Database
from nas_service.database.tables import ArchitectureRow, Event, Measurement, Search, Trial
from nas_service.datasets import described
from nas_service.errors import LeaseLost, NasError, Unavailable
from nas_service.search.candidates import Candidates
from nas_service.search.executors import run_inline, run_with_tune, scheduler_of
from nas_service.search.finalists import Finalists, Winner, choose_winner, ensemble_of, finalist_folder
from nas_service.search.ledger import Ledger
from nas_service.search.mirror import Mirror
from nas_service.search.plan import Plan, make_plan
from nas_service.search.request import SchedulerSpec, SearchRequest
from nas_service.search.source import Control, Source
from nas_service.settings import Settings, load_settings
from workers.assignment import Assignment, Failure
from workers.evaluate import Member, scores_on_test

log = logging.getLogger(__name__)

PAUSE_GRACE_SECONDS = 20.0
"""How long running candidates may take to reach their next epoch when a search is paused."""


class Driver:
    """Runs one search from wherever it stands to its end."""

    def __init__(self, settings: Settings, search_id: str, name: str = "by-hand") -> None:
        self._settings = settings
        self._search_id = search_id
        self._database = Database(settings.url)
        owner = f"{name}@{socket.gethostname()}:{os.getpid()}"
        self._ledger = Ledger(self._database, search_id, owner, settings.lease_seconds)
        self._control = Control()
        self._done = threading.Event()
        self._max_seconds: float | None = None
        self._waiting = threading.Event()
        """The cluster lacks what one candidate needs: time does not count."""
        self._mirror: Mirror | None = None

    def run(self) -> None:
        """Claim the search and run it. Raises LeaseLost when another driver is at work."""
        state = self._ledger.claim()
        threading.Thread(target=self._heartbeat, name="heartbeat", daemon=True).start()
        try:
            if state == "cancelling":
                self._ledger.end_search("cancelled", "cancelled by request")
            elif state == "pausing":
                self._ledger.end_search("paused", "paused by request")
            else:
                self._search()
        except (LeaseLost, Unavailable):
            raise  # nothing is wrong with the search: the supervisor starts the next driver
        except Exception as error:
            log.exception("the search failed")
            detail = error.detail if isinstance(error, NasError) else f"{type(error).__name__}: {error}"
            self._ledger.end_search("failed", f"the driver failed: {detail}\n{traceback.format_exc()}")
        finally:
            self._done.set()
            if self._mirror:
                self._mirror.close()

    def _search(self) -> None:
        with self._database.read() as session:
            row = session.get_one(Search, self._search_id)
            request, name, stage, used = (
                SearchRequest.model_validate(row.request),
                row.name,
                row.stage,
                row.used_seconds,
            )
        self._max_seconds = request.budget.max_seconds
        if self._max_seconds is not None and used >= self._max_seconds:
            self._control.spent.set()
        source, info = described(request.dataset, self._database, self._settings)
        plan = make_plan(request, source, info, self._settings)
        self._mirror = Mirror(self._settings, self._search_id, name, plan.objectives, self._database)
        self._connect(request)
        worn = self._ledger.recover(self._settings.max_attempts)
        candidates = Candidates(plan, self._ledger, self._database, self._settings, self._control, self._mirror)
        for number in worn:
            candidates.give_up(
                number, Failure(kind="infrastructure", message="its driver died during every attempt", traceback="")
            )
        log.info(
            "search %s: %s on %s by %s", self._search_id, request.space["name"], info.name, request.strategy["name"]
        )
        if stage == "search":
            self._execute(candidates, request.scheduler, plan)
        if self._stopped_by_request():
            return
        self._control.spent.clear()
        winner = self._finals(plan)
        if self._stopped_by_request():
            return
        if winner is None:
            self._ledger.end_search("failed", self._no_winner())
            return
        self._succeed(plan, winner, candidates.reason)

    def _finals(self, plan: Plan) -> Winner | None:
        """Train the best candidates fully, where the request says so, and pick the winner."""
        if plan.request.finalists.top_k and plan.request.evaluator.name == "train":
            self._ledger.set_stage("finalists")
            finalists = Finalists(plan, self._ledger, self._database, self._settings, self._control)
            self._execute(finalists, SchedulerSpec(name="none"), plan)
        return choose_winner(plan, self._database, self._search_id)

    def _succeed(self, plan: Plan, winner: Winner, reason: str) -> None:
        """Read the test split, once, with the winner's weights; then the search is over."""
        body = winner.to_json()
        if plan.request.evaluator.name == "train" and winner.weights:
            self._ledger.set_stage("test")
            try:
                figures = self._tested_before() or self._test_once(plan, winner)
                body["test"] = {name: value for name, value in figures.items() if name.startswith("test_")}
                together = {
                    name.removeprefix("ensemble_"): v for name, v in figures.items() if name not in body["test"]
                }
                if together:
                    members = [[f.number, f.seed] for f, _ in ensemble_of(plan, self._database, self._search_id)]
                    body["ensemble"] = {"members": members, **together}
            except (LeaseLost, Unavailable):
                raise
            except Exception as error:  # the winner and its weights are there: they must not be lost with the test
                log.exception("the test failed")
                reason = f"{reason}; the test split could not be read: {type(error).__name__}: {error}".removeprefix(
                    "; "
                )
        self._ledger.end_search("succeeded", reason, body)

    def _tested_before(self) -> dict[str, Any] | None:
        """Figures of a reading by an earlier driver: the test split is read once."""
        with self._database.read() as session:
            query = sa.select(Event).where(Event.search_id == self._search_id, Event.kind == "test_evaluated")
            event = session.scalars(query).first()
        return {k: v for k, v in event.data.items() if k.startswith(("test_", "ensemble_"))} if event else None

    def _test_once(self, plan: Plan, winner: Winner) -> dict[str, Any]:
        figures = dict(self._test(plan, winner))
        self._ledger.record_test(winner.trial, plan.request.seed if winner.seed is None else winner.seed, figures)
        return figures

    def _test(self, plan: Plan, winner: Winner) -> Mapping[str, Any]:
        with self._database.read() as session:
            trial = session.get_one(Trial, (self._search_id, winner.trial))
            architecture = session.get_one(ArchitectureRow, trial.fingerprint).architecture
        folder = finalist_folder(self._settings, self._search_id, winner.trial, winner.seed or 0)
        assignment = plan.assignment(
            self._search_id,
            winner.trial,
            1,
            architecture,
            folder,
            seed=plan.request.seed if winner.seed is None else winner.seed,
        )
        path, sha256 = str(self._settings.data_dir / winner.weights["path"]), str(winner.weights["sha256"])
        members = [
            Member(architecture, str(self._settings.data_dir / f.weights["path"]), str(f.weights["sha256"]))
            for f, architecture in ensemble_of(plan, self._database, self._search_id)
            if f.weights
        ]
        if self._settings.executor == "inline":
            return scores_on_test(assignment, path, sha256, members)
        resources = plan.request.resources
        task = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=2)(_test_remotely)
        return dict(ray.get(task.remote(assignment.model_dump_json(), path, sha256, members)))

    def _execute(self, source: Source, scheduler: SchedulerSpec, plan: Plan) -> None:
        if self._settings.executor == "inline":
            run_inline(source, scheduler_of(scheduler, plan.objectives, self._history(), plan.score))
            return
        folder = self._settings.searches_dir / self._search_id / "tune"
        folder.mkdir(parents=True, exist_ok=True)
        run_with_tune(
            source,
            scheduler_of(scheduler, plan.objectives, self._history(), plan.score),
            plan.request.resources,
            folder,
        )

    def _history(self) -> list[tuple[int, dict[str, Any]]]:
        """Reports of trials that have ended, in the order they came: what the scheduler's rungs are rebuilt from."""
        with self._database.read() as session:
            query = (
                sa.select(Measurement)
                .join(Trial, sa.and_(Trial.search_id == Measurement.search_id, Trial.number == Measurement.number))
                .where(Measurement.search_id == self._search_id, Trial.ended_at.is_not(None))
                .order_by(Measurement.at, Measurement.number)
            )
            return [(row.number, {"epoch": row.epoch, **row.metrics}) for row in session.scalars(query)]

    # -- Ray -------------------------------------------------------------------------------------------------------

    def _connect(self, request: SearchRequest) -> None:
        """Join the cluster, and wait with a reason until it has what one candidate needs."""
        if self._settings.executor == "inline":
            return
        ray.init(
            address=os.environ.get("RAY_ADDRESS", "local"),
            namespace="nas",
            log_to_driver=False,
            logging_level="warning",
        )
        needs = {"CPU": request.resources.cpus, "GPU": request.resources.gpus}
        waited = False
        while short := _missing(needs, _largest_nodes()):
            self._waiting.set()
            self._ledger.set_reason(f"waits for a worker: {short}")
            waited = True
            time.sleep(2)
        self._waiting.clear()
        if waited:
            self._ledger.set_reason("")

    # -- heartbeat -------------------------------------------------------------------------------------------------

    def _heartbeat(self) -> None:
        """Renew the lease, count the time, obey cancel and pause; end the process at once when the lease is lost."""
        stopping_since: float | None = None
        parent = os.getppid()
        while not self._done.wait(self._settings.heartbeat_seconds if stopping_since is None else 0.3):
            if os.getppid() != parent:
                log.error("Ray, which started this driver, is gone")
                os._exit(4)
            try:
                state, used = self._ledger.beat(counts=not self._waiting.is_set())
                if state == "cancelling":
                    self._ledger.end_search("cancelled", "cancelled by request")
                    self._leave()
                if state == "pausing":
                    self._control.stopping.set()
                    stopping_since = stopping_since or time.monotonic()
                    if time.monotonic() - stopping_since > PAUSE_GRACE_SECONDS:
                        self._ledger.end_search("paused", "paused by request")
                        self._leave()
            except LeaseLost as lost:
                log.error("%s", lost)
                os._exit(3)
            except Exception:  # whatever it was: a driver without a heartbeat could not be cancelled any more
                log.exception("heartbeat")
                continue
            if self._max_seconds is not None and used >= self._max_seconds:
                self._control.spent.set()

    def _leave(self) -> None:
        """End this process at once; Ray ends its actors with it."""
        if self._mirror:
            self._mirror.close(2.0)
        log.info("driver leaves")
        sys.stdout.flush()
        os._exit(0)

    def _stopped_by_request(self) -> bool:
        """Whether the main loop ended because of a pause; then the search is put to rest."""
        if not self._control.stopping.is_set():
            return False
        self._ledger.end_search("paused", "paused by request")
        return True

    def _no_winner(self) -> str:
        with self._database.read() as session:
            states = sa.select(Trial.state, Trial.failure_kind, sa.func.count()).where(
                Trial.search_id == self._search_id
            )
            counts = session.execute(states.group_by(Trial.state, Trial.failure_kind)).all()
            message = session.scalars(
                sa.select(Trial.failure_message)
                .where(Trial.search_id == self._search_id, Trial.failure_message.is_not(None))
                .limit(1)
            ).first()
        parts = ", ".join(f"{count} {state}{f' ({kind})' if kind else ''}" for state, kind, count in counts)
        return f"no candidate completed and kept the constraints: {parts or 'no trials'}" + (
            f"; for example: {message}" if message else ""
        )


def _test_remotely(assignment: str, weights: str, sha256: str, members: Sequence[Member]) -> dict[str, Any]:
    return dict(scores_on_test(Assignment.model_validate_json(assignment), weights, sha256, members))


def _largest_nodes() -> list[dict[str, float]]:
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def _missing(needs: Mapping[str, float], nodes: list[dict[str, float]]) -> str:
    """Empty when one node has all that is needed, else what is needed and what there is."""
    if any(all(node.get(name, 0.0) >= amount for name, amount in needs.items()) for node in nodes):
        return ""
    has = "; ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes) or "no nodes"
    return f"one candidate needs {needs['CPU']:g} CPUs and {needs['GPU']:g} GPUs; the cluster's nodes have {has}"


def main() -> None:
    """Entry of the driver process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    torch.set_num_threads(1)
    try:
        Driver(load_settings(), *sys.argv[1:3]).run()
    except LeaseLost as lost:
        log.warning("%s", lost)
        sys.exit(3)
    except Unavailable as away:
        log.error("%s", away.detail)
        sys.exit(5)


if __name__ == "__main__":
    main()
