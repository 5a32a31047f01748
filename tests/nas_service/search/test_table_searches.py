"""Searches whose candidates are looked up in a table: the driver's own code, and what the simulation says too."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_service.benchmark.simulation import TableSpace, simulate
from nas_service.database.session import Database
from nas_service.errors import InvalidRequest
from nas_service.settings import Settings
from nas_service.strategies import STRATEGIES
from tests.nas_service.search.benches import Bench
from workers.tables import load_table

LAYERS = ("identity", "mb3_k3", "mb6_k5")
SPACE = {"name": "macro", "widths": [4], "depths": [4]}


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'nas.db'}"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(data_dir=tmp_path, executor="inline", dataset_roots=[tmp_path / "roots"])
    made.searches_dir.mkdir(parents=True)
    (tmp_path / "roots").mkdir()
    return made


@pytest.fixture
def table(tmp_path: Path, settings: Settings) -> str:
    """81 codes of a small macro space, trained by nobody; codes of one network have values of their own."""
    rng = np.random.default_rng(0)
    codes = list(product(range(3), repeat=4))
    worth = rng.normal(size=(4, 3))
    quality = np.array([sum(worth[i, code[i]] for i in range(4)) for code in codes])
    quality = 0.5 + 0.4 * (quality - quality.min()) / np.ptp(quality)
    columns = {f"choice:layer{i + 1}": np.array([LAYERS[code[i]] for code in codes]) for i in range(4)}
    noise = 0.01 * rng.normal(size=(len(codes), 2))
    np.savez(
        tmp_path / "roots" / "small.npz",
        **columns,
        val_0=np.clip(quality + noise[:, 0], 0, 1),
        val_1=np.clip(quality + noise[:, 1], 0, 1),
        **{"val@3": quality / 2},
        epochs=np.full(len(codes), 9),
        seconds=10 * quality,
    )
    return "small.npz"


def bench(database: Database, settings: Settings, table: str, strategy: str = "evolution", **changes: Any) -> Bench:
    given = {
        "space": SPACE,
        "strategy": {"name": strategy},
        "scheduler": {"name": "none", "max_epochs": 9},
        "evaluator": {"name": "table", "table": table, "noisy": True},
        "budget": {"max_trials": 30},
        "resources": {"max_parallel": 1},
        "seed": 4,
        **changes,
    }
    return Bench(database, settings, **given)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_simulation_and_search_do_the_same(
    database: Database, settings: Settings, table: str, strategy: str, tmp_path: Path
) -> None:
    searched = bench(database, settings, table, strategy)
    trials = searched.run()
    looked_up = load_table(tmp_path / "roots" / table)
    space = TableSpace(looked_up, searched.plan.ask)
    run = simulate(looked_up, STRATEGIES[strategy], seed=4, evaluations=30, noisy=True, space=space)
    trained = [trial for trial in trials if trial.reused_from is None]
    decisions = [{name: answer for name, _, answer in trial.questions} for trial in trained]
    assert [looked_up.row(each) for each in decisions] == run.rows
    assert [trial.metrics["val_accuracy"] for trial in trained] == run.values
    assert len(trials) == run.proposals
    assert strategy != "random" or len(trials) > 30, "codes of one network came up"
    best = max(trained, key=lambda trial: trial.metrics["val_accuracy"])
    assert looked_up.row({name: answer for name, _, answer in best.questions}) == run.best[-1]
    assert sum(trial.metrics["train_seconds"] for trial in trained) == pytest.approx(run.ended[-1])


def test_weak_candidates_are_stopped_early(database: Database, settings: Settings, table: str) -> None:
    scheduler = {"name": "asha", "min_epochs": 3, "max_epochs": 9, "reduction_factor": 3}
    trials = bench(database, settings, table, "random", scheduler=scheduler).run()
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert pruned
    assert {trial.epoch for trial in pruned} == {3}
    looked_up = load_table(settings.data_dir / "roots" / table)
    for trial in (trial for trial in pruned if trial.reused_from is None):
        row = looked_up.row({name: answer for name, _, answer in trial.questions})
        assert trial.values == [looked_up.early[3][row]]


@pytest.mark.parametrize(
    ("changes", "pointer", "message"),
    [
        ({"space": {"name": "nasbench201"}}, "/evaluator/table", "names and options must agree"),
        ({"space": {"name": "macro"}}, "/evaluator/table", "names and options must agree"),
        ({"evaluator": {"name": "table", "table": "absent.npz"}}, "/evaluator/table", "cannot be opened"),
        ({"evaluator": {"name": "table", "table": "/etc/passwd"}}, "/evaluator/table", "outside the data folders"),
        ({"evaluator": {"name": "table", "table": "../nas.db"}}, "/evaluator/table", "outside the data folders"),
        ({"evaluator": {"name": "table", "table": "text.csv"}}, "/evaluator/table", "columns"),
        ({"first": ["lenet5"]}, "/first", "a table cannot tell"),
    ],
)
def test_requests_that_no_table_can_answer(
    database: Database, settings: Settings, table: str, changes: dict[str, Any], pointer: str, message: str
) -> None:
    (settings.data_dir / "roots" / "text.csv").write_text("choice:a\n1\n")
    (settings.data_dir / "nas.db").touch()
    with pytest.raises(InvalidRequest, match=message) as refused:
        bench(database, settings, table, **changes)
    assert refused.value.pointer == pointer
