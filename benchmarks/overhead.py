"""Orchestration overhead: the same trainings under this service and under plain Ray Tune with OptunaSearch.

usefulness = sum of training seconds / (workers × wall seconds). The ratio alone rewards slow training, so the wall
time for equal work stands beside it. Training seconds are measured inside the training loop; everything else is
overhead: proposing, building, storing, starting, reporting, scheduling. Wall time starts when the system may start
candidates and ends with its last result; starting Ray itself is left out for all.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKERS = 2
WIDTHS = {1.0: 16, 10.0: 64, 60.0: 160}
"""Channels of the network for each length: longer candidates are larger networks, as in a search, not more epochs."""
COUNTS = {1.0: 200, 10.0: 40, 60.0: 30}
"""Candidates of each length; enough that starting up does not decide. Ray Tune loses seconds with each: fewer do."""
TUNE_COUNTS = {1.0: 40, 10.0: 16, 60.0: 6}


@dataclass(frozen=True)
class Outcome:
    """``training`` and ``wall`` in seconds."""

    candidates: int
    training: float
    wall: float

    @property
    def usefulness(self) -> float:
        return self.training / (WORKERS * self.wall)


def request(count: int, epochs: int, width: int) -> dict[str, Any]:
    """One small residual network on digits, trained again and again: no early stopping, nothing reused.

    All candidates are of one length, so that no worker has to idle at the end while another trains the longest.
    """
    return {
        "dataset": {"name": "digits"},
        "space": {
            "name": "residual",
            "stages": 2,
            "blocks": ["basic"],
            "shortcuts": ["projection"],
            "depths": [1],
            "widths": [width],
        },
        "strategy": {"name": "random"},
        "scheduler": {"name": "none", "max_epochs": epochs},
        "budget": {"max_trials": count},
        "finalists": {"top_k": 0},
        "reuse": "none",
        "resources": {"max_parallel": WORKERS},
    }


def calibrated_epochs(seconds: float, width: int) -> int:
    """Epochs that take about so many seconds here, by the median of a few candidates."""
    from workers.run import run

    with tempfile.TemporaryDirectory() as folder:
        taken = []
        for assignment in assignments(3, 3, width, Path(folder)):
            reports = list(run(assignment))
            taken.append(statistics.fmean(report["seconds"] for report in reports))
    return max(1, round(seconds / statistics.median(taken)))


def assignments(count: int, epochs: int, width: int, folder: Path) -> list[Any]:
    """The trainings of `request`, as the workers get them."""
    from nas_service.database.session import Database
    from nas_service.datasets import described
    from nas_service.search.plan import make_plan
    from nas_service.search.request import SearchRequest
    from nas_service.settings import load_settings

    folder.mkdir(parents=True, exist_ok=True)
    settings = load_settings(data_dir=folder, insecure_loopback=True)
    from nas_service.database.schema import migrate

    database = Database(settings.url)
    migrate(database)
    body = SearchRequest.model_validate(request(count, epochs, width))
    plan = make_plan(body, *described(body.dataset, database, settings), settings)
    strategy = plan.strategy.make(plan.strategy_config, plan.problem)
    made = []
    for number in range(count):
        architecture = plan.ask(strategy.propose(number))
        made.append(plan.assignment("bench", number, 1, architecture.to_json(), folder / str(number)))
    database.close()
    return made


def service(count: int, epochs: int, width: int) -> Outcome:
    """This service: server, driver and workers as they are, through HTTP."""
    from nas_service.client import Client

    with tempfile.TemporaryDirectory(prefix="nas-bench-") as folder:
        data = Path(folder) / "data"
        command = [
            sys.executable,
            "-m",
            "nas_service",
            "serve",
            "--port",
            "0",
            "--optuna-port",
            "0",
            "--data",
            str(data),
        ]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen([*command, "--insecure-loopback"], stdout=log, stderr=log)
        try:
            url = _ready_url(Path(folder) / "log", process)
            with Client(url) as client:
                search = client.wait(client.submit(request(count, epochs, width))["id"])
                if search["state"] != "succeeded":
                    raise RuntimeError(search["reason"])
                events = client.request("GET", f"/v1/searches/{search['id']}/events", params={"limit": 500})
                trials = list(client.trials(search["id"]))
            started = _seconds(next(e["at"] for e in events if e["kind"] == "driver_started"))
            ended = max(_seconds(t["ended_at"]) for t in trials)
            return Outcome(len(trials), sum(t["train_seconds"] for t in trials), ended - started)
        finally:
            process.terminate()
            process.wait()


def _seconds(stamp: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def _ready_url(log: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        text = log.read_text()
        if "\n  ready" in text:
            return next(word for word in text.split() if word.startswith("http://"))
        time.sleep(0.2)
    raise RuntimeError(f"the service did not come up:\n{log.read_text()}")


def plain_tune(count: int, epochs: int, width: int, *, reuse: bool) -> Outcome:
    """Ray Tune with OptunaSearch, else as it comes; with ``reuse`` a class trainable and reuse_actors."""
    code = f"from benchmarks.overhead import tune_child; tune_child({count}, {epochs}, {width}, {reuse})"
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-3000:])
    return Outcome(**json.loads(done.stdout.strip().splitlines()[-1]))


def tune_child(count: int, epochs: int, width: int, reuse: bool) -> None:
    """The peer's process: prints its outcome."""
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    from workers.assignment import Assignment
    from workers.run import run

    with tempfile.TemporaryDirectory(prefix="nb-") as folder:
        todo = [assignment.model_dump_json() for assignment in assignments(count, epochs, width, Path(folder) / "a")]
        ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)

        class Trained(tune.Trainable):  # type: ignore[misc]  # ray comes without types
            def setup(self, config: dict[str, Any]) -> None:
                assignment = Assignment.model_validate_json(todo[config["candidate"]])
                Path(assignment.directory).mkdir(parents=True, exist_ok=True)
                self.reports = run(assignment)

            def reset_config(self, new_config: dict[str, Any]) -> bool:
                self.setup(new_config)
                return True

            def step(self) -> dict[str, Any]:
                return dict(next(self.reports))

        def trained(config: dict[str, Any]) -> None:
            assignment = Assignment.model_validate_json(todo[config["candidate"]])
            Path(assignment.directory).mkdir(parents=True, exist_ok=True)
            for report in run(assignment):
                tune.report(report)

        points = [{"candidate": i} for i in range(count)]
        tuner = tune.Tuner(
            tune.with_resources(Trained if reuse else trained, {"cpu": 1}),
            param_space={"candidate": tune.choice(list(range(count)))},
            tune_config=tune.TuneConfig(
                metric="val_accuracy", mode="max", num_samples=count, reuse_actors=reuse,
                search_alg=OptunaSearch(points_to_evaluate=points), max_concurrent_trials=WORKERS,
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )  # fmt: skip
        started = time.monotonic()
        results = tuner.fit()
        wall = time.monotonic() - started
        training = sum(
            float(frame["seconds"].sum()) for frame in (r.metrics_dataframe for r in results) if frame is not None
        )
        print(json.dumps({"candidates": len(results), "training": training, "wall": wall}))


def two_processes(count: int, epochs: int, width: int) -> Outcome:
    """The floor: two processes that share a queue, no search, no storage, no Ray."""
    import multiprocessing

    with tempfile.TemporaryDirectory(prefix="nb-") as folder:
        todo = [assignment.model_dump_json() for assignment in assignments(count, epochs, width, Path(folder))]
        context = multiprocessing.get_context("spawn")
        started = time.monotonic()
        with context.Pool(WORKERS) as pool:
            training = sum(pool.imap_unordered(_train_one, todo))
        return Outcome(count, training, time.monotonic() - started)


def _train_one(assignment: str) -> float:
    from workers.assignment import Assignment
    from workers.run import run

    parsed = Assignment.model_validate_json(assignment)
    Path(parsed.directory).mkdir(parents=True, exist_ok=True)
    return sum(float(report["seconds"]) for report in run(parsed))


SYSTEMS: dict[str, Callable[[int, int, int], Outcome]] = {
    "this service": service,
    "two processes, one queue": two_processes,
    "Ray Tune + OptunaSearch, reuse_actors": lambda *work: plain_tune(*work, reuse=True),
    "Ray Tune + OptunaSearch, defaults": lambda *work: plain_tune(*work, reuse=False),
}


def main(lengths: list[float], only: list[str]) -> None:
    """Print one table a length."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    print(
        f"orchestration overhead; {WORKERS} workers, {os.cpu_count()} CPUs, {platform.machine()}, commit {commit}",
        flush=True,
    )
    for seconds in lengths:
        width, count = WIDTHS[seconds], COUNTS[seconds]
        epochs = calibrated_epochs(seconds, width)
        print(f"\ncandidates of about {seconds:g} s ({epochs} epochs)\n", flush=True)
        print(f"{'system':<40} {'candidates':>10} {'usefulness':>10} {'wall s':>9} {'training s':>11}", flush=True)
        for name in only:
            number = TUNE_COUNTS[seconds] if "Tune" in name else count
            found = SYSTEMS[name](number, epochs, width)
            figures = f"{found.candidates:>10} {found.usefulness:>10.3f} {found.wall:>9.1f} {found.training:>11.1f}"
            print(f"{name:<40} {figures}", flush=True)
