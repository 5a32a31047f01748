"""Inception modules whose result is added to their input.

Source: Szegedy et al. 2017 (1602.07261), figures 10 to 13 (Inception-ResNet-v1) and 16 to 19 (v2).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.convolution import ConvNormAct
from search_spaces.blocks.drop_path import DropPath
from search_spaces.blocks.inception import Padding, conv_chain


class InceptionResnetA(nn.Module):
    """y = relu(x + scale * conv1x1([r(x), conv3x3(r(x)), conv3x3(conv3x3(r(x)))])), r = conv1x1.

    The shape stays as it is. ``single`` and ``double`` are the channels of the second and third
    branch; the last 1x1 has a bias and no norm. ``scale`` keeps sums small (section 3.3).
    """

    def __init__(
        self,
        in_channels: int,
        branch1: int,
        single: tuple[int, int],
        double: tuple[int, int, int],
        scale: float = 0.17,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.out_channels = in_channels
        self.scale = scale
        self.branch1 = ConvNormAct(in_channels, branch1, 1)
        self.single = conv_chain(in_channels, single, (1, 3))
        self.deeper = conv_chain(in_channels, double, (1, 3, 3))
        self.join = nn.Conv2d(branch1 + single[-1] + double[-1], in_channels, 1)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.join(torch.cat([self.branch1(x), self.single(x), self.deeper(x)], dim=1))
        return F.relu(x + self.drop_path(self.scale * y))


class InceptionResnetB(nn.Module):
    """y = relu(x + scale * conv1x1([conv1x1(x), conv nx1(conv 1xn(conv1x1(x)))])), n = ``kernel``.

    The shape stays as it is. ``flattened``: channels of the second branch. ``relu`` False leaves
    the last ReLU out.
    """

    def __init__(
        self,
        in_channels: int,
        branch1: int,
        flattened: tuple[int, int, int],
        kernel: int = 7,
        scale: float = 0.1,
        relu: bool = True,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel {kernel}; allowed: odd numbers")
        self.out_channels = in_channels
        self.scale = scale
        self.relu = relu
        self.branch1 = ConvNormAct(in_channels, branch1, 1)
        self.flattened = conv_chain(in_channels, flattened, (1, (1, kernel), (kernel, 1)))
        self.join = nn.Conv2d(branch1 + flattened[-1], in_channels, 1)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.join(torch.cat([self.branch1(x), self.flattened(x)], dim=1))
        y = x + self.drop_path(self.scale * y)
        return F.relu(y) if self.relu else y


class InceptionResnetC(InceptionResnetB):
    """y = relu(x + scale * conv1x1([conv1x1(x), conv3x1(conv1x3(conv1x1(x)))])): B with n = 3."""

    def __init__(
        self,
        in_channels: int,
        branch1: int,
        flattened: tuple[int, int, int],
        scale: float = 0.2,
        relu: bool = True,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(in_channels, branch1, flattened, 3, scale, relu, drop_path)


class InceptionResnetReduction(nn.Module):
    """y = [conv3x3/2(conv1x1(x)), the same, conv3x3/2(conv3x3(conv1x1(x))), maxpool3x3/2(x)].

    [batch, in_channels, h, w] -> [batch, first[1] + second[1] + double[2] + in_channels, h / 2,
    w / 2], rounded up with "same" padding and down with "valid". Source: figures 13 and 18.
    """

    def __init__(
        self,
        in_channels: int,
        first: tuple[int, int],
        second: tuple[int, int],
        double: tuple[int, int, int],
        padding: Padding = "valid",
    ) -> None:
        super().__init__()
        self.out_channels = first[-1] + second[-1] + double[-1] + in_channels
        self.first = conv_chain(in_channels, first, (1, 3), 2, padding)
        self.second = conv_chain(in_channels, second, (1, 3), 2, padding)
        self.deeper = conv_chain(in_channels, double, (1, 3, 3), 2, padding)
        self.pool = nn.MaxPool2d(3, 2, padding=1 if padding == "same" else 0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.first(x), self.second(x), self.deeper(x), self.pool(x)], dim=1)
