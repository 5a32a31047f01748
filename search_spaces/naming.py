"""Readable names for nodes, derived from what the nodes are: "stem", "stage1_block2", "stage2_pool", "head"."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.architecture import Architecture, Node

KINDS = {
    "conv_norm_act": "conv",
    "sparse_conv": "conv",
    "colour_transform": "colours",
    "anchored_conv": "conv",
    "padded_concat": "concat",
    "norm_act": "activation",
    "pool": "pool",
    "stochastic_pool": "pool",
    "subsample": "pool",
    "local_response_norm": "lrn",
    "dropout": "dropout",
    "add": "add",
    "concat": "concat",
    "auxiliary_classifier": "auxiliary",
    "classifier": "head",
    "segmentation_head": "head",
    "upsampled_classifier": "head",
    "box_regressor": "box",
    "max_unpool": "unpool",
    "flatten_dense": "head",
    "convolutional_classifier": "head",
    "radial_basis_classifier": "head",
}
"""Short names of the blocks that every family shares; any other block is the body of a network, a "block"."""


def names_of(architecture: Architecture, shapes: Sequence[tuple[int, ...]]) -> tuple[str, ...]:
    """One name a node, each once, all of them Python identifiers. ``shapes`` are the nodes' output shapes.

    What comes before the first body block is the stem; a stage is a run of one height and width; the rest is numbered
    within its stage. Without a body block (a plain chain of convolutions) nodes are called by kind and number.
    """
    body = [i for i, node in enumerate(architecture.nodes) if node.block not in KINDS]
    if not body:
        return _unique([_kind(node) for node in architecture.nodes])
    names = []
    stage, size = 0, shapes[body[0]][1:]
    for i, node in enumerate(architecture.nodes):
        kind = _kind(node)
        if kind == "head":
            names.append("head")
        elif i < body[0]:
            names.append("stem" if i == 0 else f"stem_{kind}")
        elif i > body[-1]:
            names.append(f"final_{kind}")
        else:
            if stage == 0 or shapes[i][1:] != size:
                stage, size = stage + 1, shapes[i][1:]
            names.append(f"stage{stage}_{kind}")
    return _unique(names, always=tuple(name for name in names if name.endswith("_block")))


def _kind(node: Node) -> str:
    return KINDS.get(node.block, "block")


def _unique(names: Sequence[str], always: Sequence[str] = ()) -> tuple[str, ...]:
    """Number the names that stand more than once, and those that are ``always`` numbered: a, b, a -> a1, b, a2."""
    counted: dict[str, int] = {}
    result = []
    for name in names:
        counted[name] = counted.get(name, 0) + 1
        numbered = name in always or names.count(name) > 1
        result.append(f"{name}{counted[name]}" if numbered else name)
    return tuple(result)
