"""Heads for tasks beside classification: a label for each pixel, a box around the object."""

from itertools import pairwise
from math import prod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SegmentationHead(nn.Module):
    """logits = transposed conv with stride 2 (x): a label for each pixel, at twice the resolution.

    Reads x [batch, c, ceil(h / 2), ceil(w / 2)] and the image [batch, channels, h, w], for its size
    alone; gives [batch, classes, h, w]. At ``stride`` 1 it is an ordinary convolution of an x as
    large as the image. Source: ENet (1606.02147), table 1, "fullconv".
    """

    def __init__(
        self,
        in_channels: tuple[int, int],
        classes: int,
        stride: Literal[1, 2] = 2,
        kernel: Literal[1, 2, 3] = 2,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if kernel == (1 if stride == 2 else 2):
            raise ValueError(f"kernel {kernel} with stride {stride}; allowed: odd, or 2 and 3 at 2")
        self.out_channels = classes
        self.conv: nn.Module
        if stride == 1:
            self.conv = nn.Conv2d(in_channels[0], classes, kernel, padding=kernel // 2, bias=bias)
        else:
            edge = 1 if kernel == 3 else 0
            self.conv = nn.ConvTranspose2d(
                in_channels[0], classes, kernel, 2, padding=edge, output_padding=edge, bias=bias
            )

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        return self.conv(x)[:, :, : image.shape[2], : image.shape[3]]


class UpsampledClassifier(nn.Module):
    """logits = upsample(conv1x1(x)): a classifier at every position, enlarged bilinearly.

    Reads x [batch, c, h', w'] and the image [batch, channels, h, w], for its size alone; gives
    [batch, classes, h, w]. Source: Long et al. 2015 (1411.4038), FCN-32s with a fixed kernel.
    """

    def __init__(self, in_channels: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.out_channels = classes
        self.conv = nn.Conv2d(in_channels[0], classes, 1)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        size = image.shape[2:]
        return F.interpolate(self.conv(x), size=size, mode="bilinear", align_corners=False)


class LocalisationHead(nn.Module):
    """y = [linear(mean of x), linear(relu(...(relu(linear(flatten(conv1x1(x)))))))]: class and box.

    [batch, c, h, w] or [batch, c] -> [batch, classes + 4]: logits, then the box as centre x, centre
    y, width, height, each a share of the image's width or height. The box is read from every
    position of the map, because a mean does not know where things are; ``reduction`` channels of
    a 1x1 convolution keep that small (0: all channels, no convolution). ``widths``: hidden layers,
    4096 and 1024 in OverFeat. Source: Sermanet et al. 2014 (1312.6229), section 4.
    """

    def __init__(
        self,
        in_channels: int,
        in_size: tuple[int, ...],
        classes: int,
        reduction: int = 16,
        widths: tuple[int, ...] = (64,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.out_channels = classes + 4
        self.dropout = dropout
        self.linear = nn.Linear(in_channels, classes)
        reduces = bool(reduction and in_size)
        self.reduce = nn.Conv2d(in_channels, reduction, 1) if reduces else nn.Identity()
        sizes = ((reduction if reduces else in_channels) * prod(in_size), *widths)
        hidden: list[nn.Module] = []
        for inside, outside in pairwise(sizes):
            hidden += [nn.Linear(inside, outside), nn.ReLU()]
        self.box = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], 4))

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.flatten(2).mean(2) if x.ndim > 2 else x
        logits = self.linear(F.dropout(pooled, self.dropout, self.training))
        return torch.cat([logits, self.box(F.relu(self.reduce(x)))], dim=1)
