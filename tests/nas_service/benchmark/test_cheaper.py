"""The comparison of cheaper evaluation, on the curves that lie in docs."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cheaper import BUDGETS, DATA, EPOCHS, SEEDS, WAYS, Way, accuracies, compare, searched, stopping
from workers.tables import Table, load_table

CURVES = Path(__file__).parents[3] / "docs" / "curves"


@pytest.fixture(scope="module")
def fashion() -> Table:
    return load_table(CURVES / "fashion-0.csv.gz")


@pytest.mark.parametrize("name", DATA)
def test_both_tables_of_a_data_set_have_the_same_networks(name: str) -> None:
    one, two = (load_table(CURVES / f"{name}-{seed}.csv.gz") for seed in SEEDS)
    assert one.network is not None
    assert two.network is not None
    assert len(set(one.network)) == len(one.network)
    assert set(one.network) == set(two.network)
    assert sorted(one.early) == list(range(1, EPOCHS))
    assert np.corrcoef(one.mean, one.early[EPOCHS - 1])[0, 1] > 0.9


@pytest.mark.parametrize("way", [way for way in WAYS if way.strategy in ("random", "evolution")], ids=str)
def test_a_search_spends_the_epochs_that_it_has(fashion: Table, way: Way) -> None:
    found = searched(fashion, way, 3, range(20) if way.earlier else ())
    values = [fashion.value(row) for row in found.chosen]
    assert len(values) == len(BUDGETS)
    assert values == sorted(values), "the best so far only gets better"
    assert set(found.chosen) <= set(found.completed)
    whole = len([row for row in found.completed if not (way.earlier and row < 20)])
    assert whole <= max(BUDGETS)
    if way.scheduler.name in ("none", "curve"):
        assert whole == max(BUDGETS)
    if way.scheduler.name == "asha":
        assert found.begun > 1.2 * max(BUDGETS)


def test_the_best_is_not_chosen_where_it_is_stopped(fashion: Table) -> None:
    """The best network begins worse than any other: ASHA never sees its end."""
    best = int(np.argmax(fashion.mean))
    late = {epoch: values.copy() for epoch, values in fashion.early.items()}
    for values in late.values():
        values[best] = 0.0
    table = replace(fashion, early=late)
    runs = [searched(table, Way("random", stopping("asha")), seed) for seed in range(8)]
    assert all(best not in found.chosen for found in runs)
    assert any(best in searched(table, Way("random"), seed).chosen for seed in range(40))


def test_what_was_chosen_is_judged_by_the_other_training(fashion: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.cheaper.RUNS", 1)
    worthless = replace(fashion, validation=np.zeros_like(fashion.validation))
    values, _ = accuracies((fashion, worthless), Way("random"))
    assert values[0] == [0.0] * len(BUDGETS), "searched in the first, judged by the second"
    assert min(values[1]) > 50


def test_a_table_is_told_in_markdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.cheaper.RUNS", 2)
    monkeypatch.setattr("benchmarks.cheaper.WAYS", (Way("random"), Way("random", screen=True)))
    for path in CURVES.glob("fashion-*.csv.gz"):
        (tmp_path / path.name).write_bytes(gzip.compress(gzip.decompress(path.read_bytes())))
    lines = list(compare(tmp_path, ["fashion"]))
    assert lines[0] == "\nfashion: 192 networks\n"
    assert lines[3].startswith("| random | all to the end | 30 | ")
    assert lines[4].startswith("| random | screen | 30 | ")
    assert lines[4].count("±") == len(BUDGETS)
    assert lines == list(compare(tmp_path, ["fashion"]))
