"""Whether a classifier is better than one that names the most frequent class, whatever the image shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from workers.dataset_spec import DatasetSpec
from workers.datasets import DatasetInfo


@dataclass(frozen=True)
class Guessing:
    """``accuracy`` of always naming the most frequent class, on so many ``images`` of the validation part."""

    accuracy: float
    images: int

    def explains(self, accuracy: float) -> bool:
        """Whether an accuracy is at most two standard errors above it; False where these reach 1: nobody can tell."""
        highest = self.accuracy + 2 * math.sqrt(self.accuracy * (1 - self.accuracy) / self.images)
        return accuracy <= highest < 1


def guessing(spec: DatasetSpec, info: DatasetInfo) -> Guessing | None:
    """For a data set and its split, which keeps classes in proportion; None where the task is no classification."""
    if info.task != "classification":
        return None
    images = max(1, round(info.train * spec.validation_fraction))
    return Guessing(max(info.class_counts) / info.train, min(images, spec.max_validation or images))


def told(accuracy: float, by_guessing: Guessing) -> str:
    """That a network is hardly better, and what may help."""
    return (
        f"a validation accuracy of {accuracy:.4f} is hardly better than naming the most frequent class always, "
        f"{by_guessing.accuracy:.4f}: longer trainings, another recipe or a look at the data may help"
    )


def stored(data: dict[str, Any] | None) -> Guessing | None:
    """As the search has it in its row; None where it is not known."""
    found = (data or {}).get("guessing")
    return Guessing(**found) if found else None
