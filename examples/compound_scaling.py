"""EfficientNet's method in two steps: a grid over depth, width and resolution at phi = 1, then larger phi.

``python examples/compound_scaling.py [--small]`` with a server started by ``nas serve`` in the same folder. The full
form takes Fashion-MNIST from Debian's package dataset-fashion-mnist; the small one takes digits and some seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from nas_service.client import Client, training_of

End = Callable[[str], dict[str, Any]]
"""Waits for a search; the search once it has ended."""


@dataclass(frozen=True)
class Setting:
    """Data and recipe, the grid, and the phi that follow."""

    request: dict[str, Any]
    shape: tuple[int, int, int]
    phis: tuple[float, ...]
    alphas: tuple[float, ...] = (1.0, 1.1, 1.2, 1.3, 1.4)
    betas: tuple[float, ...] = (1.0, 1.1, 1.2, 1.3)
    gammas: tuple[float, ...] = (1.0, 1.1, 1.15, 1.2)
    tolerance: float = 0.1
    """How far alpha * beta^2 * gamma^2 may be from 2."""
    base: dict[str, Any] = field(default_factory=lambda: {"phi": 0.0})
    """Options of the efficientnet space that give the base."""

    def grid(self) -> list[dict[str, float]]:
        """Points (alpha, beta, gamma) that double the work."""
        points = product(self.alphas, self.betas, self.gammas)
        fitting = [point for point in points if abs(point[0] * point[1] ** 2 * point[2] ** 2 - 2) <= self.tolerance]
        return [dict(zip(("alpha", "beta", "gamma"), point, strict=True)) for point in fitting]


FULL = Setting(
    {
        "dataset": {"name": "fashion-mnist", "max_train": 5_000, "max_validation": 5_000},
        "scheduler": {"name": "none", "max_epochs": 8},
        "recipe": {"batch_size": 64, "schedule": {"name": "cosine", "warmup_epochs": 1}},
        "resources": {"trial_timeout_seconds": 7200},
        "finalists": {"top_k": 0},
    },
    (1, 28, 28),
    (0, 1, 2, 3),
)
SMALL = Setting(
    {
        "dataset": {"name": "digits", "max_train": 600, "max_validation": 300},
        "scheduler": {"name": "none", "max_epochs": 8},
        "recipe": {"batch_size": 32, "schedule": {"name": "cosine", "warmup_epochs": 2}},
        "finalists": {"top_k": 0},
    },
    (1, 8, 8),
    (0, 1, 2),
    alphas=(1.2, 1.4),
    betas=(1.0, 1.1),
    gammas=(1.15, 1.25),
    tolerance=0.25,
)


def compound_scaling(client: Client, setting: Setting, end: End) -> list[dict[str, Any]]:
    """Train the base scaled by every point of the grid at phi = 1, then the best point at each phi; a row each."""
    body = {"options": setting.base, "input_shape": list(setting.shape), "classes": 10}
    base = client.request("POST", "/v1/spaces/efficientnet/samples", body=body)["samples"][0]["architecture"]
    fingerprint = client.keep(base)["fingerprint"]
    known: dict[str, dict[str, float]] = {}

    def trained(phi: float, point: dict[str, float]) -> dict[str, Any]:
        scaled = client.scale(fingerprint, phi=phi, **point)
        if scaled["fingerprint"] not in known:  # points that differ less than channels are rounded are one network
            search = end(client.submit(training_of(scaled["architecture"], setting.request))["id"])
            accuracy = {"val_accuracy": search["best"]["metrics"]["val_accuracy"], **search["winner"]["test"]}
            known[scaled["fingerprint"]] = accuracy
        row = {"phi": phi, **point, "side": scaled["architecture"]["task"]["input_shape"][1], **scaled["costs"]}
        return {**row, **known[scaled["fingerprint"]]}

    grid = [trained(1, point) for point in setting.grid()]
    best = max(grid, key=lambda row: float(row["val_accuracy"]))
    point = {name: best[name] for name in ("alpha", "beta", "gamma")}
    return [*grid, *(trained(phi, point) for phi in setting.phis)]


def main() -> None:
    with Client() as client:
        rows = compound_scaling(client, SMALL if "--small" in sys.argv else FULL, client.wait)
    print("| phi | alpha | beta | gamma | side | parameters | MACs | val_accuracy | test_accuracy |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row['phi']} | {row['alpha']} | {row['beta']} | {row['gamma']} | {row['side']} | {row['params']:,.0f} "
            f"| {row['macs']:,.0f} | {row['val_accuracy']:.4f} | {row['test_accuracy']:.4f} |"
        )


if __name__ == "__main__":
    main()
