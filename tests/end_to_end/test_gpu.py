"""Searches whose candidates share a GPU, on a real Ray: one that is too large for its share harms nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.end_to_end.conftest import Service

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA is not available"),
]

SPACE = {"name": "mbconv", "stages": 2, "kernels": [3, 5], "depths": [1, 2], "widths": [8, 16], "expansions": [1, 3]}


def shared(**changes: Any) -> dict[str, Any]:
    """A search on digits, four candidates to a GPU."""
    return {
        "dataset": {"name": "digits"},
        "space": SPACE,
        "scheduler": {"name": "asha", "min_epochs": 2, "max_epochs": 4, "reduction_factor": 2},
        "recipe": {"batch_size": 64, "precision": "bf16"},
        "budget": {"max_trials": 8},
        "resources": {"cpus": 1, "gpus": 0.25, "max_parallel": 4, "trial_timeout_seconds": 120},
        "finalists": {"top_k": 1, "epochs": 4, "seeds": [0]},
        "reuse": "none",
        "seed": 1,
        **changes,
    }


def wide(width: int) -> dict[str, Any]:
    """Small to build, huge to train: ``width`` channels of 8 x 8 in four depthwise layers."""
    layers = [("conv_norm_act", {"out_channels": width, "kernel": 3})]
    layers += [("conv_norm_act", {"out_channels": width, "kernel": 3, "groups": width})] * 4
    layers += [("classifier", {"classes": 10})]
    return {
        "version": 1,
        "task": {"kind": "classification", "input_shape": [1, 8, 8], "classes": 10},
        "nodes": [{"block": block, "inputs": [i], "args": args} for i, (block, args) in enumerate(layers)],
    }


def test_candidates_share_a_gpu_and_the_best_is_exported(service: Service, tmp_path: Path) -> None:
    client = service.start()
    gpu = torch.cuda.get_device_name(0)
    objectives = [{"metric": "val_accuracy"}, {"metric": "latency_ms", "batch_size": 8}]
    request = shared(objectives=objectives, constraints=[{"metric": "latency_ms", "max": 500.0}])
    search_id = client.submit(request)["id"]
    ended = client.wait(search_id, 300)
    assert ended["state"] == "succeeded", ended["reason"]
    trained = [t for t in client.trials(search_id) if t["state"] in ("completed", "pruned")]
    assert len(trained) == 8
    assert {t["metrics"]["device"] for t in trained} == {gpu}
    started, ended_at = ([t[name] for t in trained[:4]] for name in ("started_at", "ended_at"))
    assert max(started) < min(ended_at), "the first four train at once"
    assert all(t["metrics"]["latency_ms"] > 0 for t in trained if t["state"] == "completed")
    made = client.export(search_id, timeout_seconds=300)
    client.download(made["id"], tmp_path / "winner")
    assert gpu in (tmp_path / "winner" / "README.md").read_text()
    assert client.request("GET", f"/v1/searches/{search_id}/report")["tradeoff"]["hypervolume"]


def test_a_candidate_too_large_for_its_share_fails_alone(service: Service) -> None:
    """Its first step takes all 1,150 images at once: 20,000 channels of 8 x 8, 6 GB each time."""
    client = service.start()
    large = shared(first=[wide(20_000)], recipe={"batch_size": 2000}, strategy={"name": "random"})
    search_id = client.submit(large)["id"]
    ended = client.wait(search_id, 300)
    assert ended["state"] == "succeeded", ended["reason"]
    trials = {t["number"]: t for t in client.trials(search_id)}
    assert trials[0]["failure"]["kind"] == "oom", trials[0]["failure"]
    assert trials[0]["state"] == "failed"
    assert [t["failure"] for number, t in trials.items() if number] == [None] * 7
