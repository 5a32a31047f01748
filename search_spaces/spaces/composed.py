"""A space that the request itself composes: stems, blocks with options, depths, widths, resolutions, heads.

The space is the product of what is listed, over every block of the catalogue that reads one input.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from search_spaces.architecture import Architecture, ArchitectureError, Arg, Task, frozen
from search_spaces.choose import Choose, Scalar
from search_spaces.space import Choices, Float, Positive, Space, SpaceConfig, downsampling, halvings_of_stem
from search_spaces.spaces.chain import Chain, divisible

if TYPE_CHECKING:
    from torch import nn

PROBE_SIDE = 8
MAX_PROBES = 200


def _named(value: Any) -> Any:
    return {"block": value} if isinstance(value, str) else value


class Layer(SpaceConfig):
    """A block with fixed arguments and with options, each a decision. A bare name is a block with its defaults."""

    block: str = Field(max_length=100, description="Name of a block that reads one input.")
    args: dict[str, Any] = Field(default_factory=dict, max_length=50, description="Arguments that are fixed.")
    options: dict[str, Annotated[list[Any], Field(min_length=1, max_length=32)]] = Field(
        default_factory=dict, max_length=20, description="Arguments to decide, with their options."
    )


NamedLayer = Annotated[Layer, BeforeValidator(_named)]


class Part(SpaceConfig):
    """A named stem or head: layers one after the other."""

    name: str = Field(min_length=1, max_length=50, description="What the decision calls it.")
    layers: Annotated[tuple[NamedLayer, ...], Field(min_length=1, max_length=50)] = Field(
        description="Layers from the image on, or from the last stage on."
    )


class ComposedConfig(SpaceConfig):
    """Settings of the composed space."""

    name: Literal["composed"] = "composed"
    stages: Annotated[Positive, Field(le=8)] = Field(
        3, description="Stages; each but the first halves height and width while they are large enough."
    )
    blocks: Annotated[tuple[NamedLayer, ...], Field(min_length=1, max_length=20, validate_default=True)] = Field(
        (Layer(block="basic_block"), Layer(block="bottleneck_block"), Layer(block="inverted_residual")),
        description="Blocks to choose from: names, or {block, args, options}.",
    )
    decide: Literal["network", "stage", "block"] = Field(
        "stage", description="Whether the block and its options are decided once, for each stage, or for each block."
    )
    depths: Choices = Field((1, 2, 3), description="Options for the number of blocks of a stage, up to 64.")
    widths: Choices = Field((16, 32), description="Options for the channels of the first stage.")
    growth: Annotated[Float, Field(ge=1, le=4)] = Field(
        2.0, description="Channels of a stage over those of the stage before, rounded to multiples of 8."
    )
    resolutions: Annotated[tuple[Annotated[Positive, Field(ge=4, le=1024)], ...], Field(max_length=16)] = Field(
        (), description="Options for the side of the image in pixels; none: that of the data."
    )
    stems: Annotated[tuple[Part, ...], Field(max_length=10)] = Field(
        (),
        description="Stems to choose from: {name, layers}; none: a 3x3 convolution, or 7x7 and pools for large images.",
    )
    heads: Annotated[tuple[Part, ...], Field(max_length=10)] = Field(
        (), description="Heads to choose from: {name, layers}, the last with `classes`; none: mean and linear."
    )

    @model_validator(mode="after")
    def _fits_the_catalogue(self) -> Self:
        if max(self.depths) > 64:
            raise ValueError(f"depths up to {max(self.depths)}; allowed: at most 64")
        if list(self.resolutions) != sorted(set(self.resolutions)):
            raise ValueError(f"resolutions {list(self.resolutions)}; allowed: ascending, each once")
        for field, parts in (("stems", self.stems), ("heads", self.heads)):
            names = [part.name for part in parts]
            if len(set(names)) != len(names):
                raise ValueError(f"{field} {names} has a name twice")
            for part in parts:
                for layer in part.layers:
                    check_layer(f"{field} {part.name!r}", layer)
        for part in self.heads:
            if "classes" not in _arguments(part.layers[-1].block):
                raise ValueError(f"head {part.name!r} ends in {part.layers[-1].block!r}; allowed: a block with classes")
        probes = 0
        for layer in self.blocks:
            check_layer("blocks", layer)
            for width in self.widths:
                for stage in range(self.stages):
                    for args in single_options(layer):
                        probes += 1
                        if probes <= MAX_PROBES:
                            probe(layer, args, divisible(width * self.growth**stage))
        return self


def _block(name: str) -> type[nn.Module]:
    """The block's class. Only checking a request needs it, so spaces can still be had without torch."""
    from search_spaces import catalogue

    try:
        return catalogue.block(name)
    except catalogue.UnknownNameError as error:
        raise ValueError(str(error)) from None


def _arguments(name: str) -> Mapping[str, bool]:
    """Names of a block's arguments, and whether each is required."""
    from search_spaces.signature import arguments

    return {key: field.is_required() for key, field in arguments(_block(name)).model_fields.items()}


def check_layer(where: str, layer: Layer) -> None:
    """Raise ValueError where a layer's block, arguments or options do not fit the catalogue."""
    from search_spaces.signature import checked, input_count

    block = _block(layer.block)
    inputs = input_count(block)
    if inputs != 1:
        raise ValueError(
            f"{where}: {layer.block} reads {inputs or 'any number of'} inputs; allowed: blocks of one input"
        )
    twice = sorted(set(layer.args) & set(layer.options))
    if twice:
        raise ValueError(f"{where}: {layer.block} has {twice} in args and in options; allowed: one of the two")
    for name, values in layer.options.items():
        if len({label(value) for value in values}) != len(values):
            raise ValueError(f"{where}: options of {layer.block}.{name} list one twice: {values}")
    filled = {"out_channels": 8, "classes": 2, "stride": 1}
    wanted = _arguments(layer.block)
    for args in single_options(layer):
        given = {**{k: v for k, v in filled.items() if k in wanted}, **args}
        try:
            checked(block, {name: frozen(value) for name, value in given.items()}, layer.block)
        except ArchitectureError as error:
            raise ValueError(f"{where}: {error}") from None


def single_options(layer: Layer) -> Iterator[dict[str, Any]]:
    """Arguments of a layer with the first of every option, and with each other option in turn."""
    first = {**layer.args, **{name: values[0] for name, values in layer.options.items()}}
    yield first
    for name, values in layer.options.items():
        for value in values[1:]:
            yield {**first, name: value}


def probe(layer: Layer, args: Mapping[str, Any], channels: int) -> None:
    """Raise ValueError where a block cannot be built on ``channels`` channels."""
    from search_spaces.profile import profiled
    from search_spaces.signature import checked

    block = _block(layer.block)
    filled = _filled(layer.block, {name: frozen(value) for name, value in args.items()}, channels, 2)
    try:
        profiled(block, checked(block, filled, layer.block), ((channels, PROBE_SIDE, PROBE_SIDE),), 1)
    except Exception as error:  # whatever a block or torch raises
        reason = str(error)[:200]
        raise ValueError(
            f"blocks: {layer.block} with {dict(args)} cannot be built on {channels} channels: {reason}"
        ) from None


def label(value: Any) -> Scalar:
    """A value as an option of a decision: itself, or its JSON where it is no scalar."""
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)


def labels(layers: Sequence[Layer]) -> tuple[str, ...]:
    """What the decisions call the blocks: their names, numbered where one is listed more than once."""
    names = [layer.block for layer in layers]
    return tuple(
        f"{name}_{names[: i + 1].count(name)}" if names.count(name) > 1 else name for i, name in enumerate(names)
    )


def _filled(block: str, args: Mapping[str, Arg], channels: int, classes: int) -> dict[str, Arg]:
    """Arguments with those that follow from the place: channels and classes, where the block has them."""
    wanted = _arguments(block)
    place: dict[str, Arg] = {"out_channels": channels, "classes": classes}
    return {**{name: value for name, value in place.items() if name in wanted}, **args}


def composed(choose: Choose, task: Task, config: ComposedConfig) -> Architecture:
    """A stem, stages of blocks, a head. A stage whose block has no stride begins with a pool."""
    channels, height, width = task.input_shape
    if config.resolutions:
        height = width = _unless_one(choose, "resolution", config.resolutions)
    task = Task((channels, height, width), task.classes, task.kind)
    base = _unless_one(choose, "width", config.widths)
    halvings = halvings_of_stem((height, width))
    chain = Chain()
    if config.stems:
        name = _unless_one(choose, "stem", tuple(part.name for part in config.stems))
        _append(chain, choose, f"stem_{name}", _part(config.stems, name), base, task)
    else:
        chain.append("conv_norm_act", out_channels=base, **({"kernel": 7, "stride": 2} if halvings else {}))
        if halvings > 1:
            chain.append("pool")
    size = (-(-height // 2**halvings), -(-width // 2**halvings))
    layer, args = _decided(choose, "network", config) if config.decide == "network" else (config.blocks[0], {})
    for stage, stride in enumerate(downsampling(size, config.stages), 1):
        out = divisible(base * config.growth ** (stage - 1))
        depth = _unless_one(choose, f"stage{stage}_depth", config.depths)
        for i in range(1, depth + 1):
            if config.decide == "block" or (config.decide == "stage" and i == 1):
                at = f"stage{stage}" if config.decide == "stage" else f"stage{stage}_block{i}"
                layer, args = _decided(choose, at, config)
            filled = _filled(layer.block, args, out, task.classes)
            if stride == 2 and i == 1:
                if "stride" in _arguments(layer.block):
                    filled["stride"] = 2
                else:
                    chain.append("pool")
            chain.append(layer.block, **filled)
    if config.heads:
        name = _unless_one(choose, "head", tuple(part.name for part in config.heads))
        last = divisible(base * config.growth ** (config.stages - 1))
        _append(chain, choose, f"head_{name}", _part(config.heads, name), last, task)
    else:
        chain.append("classifier", classes=task.classes)
    return chain.architecture(task)


def _unless_one(choose: Choose, name: str, options: tuple[Any, ...]) -> Any:
    """The answer to a question; not asked where there is one option."""
    return choose(name, options) if len(options) > 1 else options[0]


def _part(parts: Sequence[Part], name: str) -> Part:
    return next(part for part in parts if part.name == name)


def _decided(choose: Choose, at: str, config: ComposedConfig) -> tuple[Layer, dict[str, Arg]]:
    """Which block stands at a place, and its arguments."""
    names = labels(config.blocks)
    name = _unless_one(choose, f"{at}_kind", names)
    layer = config.blocks[names.index(name)]
    return layer, _options(choose, f"{at}_{name}", layer)


def _options(choose: Choose, at: str, layer: Layer) -> dict[str, Arg]:
    args = {name: frozen(value) for name, value in layer.args.items()}
    for name, values in layer.options.items():
        known = {label(value): value for value in values}
        numbers = all(isinstance(value, int | float) for value in known)
        order = tuple(sorted(known)) if numbers else tuple(known)
        args[name] = frozen(known[_unless_one(choose, f"{at}_{name}", order)])
    return args


def _append(chain: Chain, choose: Choose, at: str, part: Part, channels: int, task: Task) -> None:
    for i, layer in enumerate(part.layers, 1):
        args = _options(choose, f"{at}_layer{i}", layer)
        chain.append(layer.block, **_filled(layer.block, args, channels, task.classes))


SPACE = Space(
    "composed",
    "What the request lists: stems, blocks of the catalogue with options, depths, widths, resolutions, heads.",
    "the request",
    ComposedConfig,
    composed,
)
