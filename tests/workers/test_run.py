"""``run`` in this process: reports, resuming, failures that a process survives, latency, weights, the test part."""

from __future__ import annotations

import errno
import json
import math
import re
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from worker_samples import assignment, drill, small

from search_spaces.architecture import Task
from workers import checkpoint, latency
from workers import run as run_module
from workers.assignment import Assignment
from workers.containment import data_bytes
from workers.datasets import DataError, DatasetSpec, load
from workers.drill import DrillSettings, accuracy
from workers.ending import LOG
from workers.run import WEIGHTS, matching, run, scores_on_test

CPU = torch.device("cpu")


def plain(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in report.items() if k not in ("seconds", "replayed")} for report in reports]


def failure(task: Assignment) -> dict[str, Any]:
    last = list(run(task))[-1]
    assert last["done"]
    assert set(last) == {"done", "failure"}
    assert last["failure"]["traceback"] in (Path(task.directory) / LOG).read_text()
    return dict(last["failure"])


def test_reports_are_flat_json_and_the_last_says_done(tmp_path: Path) -> None:
    reports = list(run(assignment(tmp_path, latency={"batch_size": 2})))
    assert [(report["epoch"], report["done"]) for report in reports] == [(1, False), (2, True)]
    assert json.loads(json.dumps(reports, allow_nan=False)) == reports
    assert reports[0]["latency_ms"] > 0
    assert (
        reports[0]["data_hash"] == load(DatasetSpec(name="digits", max_train=200, max_validation=100), []).content_hash
    )
    assert {path.name for path in tmp_path.iterdir()} == set()


def test_the_same_assignment_gives_the_same_reports(tmp_path: Path) -> None:
    first, second = (plain(list(run(assignment(tmp_path / name)))) for name in "ab")
    assert first == second
    assert plain(list(run(assignment(tmp_path / "c", seed=2)))) != first


def test_a_stopped_candidate_goes_on_and_repeats_its_past(tmp_path: Path) -> None:
    task = assignment(tmp_path, epochs=4, checkpoint_seconds=0.0, final=True)
    whole = list(run(task.model_copy(update={"directory": str(tmp_path / "whole")})))
    assert len(list(islice(run(task), 2))) == 2
    again = list(run(task))
    assert [report.get("replayed", False) for report in again] == [True, True, False, False]
    assert [{**p, "weights_path": 0} for p in plain(again)] == [{**p, "weights_path": 0} for p in plain(whole)]
    assert not list(tmp_path.glob("checkpoint*"))


def test_a_corrupt_or_foreign_checkpoint_means_starting_over_and_is_told(tmp_path: Path) -> None:
    task = assignment(tmp_path, epochs=3, checkpoint_seconds=0.0)
    whole = plain(list(run(task)))
    list(islice(run(task), 2))
    path = next(tmp_path.glob("checkpoint-*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert plain(list(run(task))) == whole
    assert "starting over" in (tmp_path / LOG).read_text()
    list(islice(run(task), 2))
    assert "replayed" not in next(run(task.model_copy(update={"seed": 5})))
    list(islice(run(task), 2))
    assert "replayed" not in next(run(task.model_copy(update={"dataset": DatasetSpec(name="digits", max_train=199)})))
    list(islice(run(task), 2))
    assert "replayed" not in next(run(task.model_copy(update={"resume": False})))


def test_no_checkpoint_before_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr(checkpoint, "save_checkpoint", lambda *args: written.append(args))
    list(run(assignment(tmp_path, epochs=3)))
    assert written == []
    list(run(assignment(tmp_path, epochs=3, checkpoint_seconds=0.0)))
    assert len(written) == 2


def test_slow_checkpoints_are_rare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def slow(*args: object) -> None:
        written.append(args)
        time.sleep(0.05)  # as of a large network: 10 s of training for each

    monkeypatch.setattr(checkpoint, "save_checkpoint", slow)
    list(run(assignment(tmp_path, epochs=6, checkpoint_seconds=1e-6)))
    assert len(written) == 1


def test_final_weights_are_the_best_epochs_and_are_tested_once(tmp_path: Path) -> None:
    task = assignment(tmp_path, epochs=4, final=True, recipe={"optimizer": {"name": "sgd", "lr": 0.5}})
    last = list(run(task))[-1]
    reports = list(run(task.model_copy(update={"directory": str(tmp_path / "b")})))
    best = max(reports, key=lambda r: (r["val_accuracy"], -r["val_loss"]))
    assert last["weights_epoch"] == best["epoch"]
    assert last["weights_path"] == str(tmp_path / WEIGHTS)
    scores = scores_on_test(task, last["weights_path"], last["weights_sha256"])
    assert 0 < scores["test_accuracy"] <= 1
    assert scores["test_images"] == 359
    with pytest.raises(checkpoint.CheckpointError, match="SHA-256"):
        scores_on_test(task, last["weights_path"], "0" * 64)


@pytest.mark.parametrize(
    ("ending", "kind", "message"),
    [
        ("raise", "crash", "DrillError: told to raise"),
        ("sys-exit0", "crash", r"called sys.exit\(0\)"),
        ("oom", "oom", "MemoryError"),
        ("nan", "nan", "is nan"),
        ("no-metric", "crash", "without a report"),
    ],
)
def test_endings_that_a_process_survives(tmp_path: Path, ending: str, kind: str, message: str) -> None:
    task = drill(tmp_path, ending)
    assert len(list(run(task))) == 2
    found = failure(task)
    assert found["kind"] == kind
    assert re.search(message, found["message"])


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"architecture": {}}, "build", "allowed: exactly"),
        (
            {"architecture": small() | {"nodes": [{"block": "nonesuch", "inputs": [0], "args": {}}]}},
            "build",
            "nonesuch",
        ),
        ({"architecture": small(classes=7)}, "build", "10 classes; the architecture has 7"),
        ({"architecture": small(shape=(3, 8, 8))}, "build", "1 channels; the architecture wants 3"),
        ({"dataset": {"name": "nonesuch"}}, "data", "is not here; allowed"),
        ({"source": {"name": "d", "format": "npz", "path": "/etc/passwd"}}, "data", "outside the data folders"),
        ({"recipe": {"optimizer": {"name": "sgd", "lr": 100.0, "weight_decay": 1.0}}, "epochs": 60}, "nan", "loss is"),
        ({"timeout_seconds": 1e-6}, "timeout", "allowed: 1e-06 s"),
    ],
)
def test_failures_of_training_are_told_apart(tmp_path: Path, change: dict[str, Any], kind: str, message: str) -> None:
    found = failure(assignment(tmp_path, **change))
    assert (found["kind"], message in found["message"]) == (kind, True), found


def test_memory_beyond_the_limit_is_oom_and_the_limit_is_lifted_again(tmp_path: Path) -> None:
    before = data_bytes()
    task = assignment(tmp_path, memory_mb=200, architecture=small(2000, (1, 64, 64)))
    assert failure(task)["kind"] == "oom"
    assert data_bytes() < before + 400 * 2**20
    assert len(torch.ones(2**27)) == 2**27
    assert "failure" not in list(run(assignment(tmp_path / "b", memory_mb=500)))[-1]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_fails_is_infrastructure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def full(*args: object) -> None:
        raise OSError(number, "disk")

    monkeypatch.setattr(checkpoint, "save_checkpoint", full)
    assert failure(assignment(tmp_path, checkpoint_seconds=0.0))["kind"] == "infrastructure"


def test_a_layer_that_fails_in_training_is_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "build", lambda architecture: nn.Sequential(nn.Flatten(), nn.Linear(3, 10)))
    found = failure(assignment(tmp_path))
    assert found["kind"] == "crash"
    assert "cannot be multiplied" in found["message"]


def test_training_needs_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="dataset is null"):
        assignment(tmp_path, dataset=None)
    task = assignment(tmp_path)
    assert Assignment.model_validate_json(task.model_dump_json()) == task
    assert Assignment.model_validate(task.model_dump(mode="json")) == task


def test_data_of_another_size_is_resized() -> None:
    data = load(DatasetSpec(name="digits"), [])
    assert matching(data, Task((1, 12, 12), 10)).train.size == (12, 12)
    assert matching(data, Task((1, 8, 8), 10)) is data
    with pytest.raises(DataError, match="channels"):
        matching(data, Task((3, 8, 8), 10))


def test_drill_scores_depend_on_architecture_and_seed_and_rise() -> None:
    settings = DrillSettings()
    curve = [accuracy(settings, "f", 0, epoch) for epoch in range(1, 20)]
    assert curve == sorted(curve)
    assert len({accuracy(settings, name, seed, 5) for name in "fgh" for seed in (0, 1)}) == 6
    assert all(0 <= value <= settings.highest for value in curve)


def test_drills_end_as_told_for_their_trial_and_attempt() -> None:
    settings = DrillSettings(endings={"3": "raise", "default": "nan"}, first_attempt_only=True)
    assert [settings.ending(3, 0), settings.ending(4, 0), settings.ending(3, 1)] == ["raise", "nan", "ok"]
    assert DrillSettings(endings={"3": "raise"}).ending(4, 0) == "ok"


class Slow(nn.Module):
    """Takes 5 ms in evaluation, raises in training."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        until = time.perf_counter() + 0.005
        while time.perf_counter() < until:
            math.sqrt(2.0)
        return x


def test_latency_is_the_median_of_forward_passes_within_a_budget() -> None:
    net = Slow()
    measured = latency.measure(net, (1, 8, 8), CPU, batch_size=3, repeats=20)
    assert measured.median_ms >= 5
    assert (measured.runs, measured.batch_size, measured.device) == (20, 3, "cpu")
    assert measured.iqr_ms >= 0
    assert net.training
    assert latency.measure(net, (1, 8, 8), CPU, repeats=1000, budget_seconds=0.1).runs < 30


def grown_from(folder: Path, parent: dict[str, Any], report: dict[str, Any], **changes: Any) -> Assignment:
    """An assignment whose candidate starts from the weights that an earlier one reported."""
    weights = {"path": report["weights_path"], "sha256": report["weights_sha256"]}
    return assignment(folder, parent={"trial": 7, "architecture": parent, **weights}, **changes)


def test_a_candidate_starts_from_the_weights_of_its_parent(tmp_path: Path) -> None:
    first = assignment(tmp_path / "parent", keep_weights=True)
    trained = list(run(first))[-1]
    fresh = next(run(assignment(tmp_path / "fresh")))
    for name in ("a", "b"):
        child = next(run(grown_from(tmp_path / name, first.architecture, trained)))
        assert (child["parent_trial"], child["inherited_share"], child["function_preserving"]) == (7, 1.0, 1)
        assert child["train_loss"] < fresh["train_loss"]
    assert "parent_trial" not in fresh
    again = next(run(grown_from(tmp_path / "c", first.architecture, trained)))
    assert plain([again]) == plain([child]), "what is inherited depends on seed and parent alone"


def test_inherited_weights_outlast_the_recipes_fresh_ones(tmp_path: Path) -> None:
    last = list(run(assignment(tmp_path / "parent", keep_weights=True)))[-1]
    children = []
    for init in ("torch", "he"):
        task = grown_from(tmp_path / init, small(), last, recipe={"init": init})
        children.append(plain(list(run(task))))
    assert children[0] == children[1], "all weights are the parent's"


def test_a_parent_whose_weights_are_gone_or_others_is_none(tmp_path: Path) -> None:
    first = assignment(tmp_path / "parent", keep_weights=True)
    trained = list(run(first))[-1]
    fresh = next(run(assignment(tmp_path / "fresh")))
    for name, change in (
        ("gone", {"weights_path": str(tmp_path / "nowhere")}),
        ("other", {"weights_sha256": "0" * 64}),
    ):
        child = next(run(grown_from(tmp_path / name, first.architecture, {**trained, **change})))
        assert (child["parent_trial"], child["inherited_share"]) == (7, 0.0)
        assert child["train_loss"] == fresh["train_loss"]
        assert "those of trial 7 cannot be read" in (tmp_path / name / LOG).read_text()
