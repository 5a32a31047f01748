"""Architecture -> nn.Module, and what follows from walking its nodes: arguments, shapes, names, fingerprint."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType

from torch import Tensor, nn

from search_spaces import catalogue
from search_spaces.architecture import Architecture, ArchitectureError, Node
from search_spaces.limits import (
    MAX_ACTIVATIONS,
    MAX_MACS,
    MAX_OPERATORS,
    MAX_PARAMS,
    check_limits,
    check_total,
)
from search_spaces.naming import names_of
from search_spaces.profile import Profile, Shape, make, profiled
from search_spaces.signature import checked, input_count

MEANINGS = {
    "classification": "one number a class",
    "segmentation": "one number a class for each pixel",
    "localisation": "one number a class, then the box (centre x, centre y, width, height)",
}
"""What the output of a network says, by the kind of its task."""


@dataclass(frozen=True)
class Walk:
    """An architecture looked into, arguments complete: ``profiles[i]`` and ``names[i]`` belong to ``nodes[i]``."""

    architecture: Architecture
    profiles: tuple[Profile, ...]
    names: tuple[str, ...]

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Output shape of every node without the batch: (channels, height, width), or (numbers,) at the end."""
        return tuple(profile.out_shape for profile in self.profiles)

    def in_shapes(self, node: Node) -> tuple[Shape, ...]:
        every = (self.architecture.task.input_shape, *self.shapes)
        return tuple(every[i] for i in node.inputs)


def resolved(architecture: Architecture) -> Architecture:
    """The same architecture with every argument present.

    Raises ArchitectureError that points at a wrong block, input or argument.
    """
    nodes = []
    for i, node in enumerate(architecture.nodes):
        block = catalogue.BLOCKS.get(node.block)
        if block is None:
            raise ArchitectureError(catalogue.unknown("block", node.block, catalogue.BLOCKS), f"/nodes/{i}/block")
        wanted = input_count(block)
        if wanted is not None and len(node.inputs) != wanted:
            raise ArchitectureError(f"{node.block} reads {wanted} inputs, not {len(node.inputs)}", f"/nodes/{i}/inputs")
        nodes.append(Node(node.block, node.inputs, checked(block, node.args, f"/nodes/{i}/args")))
    return Architecture(architecture.task, tuple(nodes))


def fingerprint(architecture: Architecture) -> str:
    """SHA-256, equal for networks that differ only in node order, dead nodes, order of a sum or written defaults."""
    return resolved(architecture).fingerprint()


def walk(architecture: Architecture) -> Walk:
    """Look into every node on the meta device.

    Raises ArchitectureError where a node cannot be or a total is out of bounds.
    """
    check_limits(architecture)
    complete = resolved(architecture)
    shapes: list[Shape] = [architecture.task.input_shape]
    profiles: list[Profile] = []
    different: set[tuple[str, str, tuple[Shape, ...]]] = set()
    params = macs = floats = operators = 0
    for i, node in enumerate(complete.nodes):
        in_shapes = tuple(shapes[j] for j in node.inputs)
        profile = _profile_of(node, in_shapes, f"/nodes/{i}")
        key = (node.block, repr(node.args), in_shapes)
        operators += 0 if key in different else profile.operators
        different.add(key)
        check_total("operators in different nodes", operators, MAX_OPERATORS, f"/nodes/{i}")
        params, macs, floats = params + profile.params, macs + profile.macs, floats + profile.written
        check_total("parameters", params, MAX_PARAMS, f"/nodes/{i}")
        check_total("multiply-accumulates", macs, MAX_MACS, f"/nodes/{i}")
        check_total("activation values", floats, MAX_ACTIVATIONS, f"/nodes/{i}")
        profiles.append(profile)
        shapes.append(profile.out_shape)
    task = architecture.task
    if shapes[-1] != task.output_shape:
        raise ArchitectureError(
            f"the output has shape {shapes[-1]}; allowed: {task.output_shape}, {MEANINGS[task.kind]}",
            f"/nodes/{len(profiles) - 1}",
        )
    return Walk(complete, tuple(profiles), names_of(complete, shapes[1:]))


def _profile_of(node: Node, in_shapes: tuple[Shape, ...], pointer: str) -> Profile:
    block = catalogue.BLOCKS[node.block]
    try:
        return profiled(block, node.args, in_shapes, input_count(block))
    except Exception as error:  # whatever a block or torch raises for shapes and arguments that do not fit
        shapes = ", ".join("x".join(map(str, shape)) for shape in in_shapes)
        raise ArchitectureError(f"{node.block} cannot be built on {shapes}: {str(error)[:300]}", pointer) from error


def live_nodes(architecture: Architecture) -> tuple[int, ...]:
    """Numbers (1 is the first node) of the nodes that the output depends on, ascending."""
    live = {len(architecture.nodes)}
    for number in range(len(architecture.nodes), 0, -1):
        if number in live:
            live.update(architecture.nodes[number - 1].inputs)
    return tuple(sorted(live - {0}))


def shapes(architecture: Architecture) -> tuple[Shape, ...]:
    """Output shape of every node without the batch."""
    return walk(architecture).shapes


def node_names(architecture: Architecture) -> tuple[str, ...]:
    """Name of every node, as in the built network, its state dict and ``model.py``: "stem", "stage1_block2", "head"."""
    return walk(architecture).names


class Network(nn.Module):
    """The network of an architecture: [batch, channels, height, width] -> [batch, *task.output_shape].

    Dead nodes are left out.
    """

    def __init__(self, looked_into: Walk) -> None:
        super().__init__()
        architecture = looked_into.architecture
        self._steps: list[tuple[int, str, tuple[int, ...]]] = []
        last_reader: dict[int, int] = {}
        for number in live_nodes(architecture):
            node = architecture.nodes[number - 1]
            block = catalogue.BLOCKS[node.block]
            name = looked_into.names[number - 1]
            self.add_module(name, make(block, node.args, looked_into.in_shapes(node), input_count(block)))
            self._steps.append((number, name, node.inputs))
            last_reader.update(dict.fromkeys(node.inputs, number))
        self._forget = {
            number: [i for i, last in last_reader.items() if last == number] for number, _, _ in self._steps
        }

    def forward(self, x: Tensor) -> Tensor:
        values = {0: x}
        for number, name, inputs in self._steps:
            x = self._modules[name](*(values[i] for i in inputs))  # type: ignore[misc]  # never None: set above
            for done in self._forget[number]:
                del values[done]
            values[number] = x
        return x


def build(architecture: Architecture) -> Network:
    """The network with fresh weights from torch's global generator, on the current default device.

    Raises ArchitectureError.
    """
    return Network(walk(architecture))


class _Callable(ModuleType):
    """This module as ``search_spaces.build``: to call it is to call ``build``, whatever was imported first."""

    def __call__(self, architecture: Architecture) -> Network:
        return build(architecture)


sys.modules[__name__].__class__ = _Callable
