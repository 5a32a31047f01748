"""How long networks take to come to be: from ``import search_spaces`` to a built one, and all references at once."""

from __future__ import annotations

import statistics
import subprocess
import sys

ONE = """
import time
start = time.perf_counter()
from search_spaces import build, reference
imported = time.perf_counter()
network = build(reference("resnet-50"))
print(imported - start, time.perf_counter() - start)
"""
ALL = """
import time
start = time.perf_counter()
import torch
from search_spaces.build import build
from search_spaces.catalogue import REFERENCES
with torch.device("meta"):
    for reference in REFERENCES.values():
        build(reference.build())
print(len(REFERENCES), time.perf_counter() - start)
"""
LIMIT_SECONDS = 120
"""What building all references may take."""


def _measured(code: str) -> list[float]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def main(repeats: int = 5) -> None:
    """Print both; each run is a process of its own. Fails where building all references takes two minutes."""
    runs = [_measured(ONE) for _ in range(repeats)]
    imported, built = (statistics.median(column) for column in zip(*runs, strict=True))
    worst = max(run[1] for run in runs)
    print(f"import search_spaces and torch: {imported:.2f} s (median of {repeats})")
    print(f"import to a ResNet-50 with weights: {built:.2f} s (median of {repeats}), {worst:.2f} s at worst")
    count, seconds = _measured(ALL)
    print(
        f"all {count:.0f} references on the meta device: {seconds:.1f} s, import included (allowed: {LIMIT_SECONDS} s)"
    )
    if seconds > LIMIT_SECONDS:
        sys.exit(f"{seconds:.1f} s to build all references; allowed: {LIMIT_SECONDS} s")
