"""Larger and smaller networks of the same design: depth, width, resolution, cells and filters, data.

Sources: compound scaling 1905.11946; N and F of stacked cells 1707.07012.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, lcm

from search_spaces import catalogue
from search_spaces.architecture import Architecture, ArchitectureError, Arg, Node, Task
from search_spaces.auxiliary import BLOCK as AUXILIARY
from search_spaces.auxiliary import with_heads_in_body
from search_spaces.build import Walk, resolved, walk
from search_spaces.naming import KINDS
from search_spaces.profile import Shape, profiled
from search_spaces.signature import input_count
from search_spaces.space import downsampling
from search_spaces.spaces.chain import CellStack, divisible
from search_spaces.tasks import with_task

WIDTH = re.compile(
    r"(\w+_)?(channels|width|filters|features|growth|growth_rate)|(branch|reduce|expand)\d\w*|\w*projection"
)
"""Names of the arguments that count channels."""
WIDTHS = re.compile(r"widths|single|double|split|deep|flattened|first|second|branch3")
"""Names of the arguments that list channels of convolutions or units of layers one behind the other."""


@dataclass(frozen=True)
class Run:
    """Nodes that repeat one block: ``numbers`` in a row, the first may have a stride. It can be made longer."""

    numbers: tuple[int, ...]

    @property
    def last(self) -> int:
        return self.numbers[-1]


def runs(looked_into: Walk) -> tuple[Run, ...]:
    """Runs of equal body blocks, in order; of convolutions where a network has no other body.

    A run of one node is one where a copy of it keeps the shape.
    """
    nodes = looked_into.architecture.nodes
    body = [i for i, node in enumerate(nodes, 1) if node.block not in KINDS] or [
        i for i, node in enumerate(nodes, 1) if KINDS[node.block] == "conv"
    ]
    found: list[list[int]] = []
    for number in body:
        node = nodes[number - 1]
        before = found[-1][-1] if found else 0
        if before and node.inputs == (before,) and _alike(nodes[before - 1], node):
            found[-1].append(number)
        else:
            found.append([number])
    return tuple(Run(tuple(numbers)) for numbers in found if _can_repeat(looked_into, numbers[-1]))


def _alike(one: Node, two: Node) -> bool:
    """Whether two nodes repeat one another: same block and arguments, but for the stride of the first."""
    return one.block == two.block and copy_of(one).args == copy_of(two).args


def copy_of(node: Node) -> Node:
    """The node as it is repeated: without its stride."""
    stride = node.args.get("stride")
    if stride is None:
        return node
    return Node(
        node.block, node.inputs, {**node.args, "stride": (1,) * len(stride) if isinstance(stride, tuple) else 1}
    )


def _can_repeat(looked_into: Walk, number: int) -> bool:
    node, shape = looked_into.architecture.nodes[number - 1], looked_into.shapes[number - 1]
    if len(node.inputs) != 1:
        return False
    try:
        return _shape_of(copy_of(node), (shape,)) == shape
    except Exception:  # whatever a block or torch raises: then it cannot be repeated
        return False


def _shape_of(node: Node, in_shapes: tuple[Shape, ...]) -> Shape:
    block = catalogue.BLOCKS[node.block]
    return profiled(block, node.args, in_shapes, input_count(block)).out_shape


def with_lengths(architecture: Architecture, lengths: Mapping[Run, int]) -> Architecture:
    """The architecture with runs made longer or shorter: the new length of each; at least 1.

    The last node of a run is repeated, and the last ones are left out.
    """
    longer = {run.last: (len(run.numbers), length) for run, length in lengths.items()}
    dropped = {number for run, length in lengths.items() for number in run.numbers[max(length, 1) :]}
    numbers = {0: 0}
    nodes: list[Node] = []
    for number, node in enumerate(architecture.nodes, 1):
        inputs = tuple(numbers[i] for i in node.inputs)
        if number in dropped:
            numbers[number] = inputs[0]
        else:
            nodes.append(Node(node.block, inputs, node.args))
            numbers[number] = len(nodes)
        have, wanted = longer.get(number, (0, 0))
        for _ in range(wanted - have):
            copied = copy_of(node)
            nodes.append(Node(copied.block, (len(nodes),), copied.args))
            numbers[number] = len(nodes)
    return Architecture(architecture.task, tuple(nodes))


def with_widths(architecture: Architecture, factors: Mapping[int, float], task: Task | None = None) -> Architecture:
    """The architecture with the channels of some nodes, by number, multiplied and rounded to multiples of 8.

    Groups go on dividing them; a depthwise convolution follows its input. Raises ArchitectureError where a node does
    not fit the ones before any more.
    """
    complete = resolved(architecture)
    target = task or complete.task
    old = [complete.task.input_shape, *walk(complete).shapes]
    new: list[Shape] = [target.input_shape]
    nodes = []
    for number, node in enumerate(complete.nodes, 1):
        in_old, in_new = old[node.inputs[0]][0], new[node.inputs[0]][0]
        scaled = Node(node.block, node.inputs, _widened(node.args, factors.get(number, 1.0), in_old, in_new))
        try:
            new.append(_shape_of(scaled, tuple(new[i] for i in node.inputs)))
        except Exception as error:  # whatever a block or torch raises for channels that do not fit
            raise ArchitectureError(
                f"{node.block} does not fit any more: {str(error)[:300]}", f"/nodes/{number - 1}"
            ) from error
        nodes.append(scaled)
    return Architecture(target, tuple(nodes))


def _widened(args: Mapping[str, Arg], factor: float, in_old: int, in_new: int) -> dict[str, Arg]:
    """Arguments of a node with every count of channels multiplied by ``factor``."""
    found = dict(args)
    groups = args.get("groups", 1)
    groups = groups if isinstance(groups, int) else 1
    if groups == in_old > 1 and in_new != in_old and "out_channels" in args and "width" not in args:  # depthwise
        found["groups"] = in_new
        found["out_channels"] = in_new * (_integer(args["out_channels"]) // in_old)
        return found
    if isinstance(args.get("new_channels"), int):  # stands beside the pooled input: what both make together grows
        total = _integer(args["new_channels"]) + in_old
        found["new_channels"] = max(1, (total if factor == 1.0 else divisible(total * factor)) - in_new)
        return found
    if factor == 1.0:
        return found
    if "expand3" in args:  # in a Fire module this counts channels, elsewhere it is a share
        found["squeeze"] = divisible(_integer(args["squeeze"]) * factor)
    for name, value in args.items():
        if WIDTHS.fullmatch(name) and isinstance(value, tuple):
            found[name] = tuple(divisible(n * factor) if isinstance(n, int) else n for n in value)
        if WIDTH.fullmatch(name) and isinstance(value, int) and not isinstance(value, bool) and value > 1:
            inside = 4 * groups if args.get("width") == 0 and groups > 1 else groups
            found[name] = divisible(value * factor, lcm(8, inside))
    return found


def _integer(value: Arg) -> int:
    return value if isinstance(value, int) else 1


def scaled(
    architecture: Architecture, depth: float = 1.0, width: float = 1.0, task: Task | None = None
) -> Architecture:
    """The architecture with ``depth`` times the blocks of each run, rounded up, and ``width`` times the channels.

    ``task`` is what it is for then: another image size, another number of classes. Released coefficients of
    EfficientNet applied to B0 give B1 to B7. Raises ArchitectureError where that cannot be built.
    """
    looked_into = walk(architecture)
    deeper = looked_into.architecture
    if depth != 1.0:
        deeper = with_lengths(deeper, {run: ceil(depth * len(run.numbers)) for run in runs(looked_into)})
    target = task or deeper.task
    fitted = Architecture(deeper.task, tuple(_with_classes(node, target.classes) for node in deeper.nodes))
    fitted = Architecture(Task(deeper.task.input_shape, target.classes, target.kind), fitted.nodes)
    wider = with_widths(fitted, dict.fromkeys(range(1, len(fitted.nodes) + 1), width), target)
    return walk(wider).architecture


def compound(
    architecture: Architecture, phi: float, alpha: float, beta: float, gamma: float, classes: int | None = None
) -> Architecture:
    """Compound scaling: depth * alpha^phi, width * beta^phi, height and width of the image * gamma^phi."""
    channels, height, width = architecture.task.input_shape
    size = (round(height * gamma**phi), round(width * gamma**phi))
    task = Task((channels, *size), classes or architecture.task.classes, architecture.task.kind)
    return scaled(architecture, alpha**phi, beta**phi, task)


def _with_classes(node: Node, classes: int) -> Node:
    return Node(node.block, node.inputs, {**node.args, "classes": classes} if "classes" in node.args else node.args)


def restacked(
    architecture: Architecture,
    cells: int,
    filters: int,
    task: Task | None = None,
    stem: int | None = None,
    skip_reductions: bool = False,
) -> Architecture:
    """The cells of an architecture stacked anew: ``cells`` (N) in a stack, ``filters`` (F) in the first stack.

    NASNet's cells, which read two before them, get the stem that the image size wants, as in the paper: from 128
    pixels on a strided convolution with ``stem`` channels and two reduction cells. ``skip_reductions``: the cell after
    a reduction reads what stands two before it. Any other network keeps its plan: runs of its most frequent block get
    ``cells`` blocks, and all channels are multiplied so that the first run has ``filters``.
    """
    complete = resolved(architecture)
    if any(node.block == "nasnet_cell" for node in complete.nodes):
        return _restacked_nasnet(complete, cells, filters, task or complete.task, stem, skip_reductions)
    looked_into = walk(complete)
    found = runs(looked_into)
    if not found:
        raise ArchitectureError("no block that can be repeated: cells and filters mean nothing here", "/nodes")
    often = Counter(complete.nodes[run.last - 1].block for run in found).most_common(1)[0][0]
    chosen = [run for run in found if complete.nodes[run.last - 1].block == often]
    longer = with_lengths(complete, dict.fromkeys(chosen, cells))
    return scaled(longer, width=filters / looked_into.shapes[chosen[0].last - 1][0], task=task)


def _restacked_nasnet(
    complete: Architecture, cells: int, filters: int, task: Task, stem: int | None, skip_reductions: bool
) -> Architecture:
    cell_nodes = [node for node in complete.nodes if node.block == "nasnet_cell"]
    normal = [node for node in cell_nodes if not node.args["reduction"]]
    reductions = [node for node in cell_nodes if node.args["reduction"]]
    if not normal or not reductions:
        raise ArchitectureError("no normal or no reduction cell to stack; allowed: at least one of each", "/nodes")
    one_cell = normal[0].args["nodes"] == reductions[0].args["nodes"]
    """PNASNet: the first cell of a stack is the same one with a stride, and counts among N."""
    stacks = len(dict.fromkeys(node.args["channels"] for node in normal))
    shifted = any(node.args["shifted"] for node in cell_nodes)
    stack = CellStack((task.input_shape[1], task.input_shape[2]))
    if stem is None:
        first = next(node for node in complete.nodes if node.block == "conv_norm_act")
        stem = _integer(first.args["out_channels"])

    def add(kind: Sequence[Node], channels: int, skipped: bool = False, previous: str = "") -> None:
        args = kind[0].args
        reduction = bool(args["reduction"])
        shift = {"shifted": True} if shifted and reduction and stack.size[0] % 2 == 0 and not previous else {}
        kept = previous or ("always" if any(c.args["previous"] == "always" for c in kind) and stack.even else "")
        own: dict[str, Arg] = {"previous": kept} if kept else {}
        stack.cell(channels, args["nodes"], reduction, skipped, output=args["output"], **shift, **own)  # type: ignore[arg-type]

    if task.input_shape[1] >= 128:
        stack.stem(stem, stride=2, padding="valid")
        add(reductions, max(2, filters // 4), previous="raw")
        add(reductions, max(2, filters // 2))
    else:
        stack.stem(stem)
    for i, stride in enumerate(downsampling(stack.size, stacks)):
        if stride == 2:
            add(reductions, filters * 2**i, skip_reductions)
        for _ in range(cells - (stride == 2 and one_cell)):
            add(normal, filters * 2**i)
    network = stack.architecture(replace(task, kind="classification"), dropout=_dropout(complete))
    forms = [str(node.args["form"]) for node in complete.nodes if node.block == AUXILIARY]
    if forms:
        network = with_heads_in_body(network, "nasnet_cell", (2 / 3,), forms[0])
    box = next((node.args for node in complete.nodes if node.block == "box_regressor"), {})
    return resolved(with_task(network, task.kind, **box))


def _dropout(architecture: Architecture) -> float:
    """Dropout before the classifier; 0 where the network has none."""
    found = [node.args["dropout"] for node in architecture.nodes if {"classes", "dropout"} <= node.args.keys()]
    return float(found[-1]) if found and isinstance(found[-1], int | float) else 0.0
