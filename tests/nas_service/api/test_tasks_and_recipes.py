"""Published recipes, spaces for other tasks, and data sets with masks and boxes, over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest


def body(**changes: Any) -> dict[str, Any]:
    wanted = {
        "dataset": {"name": "digit-scenes", "max_train": 50, "max_validation": 20},
        "space": {"name": "segmentation", "widths": [16], "stem_shares": [1]},
        "budget": {"max_trials": 1},
    }
    return {**wanted, **changes}


def test_recipes_are_listed_and_told(http: httpx.Client) -> None:
    names = [recipe["name"] for recipe in http.get("/v1/recipes").json()]
    assert names == [
        "alexnet", "vgg", "googlenet", "resnet", "wide_resnet", "densenet", "nasnet", "mobilenet", "efficientnet",
    ]  # fmt: skip
    resnet = http.get("/v1/recipes/resnet").json()
    assert resnet["options"]["optimizer"]["lr"] == 0.1
    assert resnet["recipe"]["schedule"]["name"] == "plateau"
    assert resnet["source"].startswith("He et al. 2016")
    missing = http.get("/v1/recipes/resnest")
    assert missing.status_code == 404
    assert "there are: alexnet" in missing.json()["detail"]


def test_a_request_names_a_recipe_and_overrides_a_field(http: httpx.Client) -> None:
    asked = body(recipe={"name": "resnet", "batch_size": 32, "optimizer": {"lr": 0.2}})
    answer = http.post("/v1/searches?dry_run=true", json=asked)
    assert answer.status_code == 200, answer.text
    recipe = answer.json()["request"]["recipe"]
    assert (recipe["name"], recipe["batch_size"], recipe["init"]) == ("resnet", 32, "he")
    assert recipe["test_views"] == "one"  # ten crops are for classification
    assert recipe["optimizer"] == {
        "name": "sgd", "lr": 0.2, "momentum": 0.9, "weight_decay": 0.0001, "nesterov": False,
    }  # fmt: skip
    unknown = http.post("/v1/searches?dry_run=true", json=body(recipe={"name": "resnest"}))
    assert unknown.status_code == 422
    assert "no recipe is called 'resnest'" in unknown.text


def test_the_objective_that_is_left_out_is_the_tasks_own(http: httpx.Client) -> None:
    answer = http.post("/v1/searches?dry_run=true", json=body()).json()
    assert [o["metric"] for o in answer["request"]["objectives"]] == ["val_miou"]
    boxes = body(dataset={"name": "digit-boxes", "max_train": 50, "max_validation": 20}, space={"name": "residual"})
    answer = http.post("/v1/searches?dry_run=true", json=boxes).json()
    assert [o["metric"] for o in answer["request"]["objectives"]] == ["val_accuracy_at_iou50"]
    wrong = http.post("/v1/searches", json=body(objectives=[{"metric": "val_accuracy"}]))
    assert wrong.status_code == 422
    assert wrong.json()["errors"][0]["pointer"] == "/objectives/0/metric"


@pytest.mark.parametrize("task", ["classification", "segmentation", "localisation"])
def test_spaces_are_sampled_for_every_task(http: httpx.Client, task: str) -> None:
    asked = {"task": task, "input_shape": [1, 16, 16], "classes": 5}
    drawn = http.post("/v1/spaces/residual/samples", json=asked).json()["samples"][0]
    assert drawn["architecture"]["task"] == {"kind": task, "input_shape": [1, 16, 16], "classes": 5}
    assert http.get("/v1/spaces/segmentation").json()["tasks"] == ["classification", "segmentation"]


def test_scenes_are_listed_registered_and_forgotten(http: httpx.Client) -> None:
    info = http.get("/v1/datasets/digit-scenes").json()["info"]
    assert (info["task"], info["classes"], info["label_names"][0]) == ("segmentation", 11, "background")
    mine = {"name": "mine", "format": "scenes", "scenes": {"task": "localisation", "size": 20, "train": 60, "test": 10}}
    made = http.post("/v1/datasets", json=mine)
    assert made.status_code == 201, made.text
    assert made.json()["info"]["input_shape"] == [1, 20, 20]
    assert http.post("/v1/datasets", json=mine).status_code == 201
    other = {**mine, "scenes": {**mine["scenes"], "size": 24}}  # type: ignore[dict-item]  # a dict
    assert http.post("/v1/datasets", json=other).status_code == 409
    bad = http.post("/v1/datasets", json={**mine, "name": "b", "scenes": {"size": 8}})
    assert bad.status_code == 422
    assert bad.json()["errors"][0]["pointer"] == "/scenes/size"
    assert http.delete("/v1/datasets/mine").status_code == 204
