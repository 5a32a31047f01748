"""Every space of the catalogue is searched end to end: posted over HTTP, driven, trained on real digits, won."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from examples import cell_transfer, compound_scaling
from nas_service.client import Client, training_of
from nas_service.search.driver import Driver
from search_spaces.catalogue import SPACES
from search_spaces.rules import RULES
from tests.nas_service.conftest import LocalServer, settings_for


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server of its own: what is trained here must not be found by other tests."""
    made = LocalServer(settings_for(tmp_path_factory.mktemp("spaces")))
    yield made
    made.close()


def searched(server: LocalServer, **changes: Any) -> dict[str, Any]:
    """Post a search of two candidates and one epoch on a few digits, run its driver here, and read it again."""
    request = {
        "dataset": {"name": "digits", "max_train": 128, "max_validation": 64},
        "scheduler": {"name": "none", "max_epochs": 1},
        "budget": {"max_trials": 2},
        "finalists": {"top_k": 0},
        "recipe": {"batch_size": 32},
        "resources": {"max_parallel": 1},
        **changes,
    }
    http = server.http()
    answer = http.post("/v1/searches", json=request)
    assert answer.status_code == 201, answer.text
    Driver(server.settings, answer.json()["id"]).run()
    found: dict[str, Any] = http.get(f"/v1/searches/{answer.json()['id']}").json()
    return found


STRATEGIES = [{"name": "rl"}, {"name": "evolution", "population": 2, "sample": 1}]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=["rl", "evolution"])
@pytest.mark.parametrize("name", sorted(SPACES))
def test_a_space_is_searched_end_to_end(home: LocalServer, name: str, strategy: dict[str, Any]) -> None:
    """With its default options, on images of 8x8 pixels; evolution's third candidate is a child."""
    trials = 3 if strategy["name"] == "evolution" else 2
    search = searched(home, space={"name": name}, strategy=strategy, budget={"max_trials": trials}, seed=1)
    assert search["state"] == "succeeded"
    assert "hardly better" in (search["reason"] or "hardly better"), (
        "two epochs teach little: that may be told, no more"
    )
    assert search["progress"]["counted"] == trials
    assert set(search["progress"]["states"]) == {"completed"}
    assert 0 <= search["winner"]["test"]["test_accuracy"] <= 1
    assert search["best"]["metrics"]["params"] > 0


# -- design rules ------------------------------------------------------------------------------------------------------


CHAIN = {"name": "chain", "layers": 3, "filters": [8, 16], "skips": False}


def test_candidates_that_break_a_rule_cost_nothing_and_say_why(home: LocalServer) -> None:
    search = searched(
        home, space=CHAIN, strategy={"name": "random"}, rules=["small_kernels", "light_head"], seed=3,
        constraints=[{"metric": "params", "max": 20_000}],
    )  # fmt: skip
    assert search["state"] == "succeeded"
    trials = home.http().get(f"/v1/searches/{search['id']}/trials").json()["items"]
    infeasible = [trial for trial in trials if trial["state"] == "infeasible"]
    assert infeasible
    for trial in infeasible:
        assert (trial["counted"], trial["train_seconds"], trial["failure"]) == (False, 0, None)
        assert len(trial["violations"]) == 3
        assert trial["violations"][2] == 0
        if trial["violations"][1]:
            assert "rule small_kernels is broken by conv" in trial["reason"]
        if trial["violations"][0] > 0:
            assert "allowed: max 20000" in trial["reason"]
    assert any(trial["violations"][1] == 1 for trial in infeasible)
    completed = [trial for trial in trials if trial["state"] == "completed"]
    assert len(completed) == 2
    for trial in completed:
        assert (trial["violations"][1:], trial["reason"]) == ([0, 0], None)
        kernels = [(trial["decisions"][f"layer{i}_height"], trial["decisions"][f"layer{i}_width"]) for i in range(1, 4)]
        assert all(min(kernel) <= 3 for kernel in kernels)
    events = home.http().get(f"/v1/searches/{search['id']}/events").json()
    told = [event["data"]["reason"] for event in events if event["kind"] == "trial_infeasible"]
    assert told == [trial["reason"] for trial in infeasible]


def test_a_dry_run_tells_the_share_that_keeps_each_rule(home: LocalServer) -> None:
    body = {"dataset": {"name": "digits"}, "space": CHAIN, "rules": ["small_kernels", "no_raw_pixel_mlp"]}
    outlook = home.http().post("/v1/searches?dry_run=true", json=body).json()["outlook"]
    assert outlook["rules"]["no_raw_pixel_mlp"] == 1
    assert 0 < outlook["rules"]["small_kernels"] == outlook["feasible_share"] < 1


@pytest.mark.parametrize(
    ("rules", "pointer", "says"),
    [
        (["small_kernel"], "/rules/0", "small_kernels"),
        (["small_kernels", "small_kernels"], "", "twice"),
        (["max_pooling"], "/rules", "rule max_pooling: every sample breaks it, one at"),
    ],
)
def test_rules_that_cannot_be_asked_for(home: LocalServer, rules: list[str], pointer: str, says: str) -> None:
    body = {"dataset": {"name": "digits"}, "space": {"name": "residual"}, "rules": rules}
    answer = home.http().post("/v1/searches", json=body)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_the_list_of_rules(home: LocalServer) -> None:
    found = home.http().get("/v1/rules").json()
    assert {rule["name"] for rule in found} == set(RULES)
    assert all(rule["summary"] and rule["source"] for rule in found)


# -- what a space holds ------------------------------------------------------------------------------------------------


def test_a_space_tells_its_decisions_its_size_and_its_costs(home: LocalServer) -> None:
    http = home.http()
    found = http.get("/v1/spaces/macro", params={"input_shape": "3,32,32"}).json()
    assert [d["name"] for d in found["decisions"]] == [f"layer{i}" for i in range(1, 9)]
    assert all(d["options"] == ["identity", "mb3_k3", "mb6_k5"] and d["asked"] == 1 for d in found["decisions"])
    assert found["outlook"]["size"] == {"estimate": 3**8, "low": 3**8, "high": 3**8, "exact": True}
    assert found["outlook"]["costs"]["params"]["least"] >= 387_882
    mbconv = http.get("/v1/spaces/mbconv").json()
    assert {d["name"]: d["asked"] for d in mbconv["decisions"]}["stage1_block3_kernel"] == pytest.approx(
        1 / 3, abs=0.15
    )
    assert mbconv["outlook"]["size"]["low"] < mbconv["outlook"]["size"]["estimate"] < mbconv["outlook"]["size"]["high"]
    assert not mbconv["outlook"]["size"]["exact"]


@pytest.mark.parametrize(("shape", "says"), [("3,32", "pattern"), ("0,8,8", "0"), ("1,8,9999999", "9999999")])
def test_a_shape_that_no_image_has_is_refused(home: LocalServer, shape: str, says: str) -> None:
    answer = home.http().get("/v1/spaces/macro", params={"input_shape": shape})
    assert answer.status_code == 422, answer.text
    assert says in answer.text


# -- scaling and transfer ----------------------------------------------------------------------------------------------


def test_a_scaled_architecture_is_trained_by_itself(home: LocalServer) -> None:
    found = searched(home, space={"name": "mbconv"}, strategy={"name": "random"}, budget={"max_trials": 1}, seed=5)
    with Client(home.url, home.token) as client:
        scaled = client.scale(found["best"]["fingerprint"], phi=1, gamma=1.3)
        assert scaled["architecture"]["task"]["input_shape"] == [1, 10, 10]
        search = searched(home, **training_of(scaled["architecture"], {}))
        trial = client.trial(search["id"], 0)
        assert (trial["state"], trial["fingerprint"]) == ("completed", scaled["fingerprint"])
        assert {key: trial["metrics"][key] for key in scaled["costs"]} == scaled["costs"]
        assert search["winner"]["test"]["test_images"] > 0
        assert client.architecture(scaled["fingerprint"])["trials"] == [{"search": search["id"], "trial": 0}]


def driven(server: LocalServer, client: Client) -> Callable[[str], dict[str, Any]]:
    """What waits for a search in the examples: here its driver runs in this process."""

    def end(search_id: str) -> dict[str, Any]:
        Driver(server.settings, search_id).run()
        search = client.search(search_id)
        assert search["state"] == "succeeded", search["reason"]
        return search

    return end


def test_the_example_of_compound_scaling(home: LocalServer) -> None:
    """Its small form, cut further: every point of the grid, then phi; networks grow with phi."""
    request = {
        **compound_scaling.SMALL.request,
        "dataset": {"name": "digits", "max_train": 128, "max_validation": 64},
        "scheduler": {"name": "none", "max_epochs": 1},
    }
    setting = dataclasses.replace(compound_scaling.SMALL, request=request, alphas=(1.4,))
    with Client(home.url, home.token) as client:
        rows = compound_scaling.compound_scaling(client, setting, driven(home, client))
    grid, scaled = rows[: len(setting.grid())], rows[len(setting.grid()) :]
    assert len(grid) >= 2
    assert [row["phi"] for row in scaled] == [0, 1, 2]
    assert [row["macs"] for row in scaled] == sorted({row["macs"] for row in scaled})
    best = max(grid, key=lambda row: row["val_accuracy"])
    assert scaled[1]["val_accuracy"] == best["val_accuracy"], (
        "phi = 1 was trained in the grid, and is not trained again"
    )
    assert all(0 < row["test_accuracy"] <= 1 for row in rows)


def test_the_example_of_cell_transfer(home: LocalServer) -> None:
    """Its small form with one epoch a training."""
    once = {"scheduler": {"name": "none", "max_epochs": 1}}
    small = cell_transfer.SMALL
    setting = dataclasses.replace(small, search={**small.search, **once}, target={**small.target, **once})
    with Client(home.url, home.token) as client:
        cell_transfer.small_data(client, home.settings.data_dir)
        rows = cell_transfer.cell_transfer(client, setting, driven(home, client))
    assert [(row["cells"], row["filters"]) for row in rows] == [(1, 4), (2, 8)]
    assert rows[1]["params"] > rows[0]["params"]
    assert all(0 < row["test_accuracy"] <= 1 for row in rows)


# -- inheriting weights ------------------------------------------------------------------------------------------------


def test_children_start_from_their_parents_weights(home: LocalServer) -> None:
    """Where the strategy says so: each tells its parent and what it took over; no other search takes their results."""
    space = {"name": "residual", "blocks": ["basic"], "depths": [1, 2], "shortcuts": ["projection"]}
    strategy = {"name": "evolution", "population": 2, "sample": 2, "inherit_weights": True}
    request = {"space": space, "strategy": strategy, "budget": {"max_trials": 5}, "seed": 2}
    search = searched(home, **request)
    trials = home.http().get(f"/v1/searches/{search['id']}/trials").json()["items"]
    trained = [trial["metrics"] for trial in trials if trial["counted"]]
    assert [("parent_trial" in metrics) for metrics in trained] == [False, False, True, True, True]
    for metrics in trained[2:]:
        assert 0.2 < metrics["inherited_share"] <= 1
        assert metrics["function_preserving"] in (0, 1)
    again = searched(home, **request)
    repeated = home.http().get(f"/v1/searches/{again['id']}/trials").json()["items"]
    assert all(trial["reused_from"] is None for trial in repeated if trial["counted"])
    assert [t["metrics"]["val_accuracy"] for t in repeated] == [t["metrics"]["val_accuracy"] for t in trials]
