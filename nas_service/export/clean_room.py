"""Runs a package's own check where nothing can be imported but Python, torch, numpy, safetensors and what they need.

    python -I clean_room.py PACKAGE_FOLDER RESULT_FILE [HELD_OUT.npz]

Started by path, never imported. Writes JSON: ``problems``, ``measured``, the score on the held-out images, versions.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

ALLOWED = ("torch", "numpy", "safetensors")
OURS = frozenset({"nas_service", "search_spaces", "workers"})
BATCH = 256
PIXELS = BATCH * 64 * 64
"""Of images at a time, at most: large ones are taken a few at a time."""


def requirements_of(names: Sequence[str]) -> set[str]:
    """The distributions called ``names`` and what they require, extras left out."""
    found: set[str] = set()
    waiting = [normal(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # required on another platform only
        for line in lines:
            match = re.match(r"[A-Za-z0-9._-]+", line)
            if match and "extra ==" not in line:
                waiting.append(normal(match.group()))
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


class Blocker:
    """Finder that refuses every installed module that does not belong to the allowed distributions."""

    def __init__(self, allowed: Sequence[str]) -> None:
        distributions = requirements_of(allowed)
        owners = metadata.packages_distributions()
        self._allowed = {top for top, by in owners.items() if {normal(name) for name in by} & distributions}
        self._refused = (set(owners) - self._allowed) | OURS
        self.refused: list[str] = []

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        top = name.partition(".")[0]
        if top in self._refused:
            self.refused.append(name)
            raise ModuleNotFoundError(f"No module named {name!r} in the clean room", name=name)
        return None


def held_out_score(folder: Path, check: ModuleType, held_out: Path) -> dict[str, float | int]:
    """The score of the package's network on the held-out images, under the name that the task has for it."""
    import numpy as np
    import torch

    model_py = check.load_module(folder)
    model = model_py.load(str(folder / "model.safetensors"))
    kind = json.loads((folder / "architecture.json").read_text())["task"]["kind"]
    with np.load(held_out, allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    name, measure = SCORES[kind]
    parts = []
    with torch.no_grad():
        step = max(1, min(BATCH, PIXELS // (images.shape[2] * images.shape[3])))
        for start in range(0, len(images), step):
            pixels, wanted = (torch.from_numpy(part[start : start + step]) for part in (images, labels))
            parts.append(measure(model(model_py.preprocess(pixels)), wanted))
    right, all_of_them = (sum(column) for column in zip(*parts, strict=True))
    scores = torch.as_tensor(right, dtype=torch.float64) / all_of_them
    return {"images": len(images), name: float(scores[torch.isfinite(scores)].mean())}


def count_right(outputs: Any, labels: Any) -> tuple[Any, Any]:
    """(right, all) images."""
    return (outputs.argmax(1) == labels).sum(), len(labels)


def count_pixels(outputs: Any, labels: Any) -> tuple[Any, Any]:
    """(intersection, union) of each class's pixels, [classes]; pixels labelled 255 left out."""
    import torch

    labels = labels.long()
    if outputs.shape[2:] != labels.shape[1:]:
        outputs = torch.nn.functional.interpolate(outputs, size=labels.shape[1:], mode="bilinear")
    answers, known = outputs.argmax(1)[labels != 255], labels[labels != 255]
    classes = outputs.shape[1]
    right = torch.bincount(known[known == answers], minlength=classes)
    union = torch.bincount(known, minlength=classes) + torch.bincount(answers, minlength=classes) - right
    return right.double(), union.double()


def count_boxes(outputs: Any, labels: Any) -> tuple[Any, Any]:
    """(images whose class is right and whose box has an IoU of at least 0.5, all images)."""
    import torch

    found, wanted = outputs[:, -4:], labels[:, 1:]
    low, high = ([b[:, :2] + side * b[:, 2:].clamp(min=0) / 2 for b in (found, wanted)] for side in (-1, 1))
    shared = (torch.minimum(*high) - torch.maximum(*low)).clamp(min=0).prod(1)
    areas = sum((b - a).prod(1) for a, b in zip(low, high, strict=True))
    right = outputs[:, :-4].argmax(1) == labels[:, 0].long()
    return (right & (shared >= 0.5 * (areas - shared))).sum(), len(labels)


SCORES = {
    "classification": ("accuracy", count_right),
    "segmentation": ("miou", count_pixels),
    "localisation": ("accuracy_at_iou50", count_boxes),
}


def main(folder: Path, result: Path, held_out: Path | None) -> None:
    blocker = Blocker(ALLOWED)
    sys.meta_path.insert(0, blocker)
    spec = importlib.util.spec_from_file_location("check", folder / "check.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder / 'check.py'} cannot be imported")
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    problems, measured = check.problems_of(folder)
    report = {
        "problems": problems,
        "measured": measured,
        "held_out": None if held_out is None or problems else held_out_score(folder, check, held_out),
        "foreign_modules": sorted(OURS & {name.partition(".")[0] for name in sys.modules}),
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in ALLOWED},
    }
    result.write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
