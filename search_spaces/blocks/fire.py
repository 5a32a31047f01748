"""The Fire module of SqueezeNet. Source: Iandola et al. 2016 (1602.07360), figures 1 and 2."""

from typing import Literal

import torch
from torch import Tensor, nn

from search_spaces.blocks.convolution import ConvNormAct, Norm
from search_spaces.blocks.drop_path import DropPath


class Fire(nn.Module):
    """y = [relu(conv1x1(s)), relu(conv3x3(s))] with s = relu(conv1x1(x)).

    [batch, in_channels, h, w] -> [batch, expand1 + expand3, h, w]. ``bypass``: "simple" adds x,
    where channels agree; "complex" adds a 1x1 convolution of x. Without a norm there are biases.
    """

    def __init__(
        self,
        in_channels: int,
        squeeze: int,
        expand1: int,
        expand3: int,
        bypass: Literal["none", "simple", "complex"] = "none",
        norm: Norm = "none",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.out_channels = expand1 + expand3
        if bypass == "simple" and in_channels != self.out_channels:
            raise ValueError(
                f"simple bypass, {in_channels} to {self.out_channels} channels; allowed: equal ones"
            )
        bias = norm == "none"
        self.squeeze = ConvNormAct(in_channels, squeeze, 1, norm=norm, bias=bias)
        self.expand1 = ConvNormAct(squeeze, expand1, 1, norm=norm, bias=bias)
        self.expand3 = ConvNormAct(squeeze, expand3, 3, norm=norm, bias=bias)
        self.bypasses = bypass != "none"
        self.bypass: nn.Module = nn.Identity()
        if bypass == "complex":
            self.bypass = ConvNormAct(
                in_channels, self.out_channels, 1, norm=norm, bias=bias, activation="none"
            )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.squeeze(x)
        y = torch.cat([self.expand1(squeezed), self.expand3(squeezed)], dim=1)
        return self.bypass(x) + self.drop_path(y) if self.bypasses else y
