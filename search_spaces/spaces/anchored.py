"""The space of the first search by a controller: a chain of convolutions with skips.

Source: Zoph and Le 2017 (1611.01578), sections 3.1 to 3.3 and 4.1. Every layer says whether it reads each earlier
one (anchor points); one that reads none reads the image; what nothing reads goes to the classifier.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from search_spaces.architecture import Architecture, Task
from search_spaces.choose import Choose
from search_spaces.space import Choices, Positive, Space, SpaceConfig, halvings_of_stem
from search_spaces.spaces.chain import Chain


class ChainConfig(SpaceConfig):
    """Settings of the chain space."""

    name: Literal["chain"] = "chain"
    layers: Annotated[Positive, Field(le=50)] = Field(6, description="Convolutions (the paper goes up to 39).")
    kernels: Annotated[Choices, Field(max_length=8)] = Field(
        (1, 3, 5, 7), description="Options for the height and for the width of a kernel: odd numbers up to 15."
    )
    filters: Choices = Field((24, 36, 48, 64), description="Options for the number of filters, up to 1,024.")
    strides: Annotated[Choices, Field(max_length=3)] = Field(
        (1, 2), description="Options for the vertical and for the horizontal stride, up to 3; 1 alone: not asked."
    )
    skips: bool = Field(True, description="Whether layers decide what they read; if not, each reads the one before.")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        for name, largest in (("kernels", 15), ("filters", 1024), ("strides", 3)):
            if max(getattr(self, name)) > largest:
                raise ValueError(f"{name} up to {max(getattr(self, name))}; allowed: at most {largest}")
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError(f"kernels {list(self.kernels)}; allowed: odd numbers")
        return self


def chain(choose: Choose, task: Task, config: ChainConfig) -> Architecture:
    """``layers`` convolutions; images from 48 pixels on pass strided convolutions first.

    A stride is asked for along a side that is long enough for the largest of them.
    """
    _, height, width = task.input_shape
    halvings = halvings_of_stem((height, width))
    made = Chain()
    for _ in range(halvings):
        made.append("conv_norm_act", out_channels=min(config.filters), stride=2)
    image = made.last
    sizes = {image: (-(-height // 2**halvings), -(-width // 2**halvings))}
    unread: list[int] = []
    numbers: list[int] = []
    for layer in range(1, config.layers + 1):
        inputs = _inputs(choose, layer, numbers, config.skips) or [image]
        size = max(sizes[i][0] for i in inputs), max(sizes[i][1] for i in inputs)
        at = f"layer{layer}"
        kernel = choose(f"{at}_height", config.kernels), choose(f"{at}_width", config.kernels)
        filters = choose(f"{at}_filters", config.filters)
        stride = (
            _stride(choose, f"{at}_vertical_stride", size[0], config.strides),
            _stride(choose, f"{at}_horizontal_stride", size[1], config.strides),
        )
        number = made.append("anchored_conv", *inputs, out_channels=filters, kernel=kernel, stride=stride)
        sizes[number] = -(-size[0] // stride[0]), -(-size[1] // stride[1])
        unread = [*(i for i in unread if i not in inputs), number]
        numbers.append(number)
    if len(unread) > 1:
        made.append("padded_concat", *unread)
    made.append("classifier", classes=task.classes)
    return made.architecture(task)


def _inputs(choose: Choose, layer: int, earlier: list[int], skips: bool) -> list[int]:
    """Node numbers of the earlier layers that a layer reads."""
    if not skips:
        return earlier[-1:]
    return [node for i, node in enumerate(earlier, 1) if choose(f"layer{layer}_reads_layer{i}", (False, True))]


def _stride(choose: Choose, name: str, side: int, strides: tuple[int, ...]) -> int:
    return choose(name, strides) if side >= max(strides) > 1 else min(strides) if side > 1 else 1


SPACE = Space(
    "chain",
    "A chain of convolutions: height, width, filters and strides of each layer, and which earlier layers it reads.",
    "Zoph and Le 2017",
    ChainConfig,
    chain,
)
