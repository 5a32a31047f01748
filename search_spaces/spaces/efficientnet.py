"""Compound scaling: depth, width and resolution grow together, alpha * beta^2 * gamma^2 = 2.

Source: 1905.11946: the grid search over alpha (depth), beta (width), gamma (resolution) at phi = 1 on B0, then any phi.
"""

from __future__ import annotations

from math import ceil
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator

from search_spaces.architecture import Architecture, Task
from search_spaces.choose import Choose
from search_spaces.space import Float, Space, SpaceConfig, ascending, halvings_of_stem
from search_spaces.spaces.chain import Chain, divisible


class Stage(NamedTuple):
    """A stage of inverted residuals: its first block has the stride."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    repeats: int


B0 = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)
"""Table 1 of the paper."""

Coefficients = Annotated[
    tuple[Annotated[Float, Field(ge=1, le=3)], ...], Field(min_length=1, max_length=32), AfterValidator(ascending)
]
Multiplier = Annotated[Float, Field(gt=0, le=8)]


class EfficientnetConfig(SpaceConfig):
    """Settings of the efficientnet space."""

    name: Literal["efficientnet"] = "efficientnet"
    alphas: Coefficients = Field((1.0, 1.1, 1.2, 1.3, 1.4, 1.5), description="Options for alpha, which scales depth.")
    betas: Coefficients = Field((1.0, 1.1, 1.2, 1.3), description="Options for beta, which scales width.")
    gammas: Coefficients = Field((1.0, 1.1, 1.15, 1.2, 1.3), description="Options for gamma, which scales resolution.")
    tolerance: Annotated[Float, Field(ge=0, le=1)] = Field(
        0.1, description="How far alpha * beta^2 * gamma^2 may be from 2."
    )
    phi: Annotated[Float, Field(ge=0, le=7)] = Field(
        1.0, description="Compound coefficient: 1 in the grid search; larger to scale what it found."
    )
    base_width: Multiplier | None = Field(
        None, description="Channels over those of B0 before scaling; none: 1 from 128 pixels on, 0.25 below."
    )
    base_depth: Multiplier | None = Field(
        None, description="Blocks over those of B0 before scaling; none: 1 from 128 pixels on, 0.5 below."
    )
    dropout: Annotated[Float, Field(ge=0, le=0.9)] = Field(0.2, description="Dropout before the classifier.")

    @model_validator(mode="after")
    def _has_samples(self) -> Self:
        if not grid(self):
            raise ValueError(
                f"no alpha * beta^2 * gamma^2 of these options is within {self.tolerance} of 2; "
                "allowed: options that meet it, or a larger tolerance"
            )
        return self


def grid(config: EfficientnetConfig) -> tuple[tuple[float, float, float], ...]:
    """Every (alpha, beta, gamma) with |alpha * beta^2 * gamma^2 - 2| <= tolerance, ascending."""
    return tuple(
        (alpha, beta, gamma)
        for alpha in config.alphas
        for beta in config.betas
        for gamma in config.gammas
        if abs(alpha * beta**2 * gamma**2 - 2) <= config.tolerance + 1e-9
    )


def efficientnet(choose: Choose, task: Task, config: EfficientnetConfig) -> Architecture:
    """B0 with depth * alpha^phi, width * beta^phi and resolution * gamma^phi; the task has the scaled resolution."""
    samples = grid(config)
    alpha = _unless_settled(choose, "alpha", [a for a, _, _ in samples])
    beta = _unless_settled(choose, f"beta_at_alpha_{alpha}", [b for a, b, _ in samples if a == alpha])
    gammas = [g for a, b, g in samples if (a, b) == (alpha, beta)]
    gamma = _unless_settled(choose, f"gamma_at_alpha_{alpha}_beta_{beta}", gammas)
    channels, height, width = task.input_shape
    size = (round(height * gamma**config.phi), round(width * gamma**config.phi))
    large = halvings_of_stem((height, width)) > 1
    return scaled(
        Task((channels, *size), task.classes, task.kind),
        depth=(config.base_depth or (1.0 if large else 0.5)) * alpha**config.phi,
        width=(config.base_width or (1.0 if large else 0.25)) * beta**config.phi,
        dropout=config.dropout,
        stem_stride=2 if halvings_of_stem((height, width)) else 1,
    )


def _unless_settled(choose: Choose, name: str, options: list[float]) -> float:
    """The answer to a question; not asked where the answers before leave one option."""
    different = tuple(dict.fromkeys(options))
    return choose(name, different) if len(different) > 1 else different[0]


def scaled(task: Task, depth: float, width: float, dropout: float = 0.2, stem_stride: int = 2) -> Architecture:
    """B0 with ``depth`` times the blocks (rounded up) and ``width`` times the channels (as ``divisible`` rounds).

    A stage keeps its size where halving would leave less than 2 pixels.
    """
    chain = Chain()
    chain.append("conv_norm_act", out_channels=divisible(32 * width), stride=stem_stride, activation="silu")
    side = -(-min(task.input_shape[1:]) // stem_stride)
    for stage in B0:
        halve = stage.stride == 2 and (side + 1) // 2 >= 2
        side = (side + 1) // 2 if halve else side
        for block in range(ceil(depth * stage.repeats)):
            chain.append(
                "inverted_residual",
                out_channels=divisible(stage.channels * width),
                kernel=stage.kernel,
                stride=2 if halve and block == 0 else 1,
                expansion=stage.expansion,
                squeeze=0.25,
                activation="silu",
            )
    chain.append("conv_norm_act", out_channels=divisible(1280 * width), kernel=1, activation="silu")
    chain.append("classifier", classes=task.classes, dropout=dropout)
    return chain.architecture(task)


SPACE = Space(
    "efficientnet",
    "Compound scaling of EfficientNet-B0: alpha, beta and gamma with alpha * beta^2 * gamma^2 near 2, at any phi.",
    "Tan and Le 2019",
    EfficientnetConfig,
    efficientnet,
)
