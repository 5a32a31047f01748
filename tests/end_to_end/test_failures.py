"""Every kind of failure in one search: it goes on, and each is told with kind, message and log."""

from __future__ import annotations

import pytest

from nas_service.client import ApiError
from tests.end_to_end.conftest import Service, drill

ENDINGS = {
    "0": "nan",
    "1": "segfault",
    "2": "hang-gil",
    "3": "oom",
    "4": "raise",
    "5": "exit0",
    "6": "no-metric",
    "7": "flood",
}
KINDS = {0: "nan", 1: "crash", 2: "timeout", 3: "oom", 4: "crash", 5: "crash", 6: "crash"}


def test_one_candidate_of_each_failure_leaves_the_search_running(service: Service) -> None:
    client = service.start()
    request = drill(
        12,
        evaluator={"name": "drill", "settings": {"seconds_per_epoch": 0.05, "endings": ENDINGS}},
        resources={"max_parallel": 2, "trial_timeout_seconds": 5, "memory_mb": 300},
    )
    search_id = client.submit(request)["id"]
    ended = client.wait(search_id, 200)

    assert ended["state"] == "succeeded", ended["reason"]
    trials = {t["number"]: t for t in client.trials(search_id)}
    for number, kind in KINDS.items():
        failure = trials[number]["failure"]
        assert failure is not None, f"trial {number} ({ENDINGS[str(number)]}) ended {trials[number]['state']}"
        assert (trials[number]["state"], failure["kind"]) == ("failed", kind), failure
        assert failure["message"]
    assert "Thread" in trials[2]["failure"]["traceback"], "a timeout shows where it hung"
    assert trials[7]["state"] in ("completed", "pruned"), "a flood of output harms nobody"
    log = client.request("GET", f"/v1/searches/{search_id}/trials/7/logs")
    assert len(log) <= 2**20 + 1000
    assert sum(t["state"] in ("completed", "pruned") for t in trials.values()) == 5
    assert ended["progress"]["counted"] == 12


def test_a_search_whose_candidates_all_fail_says_why(service: Service) -> None:
    client = service.start("--executor", "inline")
    request = drill(4, evaluator={"name": "drill", "settings": {"endings": {"default": "raise"}}})
    ended = client.wait(client.submit(request)["id"], 60)
    assert ended["state"] == "failed"
    assert "4 failed (crash)" in ended["reason"]


def test_a_drill_is_refused_where_it_is_not_allowed(service: Service) -> None:
    service.environment["NAS_ALLOW_DRILL"] = "false"
    client = service.start("--executor", "inline")
    with pytest.raises(ApiError) as refused:
        client.submit(drill(2))
    assert refused.value.status == 422
    assert refused.value.errors[0]["pointer"] == "/evaluator/name"
