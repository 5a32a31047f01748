"""A published network for other images: the classes and image size of a task, with fewer strides where it is small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from search_spaces import catalogue
from search_spaces.architecture import Architecture, ArchitectureError, Arg, Node, Task
from search_spaces.build import resolved, walk
from search_spaces.naming import KINDS
from search_spaces.tasks import with_task

SMALLEST = 2
"""Pixels a side that the last map shall keep, unless the published network itself ends with fewer."""


def fitted(architecture: Architecture, task: Task) -> Architecture:
    """The architecture for the images and classes of ``task``, every argument present.

    Where the images are too small for it, all windows get "same" padding; where that is not enough, strides and pools
    are left out, the first ones first, until the last map has at least two pixels a side (as ResNets for CIFAR have no
    strided stem). Weights of convolutions keep their shapes. For another kind of task it gets another head. Raises
    ArchitectureError where nothing helps.
    """
    if task.kind != architecture.task.kind:
        return resolved(with_task(fitted(architecture, replace(task, kind=architecture.task.kind)), task.kind))
    complete = resolved(architecture)
    wanted = min(SMALLEST, min(_last_map(complete)))
    nodes = tuple(_with_classes(node, task.classes) for node in complete.nodes)
    padded = tuple(map(_padded, nodes))
    shrinking = [i for i, node in enumerate(padded) if _shrinks(node)]
    best: Architecture | None = None
    error: ArchitectureError | None = None
    for number in (-1, *range(len(shrinking) + 1)):
        changed = nodes if number < 0 else _without_strides(padded, shrinking[:number])
        try:
            found = walk(Architecture(task, changed)).architecture
        except ArchitectureError as failure:
            error = failure
            continue
        if best is None or min(_last_map(found)) > min(_last_map(best)):
            best = found
        if min(_last_map(best)) >= wanted:
            break
    if best is None:
        raise error or ArchitectureError("no node to fit", "/nodes")
    return best


def reference(name: str, task: Task | None = None) -> Architecture:
    """The published network called ``name``, as "ResNet-50" or "resnet50"; for another ``task`` where one is given.

    Raises UnknownNameError, or ArchitectureError where it does not fit the task.
    """
    architecture = catalogue.reference(name).build()
    return architecture if task is None else fitted(architecture, task)


def _last_map(architecture: Architecture) -> Sequence[int]:
    """Height and width of the last image-like map: what the head reads."""
    looked_into = walk(architecture)
    maps = [shape[1:] for shape in (architecture.task.input_shape, *looked_into.shapes) if len(shape) == 3]
    return maps[-1]


def _with_classes(node: Node, classes: int) -> Node:
    return Node(node.block, node.inputs, {**node.args, "classes": classes} if "classes" in node.args else node.args)


def _padded(node: Node) -> Node:
    return Node(node.block, node.inputs, {**node.args, "padding": "same"} if "padding" in node.args else node.args)


def _shrinks(node: Node) -> bool:
    return _more_than_one(node.args.get("stride")) or _pools(node)


def _pools(node: Node) -> bool:
    return KINDS.get(node.block) == "pool" and _more_than_one(node.args.get("kernel"))


def _more_than_one(value: Arg) -> bool:
    return isinstance(value, int) and value > 1


def _without_strides(nodes: Sequence[Node], left_out: Sequence[int]) -> tuple[Node, ...]:
    """``nodes`` with stride 1 in those that are left out; a pool among them looks at one pixel."""
    changed = list(nodes)
    for i in left_out:
        node = nodes[i]
        one: dict[str, Arg] = {name: 1 for name in ("stride", "kernel") if name in node.args} if _pools(node) else {}
        changed[i] = Node(node.block, node.inputs, {**node.args, **(one or {"stride": 1})})
    return tuple(changed)
