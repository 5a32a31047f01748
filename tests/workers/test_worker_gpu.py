"""What differs on a GPU: mixed precision, a bounded share of memory, out of memory, measured latency."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from worker_samples import assignment, small

from workers import latency
from workers.run import run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA is not available"),
]


@pytest.fixture(autouse=True)
def _whole_gpu() -> Iterator[None]:
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_learns_on_a_gpu(tmp_path: Path, precision: str) -> None:
    recipe: dict[str, Any] = {"batch_size": 64, "precision": precision, "augmentation": "crop-cutout"}
    task = assignment(
        tmp_path, gpus=1.0, epochs=10, recipe=recipe, dataset={"name": "digits"}, latency={"batch_size": 8}
    )
    last = list(run(task))[-1]
    assert last["val_accuracy"] > 0.9
    assert last["device"] == torch.cuda.get_device_name(0)
    assert last["latency_ms"] > 0


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_stopped_run_goes_on_on_a_gpu(tmp_path: Path, precision: str) -> None:
    task = assignment(tmp_path, gpus=1.0, epochs=4, checkpoint_seconds=0.0, recipe={"precision": precision})
    reports = run(task)
    next(reports)
    next(reports)
    reports.close()  # type: ignore[attr-defined]  # a generator
    again = list(run(task))
    assert [report.get("replayed", False) for report in again] == [True, True, False, False]
    assert again[-1]["done"]


def test_a_share_of_the_gpu_bounds_memory_and_oom_frees_it(tmp_path: Path) -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    wide = small(2048, (1, 256, 256))
    task = assignment(tmp_path, gpus=0.01, architecture=wide, recipe={"batch_size": 200})
    before = torch.cuda.memory_reserved()
    last = list(run(task))[-1]
    assert last["failure"]["kind"] == "oom"
    assert torch.cuda.max_memory_reserved() <= 0.0101 * total + before
    assert torch.cuda.memory_reserved() - before < 50 * 2**20
    assert "failure" not in list(run(assignment(tmp_path / "b", gpus=1.0)))[-1]


def test_latency_is_timed_with_events() -> None:
    network = torch.nn.Conv2d(3, 64, 3)
    measured = latency.measure(network, (3, 64, 64), torch.device("cuda", 0), batch_size=4)
    assert 0 < measured.median_ms < 1000
    assert measured.runs == 50
