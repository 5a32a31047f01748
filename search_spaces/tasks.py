"""The same body for another task: a classifier with a box beside its logits, or with a label for each pixel."""

from __future__ import annotations

from dataclasses import replace

from search_spaces.architecture import Architecture, ArchitectureError, Arg, Node
from search_spaces.auxiliary import without_auxiliary


def with_task(architecture: Architecture, kind: str, **args: Arg) -> Architecture:
    """A classifier's form for another task; ``args`` go to the node that is added.

    localisation: a box regressor reads what the classifier reads, and its box stands behind the logits. segmentation:
    in place of the classifier one at every position, enlarged (the fully convolutional form of Long et al. 2015); it
    needs a map there, and has no use for auxiliary heads. Raises ArchitectureError where the last node is no
    classifier, which is known by its argument ``classes``.
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
    if kind == "segmentation":
        head = Node("upsampled_classifier", (*last.inputs, 0), {"classes": task.classes, **args})
        return Architecture(task, (*body, head))
    logits = len(body) + 1
    box = Node("box_regressor", last.inputs, args)
    return Architecture(task, (*body, last, box, Node("concat", (logits, logits + 1))))
