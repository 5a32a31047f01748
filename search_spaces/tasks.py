"""The same body for another task: a classifier with its head replaced."""

from __future__ import annotations

from dataclasses import replace

from search_spaces.architecture import Architecture, ArchitectureError, Arg, Node
from search_spaces.auxiliary import without_auxiliary

HEADS = {"segmentation": "upsampled_classifier", "localisation": "localisation_head"}
"""The block that takes the place of the classifier."""


def with_task(architecture: Architecture, kind: str, **args: Arg) -> Architecture:
    """A classifier's form for another task: its last node replaced by the head that the task needs.

    The new head reads what the old one read: segmentation needs a map there (the fully convolutional form of Long et
    al. 2015) and has no use for auxiliary heads, localisation takes vectors too. ``args`` go to the new head. Raises
    ArchitectureError where the last node is no classifier, which is known by its argument ``classes``.
    """
    if kind == architecture.task.kind:
        return architecture
    task = replace(architecture.task, kind=kind)
    *body, last = (without_auxiliary(architecture) if kind == "segmentation" else architecture).nodes
    if architecture.task.kind != "classification" or "classes" not in last.args or len(last.inputs) != 1:
        raise ArchitectureError(
            f"{last.block} ends a network for {architecture.task.kind}; allowed: a classifier, to make one for {kind}",
            f"/nodes/{len(body)}/block",
        )
    inputs = (*last.inputs, 0) if kind == "segmentation" else last.inputs
    return Architecture(task, (*body, Node(HEADS[kind], inputs, {"classes": task.classes, **args})))
