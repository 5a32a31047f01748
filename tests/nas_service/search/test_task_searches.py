"""A segmentation search and a localisation search on scenes, from the request to the checked package, without Ray."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
import torch

from nas_service import datasets
from nas_service.api.state import State
from nas_service.database.schema import migrate
from nas_service.database.session import Database
from nas_service.database.tables import Search, Trial
from nas_service.errors import InvalidRequest
from nas_service.export import job, package
from nas_service.export.check import load_module
from nas_service.export.worker import request_export
from nas_service.search import status
from nas_service.search.driver import Driver
from nas_service.search.plan import make_plan
from nas_service.search.request import SCORES, Metric, SearchRequest
from nas_service.settings import Settings
from nas_service.web.figures import figures
from nas_service.web.pages import _picture
from tests.nas_service.conftest import settings_for
from workers.dataset_spec import SceneSpec
from workers.datasets import DatasetSource
from workers.tasks import TASKS

SPACES = {
    "segmentation": {
        "name": "segmentation", "widths": [16], "stem_shares": [1], "squeezes": [2, 4], "downsamplings": [1],
        "body_depths": [1, 2], "decoders": ["unpool", "bilinear"], "decoder_depths": [1],
    },
    "localisation": {"name": "residual", "widths": [8, 16], "depths": [1], "stages": 2, "blocks": ["basic"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_for(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def database(settings: Settings) -> Iterator[Database]:
    made = Database(settings.url)
    migrate(made)
    for task in ("segmentation", "localisation"):
        scenes = SceneSpec(task=task, train=200, test=40, size=16, most=1, smallest=0.5, largest=0.9)  # type: ignore[arg-type]
        datasets.register(DatasetSource(name=f"my-{task}", format="scenes", scenes=scenes), made, settings)
    yield made
    made.close()


def request_of(task: str, **changes: Any) -> dict[str, Any]:
    body = {
        "dataset": {"name": f"my-{task}"},
        "space": SPACES[task],
        "strategy": {"name": "random"},
        "scheduler": {"name": "asha", "max_epochs": 2, "reduction_factor": 2},
        "recipe": {"batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.004}, "augmentation": "crop"},
        "budget": {"max_trials": 3},
        "finalists": {"top_k": 2, "epochs": 3, "seeds": [0], "ensemble": 2},
        "resources": {"max_parallel": 1},
    }
    return {**body, **changes}


def searched(task: str, database: Database, settings: Settings) -> str:
    """The id of a search that has run to its end in this process."""
    torch.set_num_threads(1)
    request = SearchRequest.model_validate(request_of(task)).settled(task)
    search_id = str(database.write(lambda session: status.create(session, request, "a test").id))
    Driver(settings, search_id).run()
    return search_id


@pytest.mark.parametrize("task", ["segmentation", "localisation"])
def test_a_search_ends_with_a_checked_package(
    task: str, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = TASKS[task].metrics[0]
    search_id = searched(task, database, settings)
    with database.read() as session:
        search = session.get_one(Search, search_id)
        trials = list(session.scalars(sa.select(Trial).where(Trial.search_id == search_id)))
        shown = figures(session, search)
    assert (search.state, search.reason) == ("succeeded", "")
    assert [o["metric"] for o in search.request["objectives"]] == [f"val_{metric}"]
    assert all(t.values == [t.metrics[f"val_{metric}"]] for t in trials if t.state == "completed")
    assert search.winner is not None
    assert search.winner["score"]["metric"] == f"val_{metric}"
    assert "val_accuracy" not in search.winner
    assert {f"test_{name}" for name in TASKS[task].metrics} < set(search.winner["test"])
    together = search.winner["ensemble"]
    assert len(together["members"]) == 2
    assert {f"{part}_{name}" for part in ("val", "test") for name in TASKS[task].metrics} == set(together) - {"members"}
    assert {"best", "bubbles", "curves", "finalists"} <= set(shown)

    for number in {t.number for t in trials if t.state == "completed"}:
        assert _picture(State(settings, database), search_id, number) is not None

    def asked(session: Any) -> str:
        return str(request_export(session, search_id, None)[0].id)

    formats = ("onnx",) if task == "localisation" else ()  # max-unpooling is converted in test_tasks.py
    monkeypatch.setattr(job, "write_package", partial(package.write_package, formats=formats))
    monkeypatch.setattr(job, "BATCHES", (1,))
    export_id = database.write(asked)
    made = job.make(database, settings, export_id)
    folder = settings.data_dir / made["folder"]
    assert {r["file"]: r["reason"] for r in made["manifest"]["formats"]} == dict.fromkeys(
        ("model.py", "model.fp16.safetensors", "architecture.svg", *(f"model.{name}" for name in formats))
    )
    certificate = made["certificate"]
    assert certificate["held_out"]["images"] == 40
    assert certificate["held_out"][metric] == pytest.approx(certificate[f"expected_{metric}"], abs=1e-6)
    done = subprocess.run(
        [sys.executable, "-I", str(folder / "check.py")], cwd="/", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    card = (folder / "README.md").read_text()
    assert {"segmentation": "test mean IoU", "localisation": "test accuracy with an IoU of at least 0.5"}[task] in card
    predicts(task, folder)


def predicts(task: str, folder: Path) -> None:
    """``predict`` of the package answers in the user's terms."""
    module = load_module(folder)
    model = module.load(str(folder / "model.safetensors"))
    pixels = torch.from_numpy(np.random.RandomState(0).randint(0, 255, (2, 1, 16, 16)).astype(np.uint8))
    answers = module.predict(model, pixels)
    if task == "segmentation":
        assert answers.shape == (2, 16, 16)
        assert module.CLASSES[0] == "background"
        assert 0 <= int(answers.min()) <= int(answers.max()) < len(module.CLASSES)
    else:
        outputs = model(module.preprocess(pixels))
        (name, (left, top, right, bottom)), _ = answers
        assert name in module.CLASSES
        x, y, width, height = outputs[0, -4:].tolist()
        assert [(left + right) / 32, (top + bottom) / 32] == pytest.approx([x, y], abs=1e-5)
        assert [(right - left) / 16, (bottom - top) / 16] == pytest.approx([max(width, 0), max(height, 0)], abs=1e-5)


@pytest.mark.parametrize(
    ("task", "changes", "pointer", "message"),
    [
        (
            "segmentation",
            {"objectives": [{"metric": "val_accuracy"}]},
            "/objectives/0/metric",
            "allowed: val_miou, val_",
        ),
        (
            "localisation",
            {"objectives": [{"metric": "val_miou"}]},
            "/objectives/0/metric",
            "go with data for localisation",
        ),
        ("localisation", {"recipe": {"mixup": 0.2}}, "/recipe/mixup", "mixup 0.2 for localisation; allowed: 0"),
        ("segmentation", {"recipe": {"test_views": "flip"}}, "/recipe/test_views", "allowed: 'one'"),
        (
            "segmentation",
            {"evaluator": {"name": "drill"}},
            "/evaluator/name",
            "evaluator 'drill' on data for segmentation",
        ),
    ],
)
def test_what_does_not_go_with_a_task_is_refused(
    task: str, changes: dict[str, Any], pointer: str, message: str, database: Database, settings: Settings
) -> None:
    request = SearchRequest.model_validate(request_of(task, **changes)).settled(task)
    source, info = datasets.described(request.dataset, database, settings)
    with pytest.raises(InvalidRequest, match=message) as caught:
        make_plan(request, source, info, settings)
    assert caught.value.pointer == pointer


def test_a_default_objective_is_the_tasks_own() -> None:
    for task, learned in TASKS.items():
        body = request_of("segmentation")
        request = SearchRequest.model_validate(body).settled(task)
        assert [o.metric for o in request.objectives] == [f"val_{learned.metrics[0]}"]
        assert request.objectives[0].better == "maximize"
        asked = SearchRequest.model_validate({**body, "objectives": [{"metric": "params"}]})
        assert asked.settled(task) is asked
    assert set(SCORES) == {f"val_{name}" for learned in TASKS.values() for name in learned.metrics}
    assert set(SCORES) < set(Metric.__args__)  # type: ignore[attr-defined]  # a Literal has them
    for learned in TASKS.values():  # of the scores that a task has, the first in SCORES is its own
        assert next(name for name in SCORES if name[4:] in learned.metrics) == f"val_{learned.metrics[0]}"


def test_scenes_are_registered_like_files(database: Database, settings: Settings) -> None:
    known = datasets.sources(database, settings)["my-segmentation"]
    assert known.scenes is not None
    assert datasets.register(known, database, settings) == known  # the same again changes nothing
    assert datasets.info(known, settings).task == "segmentation"


def test_an_earlier_recipe_keeps_its_evaluation_key(database: Database, settings: Settings) -> None:
    """Options that were added later count only where they are used: results of earlier versions are found again."""
    request = SearchRequest.model_validate({"dataset": {"name": "digits"}, "space": {"name": "residual"}})
    source, info = datasets.described(request.dataset, database, settings)
    plan = make_plan(request, source, info, settings)
    assert plan.evaluation_key("0" * 64) == KEY_OF_VERSION_0
    changed = request.model_copy(update={"recipe": request.recipe.model_copy(update={"mixup": 0.2})})
    assert make_plan(changed, source, info, settings).evaluation_key("0" * 64) != KEY_OF_VERSION_0


KEY_OF_VERSION_0 = "ac21159b1e38791e273bda2285531fdacbdd22de9fe79b9bf73b385ddaacaec2"


@pytest.mark.parametrize(
    ("warm", "scheduler", "wanted"),
    [
        (0.0, {"max_epochs": 9}, 1),
        (1.0, {"max_epochs": 9}, 2),
        (2.5, {"max_epochs": 9}, 4),
        (5.0, {"max_epochs": 4}, 4),
        (5.0, {"max_epochs": 9, "min_epochs": 1}, 1),
        (5.0, None, 6),
    ],
)
def test_nobody_is_stopped_while_the_learning_rate_warms_up(
    warm: float, scheduler: dict[str, Any] | None, wanted: int
) -> None:
    body = request_of("segmentation", recipe={"schedule": {"name": "cosine", "warmup_epochs": warm}})
    body.pop("scheduler")
    asked = SearchRequest.model_validate(body | ({"scheduler": scheduler} if scheduler else {}))
    assert asked.settled("segmentation").scheduler.min_epochs == wanted
