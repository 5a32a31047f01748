"""Searches on tables keep the rules of real ones."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_service.benchmark.simulation import Run, simulate, space_of
from nas_service.strategies import STRATEGIES
from nas_service.strategies.protocol import (
    NONE_RUNNING,
    ObservedTrial,
    Problem,
    Proposed,
    StrategyConfig,
    StrategyEntry,
)
from search_spaces.choose import Choose, Recorder, Scalar, replay, sample
from tests.nas_service.benchmark.made_tables import made_table
from workers.tables import Table, load_table

TABLE = made_table(0, 0.5)


def spelled(word: str) -> dict[str, Scalar]:
    return {f"decision{i}": letter for i, letter in enumerate(word)}


class Told:
    """Strategy that proposes given decisions, and remembers what it saw."""

    def __init__(self, problem: Problem, proposals: Sequence[Mapping[str, Scalar]]) -> None:
        self.problem, self._proposals = problem, proposals
        self.seen: list[ObservedTrial] = []
        self.running: list[list[int]] = []

    def propose(self, number: int, running: Proposed = NONE_RUNNING) -> Choose:
        self.running.append(sorted(running))
        return replay(self._proposals[number % len(self._proposals)])

    def observe(self, trial: ObservedTrial) -> None:
        self.seen.append(trial)

    def snapshot(self) -> dict[str, Any]:
        return {}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Nothing."""


def told(proposals: Sequence[Mapping[str, Scalar]], **options: Any) -> tuple[Told, Run]:
    made: list[Told] = []

    def make(config: StrategyConfig, problem: Problem) -> Told:
        made.append(Told(problem, proposals))
        return made[0]

    run = simulate(options.pop("table", TABLE), StrategyEntry("told", "", "", StrategyConfig, make), **options)
    return made[0], run


def row(word: str) -> int:
    found = TABLE.row(spelled(word))
    assert found is not None
    return found


def test_repeats_are_free_and_told() -> None:
    words = ["aaaaaa", "aaaaaa", "bbbbbb", "aaaaaa", "cccccc"]
    strategy, run = told([spelled(word) for word in words], evaluations=3)
    assert run.rows == [row("aaaaaa"), row("bbbbbb"), row("cccccc")]
    assert run.proposals == 5
    assert [trial.reused for trial in strategy.seen] == [False, True, False, True, False]
    assert strategy.seen[0].values == strategy.seen[1].values == strategy.seen[3].values
    assert strategy.problem.max_trials == 3
    assert strategy.problem.scores is None
    assert len(run.overhead) == 5


def test_a_space_without_new_networks_ends_the_search() -> None:
    _, run = told([spelled("aaaaaa")], evaluations=3)
    assert len(run.rows) == 1
    assert run.proposals == 1 + 20 * 3


def test_regret_is_that_of_the_best_observed() -> None:
    words = ["aaaaaa", "bcbdac", "dddddd", "abcdab"]
    _, run = told([spelled(word) for word in words], evaluations=4, noisy=True, seed=3)
    assert run.values == [TABLE.value(row(word), seed=3) for word in words]
    for i in range(4):
        best = run.rows[int(np.argmax(run.values[: i + 1]))]
        assert run.best[i] == best
        assert run.regret[i] == pytest.approx(100 * (TABLE.optimum - TABLE.mean[best]))
        assert TABLE.test is not None
        assert run.test[i] == pytest.approx(100 * TABLE.test[best])


def test_workers_take_the_seconds_of_the_table() -> None:
    words = ["aaaaaa", "bbbbbb", "aaaaaa", "cccccc", "dddddd", "bcbcbc"]
    strategy, run = told([spelled(word) for word in words], evaluations=5, workers=2)
    assert strategy.running[:2] == [[], [0]]
    assert all(len(running) == 1 for running in strategy.running[1:3])
    clock, free = [0.0, 0.0], []
    for word in ("aaaaaa", "bbbbbb", "cccccc", "dddddd", "bcbcbc"):
        worker = clock.index(min(clock))
        clock[worker] += TABLE.cost(row(word))
        free.append(clock[worker])
    assert sorted(run.ended) == run.ended == pytest.approx(sorted(free))
    assert {trial.number for trial in strategy.seen} == set(range(6))


def test_a_repeat_of_what_runs_waits_for_its_result() -> None:
    words = ["aaaaaa", "aaaaaa", "bbbbbb", "cccccc"]
    strategy, _ = told([spelled(word) for word in words], evaluations=3, workers=3)
    assert strategy.running[:3] == [[], [0], [0, 1]], "what waits is not proposed again"
    ended = [trial.number for trial in strategy.seen]
    assert ended.index(1) == ended.index(0) + 1
    assert strategy.seen[ended.index(1)].reused


def test_seconds_end_the_search_and_what_runs_does_not_count() -> None:
    words = ["aaaaaa", "bbbbbb", "cccccc"]
    cost = [TABLE.cost(row(word), 2) for word in words]
    assert cost[0] == pytest.approx(TABLE.cost(row("aaaaaa")) / 5)
    strategy, run = told([spelled(word) for word in words], evaluations=9, epochs=2, seconds=cost[0] + 1.5 * cost[1])
    assert run.rows == [row("aaaaaa"), row("bbbbbb")]
    assert run.values == [TABLE.early[2][row(word)] for word in words[:2]]
    assert [trial.epoch for trial in strategy.seen] == [2, 2]
    assert strategy.problem.max_trials is None


def test_scores_are_the_tables_or_those_of_others() -> None:
    space, given = space_of(TABLE), space_of(TABLE).scores()
    shuffled, again, other = space.scores(1), space.scores(1), space.scores(2)
    seen = [space.ask(replay(spelled(word))) for word in ("aaaaaa", "bbbbbb", "cccccc")]
    assert [given(a)["good"] for a in seen] == [TABLE.scores["good"][row(w)] for w in ("aaaaaa", "bbbbbb", "cccccc")]
    assert [shuffled(a) for a in seen] == [again(a) for a in seen]
    assert [shuffled(a) for a in seen] != [given(a) for a in seen]
    assert [shuffled(a) for a in seen] != [other(a) for a in seen]
    assert {shuffled(a)["good"] for a in seen} <= set(TABLE.scores["good"].tolist())
    strategy, run = told([spelled("aaaaaa")], evaluations=1, scores="given")
    assert strategy.problem.scores is not None
    assert not run.asked_scores
    assert strategy.problem.scores(seen[0]) == given(seen[0])
    assert run.asked_scores


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@pytest.mark.parametrize("workers", [1, 7])
def test_every_strategy_runs_and_replays(name: str, workers: int) -> None:
    runs = [simulate(TABLE, STRATEGIES[name], seed=5, evaluations=30, noisy=True, workers=workers) for _ in range(2)]
    assert len(set(runs[0].rows)) == len(runs[0].rows) == 30
    assert runs[0].rows == runs[1].rows


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_runs_with_scores(name: str) -> None:
    assert len(simulate(TABLE, STRATEGIES[name], evaluations=20, scores="given").rows) == 20


def test_equal_networks_are_trained_once(shared: Path) -> None:
    table = load_table(shared / "benchmarks" / "nasbench201_cifar10.npz")
    cells = [("nor_conv_3x3", "none", dead, "none", "skip_connect", "none") for dead in table.questions[0][1]]
    decisions = [dict(zip([name for name, _ in table.questions], cell, strict=True)) for cell in cells]
    strategy, run = told(decisions, table=table, evaluations=2)
    assert run.rows == [table.row(decisions[0])]
    assert [trial.reused for trial in strategy.seen[:5]] == [False, True, True, True, True]


@pytest.mark.parametrize("name", ["local", "evolution"])
def test_equal_networks_that_run_do_not_end_a_search(name: str, shared: Path) -> None:
    """A neighbour that is equal to what runs waits, and is not proposed again and again meanwhile."""
    table = load_table(shared / "benchmarks" / "nasbench201_cifar10.npz")
    for seed in range(3):
        run = simulate(table, STRATEGIES[name], seed=seed, evaluations=60, workers=16)
        assert len(run.rows) == 60
        assert run.proposals < 120


def test_a_network_that_the_table_lacks_is_infeasible(shared: Path) -> None:
    table = load_table(shared / "benchmarks" / "nas_bench_graph_cora.csv.gz")
    recorder = Recorder(sample(random.Random(0)))
    space_of(table).ask(recorder)
    nothing = {"link": "0123", **{f"operation{i}": "skip" for i in range(1, 5)}}
    strategy, run = told([nothing, recorder.decisions], table=table, evaluations=1)
    assert len(run.rows) == 1
    assert [trial.state for trial in strategy.seen] == ["infeasible", "completed"]
    assert math.isnan(space_of(table).scores()(space_of(table).ask(replay(nothing)))["params"])


def mean_test(table: Table, name: str, seeds: range) -> float:
    runs = [simulate(table, STRATEGIES[name], seed=seed, evaluations=1000, epochs=12, seconds=12_000) for seed in seeds]
    return float(np.mean([run.test[-1] for run in runs]))


def test_the_literature_is_met(shared: Path) -> None:
    """12-epoch evaluations, 12,000 s: random 93.70, regularised evolution 93.92 (Dong and Yang, 2020). 500 runs give
    93.78 and 94.11 here, with an error of the mean of 0.014.
    """
    table = load_table(shared / "benchmarks" / "nasbench201_cifar10.npz")
    assert mean_test(table, "random", range(80)) == pytest.approx(93.75, abs=0.1)
    assert mean_test(table, "evolution", range(30)) >= 93.9
