"""Small networks around every block, made from its signature, so that a new block needs no example of its own."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain, product
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from search_spaces.architecture import TASKS, Architecture, ArchitectureError, Arg, Node, Task
from search_spaces.build import walk
from search_spaces.catalogue import BLOCKS, REFERENCES, SPACES
from search_spaces.choose import SpaceError, first
from search_spaces.signature import arguments, input_count

TASK = Task((3, 8, 8), 10)
CHANNELS = 16


def example(hint: Any, number: int) -> Any:
    """A value of a type: ``number`` for integers, the first of several choices, two items for an open tuple."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return inner[0]
    if origin in (Union, UnionType):
        return None if NoneType in inner else example(inner[0], number)
    if origin is tuple:
        items = (inner[0],) * 2 if inner[-1] is ... else inner
        return tuple(example(item, number) for item in items)
    return {bool: True, int: number, float: 0.5, str: "x"}[hint]


def around(name: str, **chosen: Arg) -> Architecture:
    """An image of 8x8 pixels, a convolution to 16 channels, the block, and what makes its output an answer.

    Arguments that have no default and are not ``chosen`` get the first number that fits; where none does, as for a
    list of edges, they are those that a reference or a space gives the block. Inputs have 8x8 or 4x4 pixels, or are the
    image. A head may be for any kind of task. Raises ArchitectureError where nothing fits.
    """
    block = BLOCKS[name]
    needed = {key: field.annotation for key, field in arguments(block).model_fields.items() if field.is_required()}
    failure: ArchitectureError | None = None
    numbers = [{key: example(hint, number) for key, hint in needed.items()} for number in (8, 4, 1, 32)]
    for given in chain(numbers[:2], used(name), numbers[2:]):
        args = {key: TASK.classes if key == "classes" else value for key, value in given.items()} | chosen
        for inputs in product((1, 2, 0), repeat=input_count(block) or 2):
            nodes = (
                Node("conv_norm_act", (0,), {"out_channels": CHANNELS}),
                Node("pool", (1,)),
                Node(name, inputs, args),
            )
            head = Node("classifier", (3,), {"classes": TASK.classes})
            box = (Node("classifier", (1,), {"classes": TASK.classes}), Node("concat", (4, 3)))
            endings = (*((kind, ()) for kind in TASKS), ("classification", (head,)), ("localisation", box))
            for kind, ending in endings:
                try:
                    return walk(Architecture(replace(TASK, kind=kind), (*nodes, *ending))).architecture
                except ArchitectureError as error:
                    failure = error
    assert failure is not None
    raise failure


def used(name: str) -> Iterator[dict[str, Arg]]:
    """Arguments that references and the smallest samples of spaces give a block."""
    builders = (*(r.build for r in REFERENCES.values()), *(partial(s.bound(TASK), first) for s in SPACES.values()))
    for build in builders:
        with suppress(ArchitectureError, SpaceError):
            yield from (dict(node.args) for node in build().nodes if node.block == name)


def side_by_side(names: Iterable[str]) -> Architecture:
    """One network of several blocks side by side: the outputs of ``around`` of each, maps averaged, in one row.

    The task is a localisation because that may have any number of outputs from five on.
    """
    nodes: list[Node] = [Node("conv_norm_act", (0,), {"out_channels": CHANNELS}), Node("pool", (1,))]
    answers = []
    for name in names:
        start = len(nodes) + 1
        one = around(name)
        for node in one.nodes[2:]:
            inputs = tuple(i if i <= 2 else i - 3 + start for i in node.inputs)
            nodes.append(Node(node.block, inputs, node.args))
        if one.task.kind == "segmentation":
            nodes.append(Node("classifier", (len(nodes),), {"classes": TASK.classes}))
        answers.append((len(nodes), TASK.classes + 4 * (one.task.kind == "localisation")))
    task = replace(TASK, classes=sum(width for _, width in answers) - 4, kind="localisation")
    return Architecture(task, (*nodes, Node("concat", tuple(number for number, _ in answers), {})))


def renumbered(architecture: Architecture, rng: random.Random) -> Architecture:
    """The same network, its nodes in another order that keeps readers behind what they read, and with a dead node."""
    nodes = [
        Node("pool", (0,)),
        *(Node(n.block, tuple(i + 1 if i else 0 for i in n.inputs), n.args) for n in architecture.nodes),
    ]
    waiting = {number: set(node.inputs) - {0} for number, node in enumerate(nodes, 1)}
    readers: dict[int, list[int]] = {}
    for number, inputs in waiting.items():
        for i in inputs:
            readers.setdefault(i, []).append(number)
    ready = [number for number, inputs in waiting.items() if not inputs]
    order: list[int] = []
    while ready:
        number = rng.choice([n for n in ready if n != len(nodes)] or ready)
        ready.remove(number)
        order.append(number)
        for reader in readers.get(number, []):
            waiting[reader].discard(number)
            if not waiting[reader]:
                ready.append(reader)
    new = {0: 0, **{number: place for place, number in enumerate(order, 1)}}
    moved = [nodes[number - 1] for number in order]
    return Architecture(architecture.task, tuple(Node(n.block, tuple(new[i] for i in n.inputs), n.args) for n in moved))
