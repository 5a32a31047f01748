"""Small architectures and assignments that the worker tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workers.assignment import Assignment


def small(width: int = 16, shape: tuple[int, int, int] = (1, 8, 8), classes: int = 10) -> dict[str, Any]:
    """A network of three convolutions with dropout, as JSON."""
    layers: list[tuple[str, dict[str, Any]]] = [
        ("conv_norm_act", {"out_channels": width, "kernel": 3}),
        ("conv_norm_act", {"out_channels": 2 * width, "kernel": 3, "stride": 2}),
        ("dropout", {"rate": 0.1}),
        ("conv_norm_act", {"out_channels": 2 * width, "kernel": 3}),
        ("classifier", {"classes": classes}),
    ]
    return {
        "version": 1,
        "task": {"kind": "classification", "input_shape": list(shape), "classes": classes},
        "nodes": [{"block": block, "inputs": [i], "args": args} for i, (block, args) in enumerate(layers)],
    }


def assignment(folder: Path, **changes: Any) -> Assignment:
    """Train the small network on 200 digits for 2 epochs, but for ``changes``."""
    body: dict[str, Any] = {
        "search_id": "s",
        "trial": 0,
        "architecture": small(),
        "dataset": {"name": "digits", "max_train": 200, "max_validation": 100},
        "epochs": 2,
        "seed": 1,
        "directory": str(folder),
    }
    return Assignment.model_validate(body | changes)


def drill(folder: Path, ending: str, **changes: Any) -> Assignment:
    """A drill of 3 short epochs with ``ending`` in the second."""
    settings = {"endings": {"default": ending}, "at_epoch": 2, "seconds_per_epoch": 0.0}
    return assignment(folder, evaluator="drill", drill=settings, epochs=3, **changes)
