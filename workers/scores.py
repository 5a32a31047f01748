"""Names of the scores by task, for those who need no torch: each 0 to 1, the greater the better."""

METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy",),
    "segmentation": ("miou", "pixel_accuracy"),
    "localisation": ("accuracy_at_iou50", "accuracy", "iou"),
}
"""The first is the task's own: objectives, best epochs and winners go by it where nobody asks for another."""
