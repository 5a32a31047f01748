"""What does cheaper evaluation gain: schedulers, screens, zero-cost scores, results of an earlier search?

``python -m benchmarks.cheaper train FOLDER`` trains every network of two small spaces, once for each of two seeds, and
keeps the learning curves as tables that ``nas benchmark`` and real searches read too; stopped, it goes on when started
again. ``python -m benchmarks.cheaper compare FOLDER`` searches these tables: the strategies and the schedulers of the
service, one trial at a time, by the rules of ``search.candidates``; the tables of ``docs/cheaper-evaluation.md`` lie in
``docs/curves``. A search sees the trainings with one seed; what it chose is judged by the training with the other,
which no search saw.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import math
import statistics
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
import torch

from nas_service.benchmark.simulation import ACCURACY, POINTS, TableSpace
from nas_service.database.schema import migrate
from nas_service.database.session import Database
from nas_service.database.tables import ArchitectureRow, Measurement, Search, Trial
from nas_service.search.driver import Driver
from nas_service.search.request import SchedulerSpec, ScreenSpec, SearchRequest
from nas_service.search.schedulers import scheduler_of
from nas_service.search.scoring import FOR_STRATEGIES, Scorer, Screen
from nas_service.search.status import create
from nas_service.settings import Settings
from nas_service.strategies import STRATEGIES
from nas_service.strategies.protocol import ObservedTrial, Problem
from search_spaces.architecture import Architecture
from search_spaces.choose import Recorder
from workers.tables import Table, load_table

EPOCHS, SEEDS = 9, (0, 1)
NETWORKS = {"digits": 512, "fashion": 192}
DATA: dict[str, dict[str, Any]] = {
    "digits": {
        "dataset": {"name": "digits"},
        "space": {"name": "mbconv", "kernels": [3, 5], "depths": [1], "widths": [8], "expansions": [1, 3]},
    },
    "fashion": {
        "dataset": {"name": "fashion-mnist", "max_train": 1_000, "max_validation": 1_000},
        "space": {"name": "residual", "widths": [4, 8, 12], "depths": [1, 2], "cardinalities": [1]},
        "recipe": {"batch_size": 32},
    },
}


def everything(name: str, seed: int) -> SearchRequest:
    """A search that trains every network of a space, to its end."""
    return SearchRequest.model_validate(
        {
            **DATA[name],
            "strategy": {"name": "grid"},
            "scheduler": {"name": "none", "max_epochs": EPOCHS},
            "budget": {"max_trials": NETWORKS[name]},
            "finalists": {"top_k": 0},
            "resources": {"max_parallel": 1},
            "reuse": "search",
            "seed": seed,
        }
    )


def train(folder: Path, name: str, seed: int) -> None:
    """Train a data set's networks with a seed, into ``FOLDER/NAME-SEED.csv.gz``; goes on with what is there."""
    settings = Settings(data_dir=folder / f"{name}-{seed}", executor="inline")
    settings.searches_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.url)
    migrate(database)
    with database.read() as session:
        there = session.scalar(sa.select(Search))
    search_id = there.id if there else database.write(lambda s: create(s, everything(name, seed), "cheaper").id)
    if there is None or there.state != "succeeded":
        Driver(settings, search_id).run()
    scorer = Scorer(folder / f"{name}-scores.jsonl")
    with database.read() as session:
        trials = session.scalars(sa.select(Trial).where(Trial.search_id == search_id).order_by(Trial.number)).all()
        rows = [_row(session, trial, seed, scorer) for trial in trials if trial.state == "completed"]
    database.close()
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    (folder / f"{name}-{seed}.csv.gz").write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def _row(session: Any, trial: Trial, seed: int, scorer: Scorer) -> dict[str, Any]:
    """One network of a table in the documented columns."""
    where = (Measurement.search_id == trial.search_id, Measurement.number == trial.number)
    curve = session.scalars(sa.select(Measurement).where(*where).order_by(Measurement.epoch)).all()
    architecture = session.get_one(ArchitectureRow, trial.fingerprint).architecture
    scores = scorer(Architecture.from_json(architecture), FOR_STRATEGIES)
    return {
        **{f"choice:{name}": answer for name, _, answer in trial.questions},
        **{f"val@{epoch.epoch}": epoch.metrics["val_accuracy"] for epoch in curve[:-1]},
        f"val_{seed}": curve[-1].metrics["val_accuracy"],
        "epochs": EPOCHS,
        "seconds": round(trial.train_seconds, 3),
        "network": trial.fingerprint,
        **{f"zc_{score}": value for score, value in scores.items()},
    }


EVERYONE = SchedulerSpec(name="none", max_epochs=EPOCHS)


@dataclass(frozen=True)
class Way:
    """How a search evaluates its candidates."""

    strategy: str
    scheduler: SchedulerSpec = EVERYONE
    scores: bool = False
    """The strategy has zero-cost scores."""
    screen: bool = False
    """The best of eight proposals by zero-cost scores is trained."""
    earlier: bool = False
    """What an earlier search by ``random`` completed need not be trained."""

    def __str__(self) -> str:
        stops = self.scheduler.name != "none"
        told = {
            f"{self.scheduler.name}, first stops after epoch {self.scheduler.min_epochs}": stops,
            "zero-cost scores": self.scores,
            "screen": self.screen,
            "results of an earlier search": self.earlier,
        }
        return "; ".join(name for name, has in told.items() if has) or "all to the end"


def stopping(name: Literal["asha", "hyperband", "median", "curve"], first: int = 1) -> SchedulerSpec:
    """A scheduler that stops nothing before epoch ``first``."""
    return SchedulerSpec(name=name, min_epochs=first, max_epochs=EPOCHS)


SCHEDULERS = (
    stopping("asha"),
    stopping("asha", 3),
    stopping("asha", 5),
    stopping("hyperband"),
    stopping("median"),
    stopping("median", 3),
    stopping("curve"),
)
WAYS = (
    *(
        Way(strategy, scheduler)
        for strategy in ("random", "evolution", "rl", "auto")
        for scheduler in (EVERYONE, *SCHEDULERS)
    ),
    Way("random", screen=True),
    Way("evolution", screen=True),
    Way("auto", scores=True),
    Way("auto", stopping("asha"), scores=True),
    Way("auto", stopping("asha", 5), scores=True),
    Way("random", earlier=True),
    Way("evolution", earlier=True),
    Way("auto", earlier=True),
)
"""Each strategy first as it is, which the others are compared with."""
BUDGETS = (10, 20, 30)
"""Whole trainings that the epochs of a search amount to, when it is looked at."""
RUNS = 30
"""Searches of each way on each table."""


@dataclass(frozen=True)
class Found:
    """What one search came to."""

    chosen: list[int]
    """Row of the best of those that it trained to their end, at each of BUDGETS."""
    begun: int
    """Networks that it began to train."""
    completed: list[int]
    """Rows that it trained to their end."""


def searched(table: Table, way: Way, seed: int, known: Container[int] = ()) -> Found:
    """One search, one trial at a time; rows in ``known`` need no training."""
    space, trials = TableSpace(table), max(BUDGETS)
    scores = space.scores()
    problem = Problem(space.ask, (ACCURACY,), seed, trials, EPOCHS, scores if way.scores else None)
    entry = STRATEGIES[way.strategy]
    strategy = entry.make(entry.config(), problem)
    scheduler = scheduler_of(way.scheduler, problem.objectives, ())
    screen = Screen(ScreenSpec(), space.ask, lambda network, _: scores(network)) if way.screen else None
    trained: dict[str, ObservedTrial] = {}
    chosen: list[int] = []
    completed: list[int] = []
    best, spent = -1, 0
    for number in range(100 * trials):
        running = screen.proposal(strategy, number, {}, lambda a: a.fingerprint() in trained) if screen else {}
        recorder = Recorder(strategy.propose(number, running))
        space.ask(recorder)
        questions = tuple(recorder.questions)
        fingerprint, row = space.looked_up(questions)
        assert row is not None, "every network of the space was trained"
        if fingerprint in trained:
            strategy.observe(replace(trained[fingerprint], number=number, questions=questions, reused=True))
            continue
        epoch, stopped = EPOCHS if row in known else 0, False
        while epoch < EPOCHS and not stopped:
            if spent == BUDGETS[len(chosen)] * EPOCHS:
                chosen.append(best)
                if len(chosen) == len(BUDGETS):
                    return Found(chosen, len(trained), completed)
            epoch, spent = epoch + 1, spent + 1
            report = {"epoch": epoch, ACCURACY.metric: table.value(row, epochs=epoch)}
            stopped = epoch < EPOCHS and scheduler.stops(str(number), report)
        value = table.value(row, epochs=epoch)
        if not stopped:
            completed.append(row)
            best = row if best < 0 or value > table.value(best) else best
        state: Literal["pruned", "completed"] = "pruned" if stopped else "completed"
        trained[fingerprint] = ObservedTrial(number, questions, state, (value,), epoch)
        strategy.observe(trained[fingerprint])
    return Found(chosen + [best] * (len(BUDGETS) - len(chosen)), len(trained), completed)


def accuracies(tables: Sequence[Table], way: Way) -> tuple[list[list[float]], float]:
    """``[runs][BUDGETS]`` accuracy in points of what was chosen, in the training that no search saw; networks begun."""
    values, begun = [], []
    for table, unseen in (tables, tables[::-1]):
        names = unseen.network
        assert table.network is not None
        assert names is not None
        there = {name: row for row, name in enumerate(names)}
        for seed in range(RUNS):
            known = searched(table, Way("random"), 10_000 + seed).completed if way.earlier else ()
            found = searched(table, way, seed, known)
            values.append([POINTS * unseen.value(there[table.network[row]]) for row in found.chosen])
            begun.append(found.begun)
    return values, statistics.fmean(begun)


def compare(folder: Path, names: Sequence[str]) -> Iterator[str]:
    """Markdown, a table of each data set: accuracy of what was chosen, and in brackets what the way gained."""
    for name in names:
        tables = [load_table(folder / f"{name}-{seed}.csv.gz") for seed in SEEDS]
        yield f"\n{name}: {len(tables[0].mean)} networks\n"
        yield f"| strategy | evaluation | networks | {' | '.join(f'after {budget}' for budget in BUDGETS)} |"
        yield "| --- " * (3 + len(BUDGETS)) + "|"
        plain: dict[str, list[list[float]]] = {}
        for way in WAYS:
            values, begun = accuracies(tables, way)
            cells = [f"{statistics.fmean(column):.2f}" for column in zip(*values, strict=True)]
            if way.strategy in plain:
                both = zip(values, plain[way.strategy], strict=True)
                gains = zip(*([a - b for a, b in zip(*pair, strict=True)] for pair in both), strict=True)
                for i, gain in enumerate(gains):
                    error = statistics.stdev(gain) / math.sqrt(len(gain))
                    cells[i] += f" ({statistics.fmean(gain):+.2f} ± {error:.2f})"
            plain.setdefault(way.strategy, values)
            yield f"| {way.strategy} | {way} | {begun:.0f} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("do", choices=["train", "compare"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", nargs="*", choices=list(DATA), default=list(DATA))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.do == "compare":
        for line in compare(arguments.folder, arguments.data):
            print(line, flush=True)
        return
    for name in arguments.data:
        for seed in SEEDS:
            train(arguments.folder, name, seed)


if __name__ == "__main__":
    main()
