"""Limits that are checked with Python integers before torch is touched, so that a bomb costs milliseconds."""

from __future__ import annotations

from search_spaces.architecture import Architecture, ArchitectureError, Arg

MAX_IMAGE_VALUES = 2**26
MAX_CLASSES = 100_000
MAX_SCALARS_OF_NODE = 1_000
MAX_SCALARS = 50_000
MAX_INPUTS = 20_000
MAX_OPERATORS = 6_000
"""Operators of all nodes that differ in block, arguments or input shapes: each costs 0.2 ms to look into."""

MAX_PARAMS = 2 * 10**9
MAX_MACS = 10**13
MAX_ACTIVATIONS = 2 * 10**9


def check_limits(architecture: Architecture) -> None:
    """Raise ArchitectureError, with a JSON pointer, where image, classes or arguments are too large to look into."""
    channels, height, width = architecture.task.input_shape
    if channels * height * width > MAX_IMAGE_VALUES:
        raise ArchitectureError(
            f"an image of {channels * height * width} values; allowed: {MAX_IMAGE_VALUES}", "/task/input_shape"
        )
    if architecture.task.classes > MAX_CLASSES:
        raise ArchitectureError(f"{architecture.task.classes} classes; allowed: {MAX_CLASSES}", "/task/classes")
    total = inputs = 0
    for i, node in enumerate(architecture.nodes):
        scalars = sum(_scalars(value) for value in node.args.values())
        if scalars > MAX_SCALARS_OF_NODE:
            raise ArchitectureError(
                f"{scalars} scalars in one node; allowed: {MAX_SCALARS_OF_NODE}", f"/nodes/{i}/args"
            )
        total += scalars
        inputs += len(node.inputs)
    if total > MAX_SCALARS:
        raise ArchitectureError(f"{total} scalars in all arguments; allowed: {MAX_SCALARS}", "/nodes")
    if inputs > MAX_INPUTS:
        raise ArchitectureError(f"{inputs} inputs in all nodes; allowed: {MAX_INPUTS}", "/nodes")


def check_total(what: str, total: int, allowed: int, pointer: str) -> None:
    """Raise ArchitectureError where a running total has passed what is allowed."""
    if total > allowed:
        raise ArchitectureError(f"{total} {what} up to this node; allowed: {allowed}", pointer)


def _scalars(value: Arg) -> int:
    return sum(map(_scalars, value)) if isinstance(value, tuple) else 1
