"""Residual networks: which block, how deep, how wide, how many groups.

Sources: 1512.03385, 1603.05027, 1611.05431, 1605.07146.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from search_spaces.architecture import Architecture, Task
from search_spaces.choose import Choose
from search_spaces.space import Choices, Positive, Space, SpaceConfig, downsampling, halvings_of_stem, once_each
from search_spaces.spaces.chain import Chain

BlockKind = Literal["basic", "bottleneck", "preact_basic", "preact_bottleneck"]
ShortcutKind = Literal["projection", "zero_pad"]
BLOCK_OF_KIND = {
    "basic": "basic_block",
    "bottleneck": "bottleneck_block",
    "preact_basic": "preact_block",
    "preact_bottleneck": "preact_bottleneck",
}


class ResidualConfig(SpaceConfig):
    """Settings of the residual space."""

    name: Literal["residual"] = "residual"
    stages: Annotated[Positive, Field(le=6)] = Field(
        3, description="Stages; each but the first halves height and width and doubles the channels."
    )
    blocks: Annotated[tuple[BlockKind, ...], Field(min_length=1, max_length=4)] = Field(
        ("basic", "bottleneck", "preact_basic", "preact_bottleneck"), description="Kinds of block to choose from."
    )
    depths: Choices = Field((1, 2, 3), description="Options for the number of blocks of a stage.")
    widths: Choices = Field(
        (16, 32, 48), description="Options for the channels of the first stage; a bottleneck has a quarter inside."
    )
    cardinalities: Choices = Field(
        (1, 2, 4), description="Options for the groups of a bottleneck's 3x3 convolution, where they divide width / 4."
    )
    shortcuts: Annotated[tuple[ShortcutKind, ...], Field(min_length=1, max_length=2)] = Field(
        ("projection", "zero_pad"), description="Ways around a block that changes its shape."
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        once_each("blocks", self.blocks)
        once_each("shortcuts", self.shortcuts)
        if max(self.depths) > 64:
            raise ValueError(f"depths up to {max(self.depths)}; allowed: at most 64")
        if any("bottleneck" in kind for kind in self.blocks):
            for width in self.widths:
                if width % 4:
                    raise ValueError(f"width {width} is no multiple of 4; a bottleneck has a quarter inside")
        return self


def residual(choose: Choose, task: Task, config: ResidualConfig) -> Architecture:
    """A stem, ``stages`` stages of residual blocks of one kind, and a classifier."""
    kind = choose("block", config.blocks)
    width = choose("width", config.widths)
    groups = cardinality(choose, width, config.cardinalities) if "bottleneck" in kind else 1
    shortcut = choose("shortcut", config.shortcuts) if config.stages > 1 else "projection"
    chain = Chain()
    size = stem(chain, task, width, plain="preact" in kind)
    channels = width
    for stage, stride in enumerate(downsampling(size, config.stages), 1):
        if stage > 1:
            channels *= 2
        for block in range(choose(f"stage{stage}_depth", config.depths)):
            args: dict[str, int | str] = {"out_channels": channels}
            if stride == 2 and block == 0:
                args["stride"] = 2
            if groups > 1:
                args["groups"] = groups
            if shortcut != "projection":
                args["shortcut"] = shortcut
            chain.append(BLOCK_OF_KIND[kind], **args)
    if "preact" in kind:
        chain.append("norm_act")
    chain.append("classifier", classes=task.classes)
    return chain.architecture(task)


def cardinality(choose: Choose, width: int, options: tuple[int, ...]) -> int:
    """One of the options that divide a bottleneck's inner width; where that leaves fewer, it is another question."""
    fitting = tuple(groups for groups in options if width % (4 * groups) == 0) or (1,)
    if len(fitting) == 1:
        return fitting[0]
    return choose("cardinality" if fitting == options else f"cardinality_at_width_{width}", fitting)


def stem(chain: Chain, task: Task, width: int, plain: bool) -> tuple[int, int]:
    """Append the first convolution; large images are halved once or twice. Returns the height and width that are left.

    ``plain`` leaves norm and activation to the first block, as pre-activation networks do.
    """
    _, height, width_px = task.input_shape
    halvings = halvings_of_stem((height, width_px))
    bare = {"norm": "none", "activation": "none"} if plain and not halvings else {}
    chain.append("conv_norm_act", out_channels=width, **({"kernel": 7, "stride": 2} if halvings else {}), **bare)
    if halvings > 1:
        chain.append("pool")
    return -(-height // 2**halvings), -(-width_px // 2**halvings)


SPACE = Space(
    "residual",
    "Residual networks: block kind, depth of each stage, width, cardinality and shortcut.",
    "He et al. 2015 and 2016, Xie et al. 2017, Zagoruyko and Komodakis 2016",
    ResidualConfig,
    residual,
)
