"""The spaces of three tabular benchmarks, so that a search here can be compared with their published results.

Sources: NAS-Bench-101 (1902.09635), NAS-Bench-201 (2001.00326), NAS-Bench-Macro (2103.11922, appendix).
"""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from search_spaces.architecture import Architecture, Task
from search_spaces.choose import Choose
from search_spaces.space import Positive, Space, SpaceConfig, downsampling, halvings_of_stem, once_each
from search_spaces.spaces.chain import Chain

VertexName = Literal["conv1x1", "conv3x3", "maxpool3x3"]
EdgeName = Literal["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
LayerName = Literal["identity", "mb3_k3", "mb6_k5"]
VERTEX_OPERATIONS: tuple[VertexName, ...] = get_args(VertexName)
EDGE_OPERATIONS: tuple[EdgeName, ...] = get_args(EdgeName)
LAYERS: tuple[LayerName, ...] = get_args(LayerName)
PAIRS = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""Edges of a NAS-Bench-201 cell, in the order of its strings and of our decisions."""

Edges = tuple[tuple[int, int], ...]
Small = Annotated[Positive, Field(le=512)]


class Stacked(SpaceConfig):
    """Settings that both spaces of cells have: how the cell is stacked."""

    stacks: Annotated[Positive, Field(le=5)] = Field(
        3, description="Stacks of cells; size is halved and channels are doubled between them while images allow."
    )
    cells: Annotated[Positive, Field(le=20)] | None = Field(
        None, description="Cells of a stack; none: as in the benchmark from 32 pixels on, 1 below."
    )
    channels: Small | None = Field(
        None, description="Channels of the first stack; none: as in the benchmark from 32 pixels on, 16 below."
    )


class Nasbench101Config(Stacked):
    """Settings of the nasbench101 space."""

    name: Literal["nasbench101"] = "nasbench101"
    vertices: Annotated[Positive, Field(ge=2, le=7)] = Field(
        7, description="Vertices of the cell at most, input and output counted."
    )
    edges: Annotated[Positive, Field(le=21)] = Field(9, description="Edges of the cell at most.")
    operations: Annotated[tuple[VertexName, ...], Field(min_length=1, max_length=3)] = Field(
        VERTEX_OPERATIONS, description="Operations that a vertex may have."
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        once_each("operations", self.operations)
        return self


class Nasbench201Config(Stacked):
    """Settings of the nasbench201 space."""

    name: Literal["nasbench201"] = "nasbench201"
    operations: Annotated[tuple[EdgeName, ...], Field(min_length=2, max_length=5)] = Field(
        EDGE_OPERATIONS, description="Operations that an edge may have."
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        once_each("operations", self.operations)
        return self


class MacroConfig(SpaceConfig):
    """Settings of the macro space."""

    name: Literal["macro"] = "macro"
    widths: Annotated[tuple[Small, ...], Field(min_length=1, max_length=6)] | None = Field(
        None, description="Channels of the stages; none: 64, 128, 256 from 32 pixels on, 16, 32, 64 below."
    )
    depths: Annotated[tuple[Annotated[Positive, Field(le=16)], ...], Field(min_length=1, max_length=6)] = Field(
        (2, 3, 3), description="Layers of the stages; the first of each halves the size while it is large enough."
    )

    @model_validator(mode="after")
    def _one_depth_a_stage(self) -> Self:
        stages = 3 if self.widths is None else len(self.widths)
        if len(self.depths) != stages:
            raise ValueError(f"{len(self.depths)} depths for {stages} widths; allowed: one of each a stage")
        return self


def nasbench101(choose: Choose, task: Task, config: Nasbench101Config) -> Architecture:
    """Stacks of one cell, 2x2 maximum pools between them.

    Asked from the output backwards, so that every vertex is on a way from input to output: edges into a vertex that
    nothing reads and its operation are never asked.
    """
    edges = cell_edges(choose, config.vertices, config.edges)
    alive = sorted({0, config.vertices - 1} | {vertex for edge in edges for vertex in edge})
    operations = tuple(str(choose(f"operation{vertex}", config.operations)) for vertex in alive[1:-1])
    number = {vertex: i for i, vertex in enumerate(alive)}
    edges, operations = canonical_cell(tuple((number[a], number[b]) for a, b in edges), operations)
    return stack101(task, config, edges, operations)


def cell_edges(choose: Choose, vertices: int, most: int) -> Edges:
    """Edges (from, to) of a cell, asked one by one; every vertex that is read has an input, ``most`` edges in all."""
    edges: list[tuple[int, int]] = []
    waiting = {vertices - 1}
    """Vertices that are read and have no input yet: each will need an edge."""
    for target in range(vertices - 1, 0, -1):
        if target not in waiting:
            continue
        waiting.remove(target)
        before = len(edges)
        for source in range(target - 1, -1, -1):
            forced = source == 0 and len(edges) == before
            fits = len(edges) + 1 + len(waiting | {source} - {0}) <= most
            if forced or (fits and choose(f"edge{source}_{target}", (False, True))):
                edges.append((source, target))
                waiting |= {source} - {0}
    return tuple(sorted(edges))


@lru_cache(maxsize=4096)
def canonical_cell(edges: Edges, operations: tuple[str, ...]) -> tuple[Edges, tuple[str, ...]]:
    """The same cell with its inner vertices numbered in the one way that sorts first: isomorphic cells become equal."""
    inner = len(operations)
    found = []
    for order in permutations(range(1, inner + 1)):
        number = {0: 0, inner + 1: inner + 1} | {vertex: i for i, vertex in enumerate(order, 1)}
        renamed = tuple(sorted((number[a], number[b]) for a, b in edges))
        if all(a < b for a, b in renamed):
            found.append((renamed, tuple(operations[vertex - 1] for vertex in order)))
    return min(found)


def stack101(task: Task, config: Nasbench101Config, edges: Edges, operations: tuple[str, ...]) -> Architecture:
    """The network of NAS-Bench-101 around one cell."""
    channels, cells = _stack(task, config, channels=128, cells=3)
    chain = Chain()
    size = _stem(chain, task, channels)
    for stride in downsampling(size, config.stacks):
        if stride == 2:
            chain.append("pool", kernel=2, padding="ceil")
            channels *= 2
        for _ in range(cells):
            chain.append("nasbench101_cell", out_channels=channels, operations=operations, edges=edges)
    chain.append("classifier", classes=task.classes)
    return chain.architecture(task)


def nasbench201(choose: Choose, task: Task, config: Nasbench201Config) -> Architecture:
    """Stacks of one cell of four nodes, reductions between them; decision i, j is the digit of edge i -> j.

    Cells that compute the same are one network: 8,765 of the 15,625.
    """
    operations = tuple(str(choose(f"edge{a}_{b}", config.operations)) for a, b in PAIRS)
    return stack201(task, config, canonical_cell201(operations))


@lru_cache(maxsize=16_384)
def canonical_cell201(operations: tuple[str, ...]) -> tuple[str, ...]:
    """The same cell without operations that nothing reaches or nothing reads, its two inner nodes in the order that
    sorts first where they do not depend on one another.
    """
    edges = {pair: name for pair, name in zip(PAIRS, operations, strict=True) if name != "none"}
    reached, read = {0}, {3}
    for a, b in sorted(edges):
        reached |= {b} if a in reached else set()
    for a, b in sorted(edges, reverse=True):
        read |= {a} if b in read else set()
    alive = reached & read
    cell = tuple(edges.get((a, b), "none") if a in alive and b in alive else "none" for a, b in PAIRS)
    if cell[2] != "none":
        return cell
    return min(cell, (cell[1], cell[0], "none", cell[3], cell[5], cell[4]))


def stack201(task: Task, config: Nasbench201Config, operations: tuple[str, ...]) -> Architecture:
    """The network of NAS-Bench-201 around one cell."""
    channels, cells = _stack(task, config, channels=16, cells=5)
    chain = Chain()
    size = _stem(chain, task, channels, activation="none")
    for stride in downsampling(size, config.stacks):
        if stride == 2:
            channels *= 2
            chain.append("nasbench201_reduction", out_channels=channels)
        for _ in range(cells):
            chain.append("nasbench201_cell", operations=operations)
    chain.append("norm_act")
    chain.append("classifier", classes=task.classes)
    return chain.architecture(task)


def _stack(task: Task, config: Stacked, channels: int, cells: int) -> tuple[int, int]:
    """(channels, cells) of the first stack: those of the benchmark, less on images below 32 pixels."""
    small = min(task.input_shape[1:]) < 32
    return (
        config.channels if config.channels is not None else 16 if small else channels,
        config.cells if config.cells is not None else 1 if small else cells,
    )


def _stem(chain: Chain, task: Task, channels: int, activation: str = "relu") -> tuple[int, int]:
    """A 3x3 convolution, after strided ones for large images. Returns the height and width that are left."""
    _, height, width = task.input_shape
    halvings = halvings_of_stem((height, width))
    for _ in range(halvings):
        chain.append("conv_norm_act", out_channels=channels, stride=2)
    chain.append("conv_norm_act", out_channels=channels, **({} if activation == "relu" else {"activation": activation}))
    return -(-height // 2**halvings), -(-width // 2**halvings)


def macro(choose: Choose, task: Task, config: MacroConfig) -> Architecture:
    """A stem, layers of three kinds, a 1x1 convolution and a classifier.

    An identity that changes shape is a bare 1x1 convolution with its stride, as in the benchmark; any other is no
    node, so that the codes of one network have one fingerprint.
    """
    _, height, width = task.input_shape
    small = min(height, width) < 32
    widths = config.widths if config.widths is not None else (16, 32, 64) if small else (64, 128, 256)
    halvings = halvings_of_stem((height, width))
    chain = Chain()
    for _ in range(max(halvings, 1)):
        stride = {"stride": 2} if halvings else {}
        chain.append("conv_norm_act", out_channels=16 if small else 32, activation="relu6", **stride)
    side = -(-min(height, width) // 2**halvings)
    layer = 0
    for channels, depth in zip(widths, config.depths, strict=True):
        halve = (side + 1) // 2 >= 2
        side = (side + 1) // 2 if halve else side
        for i in range(depth):
            layer += 1
            stride = {"stride": 2} if halve and i == 0 else {}
            kind = choose(f"layer{layer}", LAYERS)
            if kind != "identity":
                expansion, kernel = (3, 3) if kind == "mb3_k3" else (6, 5)
                chain.append("inverted_residual", out_channels=channels, kernel=kernel, expansion=expansion, **stride)
            elif i == 0:
                chain.append("conv_norm_act", out_channels=channels, kernel=1, activation="none", **stride)
    last = 1280 if not small else 4 * widths[-1]
    chain.append("conv_norm_act", out_channels=last, kernel=1, activation="relu6")
    chain.append("classifier", classes=task.classes)
    return chain.architecture(task)


NASBENCH101 = Space(
    "nasbench101",
    "NAS-Bench-101: edges and operations of a cell of up to 7 vertices and 9 edges, stacked.",
    "Ying et al. 2019",
    Nasbench101Config,
    nasbench101,
)
NASBENCH201 = Space(
    "nasbench201",
    "NAS-Bench-201: one of five operations on each of the six edges of a cell of four nodes, stacked.",
    "Dong and Yang 2020",
    Nasbench201Config,
    nasbench201,
)
MACRO = Space(
    "macro",
    "NAS-Bench-Macro: each of 8 layers is an identity or an inverted residual with expansion 3 or 6.",
    "Su et al. 2021",
    MacroConfig,
    macro,
)
