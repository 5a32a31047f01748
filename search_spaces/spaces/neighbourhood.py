"""Small edits of one network: kernel, width, depth and kind of block of each of its stages.

The network is a reference, or any architecture as JSON. Without edits the space holds that network alone, which trains
it by itself.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator

from search_spaces.architecture import TASKS, Architecture, ArchitectureError, Arg, Node, Task
from search_spaces.choose import Choose, Scalar
from search_spaces.space import Float, Int, Space, SpaceConfig, ascending, once_each

Edit = Literal["block", "kernel", "width", "depth"]
EDITS: tuple[Edit, ...] = ("block", "kernel", "width", "depth")
SWAPS = ("basic_block", "bottleneck_block", "preact_block", "inverted_residual")


class NeighbourhoodConfig(SpaceConfig):
    """Settings of the neighbourhood space."""

    name: Literal["neighbourhood"] = "neighbourhood"
    reference: str = Field(
        "resnet20_cifar",
        max_length=100,
        description="Published network to edit; not read where `architecture` is given.",
    )
    architecture: dict[str, Any] | None = Field(None, description="Architecture to edit, as JSON; none: the reference.")
    own_size: bool = Field(
        False, description="Keep the network's own image size and resize the data to it; no: take the data's size."
    )
    edits: Annotated[tuple[Edit, ...], Field(max_length=4)] = Field(
        EDITS, description="What may be edited in each stage; nothing: the network alone."
    )
    blocks: Annotated[tuple[Annotated[str, Field(max_length=100)], ...], Field(max_length=20)] = Field(
        SWAPS, description="Blocks that may stand in place of a stage's own."
    )
    kernels: Annotated[
        tuple[Annotated[Int, Field(ge=-14, le=14, multiple_of=2)], ...], Field(max_length=8), AfterValidator(ascending)
    ] = Field((-2, 2), description="Pixels that a stage's kernels may lose or gain: even numbers.")
    widths: Annotated[
        tuple[Annotated[Float, Field(gt=0, le=8)], ...], Field(max_length=8), AfterValidator(ascending)
    ] = Field((0.75, 1.25), description="What a stage's channels may be multiplied by.")
    depths: Annotated[
        tuple[Annotated[Int, Field(ge=-64, le=64)], ...], Field(max_length=8), AfterValidator(ascending)
    ] = Field((-1, 1), description="Blocks that a stage may lose or gain.")

    @model_validator(mode="after")
    def _exists(self) -> Self:
        from search_spaces import catalogue
        from search_spaces.build import walk

        once_each("edits", self.edits)
        once_each("blocks", self.blocks)
        for name in self.blocks:
            if name not in catalogue.BLOCKS:
                raise ValueError(catalogue.unknown("block", name, catalogue.BLOCKS))
        if self.architecture is None:
            if self.reference not in catalogue.REFERENCES:
                raise ValueError(catalogue.unknown("reference", self.reference, catalogue.REFERENCES))
        else:
            try:
                walk(Architecture.from_json(self.architecture))
            except ArchitectureError as error:
                raise ValueError(f"architecture{error}") from None
        return self


class Stage(NamedTuple):
    """The nodes of one image size, and what may be decided there: (edit, options), the network's own among them."""

    nodes: tuple[int, ...]
    questions: tuple[tuple[Edit, tuple[Scalar, ...]], ...]


Answers = tuple[tuple[int, Edit, Scalar], ...]
"""(stage, edit, answer) of everything that is not as it was."""


class Neighbourhood:
    """One network fitted to a task, its stages, and what edits make of it."""

    def __init__(self, config: NeighbourhoodConfig, task: Task) -> None:
        from search_spaces import catalogue
        from search_spaces.build import walk
        from search_spaces.scaling import runs, scaled
        from search_spaces.tasks import with_task

        if config.architecture is not None:
            given = Architecture.from_json(config.architecture)
        else:
            given = catalogue.reference(config.reference).build()
        size = given.task.input_shape[1:] if config.own_size else task.input_shape[1:]
        target = Task((task.input_shape[0], size[0], size[1]), task.classes, task.kind)
        self.network = scaled(with_task(given, task.kind), task=target)
        looked_into = walk(self.network)
        self._runs = {run.last: run for run in runs(looked_into)}
        sizes: dict[tuple[int, ...], list[int]] = {}
        for number, shape in enumerate(looked_into.shapes[:-1], 1):
            if len(shape) == 3:
                sizes.setdefault(shape[1:], []).append(number)
        self._unedited = [Stage(tuple(numbers), ()) for numbers in sizes.values()] if config.edits else []
        self.stages = [Stage(stage.nodes, tuple(self._questions(config, i))) for i, stage in enumerate(self._unedited)]

    def _questions(self, config: NeighbourhoodConfig, stage: int) -> list[tuple[Edit, tuple[Scalar, ...]]]:
        """For every edit the answers that build and make another network, and the one that leaves it."""
        nodes = self._unedited[stage].nodes
        own = next((self.network.nodes[i - 1].block for i in reversed(nodes) if i in self._runs), "")
        wanted: dict[Edit, tuple[Scalar, tuple[Scalar, ...]]] = {
            "block": (own, config.blocks),
            "kernel": (0, config.kernels),
            "width": (1.0, config.widths),
            "depth": (0, config.depths),
        }
        found: list[tuple[Edit, tuple[Scalar, ...]]] = []
        for edit in config.edits:
            neutral, others = wanted[edit]
            fitting = [other for other in others if other != neutral and self._changes((stage, edit, other))]
            if fitting and edit == "block":
                found.append((edit, (neutral, *fitting)))
            elif fitting:
                found.append((edit, tuple(sorted([neutral, *fitting]))))
        return found

    def _changes(self, answer: tuple[int, Edit, Scalar]) -> bool:
        made = self._built((answer,))
        return made is not None and made != self.network

    def edited(self, answers: Answers) -> Architecture:
        """The network with edits made; one that does not fit those before it is left out."""
        whole = self._built(answers)
        if whole is not None:
            return whole
        kept: Answers = ()
        for answer in answers:
            if self._built((*kept, answer)) is not None:
                kept = (*kept, answer)
        return self._built(kept) or self.network

    def _built(self, answers: Answers) -> Architecture | None:
        """The network with edits made; None where it cannot be built."""
        from search_spaces.build import walk
        from search_spaces.scaling import with_lengths, with_widths

        nodes = list(self.network.nodes)
        factors: dict[int, float] = {}
        lengths = {}
        for stage, edit, value in answers:
            numbers = self._unedited[stage].nodes
            if edit == "depth":
                run = next((self._runs[i] for i in reversed(numbers) if i in self._runs), None)
                if run is None or len(run.numbers) + int(value) < 1:
                    return None
                lengths[run] = len(run.numbers) + int(value)
            elif edit == "width":
                factors.update(dict.fromkeys(numbers, float(value)))
            else:
                for i in numbers:
                    nodes[i - 1] = self._edited_node(i, nodes[i - 1], edit, value)
        try:
            made = with_lengths(with_widths(Architecture(self.network.task, tuple(nodes)), factors), lengths)
            return walk(made).architecture
        except ArchitectureError:
            return None

    def _edited_node(self, number: int, node: Node, edit: Edit, value: Scalar) -> Node:
        from search_spaces import catalogue
        from search_spaces.signature import arguments

        if edit == "kernel":
            return Node(node.block, node.inputs, {**node.args, **_kernels(node.args, int(value))})
        if not any(number in run.numbers for run in self._runs.values()):
            return node
        name = str(value)
        known = arguments(catalogue.BLOCKS[name]).model_fields
        own = arguments(catalogue.BLOCKS[node.block]).model_fields
        kept = {
            key: arg
            for key, arg in node.args.items()
            if key in known and (known[key].is_required() or known[key].annotation == own[key].annotation)
        }
        return Node(name, node.inputs, kept)


def _kernels(args: dict[str, Arg] | Any, step: int) -> dict[str, Arg]:
    """The arguments that are kernels, each larger than 1 changed by ``step``."""
    found: dict[str, Arg] = {}
    for name, value in args.items():
        if name != "kernel" or isinstance(value, bool):
            continue
        if isinstance(value, int) and value > 1:
            found[name] = value + step
        elif isinstance(value, tuple):
            found[name] = tuple(side + step if isinstance(side, int) and side > 1 else side for side in value)
    return found


@lru_cache(maxsize=32)
def _neighbourhood(config: str, task: Task) -> Neighbourhood:
    return Neighbourhood(NeighbourhoodConfig.model_validate(json.loads(config)), task)


def neighbourhood(choose: Choose, task: Task, config: NeighbourhoodConfig) -> Architecture:
    """The network with the edits that are decided, stage by stage."""
    around = _neighbourhood(config.model_dump_json(), task)
    answers: list[tuple[int, Edit, Scalar]] = []
    for i, stage in enumerate(around.stages):
        for edit, options in stage.questions:
            answer = choose(f"stage{i + 1}_{edit}", options)
            neutral: Scalar = options[0] if edit == "block" else 1.0 if edit == "width" else 0
            if answer != neutral:
                answers.append((i, edit, answer))
    return around.edited(tuple(answers))


SPACE = Space(
    "neighbourhood",
    "Small edits of a reference or of any architecture: kernel, width, depth and kind of block of each stage.",
    "network morphism as mutation; Elsken et al. 2018 (1711.04528)",
    NeighbourhoodConfig,
    neighbourhood,
    tasks=TASKS,
)
