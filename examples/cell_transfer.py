"""NASNet's method in two steps: search a cell on small data, stack it larger on other data.

``python examples/cell_transfer.py [--small]`` with a server started by ``nas serve`` in the same folder. The full form
searches on digits (8x8) and stacks on Fashion-MNIST (28x28, Debian's package dataset-fashion-mnist); the small one
searches on the digits 0 to 4 and stacks on all ten, enlarged to 16x16.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from nas_service.client import Client, training_of

End = Callable[[str], dict[str, Any]]
"""Waits for a search; the search once it has ended."""


@dataclass(frozen=True)
class Setting:
    """The search of a cell, the data and recipe of the larger network, and N and F of each that is tried."""

    search: dict[str, Any]
    target: dict[str, Any]
    shape: tuple[int, int, int]
    classes: int
    stacks: tuple[tuple[int, int], ...]


FULL = Setting(
    {
        "dataset": {"name": "digits"},
        "space": {"name": "nasnet", "nodes": 4, "cells": [1], "filters": [8]},
        "strategy": {"name": "evolution", "population": 12, "sample": 4},
        "scheduler": {"name": "asha", "min_epochs": 2, "max_epochs": 8, "reduction_factor": 2},
        "budget": {"max_trials": 60},
        "finalists": {"top_k": 1, "epochs": 16},
    },
    {
        "dataset": {"name": "fashion-mnist", "max_train": 5_000, "max_validation": 5_000},
        "scheduler": {"name": "none", "max_epochs": 8},
        "resources": {"trial_timeout_seconds": 7200},
        "finalists": {"top_k": 0},
    },
    (1, 28, 28),
    10,
    ((1, 8), (2, 12), (3, 16)),
)
SMALL = Setting(
    {
        "dataset": {"name": "digits-0-to-4"},
        "space": {"name": "nasnet", "nodes": 2, "cells": [1], "filters": [4]},
        "strategy": {"name": "evolution", "population": 2, "sample": 2},
        "scheduler": {"name": "none", "max_epochs": 4},
        "recipe": {"batch_size": 32},
        "budget": {"max_trials": 3},
        "finalists": {"top_k": 0},
    },
    {
        "dataset": {"name": "digits-large", "max_train": 600, "max_validation": 300},
        "scheduler": {"name": "none", "max_epochs": 6},
        "recipe": {"batch_size": 32, "schedule": {"name": "cosine", "warmup_epochs": 1}},
        "finalists": {"top_k": 0},
    },
    (1, 16, 16),
    10,
    ((1, 4), (2, 8)),
)


def cell_transfer(client: Client, setting: Setting, end: End) -> list[dict[str, Any]]:
    """Search a cell, stack it with each N and F on other data, train that; a row a training."""
    found = end(client.submit(setting.search)["id"])
    cell = client.trial(found["id"], found["winner"]["trial"])["fingerprint"]
    rows = []
    for cells, filters in setting.stacks:
        larger = client.scale(
            cell, cells=cells, filters=filters, stem=3 * filters, input_shape=list(setting.shape),
            classes=setting.classes,
        )  # fmt: skip
        search = end(client.submit(training_of(larger["architecture"], setting.target))["id"])
        accuracy = {"val_accuracy": search["best"]["metrics"]["val_accuracy"], **search["winner"]["test"]}
        rows.append({"cells": cells, "filters": filters, **larger["costs"], **accuracy})
    return rows


def small_data(client: Client, data_dir: Path) -> None:
    """Register two data sets made of scikit-learn's real digits: five classes as they are, all ten at 16x16."""
    images, labels = load_digits(return_X_y=True)  # [1797, 64] with values 0 to 16, [1797]
    pixels = (images * 15).astype("uint8").reshape(-1, 1, 8, 8)  # [n, channels, height, width]
    few = labels < 5
    large = pixels.repeat(2, axis=2).repeat(2, axis=3)
    known = {item["name"] for item in client.request("GET", "/v1/datasets")}
    for name, x, y in (("digits-0-to-4", pixels[few], labels[few]), ("digits-large", large, labels)):
        if name not in known:
            split = len(y) * 4 // 5
            parts = {"x_train": x[:split], "y_train": y[:split], "x_test": x[split:], "y_test": y[split:]}
            np.savez(data_dir / "datasets" / f"{name}.npz", **parts)
            client.request("POST", "/v1/datasets", body={"name": name, "format": "npz", "path": f"{name}.npz"})


def main() -> None:
    small = "--small" in sys.argv
    with Client() as client:
        if small:
            small_data(client, Path(os.environ.get("NAS_DATA_DIR", "nas-data")))
        rows = cell_transfer(client, SMALL if small else FULL, client.wait)
    print("| N | F | parameters | MACs | val_accuracy | test_accuracy |\n| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row['cells']} | {row['filters']} | {row['params']:,.0f} | {row['macs']:,.0f} "
            f"| {row['val_accuracy']:.4f} | {row['test_accuracy']:.4f} |"
        )


if __name__ == "__main__":
    main()
