"""Heads for tasks beside classification: a label for each pixel, a box around the object."""

from itertools import pairwise
from math import prod
from typing import Literal

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
        self.out_channels = classes
        self.conv: nn.Module
        if stride == 1:
            self.conv = nn.Conv2d(in_channels[0], classes, kernel, padding=kernel // 2, bias=bias)
        else:
            self.conv = nn.ConvTranspose2d(
                in_channels[0], classes, kernel, 2, (kernel - 1) // 2, kernel % 2, bias=bias
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


class BoxRegressor(nn.Module):
    """y = linear(relu(... relu(linear(flatten(relu(conv1x1(x))))))): the box around the object.

    [batch, c, h, w] or [batch, c] -> [batch, 4]: centre x, centre y, width, height, each a share of
    the image's width or height; concat puts it behind the logits. It reads every position of the
    map, because a mean does not know where things are; ``reduction`` channels of a 1x1 convolution
    keep that small (0: none, all channels). ``widths``: hidden layers, 4096 and 1024 in OverFeat.
    Source: Sermanet et al. 2014 (1312.6229), section 4, one box for all classes.
    """

    def __init__(
        self,
        in_channels: int,
        in_size: tuple[int, ...],
        reduction: int = 16,
        widths: tuple[int, ...] = (64,),
    ) -> None:
        super().__init__()
        self.out_channels = 4
        self.layers = nn.Sequential()
        if reduction and in_size:
            self.layers.append(nn.Conv2d(in_channels, reduction, 1))
            self.layers.append(nn.ReLU())
            in_channels = reduction
        self.layers.append(nn.Flatten())
        sizes = (in_channels * prod(in_size), *widths)
        for inside, outside in pairwise(sizes):
            self.layers.append(nn.Linear(inside, outside))
            self.layers.append(nn.ReLU())
        self.layers.append(nn.Linear(sizes[-1], 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
