"""An architecture is a list of nodes: plain frozen data, JSON both ways, no torch.

``Node(block, inputs, args)``: ``inputs`` name earlier nodes, 0 is the image, node ``i`` of the tuple is number ``i +
1``.
``Architecture(task, nodes)``: the last node is the output.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

VERSION = 1
MAX_NODES = 2_000
MAX_INTEGER = 1_000_000
MAX_LIST = 10_000

Arg = bool | int | float | str | None | tuple["Arg", ...]

TASKS = ("classification", "segmentation", "localisation")
"""What a network can be for: a label an image, a label a pixel, or a label and a box an image."""

COMMUTATIVE = frozenset({"add"})
"""Blocks whose result does not depend on the order of their inputs."""


class ArchitectureError(ValueError):
    """An architecture that cannot be. ``pointer`` is the JSON pointer of the bad value."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(f"{pointer or '/'}: {message}")
        self.pointer = pointer


@dataclass(frozen=True)
class Task:
    """What the network must do: ``input_shape`` is (channels, height, width), ``classes`` counts the labels.

    ``kind`` is one of TASKS. A segmentation counts the background among its classes.
    """

    input_shape: tuple[int, int, int]
    classes: int
    kind: str = "classification"

    def __post_init__(self) -> None:
        if self.kind not in TASKS:
            raise ArchitectureError(f"task kind {self.kind!r}; allowed: {', '.join(TASKS)}", "/task/kind")
        if len(self.input_shape) != 3 or not all(_is_size(n) for n in self.input_shape):
            raise ArchitectureError(
                f"input_shape {self.input_shape!r}; allowed: three integers of 1 to {MAX_INTEGER}", "/task/input_shape"
            )
        if not _is_size(self.classes):
            raise ArchitectureError(
                f"classes {self.classes!r}; allowed: an integer of 1 to {MAX_INTEGER}", "/task/classes"
            )

    @property
    def output_shape(self) -> tuple[int, ...]:
        """What the network must return for one image.

        classification: (classes,), one logit a class. segmentation: (classes, height, width), one logit a class for
        each pixel. localisation: (classes + 4,), the logits, then the box as centre x, centre y, width, height, each a
        share of the image's width or height.
        """
        if self.kind == "segmentation":
            return (self.classes, *self.input_shape[1:])
        return (self.classes + 4 if self.kind == "localisation" else self.classes,)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_INTEGER


@dataclass(frozen=True)
class Node:
    """One block: its name in the catalogue, the numbers of the nodes it reads, and its keyword arguments."""

    block: str
    inputs: tuple[int, ...]
    args: Mapping[str, Arg] = field(default_factory=dict)


@dataclass(frozen=True)
class Architecture:
    """A network as data. Raises ArchitectureError, with a JSON pointer, when it is not well formed or too large."""

    task: Task
    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.nodes) <= MAX_NODES:
            raise ArchitectureError(f"{len(self.nodes)} nodes; allowed: 1 to {MAX_NODES}", "/nodes")
        for i, node in enumerate(self.nodes):
            at = f"/nodes/{i}"
            if not node.inputs or len(node.inputs) > MAX_NODES:
                raise ArchitectureError(f"{len(node.inputs)} inputs; allowed: 1 to {MAX_NODES}", f"{at}/inputs")
            for j, source in enumerate(node.inputs):
                if isinstance(source, bool) or not isinstance(source, int) or not 0 <= source <= i:
                    raise ArchitectureError(
                        f"input {source!r}; allowed: 0 (the image) to {i} (the node before)", f"{at}/inputs/{j}"
                    )
            for name, value in node.args.items():
                _check_arg(value, f"{at}/args/{name}", 0)

    def to_json(self) -> dict[str, Any]:
        """JSON-able form; ``from_json`` is its inverse."""
        return {
            "version": VERSION,
            "task": {"kind": self.task.kind, "input_shape": list(self.task.input_shape), "classes": self.task.classes},
            "nodes": [
                {"block": n.block, "inputs": list(n.inputs), "args": {k: _plain(v) for k, v in n.args.items()}}
                for n in self.nodes
            ],
        }

    @staticmethod
    def from_json(data: Any) -> Architecture:
        """Architecture from parsed JSON. Raises ArchitectureError that points at the bad value."""
        body = _object(data, "", {"version", "task", "nodes"})
        if body["version"] != VERSION or isinstance(body["version"], bool):
            raise ArchitectureError(f"version {body['version']!r}; allowed: {VERSION}", "/version")
        task = _object(body["task"], "/task", {"kind", "input_shape", "classes"})
        shape = _list(task["input_shape"], "/task/input_shape")
        nodes = []
        for i, item in enumerate(_list(body["nodes"], "/nodes")):
            node = _object(item, f"/nodes/{i}", {"block", "inputs", "args"})
            if not isinstance(node["block"], str):
                raise ArchitectureError(
                    f"block {node['block']!r}; allowed: a name of the catalogue", f"/nodes/{i}/block"
                )
            if not isinstance(node["args"], Mapping):
                raise ArchitectureError("args must be an object", f"/nodes/{i}/args")
            args = {str(name): frozen(value, f"/nodes/{i}/args/{name}") for name, value in node["args"].items()}
            nodes.append(Node(node["block"], tuple(_list(node["inputs"], f"/nodes/{i}/inputs")), args))
        return Architecture(Task(tuple(shape), task["classes"], task["kind"]), tuple(nodes))

    def canonical(self) -> Architecture:
        """The same network without dead nodes, numbered in the order a walk back from the output first meets them.

        Two architectures that differ in node order, in nodes that nothing reads, or in the order of a sum's terms
        have equal canonical forms.
        """
        digests = ["image"]
        for node in self.nodes:
            terms = [digests[i] for i in node.inputs]
            terms = sorted(terms) if node.block in COMMUTATIVE else terms
            digests.append(_digest([node.block, _sorted_args(node), terms]))
        numbers = {0: 0}
        kept: list[Node] = []
        stack = [len(self.nodes)]
        while stack:
            number = stack[-1]
            if number in numbers:
                stack.pop()
                continue
            node = self.nodes[number - 1]
            inputs = sorted(node.inputs, key=lambda i: digests[i]) if node.block in COMMUTATIVE else list(node.inputs)
            waiting = [i for i in inputs if i not in numbers]
            if waiting:
                stack.extend(reversed(waiting))
                continue
            stack.pop()
            kept.append(Node(node.block, tuple(numbers[i] for i in inputs), dict(sorted(node.args.items()))))
            numbers[number] = len(kept)
        return Architecture(self.task, tuple(kept))

    def fingerprint(self) -> str:
        """SHA-256 of the canonical form in hexadecimal: equal for networks that differ only in how they are written.

        Arguments count as written: give ``build.resolved(architecture)`` when arguments may be left to their defaults.
        """
        return _digest(self.canonical().to_json())


def frozen(value: Any, pointer: str = "", depth: int = 0) -> Arg:
    """A JSON value as an argument of a block: scalars, or tuples of them. Raises ArchitectureError otherwise."""
    if isinstance(value, (list, tuple)):
        if depth > 4:
            raise ArchitectureError("lists are nested deeper than 4", pointer)
        return tuple(frozen(item, f"{pointer}/{i}", depth + 1) for i, item in enumerate(value))
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ArchitectureError(
        f"{type(value).__name__} is not allowed; allowed: bool, int, float, str, null and lists of them", pointer
    )


def _check_arg(value: Arg, pointer: str, depth: int) -> None:
    if isinstance(value, tuple):
        if len(value) > MAX_LIST or depth > 4:
            raise ArchitectureError(f"a list of {len(value)}; allowed: at most {MAX_LIST} long and 4 deep", pointer)
        for i, item in enumerate(value):
            _check_arg(item, f"{pointer}/{i}", depth + 1)
    elif isinstance(value, str):
        if len(value) > 200:
            raise ArchitectureError(f"a string of {len(value)} characters; allowed: 200", pointer)
    elif isinstance(value, (bool, type(None))):
        return
    elif isinstance(value, (int, float)):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:  # NaN fails as well
            raise ArchitectureError(f"{value!r}; allowed: finite numbers of at most {MAX_INTEGER}", pointer)
    else:
        raise ArchitectureError(
            f"{type(value).__name__} is not allowed; allowed: bool, int, float, str, None and tuples of them", pointer
        )


def _plain(value: Arg) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _sorted_args(node: Node) -> list[list[Any]]:
    return [[name, _plain(value)] for name, value in sorted(node.args.items())]


def _digest(value: Any) -> str:
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    ).hexdigest()


def _object(value: Any, pointer: str, keys: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ArchitectureError(f"{type(value).__name__}; allowed: an object", pointer)
    if set(value) != keys:
        raise ArchitectureError(f"keys {sorted(map(str, value))}; allowed: exactly {sorted(keys)}", pointer)
    return value


def _list(value: Any, pointer: str) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise ArchitectureError(f"{type(value).__name__}; allowed: a list", pointer)
    return value
