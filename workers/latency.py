"""Measured latency: the median time of one forward pass on this device, evaluation mode, channels last."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import nn

WARM_UP = 10


@dataclass(frozen=True)
class Latency:
    """``median_ms`` and the distance between the quartiles, over ``runs`` timed runs of a whole batch."""

    median_ms: float
    iqr_ms: float
    runs: int
    batch_size: int
    device: str


@torch.no_grad()
def measure(
    network: nn.Module,
    input_shape: tuple[int, int, int],
    device: torch.device,
    batch_size: int = 1,
    repeats: int = 50,
    budget_seconds: float = 10.0,
) -> Latency:
    """Time ``repeats`` forward passes after WARM_UP, fewer (at least 5) where they would take longer than the budget.

    On a CPU with one thread; on a GPU between two CUDA events. The mode of ``network`` and the threads are restored.
    """
    threads, training = torch.get_num_threads(), network.training
    if device.type == "cpu":
        torch.set_num_threads(1)
    network.to(device).eval()
    x = torch.zeros(batch_size, *input_shape, device=device).contiguous(memory_format=torch.channels_last)
    try:
        started = time.perf_counter()
        for done in range(WARM_UP):
            run = _timed(network, x, device)
            if done and time.perf_counter() - started > budget_seconds / 4:
                break
        times: list[float] = []
        while len(times) < repeats and (len(times) < 5 or time.perf_counter() - started + run < budget_seconds):
            run = _timed(network, x, device)
            times.append(run * 1000)
    finally:
        torch.set_num_threads(threads)
        network.train(training)
    low, median, high = statistics.quantiles(times, n=4)
    return Latency(median, high - low, len(times), batch_size, device_name(device))


def _timed(network: nn.Module, x: torch.Tensor, device: torch.device) -> float:
    """Seconds of one forward pass."""
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        network(x)
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000
    started = time.perf_counter()
    network(x)
    return time.perf_counter() - started


def device_name(device: torch.device) -> str:
    """``cpu``, or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
