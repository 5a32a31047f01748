"""The space of NASNet: a normal and a reduction cell, stacked.

Source: 1707.07012, section 3: B nodes a cell, two inputs and two of 13 operations a node, joined by addition or
concatenation; N cells a stack and F filters.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from search_spaces.architecture import Architecture, Arg, Task
from search_spaces.auxiliary import with_heads_in_body
from search_spaces.choose import Choose
from search_spaces.space import Choices, Positive, Space, SpaceConfig, downsampling, halvings_of_stem, once_each
from search_spaces.spaces.chain import CellStack

OperationName = Literal[
    "identity",
    "conv1x3_3x1",
    "conv1x7_7x1",
    "dilated3x3",
    "average3x3",
    "max3x3",
    "max5x5",
    "max7x7",
    "conv1x1",
    "conv3x3",
    "separable3x3",
    "separable5x5",
    "separable7x7",
]
OPERATIONS: tuple[OperationName, ...] = get_args(OperationName)
Genotype = tuple[tuple[Arg, ...], ...]


class NasnetConfig(SpaceConfig):
    """Settings of the nasnet space."""

    name: Literal["nasnet"] = "nasnet"
    nodes: Annotated[Positive, Field(le=10)] = Field(4, description="Nodes of a cell (B of the paper, which takes 5).")
    stacks: Annotated[Positive, Field(le=5)] = Field(
        3, description="Stacks of normal cells; a reduction cell between them halves the size and doubles the filters."
    )
    cells: Choices = Field((1, 2), description="Options for the normal cells of a stack (N of the paper), up to 20.")
    filters: Choices = Field((8, 12, 16), description="Options for the filters of the first stack (F), up to 512.")
    operations: Annotated[tuple[OperationName, ...], Field(min_length=1, max_length=13)] = Field(
        OPERATIONS, description="Operations that a node may use."
    )
    joins: Annotated[tuple[Literal["add", "concat"], ...], Field(min_length=1, max_length=2)] = Field(
        ("add", "concat"), description="How a node may join its two operations."
    )

    auxiliary: bool = Field(
        False, description="Train with an auxiliary classifier behind two thirds of the cells (weight: the recipe's)."
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        once_each("operations", self.operations)
        once_each("joins", self.joins)
        for name, largest in (("cells", 20), ("filters", 512)):
            if max(getattr(self, name)) > largest:
                raise ValueError(f"{name} up to {max(getattr(self, name))}; allowed: at most {largest}")
        if min(self.filters) < 2:
            raise ValueError("filters from 1; allowed: at least 2")
        return self


def nasnet(choose: Choose, task: Task, config: NasnetConfig) -> Architecture:
    """A stem, ``stacks`` stacks of normal cells with reduction cells between them, ReLU and a classifier."""
    _, height, width = task.input_shape
    halvings = halvings_of_stem((height, width))
    filters = choose("filters", config.filters)
    cells = choose("cells", config.cells)
    normal = genotype(choose, "normal", config)
    size = (-(-height // 2**halvings), -(-width // 2**halvings))
    strides = downsampling(size, config.stacks)
    reduction = genotype(choose, "reduction", config) if 2 in strides or halvings > 1 else ()
    stack = CellStack((height, width))
    if halvings:
        stack.stem(3 * filters, stride=2)
    else:
        stack.stem(3 * filters)
    for _ in range(halvings - 1):
        stack.cell(max(2, filters // 2), reduction, reduction=True)
    for stride in strides:
        if stack.filters:
            filters *= 2
        if stride == 2:
            stack.cell(filters, reduction, reduction=True)
        for _ in range(cells):
            stack.cell(filters, normal)
        stack.filters = filters
    network = stack.architecture(task)
    return with_heads_in_body(network, "nasnet_cell", (2 / 3,), "nasnet") if config.auxiliary else network


def genotype(choose: Choose, cell: str, config: NasnetConfig) -> Genotype:
    """Nodes of a cell, (state, operation, state, operation, join) each.

    The two halves of a node are sorted: one network, one way to write it.
    """
    nodes: list[tuple[Arg, ...]] = []
    for i in range(config.nodes):
        halves = []
        for side in ("left", "right"):
            state = choose(f"{cell}_node{i + 1}_{side}_state", tuple(range(i + 2)))
            halves.append((state, str(choose(f"{cell}_node{i + 1}_{side}_operation", config.operations))))
        first, second = sorted(halves)
        nodes.append((*first, *second, choose(f"{cell}_node{i + 1}_join", config.joins)))
    return tuple(nodes)


SPACE = Space(
    "nasnet",
    "NASNet cells: inputs, operations and join of every node of a normal and a reduction cell; cells, filters.",
    "Zoph et al. 2018",
    NasnetConfig,
    nasnet,
)
