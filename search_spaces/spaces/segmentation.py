"""Encoder-decoders like ENet: how wide, how deep, what each bottleneck does, how the decoder finds its way back.

Source: Paszke et al. 2016 (1606.02147).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from search_spaces.architecture import Architecture, Arg, Task
from search_spaces.choose import Choose
from search_spaces.space import Choices, Float, Space, SpaceConfig, once_each
from search_spaces.spaces.chain import Chain

Middle = Literal["regular", "dilated2", "dilated4", "dilated8", "dilated16", "asymmetric5"]
Decoder = Literal["unpool", "upsample", "bilinear"]
MIDDLES: dict[str, dict[str, Arg]] = {
    "regular": {},
    "dilated2": {"dilation": 2},
    "dilated4": {"dilation": 4},
    "dilated8": {"dilation": 8},
    "dilated16": {"dilation": 16},
    "asymmetric5": {"asymmetric": 5},
}
LARGE = 128
"""Height or width in pixels from which the first block always halves the image."""


class SegmentationConfig(SpaceConfig):
    """Settings of the segmentation space."""

    name: Literal["segmentation"] = "segmentation"
    widths: Choices = Field(
        (32, 48, 64), description="Options for the channels after the first downsampling; the second doubles them."
    )
    stem_shares: Choices = Field(
        (1, 2),
        description="Options for how many times fewer channels the first block has; 4 in ENet, for large images.",
    )
    squeezes: Choices = Field((2, 4), description="Options for how many times fewer channels a bottleneck has inside.")
    downsamplings: Annotated[Choices, Field(max_length=2)] = Field(
        (1, 2), description="Options for the number of downsampling bottlenecks, beside the first block."
    )
    depths: Choices = Field((1, 2, 4), description="Options for the bottlenecks before the last downsampling.")
    body_depths: Choices = Field((2, 4, 6), description="Options for the bottlenecks at the lowest resolution.")
    middles: Annotated[tuple[Middle, ...], Field(min_length=1, max_length=6)] = Field(
        ("regular", "dilated2", "dilated4", "asymmetric5"),
        description="What a bottleneck at the lowest resolution may have inside: 3x3, dilated, or 5x1 and 1x5.",
    )
    decoders: Annotated[tuple[Decoder, ...], Field(min_length=1, max_length=3)] = Field(
        ("unpool", "upsample", "bilinear"),
        description="Way back to the resolution of the image: max-unpooling, repeating pixels, or one enlargement.",
    )
    decoder_depths: Choices = Field((1, 2), description="Options for the bottlenecks after each upsampling.")
    dropout: Annotated[Float, Field(ge=0, lt=1)] = Field(
        0.0, description="Spatial dropout of every bottleneck; 0.1 in ENet, for large images."
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        once_each("middles", self.middles)
        once_each("decoders", self.decoders)
        if self.downsamplings[-1] > 2:
            raise ValueError(f"downsamplings up to {self.downsamplings[-1]}; allowed: 1 and 2")
        if max(self.stem_shares) * max(self.squeezes) > min(self.widths):
            raise ValueError(
                f"stem_shares up to {max(self.stem_shares)} and squeezes up to {max(self.squeezes)} leave no channel "
                f"of {min(self.widths)}; allowed: products up to the least width"
            )
        for field in ("depths", "body_depths", "decoder_depths"):
            if max(getattr(self, field)) > 32:
                raise ValueError(f"{field} up to {max(getattr(self, field))}; allowed: at most 32")
        return self


def segmentation(choose: Choose, task: Task, config: SegmentationConfig) -> Architecture:
    """Stem, one or two downsampling stages, a body, then a decoder; for classification a classifier instead."""
    chain = Chain()
    dropout: dict[str, Arg] = {"dropout": config.dropout} if config.dropout else {}
    width = choose("width", config.widths)
    halves = min(task.input_shape[1:]) >= LARGE or choose("stem", ("conv", "halving")) == "halving"
    squeeze = choose("squeeze", config.squeezes)
    first = max(width // choose("stem_share", config.stem_shares), task.input_shape[0] + 1)
    if halves:
        chain.append("enet_initial", new_channels=first - task.input_shape[0])
    else:
        chain.append("conv_norm_act", out_channels=first)
    pooled = [(chain.last, first)]
    channels = max(width, first)
    chain.append("enet_downsampling", out_channels=channels, width=channels // squeeze, **dropout)
    if choose("downsamplings", config.downsamplings) == 2:
        for _ in range(choose("depth", config.depths)):
            chain.append("enet_bottleneck", width=channels // squeeze, **dropout)
        pooled.append((chain.last, channels))
        channels *= 2
        chain.append("enet_downsampling", out_channels=channels, width=channels // squeeze, **dropout)
    for block in range(1, choose("body_depth", config.body_depths) + 1):
        middle = MIDDLES[choose(f"body{block}", config.middles)]
        chain.append("enet_bottleneck", width=channels // squeeze, **middle, **dropout)
    if task.kind == "classification":
        chain.append("classifier", classes=task.classes)
    else:
        decode(chain, choose, config, pooled, task.classes, halves, squeeze)
    return chain.architecture(task)


def decode(
    chain: Chain,
    choose: Choose,
    config: SegmentationConfig,
    pooled: list[tuple[int, int]],
    classes: int,
    halves: bool,
    squeeze: int,
) -> None:
    """Append the way back: an upsampling for each (node, channels) that the encoder ``pooled``, and the head."""
    kind = choose("decoder", config.decoders)
    if kind == "bilinear":
        chain.append("upsampled_classifier", chain.last, 0, classes=classes)
        return
    depth = choose("decoder_depth", config.decoder_depths)
    form: dict[str, Arg] = {} if kind == "unpool" else {"unpool": "none"}
    for encoder, channels in reversed(pooled):
        chain.append("enet_upsampling", chain.last, encoder, width=channels // squeeze, **form)
        for _ in range(depth):
            chain.append("enet_bottleneck", activation="relu", width=channels // squeeze)
    end: dict[str, Arg] = {} if halves else {"stride": 1, "kernel": 1}
    chain.append("segmentation_head", chain.last, 0, classes=classes, **end)


SPACE = Space(
    "segmentation",
    "Encoder-decoders like ENet: width, depth, dilated or asymmetric bottlenecks, kind of decoder.",
    "Paszke et al. 2016",
    SegmentationConfig,
    segmentation,
    tasks=("classification", "segmentation"),
)
