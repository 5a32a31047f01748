"""Mobile inverted residuals: kernel, expansion and squeeze-and-excitation of every block.

Sources: 1801.04381 (block), 1812.03443 and 1812.00332 (the space).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from search_spaces.architecture import Architecture, Task
from search_spaces.choose import Choose
from search_spaces.space import Choices, Flags, Float, Positive, Space, SpaceConfig, downsampling, halvings_of_stem
from search_spaces.spaces.chain import Chain, divisible


class MbconvConfig(SpaceConfig):
    """Settings of the mbconv space."""

    name: Literal["mbconv"] = "mbconv"
    stages: Annotated[Positive, Field(le=8)] = Field(
        3, description="Stages; each but the first halves height and width while they are large enough."
    )
    kernels: Annotated[Choices, Field(max_length=8)] = Field(
        (3, 5, 7), description="Options for the side of a depthwise kernel: odd numbers up to 15."
    )
    expansions: Choices = Field((1, 3, 6), description="Options for the expansion of a block, up to 12.")
    squeeze: Flags = Field(
        (False, True), description="Whether a block has squeeze-and-excitation (a quarter of its input channels)."
    )
    depths: Choices = Field((1, 2, 3), description="Options for the number of blocks of a stage, up to 16.")
    widths: Choices = Field((16, 24, 32), description="Options for the channels of the first stage.")
    growth: Annotated[Float, Field(ge=1, le=4)] = Field(
        1.5, description="Channels of a stage over those of the stage before, rounded to multiples of 8."
    )
    activation: Literal["relu6", "silu", "hardswish"] = Field("relu6", description="Activation of every block.")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        for name, largest in (("kernels", 15), ("expansions", 12), ("depths", 16), ("widths", 1024)):
            if max(getattr(self, name)) > largest:
                raise ValueError(f"{name} up to {max(getattr(self, name))}; allowed: at most {largest}")
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError(f"kernels {list(self.kernels)}; allowed: odd numbers")
        return self


def mbconv(choose: Choose, task: Task, config: MbconvConfig) -> Architecture:
    """A stem, ``stages`` stages of inverted residuals, a 1x1 convolution and a classifier."""
    _, height, width = task.input_shape
    halvings = halvings_of_stem((height, width))
    size = (-(-height // 2**halvings), -(-width // 2**halvings))
    base = choose("width", config.widths)
    chain = Chain()
    for _ in range(max(halvings, 1)):
        stride = {"stride": 2} if halvings else {}
        chain.append("conv_norm_act", out_channels=base, activation=config.activation, **stride)
    channels = base
    for stage, stride_of_stage in enumerate(downsampling(size, config.stages), 1):
        channels = divisible(base * config.growth ** (stage - 1))
        for block in range(1, choose(f"stage{stage}_depth", config.depths) + 1):
            at = f"stage{stage}_block{block}"
            kernel = choose(f"{at}_kernel", config.kernels)
            expansion = choose(f"{at}_expansion", config.expansions)
            squeeze = {"squeeze": 0.25} if choose(f"{at}_squeeze", config.squeeze) else {}
            activation = {} if config.activation == "relu6" else {"activation": config.activation}
            chain.append(
                "inverted_residual",
                out_channels=channels,
                kernel=kernel,
                stride=stride_of_stage if block == 1 else 1,
                expansion=expansion,
                **squeeze,
                **activation,
            )
    last = min(1280, max(64, 4 * channels))
    chain.append("conv_norm_act", out_channels=last, kernel=1, activation=config.activation)
    chain.append("classifier", classes=task.classes)
    return chain.architecture(task)


SPACE = Space(
    "mbconv",
    "Mobile inverted residuals: width, depth of each stage; kernel, expansion, squeeze-and-excitation of each block.",
    "Sandler et al. 2018, Wu et al. 2018 (FBNet), Cai et al. 2018 (ProxylessNAS)",
    MbconvConfig,
    mbconv,
)
