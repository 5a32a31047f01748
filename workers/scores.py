"""Names of the scores by task and of the zero-cost scores, for those who need no torch."""

from typing import Literal, get_args

METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy",),
    "segmentation": ("miou", "pixel_accuracy"),
    "localisation": ("accuracy_at_iou50", "accuracy", "iou"),
}
"""Each 0 to 1, the greater the better. The first is the task's own: objectives, best epochs and winners go by it where
nobody asks for another."""


def own_score(task: str) -> str:
    """The task's own score on the validation part: val_accuracy, val_miou, …"""
    return f"val_{METRICS[task][0]}"


ZeroCostName = Literal[
    "params",
    "macs",
    "grad_norm",
    "snip",
    "synflow",
    "jacov",
    "nwot",
    "zen",
    "az_expressivity",
    "az_progressivity",
    "az_trainability",
]
ZERO_COST: tuple[ZeroCostName, ...] = get_args(ZeroCostName)
"""What ``workers.proxies`` tells of an untrained network; more is better."""
