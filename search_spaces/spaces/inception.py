"""Inception networks: the width of every branch.

Sources: 1409.4842 (module), 1512.00567 (two 3x3 for a 5x5).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from search_spaces.architecture import Architecture, Task
from search_spaces.auxiliary import with_heads_in_body
from search_spaces.choose import Choose
from search_spaces.space import Choices, Positive, Space, SpaceConfig, downsampling, halvings_of_stem, once_each
from search_spaces.spaces.chain import Chain

LargeKind = Literal["5x5", "3x3", "3x3_3x3"]


class InceptionConfig(SpaceConfig):
    """Settings of the inception space."""

    name: Literal["inception"] = "inception"
    stages: Annotated[Positive, Field(le=6)] = Field(
        3, description="Stages; a pool between them halves height and width while they are large enough."
    )
    depths: Choices = Field((1, 2), description="Options for the number of modules of a stage, up to 16.")
    widths: Choices = Field(
        (8, 16, 24, 32),
        description="Options for the channels of a branch in the first stage; doubled in each later one.",
    )
    reductions: Choices = Field(
        (4, 8, 16),
        description="Options for the 1x1 reductions before large kernels in the first stage; doubled likewise.",
    )
    large: Annotated[tuple[LargeKind, ...], Field(min_length=1, max_length=3)] = Field(
        ("5x5", "3x3_3x3"), description="What the branch with the large kernel may be."
    )
    per_module: bool = Field(False, description="Decide widths for every module instead of once for a stage.")

    auxiliary: bool = Field(
        False,
        description="Train with auxiliary classifiers behind a third and two thirds of the modules, as GoogLeNet.",
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        once_each("large", self.large)
        for name, largest in (("depths", 16), ("widths", 512), ("reductions", 512)):
            if max(getattr(self, name)) > largest:
                raise ValueError(f"{name} up to {max(getattr(self, name))}; allowed: at most {largest}")
        return self


def inception(choose: Choose, task: Task, config: InceptionConfig) -> Architecture:
    """A stem, ``stages`` stages of Inception modules with pools between them, and a classifier."""
    _, height, width = task.input_shape
    halvings = halvings_of_stem((height, width))
    chain = Chain()
    stem = choose("stem", config.widths)
    chain.append("conv_norm_act", out_channels=stem, **({"kernel": 7, "stride": 2} if halvings else {}))
    if halvings > 1:
        chain.append("pool")
    chain.append("conv_norm_act", out_channels=2 * stem)
    size = (-(-height // 2**halvings), -(-width // 2**halvings))
    large = choose("large_kernel", config.large)
    for stage, stride in enumerate(downsampling(size, config.stages), 1):
        if stride == 2:
            chain.append("pool")
        widths: dict[str, int] = {}
        for module in range(1, choose(f"stage{stage}_depth", config.depths) + 1):
            if module == 1 or config.per_module:
                at = f"stage{stage}_module{module}" if config.per_module else f"stage{stage}"
                widths = _widths(choose, at, config, 2 ** (stage - 1))
            chain.append("inception_block", **widths, large=large)
    chain.append("classifier", classes=task.classes)
    network = chain.architecture(task)
    return with_heads_in_body(network, "inception_block", (1 / 3, 2 / 3), "googlenet") if config.auxiliary else network


def _widths(choose: Choose, at: str, config: InceptionConfig, factor: int) -> dict[str, int]:
    """Channels of the four branches and of the two reductions."""
    return {
        "branch1": factor * choose(f"{at}_branch1", config.widths),
        "reduce3": factor * choose(f"{at}_reduce3", config.reductions),
        "branch3": factor * choose(f"{at}_branch3", config.widths),
        "reduce5": factor * choose(f"{at}_reduce5", config.reductions),
        "branch5": factor * choose(f"{at}_branch5", config.widths),
        "pool_projection": factor * choose(f"{at}_pool_projection", config.widths),
    }


SPACE = Space(
    "inception",
    "Inception networks: depth of each stage, width of every branch and reduction, what stands for the 5x5.",
    "Szegedy et al. 2015 and 2016",
    InceptionConfig,
    inception,
)
