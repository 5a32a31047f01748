"""Parallel branches of different kernels, joined along the channels.

Sources: Szegedy et al. 2015 (1409.4842), figure 2b; two 3x3 for a 5x5 from 1512.00567, figure 5.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from search_spaces.blocks.convolution import ConvNormAct, Norm


class InceptionBlock(nn.Module):
    """y = [conv1x1(x), conv3x3(conv1x1(x)), conv5x5(conv1x1(x)), conv1x1(maxpool3x3(x))].

    [batch, in_channels, h, w] -> [batch, branch1 + branch3 + branch5 + pool_projection, h, w].
    ``reduce3`` and ``reduce5`` are the channels of the 1x1 convolutions in front; ``large`` says
    what the third branch does: a true 5x5, one 3x3, or two. Without a norm there are biases.
    """

    def __init__(
        self,
        in_channels: int,
        branch1: int,
        reduce3: int,
        branch3: int,
        reduce5: int,
        branch5: int,
        pool_projection: int,
        large: Literal["5x5", "3x3", "3x3_3x3"] = "5x5",
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        self.out_channels = branch1 + branch3 + branch5 + pool_projection
        bias = norm == "none"
        self.branch1 = ConvNormAct(in_channels, branch1, 1, norm=norm, bias=bias)
        self.branch3 = nn.Sequential(
            ConvNormAct(in_channels, reduce3, 1, norm=norm, bias=bias),
            ConvNormAct(reduce3, branch3, 3, norm=norm, bias=bias),
        )
        self.branch5 = nn.Sequential(
            ConvNormAct(in_channels, reduce5, 1, norm=norm, bias=bias),
            ConvNormAct(reduce5, branch5, 5 if large == "5x5" else 3, norm=norm, bias=bias),
        )
        if large == "3x3_3x3":
            self.branch5.append(ConvNormAct(branch5, branch5, 3, norm=norm, bias=bias))
        self.pool = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            ConvNormAct(in_channels, pool_projection, 1, norm=norm, bias=bias),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch3(x), self.branch5(x), self.pool(x)], dim=1)
