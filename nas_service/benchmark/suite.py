"""The runs of a benchmark: which strategies, tables, modes and seeds; done over processes, kept as JSON lines.

Every run is one line, written as it ends: a suite that was interrupted goes on where it stopped, and one that is asked
for more seeds or strategies does only those. A line counts only for the table and the code of the strategy that made
it.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from nas_service.benchmark.finish import COST, regret_with_finalists
from nas_service.benchmark.simulation import BUDGETS, Run, Scores, simulate
from nas_service.benchmark.timing import TRIALS, seconds_per_proposal
from nas_service.strategies import STRATEGIES
from nas_service.strategies.protocol import StrategyEntry
from workers.tables import Table, load_table

RUNS, TIMINGS = "runs.jsonl", "timing.jsonl"
CHUNK = 5
"""Seeds that one process does before it answers."""
STRATEGIES_ARE_MADE_OF = ("nas_service.strategies.", "search_spaces.choose", "workers.scores")
"""Modules, beside the strategy's own, whose code decides what it proposes."""
UNBOUNDED = 2_000
"""Networks at most where seconds are the budget."""


@dataclass(frozen=True)
class Mode:
    """How a search is simulated, and for how many seeds of each that the suite has."""

    name: str
    noisy: bool = False
    scores: Scores = "absent"
    parallel: bool = False
    epochs: int | None = None
    seconds: float | None = None
    seeds: int = 1

    def fits(self, table: Table) -> bool:
        """Whether the table has what the mode needs."""
        if self.scores != "absent" and not table.scores:
            return False
        if self.epochs is not None and (self.epochs not in table.early or table.seconds is None):
            return False
        return not self.noisy or table.validation.shape[1] > 1


MODES = (
    Mode("exact"),
    Mode("noisy", noisy=True),
    Mode("exact, scores", scores="given"),
    Mode("noisy, scores", noisy=True, scores="given"),
    Mode("exact, scores shuffled", scores="shuffled"),
    Mode("exact, parallel", parallel=True),
    Mode("noisy, parallel", noisy=True, parallel=True),
    Mode("noisy, scores, parallel", noisy=True, scores="given", parallel=True),
    Mode("12,000 s", epochs=12, seconds=12_000, seeds=5),
    Mode("20,000 s", epochs=12, seconds=20_000, seeds=5),
)
QUICK = ("exact", "noisy", "exact, scores", "12,000 s")


@dataclass(frozen=True)
class Suite:
    """What is to be run. ``workers`` counts the simulated ones of the parallel modes."""

    tables: tuple[Path, ...]
    strategies: tuple[str, ...]
    modes: tuple[Mode, ...]
    seeds: int
    evaluations: int = max(BUDGETS)
    workers: int = 16


def suite(
    name: str, tables: Sequence[Path], strategies: Sequence[str], modes: Sequence[str], seeds: int | None, workers: int
) -> Suite:
    """``quick``: 10 seeds of 100 networks in four modes; ``full``: 100 of 150 in all. ``modes`` names others."""
    quick = name == "quick"
    wanted = modes or (QUICK if quick else [mode.name for mode in MODES])
    chosen = tuple(mode for mode in MODES if mode.name in wanted)
    seeds = seeds or (10 if quick else 100)
    return Suite(tuple(tables), tuple(strategies), chosen, seeds, 100 if quick else 150, workers)


@dataclass(frozen=True)
class Job:
    """Runs of one strategy on one table in one mode."""

    strategy: str
    table: Path
    mode: Mode
    seeds: tuple[int, ...]
    evaluations: int
    workers: int


Record = dict[str, Any]


def key_of(record: Record) -> tuple[Any, ...]:
    """What makes two runs the same."""
    names = ("strategy", "code", "table", "data", "mode", "workers", "evaluations", "seed")
    return tuple(record.get(name) for name in names)


def run_suite(asked: Suite, folder: Path, jobs: int, tell: Callable[[str], None]) -> list[Record]:
    """Do the runs of the suite that ``folder`` lacks, and add them to it; all that it has then for these strategies
    and tables, of more seeds or modes too where it was asked for them before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted: dict[tuple[Any, ...], tuple[str, Path, Mode, int]] = {}
    for strategy, path, mode, seed in _wanted(asked):
        record = _heading(strategy, load_table(path), mode, seed, asked.evaluations, asked.workers)
        wanted[key_of(record)] = (strategy, path, mode, seed)
    found = {key_of(record): record for record in stored(folder) if _whole(record)}
    left: dict[tuple[str, Path, Mode], list[int]] = {}
    for key, (strategy, path, mode, seed) in wanted.items():
        if key not in found:
            left.setdefault((strategy, path, mode), []).append(seed)
    todo = [
        Job(*what, tuple(seeds[i : i + CHUNK]), asked.evaluations, asked.workers)
        for what, seeds in left.items()
        for i in range(0, len(seeds), CHUNK)
    ]
    missing = sum(len(job.seeds) for job in todo)
    tell(f"{len(wanted)} runs, {len(wanted) - missing} of them there already, in {folder / RUNS}")
    with (folder / RUNS).open("a") as file:
        for done, records in enumerate(_done(todo, jobs), 1):
            for record in records:
                file.write(json.dumps(record, allow_nan=False) + "\n")
                found[key_of(record)] = record
            file.flush()
            if done % 20 == 0 or done == len(todo):
                tell(f"{done} of {len(todo)} chunks")
    return [record for record in found.values() if _belongs(record, asked)]


def _whole(record: Record) -> bool:
    """Whether a record has all that is told of its mode; earlier ones lack what finalists would have changed."""
    return "with_finalists" in record or "noisy" not in record["mode"]


def _belongs(record: Record, asked: Suite) -> bool:
    """Whether a recorded run is one that the suite could ask for, of the code as it is; its seed does not matter."""
    return (
        record["strategy"] in asked.strategies
        and record["code"] == code_of(STRATEGIES[record["strategy"]])
        and (record["table"], record.get("data")) in [(load_table(p).name, load_table(p).digest) for p in asked.tables]
        and record["mode"] in [mode.name for mode in MODES]
        and record["evaluations"] in (asked.evaluations, 0)
        and record["workers"] in (asked.workers, 1)
    )


def stored(folder: Path, name: str = RUNS) -> Iterator[Record]:
    """The records in a folder; a last line that was cut off is left out."""
    if not (folder / name).exists():
        return
    with (folder / name).open() as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def _wanted(asked: Suite) -> Iterator[tuple[str, Path, Mode, int]]:
    """Strategy, table, mode and seed of every run. Modes with scores are for strategies that look at scores."""
    for path in asked.tables:
        table = load_table(path)
        for mode in asked.modes:
            for strategy in asked.strategies:
                if mode.fits(table) and (mode.scores == "absent" or _asks_scores(strategy, path)):
                    for seed in range(asked.seeds * mode.seeds):
                        yield strategy, path, mode, seed


@cache
def _asks_scores(strategy: str, path: Path) -> bool:
    return simulate(load_table(path), STRATEGIES[strategy], evaluations=25, scores="given").asked_scores


def _done(todo: Sequence[Job], jobs: int) -> Iterator[list[Record]]:
    """The records of each job, as they end, over so many processes."""
    if jobs == 1:
        yield from map(do, todo)
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # before the processes load what reads it
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(do, job) for job in todo]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def do(job: Job) -> list[Record]:
    """The runs of a job, one after the other."""
    torch.set_num_threads(1)  # small matrices: a run of Optuna's Gaussian process took 15 s of CPU instead of 70
    table, mode, records = load_table(job.table), job.mode, []
    for seed in job.seeds:
        run = simulate(
            table,
            STRATEGIES[job.strategy],
            seed=seed,
            evaluations=job.evaluations if mode.seconds is None else UNBOUNDED,
            noisy=mode.noisy,
            scores=mode.scores,
            workers=job.workers if mode.parallel else 1,
            epochs=mode.epochs,
            seconds=mode.seconds,
        )
        heading = _heading(job.strategy, table, mode, seed, job.evaluations, job.workers)
        records.append({**heading, **figures_of(run, table, mode), "commit": commit()})
    return records


def run_timing(strategies: Sequence[str], folder: Path, tell: Callable[[str], None]) -> list[Record]:
    """Seconds a proposal of each strategy at each of TRIALS, one after the other; kept as runs are."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    found = {(r["strategy"], r["code"], r["trial"]): r for r in stored(folder, TIMINGS)}
    records = []
    for name in strategies:
        for trial in TRIALS:
            key = (name, code_of(STRATEGIES[name]), trial)
            if key not in found:
                seconds = seconds_per_proposal(STRATEGIES[name], trial)
                found[key] = {"strategy": name, "code": key[1], "trial": trial, "seconds": seconds, "commit": commit()}
                with (folder / TIMINGS).open("a") as file:
                    file.write(json.dumps(found[key]) + "\n")
                tell(f"{name} at trial {trial:,}: {'too slow' if seconds is None else f'{seconds:.4f} s'}")
            records.append(found[key])
    return records


def _heading(strategy: str, table: Table, mode: Mode, seed: int, evaluations: int, workers: int) -> Record:
    return {
        "strategy": strategy,
        "code": code_of(STRATEGIES[strategy]),
        "table": table.name,
        "data": table.digest,
        "mode": mode.name,
        "workers": workers if mode.parallel else 1,
        "evaluations": evaluations if mode.seconds is None else 0,
        "seed": seed,
    }


def figures_of(run: Run, table: Table, mode: Mode) -> Record:
    """What is kept of a run. ``regret`` has (networks trained, points) where it changed; ``with_finalists`` what it is
    by trainings in all, those of the finalists among them, where a single training is noisy.
    """
    budgets = [budget for budget in BUDGETS if mode.noisy and budget - COST <= len(run.rows)]
    changes = [(i, value) for i, value in enumerate(run.regret, 1) if i == 1 or value != run.regret[i - 2]]
    return {
        "trained": len(run.rows),
        "proposals": run.proposals,
        "regret": [[i, round(value, 5)] for i, value in changes],
        "with_finalists": {str(budget): round(regret_with_finalists(run, table, budget), 5) for budget in budgets},
        "test": {str(i): round(run.test[i - 1], 4) for i in (*BUDGETS, len(run.test)) if 0 < i <= len(run.test)},
        "optimum_at": _first(run, table, table.optimum),
        "top_at": _first(run, table, table.top),
        "seconds": round(run.ended[-1], 1) if run.ended else 0.0,
        "overhead_ms": round(1000 * statistics.median(run.overhead), 3),
    }


def _first(run: Run, table: Table, accuracy: float) -> int | None:
    """Networks trained until one was as good as ``accuracy``; None: none was."""
    return next((i for i, row in enumerate(run.rows, 1) if table.mean[row] >= accuracy - 1e-9), None)


@cache
def code_of(entry: StrategyEntry) -> str:
    """8 hexadecimal digits of the source that a strategy is made of, and of what simulates it."""
    waiting = [inspect.getmodule(entry.make), inspect.getmodule(entry.config), inspect.getmodule(simulate)]
    waiting.append(inspect.getmodule(Table))
    texts: dict[str, str] = {}
    while waiting:
        module = waiting.pop()
        if module is None or module.__name__ in texts:
            continue
        texts[module.__name__] = inspect.getsource(module)
        if module.__name__.startswith("nas_service.benchmark"):
            continue
        names = {getattr(value, "__module__", None) or "" for value in vars(module).values()}
        waiting += [sys.modules[name] for name in names if name.startswith(STRATEGIES_ARE_MADE_OF)]
    return hashlib.sha256("".join(texts[name] for name in sorted(texts)).encode()).hexdigest()[:8]


@cache
def commit() -> str:
    """The commit of this code, with a + where it was changed since; empty outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude", "*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()
