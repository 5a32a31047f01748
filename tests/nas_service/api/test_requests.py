"""What a request may say: defaults, errors with pointer and value, hostile JSON, dry runs, constraints."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import drill

JSON = {"Content-Type": "application/json"}


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The body of a refusal, checked for the form that every refusal has."""
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


def with_value(path: str, value: Any) -> dict[str, Any]:
    """A good request with one value replaced; ``path`` is a JSON pointer."""
    request = drill(3)
    *parents, last = path.strip("/").split("/")
    place: Any = request
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
    place[last] = value
    return request


def test_defaults_are_filled_in_and_shown(http: httpx.Client) -> None:
    answer = http.post("/v1/searches?dry_run=true", json={"dataset": {"name": "digits"}, "space": {"name": "residual"}})
    assert answer.status_code == 200
    request = answer.json()["request"]
    assert request["strategy"] == {"name": "auto"}
    usual = {"metric": "val_accuracy", "direction": None, "device": "worker", "batch_size": 1, "soft": []}
    assert request["objectives"] == [usual]
    assert request["screen"] is None
    assert (request["budget"]["max_trials"], request["scheduler"]["max_epochs"], request["seed"]) == (30, 9, 0)


def test_dry_run_stores_nothing_and_tells_what_the_space_holds(http: httpx.Client) -> None:
    before = http.get("/v1/searches").json()["items"]
    outlook = http.post("/v1/searches?dry_run=true", json=drill(3)).json()["outlook"]
    assert outlook["feasible_share"] == 1.0
    assert 0 < outlook["costs"]["params"]["least"] <= outlook["costs"]["params"]["most"]
    assert outlook["size"]["estimate"] > 1
    assert http.get("/v1/searches").json()["items"] == before


def test_a_dry_run_tells_what_was_left_to_the_strategy(http: httpx.Client) -> None:
    body = {"dataset": {"name": "digits"}, "space": {"name": "residual"}, "scheduler": {"max_epochs": 100}}
    found = http.post("/v1/searches?dry_run=true", json=body).json()
    assert found["strategy"]["name"] == "auto"
    assert 10 <= found["strategy"]["pool"] <= 300
    assert found["zero_cost_scores"]
    assert not http.post("/v1/searches?dry_run=true", json=drill(3)).json()["zero_cost_scores"]


def test_a_dry_run_tells_how_long_a_candidate_trains(http: httpx.Client) -> None:
    """Digits have 1,438 images for training, a fifth of which are for validation: 1,150 in 9 batches of 128."""
    body = {"dataset": {"name": "digits"}, "space": {"name": "residual"}, "scheduler": {"max_epochs": 4}}
    assert http.post("/v1/searches?dry_run=true", json=body).json()["steps"] == 9 * 4
    assert http.post("/v1/searches?dry_run=true", json=drill(3)).json()["steps"] is None


@pytest.mark.parametrize(
    ("path", "value", "pointer", "said"),
    [
        ("/seed", -1, "/seed", ["-1", "greater than or equal to 0"]),
        ("/seed", "5", "/seed", ["'5'", "integer"]),
        ("/seed", None, "/seed", ["None"]),
        ("/typo", 1, "/typo", ["not known"]),
        ("/a~b/c", 1, "/a~0b", ["not known"]),
        ("/dataset/name", "nowhere", "/dataset/name", ["'nowhere'", "digits"]),
        ("/dataset/validation_fraction", 1.5, "/dataset/validation_fraction", ["1.5", "less than 1"]),
        ("/space/name", "nowhere", "/space/name", ["'nowhere'", "residual", "mbconv"]),
        ("/space/name", 7, "/space/name", ["7", "residual"]),
        ("/space/depth_of_thought", 3, "/space/depth_of_thought", ["options:"]),
        ("/strategy/name", "luck", "/strategy/name", ["'luck'", "rl", "tpe"]),
        ("/strategy/learning_rate", "fast", "/strategy/learning_rate", ["'fast'"]),
        ("/objectives", [{"metric": "beauty"}], "/objectives/0/metric", ["'beauty'", "val_accuracy"]),
        ("/objectives", [], "/objectives", ["at least 1"]),
        ("/objectives", [{"metric": "params"}] * 2, "", ["twice"]),
        ("/constraints", [{"metric": "params"}], "/constraints/0", ["no bound"]),
        ("/constraints", [{"metric": "params", "min": 9, "max": 1}], "/constraints/0", ["min 9", "max 1"]),
        ("/scheduler/min_epochs", 9, "/scheduler", ["min_epochs is 9", "max_epochs 4"]),
        ("/recipe", {"optimizer": {"name": "sgd", "lr": -1}}, "/recipe/optimizer/lr", ["-1"]),
        ("/recipe", {"optimizer": {"name": "luck"}}, "/recipe/optimizer", ["'sgd'"]),
        ("/evaluator/settings/seconds_per_epoch", -2, "/evaluator/settings/seconds_per_epoch", ["-2"]),
        ("/evaluator/settings/endings", {"0": "melt"}, "/evaluator/settings/endings/0", ["'melt'", "'oom'"]),
        ("/evaluator/name", "guess", "/evaluator", ["'train'", "'drill'"]),
        ("/budget/max_trials", 0, "/budget/max_trials", ["0", "greater than or equal to 1"]),
        ("/resources/gpus", 1.5, "/resources", ["1.5", "whole"]),
        ("/replays", "nowhere", "/replays", ["'nowhere'", "the id of a search"]),
        ("/finalists/seeds", [1, 1], "/finalists", ["twice"]),
        ("/finalists/seeds", [1, -1], "/finalists/seeds/1", ["-1"]),
    ],
)  # fmt: skip
def test_a_bad_value_is_named_with_its_pointer(
    http: httpx.Client, path: str, value: Any, pointer: str, said: list[str]
) -> None:
    body = problem(http.post("/v1/searches", json=with_value(path, value)), 422)
    assert body["errors"][0]["pointer"] == pointer
    for word in said:
        assert word in body["detail"], body["detail"]


@pytest.mark.parametrize(("key", "where"), [("space", "/v1/spaces"), ("dataset", "/v1/datasets")])
def test_what_is_left_out_is_told_with_what_there_is(http: httpx.Client, key: str, where: str) -> None:
    body = with_value("/seed", 0)
    del body[key]
    (error,) = problem(http.post("/v1/searches", json=body), 422)["errors"]
    assert error["pointer"] == f"/{key}"
    assert error["detail"].startswith(f"/{key}: is missing; allowed: ")
    assert error["detail"].endswith(f"GET {where} lists")


def test_every_bad_value_is_reported_at_once(http: httpx.Client) -> None:
    request = with_value("/seed", -1) | {"typo": 1, "budget": {"max_trials": 0}}
    body = problem(http.post("/v1/searches", json=request), 422)
    assert {e["pointer"] for e in body["errors"]} == {"/seed", "/typo", "/budget/max_trials"}
    assert "(and 2 more)" in body["detail"]


def test_an_unknown_option_of_a_space_lists_the_options(http: httpx.Client) -> None:
    body = problem(http.post("/v1/searches", json=with_value("/space/widht", 3)), 422)
    option = next(iter(http.get("/v1/spaces/residual").json()["options"]["properties"]))
    assert option in body["detail"]


def test_constraints_that_nothing_meets_are_refused_with_the_nearest(http: httpx.Client) -> None:
    request = drill(3, constraints=[{"metric": "params", "max": 10}, {"metric": "depth", "min": 2}])
    body = problem(http.post("/v1/searches", json=request), 422)
    assert body["errors"][0]["pointer"] == "/constraints"
    assert "max 10 asked, the nearest sample has" in body["detail"]
    assert "depth" not in body["detail"], "a bound that was met is not complained about"


def many_keys() -> bytes:
    return ("{" + ",".join(f'"k{i}":0' for i in range(60_000)) + ',"z":1,"z":2}').encode()


HOSTILE = {
    "NaN": b'{"seed": NaN}',
    "Infinity": b'{"seed": -Infinity}',
    "1e999": b'{"seed": 1e999}',
    "an integer beyond every float": b'{"constraints": [{"metric": "params", "max": 1' + b"0" * 400 + b"}]}",
    "5,000 digits": b'{"seed": ' + b"9" * 5000 + b"}",
    "4,000 digits": b'{"seed": ' + b"9" * 4000 + b"}",
    "4,000 digits in a space": b'{"dataset": {"name": "digits"}, "space": {"name": "residual", "x": '
    + b"9" * 4000
    + b"}}",
    "lone surrogate": b'{"name": "\\ud800"}',
    "lone surrogate as a key": b'{"\\udfff": 1}',
    "depth 900": b'{"space": ' + b"[" * 900 + b"]" * 900 + b"}",
    "depth 100,000": b"[" * 100_000,
    "depth after an escaped quote": b'{"a": "\\\\", "b": ' + b"[" * 900 + b"]" * 900 + b"}",
    "the same key twice": b'{"seed": 1, "seed": 2}',
    "the same key twice among many": many_keys(),
    "NUL": b'{"name": "a\\u0000b"}',
    "raw NUL": b'{"name": "a\x00b"}',
    "BOM": b"\xef\xbb\xbf{}",
    "UTF-16": '{"seed": 1}'.encode("utf-16"),
    "broken UTF-8": b'{"name": "\xff"}',
    "not JSON": b"seed=1",
    "half": b'{"seed": ',
    "empty": b"",
    "null": b"null",
    "a list": b"[]",
    "a string": b'"x"',
    "a comment": b'{"seed": 1 /* one */}',
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_json_is_refused_at_once(http: httpx.Client, name: str) -> None:
    started = time.monotonic()
    problem(http.post("/v1/searches", content=HOSTILE[name], headers=JSON), 422)
    assert time.monotonic() - started < 5, "a refusal must cost next to nothing"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "text/html; charset=utf-8"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_only_plain_json_is_read(http: httpx.Client, headers: dict[str, str]) -> None:
    problem(http.post("/v1/searches", content=json.dumps(drill(1)), headers=headers), 422)


def test_large_bodies_are_refused_early(http: httpx.Client) -> None:
    body = b'{"name": "' + b"x" * (2 << 20) + b'"}'
    problem(http.post("/v1/searches", content=body, headers=JSON), 413)


def test_large_chunked_bodies_are_refused_early(http: httpx.Client) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(2000):
            sent += 1 << 16
            yield b" " * (1 << 16)

    with contextlib.suppress(httpx.WriteError):  # the server has answered and closed while we were still sending
        problem(http.post("/v1/searches", content=chunks(), headers=JSON), 413)
    assert sent < 64 << 20, "the server listens to a body that it has refused"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/searches/%00",
        "/v1/searches/a%00b/trials",
        "/v1/exports?search=%00",
        "/v1/searches/%ff%fe",
        "/v1/searches/..%2f..%2fetc",
        "/v1/searches/x/trials/99999999999999999999",
        "/v1/searches/x/trials/-1",
        "/v1/searches/x/trials/one",
        "/v1/searches?page=x",
        "/v1/searches?page=%FF",
        "/v1/searches?page=W1tbW1tb",
        "/v1/searches?page=IlxuIg",
        "/v1/searches?page=IlxkODAwIg",
        "/v1/searches?page=IlwldTAwMDAi",
        "/v1/searches?page=IlxcdTAwMDAi",
        "/v1/searches?page=Ilx1MDAwMCI",
        "/v1/searches?page=Ilx1ZDgwMCI",
        "/v1/searches?page=MQ",
        "/v1/exports?page=Ilx1MDAwMCI",
        "/v1/searches?page_size=0",
        "/v1/searches?page_size=501",
        "/v1/datasets/..",
        "/v1/spaces/%E2%98%83",
        "/v1/architectures/0",
        "/v1/architectures/0/graph?format=gif",
        "/v1/nowhere",
    ],
)
def test_hostile_paths_and_queries_are_refused(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:300])
    problem(answer, answer.status_code)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"options": {"typo": 1}}, "/options/typo"),
        ({"input_shape": [1, 28]}, "/input_shape"),
        ({"input_shape": [1, 10**18, 10**18]}, "/input_shape"),
        ({"input_shape": [0, 28, 28]}, "/input_shape"),
        ({"count": 51}, "/count"),
        ({"decisions": {"nowhere": 1}}, "/decisions"),
        ({"decisions": {"nowhere": [1]}}, "/decisions/nowhere"),
        ({"classes": 0}, "/classes"),
    ],
)
def test_samples_name_what_does_not_fit(http: httpx.Client, body: dict[str, Any], pointer: str) -> None:
    found = problem(http.post("/v1/spaces/residual/samples", json=body), 422)
    assert found["errors"][0]["pointer"] == pointer


def test_no_space_breaks_on_a_tiny_image(http: httpx.Client) -> None:
    for space in http.get("/v1/spaces").json():
        answer = http.post(f"/v1/spaces/{space['name']}/samples", json={"input_shape": [1, 1, 1], "count": 2})
        assert answer.status_code in (200, 422), (space["name"], answer.text[:300])


def test_samples_are_the_same_for_the_same_seed_and_keep_given_decisions(http: httpx.Client) -> None:
    one, two = (http.post("/v1/spaces/residual/samples", json={"seed": 4, "count": 2}).json() for _ in range(2))
    assert one == two
    drawn = one["samples"][0]["decisions"]
    again = http.post("/v1/spaces/residual/samples", json={"seed": 99, "decisions": drawn}).json()
    assert again["samples"][0]["fingerprint"] == one["samples"][0]["fingerprint"]


def test_the_catalogue_answers_for_everything_that_it_lists(http: httpx.Client) -> None:
    for kind in ("spaces", "blocks", "strategies", "references"):
        listed = http.get(f"/v1/{kind}").json()
        assert listed
        name = listed[0]["name"]
        assert http.get(f"/v1/{kind}/{name}").json()["name"] == name
        assert name in problem(http.get(f"/v1/{kind}/nowhere"), 404)["detail"]
    assert "space" in http.get("/v1/search-schema").json()["properties"]


def test_a_reference_is_found_however_it_is_spelled(http: httpx.Client) -> None:
    found = http.get("/v1/references/ResNet-50").json()
    assert found["name"] == "resnet50"
    assert found["costs"]["params"] == found["published"]["params"] == 25_557_032
    assert "did you mean 'resnet50'" in problem(http.get("/v1/references/resnet-55"), 404)["detail"]


def test_first_networks_are_fitted_to_the_data_or_refused(http: httpx.Client) -> None:
    small = {"task": {"kind": "classification", "input_shape": [3, 32, 32], "classes": 7}, "version": 1}
    network = {**small, "nodes": [{"block": "classifier", "inputs": [0], "args": {"classes": 7}}]}
    accepted = http.post("/v1/searches?dry_run=true", json=drill(3, first=["alexnet", "resnet-18", network]))
    assert accepted.status_code == 200, accepted.text
    wrong = {**small, "nodes": [{"block": "nothing", "inputs": [0], "args": {}}]}
    for first, pointer, said in (
        (["alexnet", "allexnet"], "/first/1", "did you mean 'alexnet'"),
        ([wrong], "/first/0/nodes/0/block", "no block is called 'nothing'"),
        ([{}], "/first/0", "allowed: exactly"),
    ):
        refused = problem(http.post("/v1/searches?dry_run=true", json=drill(3, first=first)), 422)
        assert refused["errors"][0]["pointer"] == pointer
        assert said in refused["detail"]
