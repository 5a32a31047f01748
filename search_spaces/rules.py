"""Design rules as data: named constraints on an architecture, each with its reason and where it comes from.

A rule looks into the layers that stand inside the nodes, so it holds for every block, also for one of a plug-in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from search_spaces import catalogue
from search_spaces.architecture import Arg, Node
from search_spaces.build import Walk, live_nodes
from search_spaces.cost import costs_of
from search_spaces.naming import KINDS
from search_spaces.profile import Path, Shape, make
from search_spaces.rule_names import RuleName
from search_spaces.signature import input_count, remembered

MEMORY_BUDGET_MB = 8_000.0
EXPENSIVE_FROM = 128
"""Channels from which a dense convolution with a kernel above 1 counts as expensive."""


@dataclass(frozen=True)
class Broken:
    """A rule that an architecture breaks: at which node (its name in the built network), and how."""

    rule: str
    node: str
    reason: str


@dataclass(frozen=True)
class Rule:
    """A design rule: ``check(walk)`` yields (node number, reason) wherever it is broken."""

    name: RuleName
    summary: str
    source: str
    check: Callable[[Walk], Iterator[tuple[int, str]]]


def broken(looked_into: Walk, names: Iterable[str]) -> tuple[Broken, ...]:
    """For each of the rules called ``names`` that the architecture breaks, the first place where it does.

    Raises UnknownNameError.
    """
    found = []
    for name in names:
        if name not in RULES:
            raise catalogue.UnknownNameError(catalogue.unknown("rule", name, RULES))
        for number, reason in RULES[name].check(looked_into):
            found.append(Broken(name, looked_into.names[number - 1], reason))
            break
    return tuple(found)


# -- looking into nodes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A convolution or a linear layer inside a node; kernel and stride (1, 1) and ``linear`` for the latter."""

    in_channels: int
    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    groups: int
    linear: bool

    @property
    def depthwise(self) -> bool:
        return self.groups == self.in_channels > 1

    @property
    def dense(self) -> bool:
        return self.groups == 1

    @property
    def large(self) -> bool:
        """Larger than 3 on both sides: two smaller ones do the same with fewer weights."""
        return min(self.kernel) > 3


def layers(looked_into: Walk, number: int) -> tuple[Layer, ...]:
    """Convolutions and linear layers of a node, in the order in which its block defines them."""
    node = looked_into.architecture.nodes[number - 1]
    return _layers(node.block, tuple(node.args.items()), repr(node.args), looked_into.in_shapes(node))


@remembered
def _layers(
    block: str, args: tuple[tuple[str, Arg], ...], typed_args: str, in_shapes: tuple[Shape, ...]
) -> tuple[Layer, ...]:
    found = []
    with torch.device("meta"):
        module = make(catalogue.BLOCKS[block], dict(args), in_shapes, input_count(catalogue.BLOCKS[block]))
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            kernel, stride = tuple(layer.kernel_size), tuple(layer.stride)
            found.append(Layer(layer.in_channels, layer.out_channels, kernel, stride, layer.groups, False))
        elif isinstance(layer, nn.Linear):
            found.append(Layer(layer.in_features, layer.out_features, (1, 1), (1, 1), 1, True))
    return tuple(found)


def _images(looked_into: Walk) -> list[int]:
    """Numbers of the live nodes whose output is an image, not a vector."""
    return [i for i in live_nodes(looked_into.architecture) if len(looked_into.shapes[i - 1]) == 3]


def _stages(looked_into: Walk) -> list[list[int]]:
    """Live nodes with images, by size: largest first."""
    sizes: dict[tuple[int, ...], list[int]] = {}
    for number in _images(looked_into):
        sizes.setdefault(looked_into.shapes[number - 1][1:], []).append(number)
    return [sizes[size] for size in sorted(sizes, reverse=True)]


def _channels(looked_into: Walk, number: int) -> int:
    return looked_into.architecture.task.input_shape[0] if number == 0 else looked_into.shapes[number - 1][0]


def _side(looked_into: Walk, number: int) -> int:
    shape = looked_into.architecture.task.input_shape if number == 0 else looked_into.shapes[number - 1]
    return min(shape[1:]) if len(shape) == 3 else 1


def _node(looked_into: Walk, number: int) -> Node:
    return looked_into.architecture.nodes[number - 1]


# -- the rules ---------------------------------------------------------------------------------------------------------


def _monotone_width(looked_into: Walk) -> Iterator[tuple[int, str]]:
    for before, after in pairwise(_stages(looked_into)):
        wide, narrow = _channels(looked_into, before[-1]), _channels(looked_into, after[-1])
        if narrow < wide:
            yield after[-1], f"{narrow} channels at the end of a stage, {wide} at the end of the one before"


def _pyramid(looked_into: Walk) -> Iterator[tuple[int, str]]:
    stages = [stage for stage in _stages(looked_into) if any(_is_body(looked_into, i) for i in stage)]
    for before, after in pairwise(stages):
        last = max(i for i in after if _is_body(looked_into, i))
        first = max(i for i in before if _is_body(looked_into, i))
        shrink = _side(looked_into, first) / _side(looked_into, last)
        growth = _channels(looked_into, last) / _channels(looked_into, first)
        if not 0.75 * shrink <= growth <= 1.25 * shrink:
            yield last, f"the side shrinks {shrink:.3g} times and the channels grow {growth:.3g} times"


def _is_body(looked_into: Walk, number: int) -> bool:
    """Whether a node belongs to the body: any block but the shared ones, or any convolution where there is no other."""
    nodes = looked_into.architecture.nodes
    only_plain = all(node.block in KINDS for node in nodes)
    return KINDS.get(nodes[number - 1].block) == "conv" if only_plain else nodes[number - 1].block not in KINDS


def _small_kernels(looked_into: Walk) -> Iterator[tuple[int, str]]:
    for number in live_nodes(looked_into.architecture):
        for layer in layers(looked_into, number):
            if layer.large and not layer.depthwise:
                yield number, f"a kernel of {layer.kernel[0]}x{layer.kernel[1]}; 3x3 in a row see as much for less"


def _small_stem(looked_into: Walk) -> Iterator[tuple[int, str]]:
    for number in live_nodes(looked_into.architecture):
        found = layers(looked_into, number)
        if found:
            for layer in found:
                if layer.large:
                    yield number, f"the stem has a kernel of {layer.kernel[0]}x{layer.kernel[1]}"
            return


def _reduced_before_expensive(looked_into: Walk) -> Iterator[tuple[int, str]]:
    for number in live_nodes(looked_into.architecture):
        read = max(_channels(looked_into, i) for i in _node(looked_into, number).inputs)
        before = _reducing_from(looked_into, number)
        for layer in layers(looked_into, number):
            expensive = layer.dense and min(layer.kernel) > 1 and layer.in_channels >= EXPENSIVE_FROM
            if expensive and layer.in_channels > max(read, before) / 2:
                yield (
                    number,
                    f"a {layer.kernel[0]}x{layer.kernel[1]} convolution reads {layer.in_channels} channels unreduced",
                )


def _reducing_from(looked_into: Walk, number: int) -> int:
    """Channels that a bare 1x1 convolution right before a node reads; 0 where none stands there."""
    source = _node(looked_into, number).inputs[0]
    if source == 0:
        return 0
    found = layers(looked_into, source)
    return found[0].in_channels if len(found) == 1 and max(found[0].kernel) == 1 and not found[0].linear else 0


def _two_layers_per_shortcut(looked_into: Walk) -> Iterator[tuple[int, str]]:
    for number in live_nodes(looked_into.architecture):
        node = _node(looked_into, number)
        if node.block == "add":
            depths = [_depth_between(looked_into, min(node.inputs), i) for i in node.inputs if i != min(node.inputs)]
            short = [depth for depth in depths if depth is not None and depth < 2]
            if short:
                yield number, f"a shortcut around {short[0]} layer; allowed: at least 2"
        elif _passes_on(looked_into, number):
            path = looked_into.profiles[number - 1].paths[0]
            if path is not None and path.depth < 2:
                yield number, f"a shortcut around {path.depth} layer; allowed: at least 2"


def _depth_between(looked_into: Walk, start: int, end: int) -> int | None:
    """Convolutions on the longest way from one node to another; None where there is no way."""
    depths: dict[int, int] = {start: 0}
    for number in range(start + 1, end + 1):
        node, profile = _node(looked_into, number), looked_into.profiles[number - 1]
        ways = [
            depths[i] + path.depth
            for i, path in zip(node.inputs, profile.paths, strict=True)
            if i in depths and isinstance(path, Path)
        ]
        if ways:
            depths[number] = max(ways)
    return depths.get(end)


def _passes_on(looked_into: Walk, number: int) -> bool:
    """Whether a node with weights is a residual block: with all weights zero it hands on its input."""
    node = _node(looked_into, number)
    shapes = looked_into.in_shapes(node)
    if len(shapes) != 1 or looked_into.shapes[number - 1] != shapes[0] or len(shapes[0]) != 3:
        return False
    if not layers(looked_into, number):
        return False
    return _is_residual(node.block, tuple(node.args.items()), repr(node.args), shapes[0][0])


@remembered
def _is_residual(block: str, args: tuple[tuple[str, Arg], ...], typed_args: str, channels: int) -> bool:
    shape = (channels, 4, 4)
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        module = make(catalogue.BLOCKS[block], dict(args), (shape,), 1).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        return bool(module(torch.ones(1, *shape)).abs().sum() > 0)


def _depthwise_with_pointwise(looked_into: Walk) -> Iterator[tuple[int, str]]:
    alive = live_nodes(looked_into.architecture)
    for number in alive:
        found = layers(looked_into, number)
        last = max((i for i, layer in enumerate(found) if layer.depthwise), default=-1)
        if last < 0 or any(layer.dense for layer in found[last + 1 :]):
            continue
        readers = [i for i in alive if number in _node(looked_into, i).inputs]
        if not readers or not all(_mixes(looked_into, reader, alive) for reader in readers):
            yield number, "a depthwise convolution is not followed by a pointwise one: channels are never mixed"


def _mixes(looked_into: Walk, number: int, alive: Sequence[int]) -> bool:
    """Whether the first layer from here on mixes channels."""
    found = layers(looked_into, number)
    if found:
        return found[0].dense
    readers = [i for i in alive if number in _node(looked_into, i).inputs]
    return bool(readers) and all(_mixes(looked_into, reader, alive) for reader in readers)


def _homogeneous_stages(looked_into: Walk) -> Iterator[tuple[int, str]]:
    for stage in _stages(looked_into):
        kinds: dict[str, int] = {}
        for number in stage:
            node = _node(looked_into, number)
            downsamples = max(_side(looked_into, i) for i in node.inputs) > _side(looked_into, number)
            if node.block not in KINDS and not downsamples:
                kinds.setdefault(node.block, number)
        if len(kinds) > 1:
            one, two = list(kinds)[:2]
            yield kinds[two], f"{two} in one stage with {one}"


def _max_pooling(looked_into: Walk) -> Iterator[tuple[int, str]]:
    for number in _images(looked_into):
        node = _node(looked_into, number)
        if _side(looked_into, number) >= max(_side(looked_into, i) for i in node.inputs):
            continue
        if node.block == "pool" and node.args.get("kind") == "max":
            continue
        padded_less = not any(max(layer.stride) > 1 for layer in layers(looked_into, number)) and node.block != "pool"
        if padded_less and layers(looked_into, number):
            continue  # an unpadded convolution loses its border: no downsampling
        yield number, f"{node.block} makes the image smaller; allowed: a pool of kind max"


def _width_before_pooling(looked_into: Walk) -> Iterator[tuple[int, str]]:
    seen = looked_into.architecture.task.input_shape[0]
    for number in _images(looked_into):
        if _node(looked_into, number).block == "pool":
            channels = _channels(looked_into, _node(looked_into, number).inputs[0])
            if channels < seen:
                yield number, f"{channels} channels enter this pool, {seen} the one before"
            seen = channels


def _no_raw_pixel_mlp(looked_into: Walk) -> Iterator[tuple[int, str]]:
    for number in live_nodes(looked_into.architecture):
        found = layers(looked_into, number)
        if found:
            if found[0].linear:
                yield number, "the first layer is linear: it sees pixels without their neighbourhood"
            return


def _light_head(looked_into: Walk) -> Iterator[tuple[int, str]]:
    heavy = {
        number: sum(layer.in_channels * layer.out_channels for layer in layers(looked_into, number) if layer.linear)
        for number in live_nodes(looked_into.architecture)
    }
    total = sum(looked_into.profiles[number - 1].params for number in heavy)
    if sum(heavy.values()) > total / 2:
        worst = max(heavy, key=lambda number: heavy[number])
        yield worst, f"{sum(heavy.values()):,} of {total:,} parameters are in linear layers; allowed: half"


def _memory_budget(looked_into: Walk) -> Iterator[tuple[int, str]]:
    memory = costs_of(looked_into).memory_mb
    if memory > MEMORY_BUDGET_MB:
        alive = live_nodes(looked_into.architecture)
        worst = max(alive, key=lambda number: looked_into.profiles[number - 1].written)
        yield worst, f"training would take about {memory:,.0f} MB; allowed: {MEMORY_BUDGET_MB:,.0f}; most of it here"


_ALL = (
    Rule("monotone_width", "Channels never fall from stage to stage.", "as depth grows, width grows", _monotone_width),
    Rule(
        "pyramid",
        "Channels grow as the side of the image shrinks, within a quarter: twice as many at half the side.",
        "smooth downsampling while channels double: VGG, ResNet",
        _pyramid,
    ),
    Rule(
        "small_kernels", "No kernel above 3x3, depthwise and 1xn ones aside.", "1409.1556, 1512.00567", _small_kernels
    ),
    Rule("small_stem", "No kernel above 3x3 in the first layer.", "1409.1556, 1512.00567", _small_stem),
    Rule(
        "reduced_before_expensive",
        f"Dense kernels above 1x1 that read {EXPENSIVE_FROM} channels or more read at most half of what came.",
        "1x1 before the expensive convolution: 1312.4400, 1409.4842",
        _reduced_before_expensive,
    ),
    Rule(
        "two_layers_per_shortcut", "A shortcut goes around at least two layers.", "1512.03385", _two_layers_per_shortcut
    ),
    Rule(
        "depthwise_with_pointwise",
        "After a depthwise convolution the next one mixes channels.",
        "1704.04861",
        _depthwise_with_pointwise,
    ),
    Rule(
        "homogeneous_stages",
        "One kind of block between two downsamplings, those themselves aside.",
        "modular design: VGG on",
        _homogeneous_stages,
    ),
    Rule("max_pooling", "Only maximum pools make images smaller.", "preferred in VGG and before", _max_pooling),
    Rule(
        "width_before_pooling",
        "What enters a pool is never narrower than before the last.",
        "1512.00567",
        _width_before_pooling,
    ),
    Rule("no_raw_pixel_mlp", "The first layer is a convolution.", "spatial correlation of pixels", _no_raw_pixel_mlp),
    Rule("light_head", "At most half of the parameters are in linear layers.", "1312.4400", _light_head),
    Rule(
        "memory_budget",
        f"Training with 32 images takes at most {MEMORY_BUDGET_MB:,.0f} MB, as estimated.",
        "stacked naive modules run out of memory; for another bound set a constraint on memory_mb",
        _memory_budget,
    ),
)
RULES: dict[str, Rule] = {rule.name: rule for rule in _ALL}
