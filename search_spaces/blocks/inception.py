"""Parallel branches of different kernels, joined along the channels.

Sources: Szegedy et al. 2015 (1409.4842), figure 2; Ioffe and Szegedy 2015 (1502.03167), appendix;
Szegedy et al. 2016 (1512.00567), figures 5 to 10, and 2017 (1602.07261), figures 3 to 9.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from search_spaces.blocks.convolution import Activation, ConvNormAct, Norm

Padding = Literal["same", "valid"]
Kernel = int | tuple[int, int]


def conv_chain(
    in_channels: int,
    widths: tuple[int, ...],
    kernels: tuple[Kernel, ...],
    stride: int = 1,
    padding: Padding = "same",
    bias: bool = False,
) -> nn.Sequential:
    """Convolutions one behind the other, with norm and ReLU; the last has stride and padding."""
    chain = nn.Sequential()
    for i, (width, kernel) in enumerate(zip(widths, kernels, strict=True)):
        if i == len(widths) - 1:
            last = ConvNormAct(in_channels, width, kernel, stride, padding=padding, bias=bias)
            chain.append(last)
        else:
            chain.append(ConvNormAct(in_channels, width, kernel, bias=bias))
        in_channels = width
    return chain


def pooled(in_channels: int, width: int, kind: Literal["max", "average"]) -> nn.Sequential:
    """conv1x1(pool3x3(x)): the branch that pools, with its projection."""
    pool = nn.MaxPool2d(3, 1, 1) if kind == "max" else nn.AvgPool2d(3, 1, 1)
    return nn.Sequential(pool, ConvNormAct(in_channels, width, 1))


class NaiveInception(nn.Module):
    """y = [conv1x1(x), conv3x3(x), conv5x5(x), maxpool3x3(x)].

    [batch, in_channels, h, w] -> [batch, branch1 + branch3 + branch5 + in_channels, h, w]. Pooling
    keeps all its channels, so the sum always grows. Without a norm there are biases. Source:
    Szegedy et al. 2015, figure 2a.
    """

    def __init__(
        self, in_channels: int, branch1: int, branch3: int, branch5: int, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        self.out_channels = branch1 + branch3 + branch5 + in_channels
        bias = norm == "none"
        self.branch1 = ConvNormAct(in_channels, branch1, 1, norm=norm, bias=bias)
        self.branch3 = ConvNormAct(in_channels, branch3, 3, norm=norm, bias=bias)
        self.branch5 = ConvNormAct(in_channels, branch5, 5, norm=norm, bias=bias)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch3(x), self.branch5(x), self.pool(x)], dim=1)


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
        *,
        pool: Literal["max", "average"] = "max",
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.out_channels = branch1 + branch3 + branch5 + pool_projection
        bias = bias or norm == "none"
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
            nn.MaxPool2d(3, 1, padding=1) if pool == "max" else nn.AvgPool2d(3, 1, padding=1),
            ConvNormAct(in_channels, pool_projection, 1, norm=norm, bias=bias),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch3(x), self.branch5(x), self.pool(x)], dim=1)


class FlattenedConv(nn.Module):
    """y = f(conv nx1(f(conv 1xn(x)))), f = activation(norm(.)): an n x n window in two lines.

    [batch, in_channels, h, w] -> [batch, out_channels, ceil(h / stride), ceil(w / stride)].
    ``width`` channels between (0: out_channels). Sources: Jin et al. 2014 (1412.5474), Szegedy et
    al. 2016, figure 6.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 7,
        stride: int = 1,
        width: int = 0,
        norm: Norm = "batch",
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel {kernel}; allowed: odd numbers")
        self.out_channels = out_channels
        width = width or out_channels
        bias = norm == "none"
        self.horizontal = ConvNormAct(
            in_channels, width, (1, kernel), bias=bias, norm=norm, activation=activation
        )
        self.vertical = ConvNormAct(
            width, out_channels, (kernel, 1), stride, bias=bias, norm=norm, activation=activation
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.vertical(self.horizontal(x))


class InceptionReduction(nn.Module):
    """y = [conv3x3/2(conv1x1(x)), conv3x3/2(conv3x3(conv1x1(x))), pool3x3/2(x)]: half the size.

    [batch, in_channels, h, w] -> [batch, branch3 + double[2] + in_channels, h / 2, w / 2], rounded
    up with "same" padding and down with "valid". ``reduce3`` 0 leaves the first 1x1 out (Inception
    V3 and V4). ``double``: channels of the three convolutions of the second branch. Sources: Ioffe
    and Szegedy 2015, modules 3c and 4e; Szegedy et al. 2016, figure 10.
    """

    def __init__(
        self,
        in_channels: int,
        branch3: int,
        double: tuple[int, int, int],
        reduce3: int = 0,
        padding: Padding = "valid",
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.out_channels = branch3 + double[-1] + in_channels
        widths, kernels = ((reduce3, branch3), (1, 3)) if reduce3 else ((branch3,), (3,))
        self.branch3 = conv_chain(in_channels, widths, kernels, 2, padding, bias)
        self.deeper = conv_chain(in_channels, double, (1, 3, 3), 2, padding, bias)
        self.pool = nn.MaxPool2d(3, 2, padding=1 if padding == "same" else 0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch3(x), self.deeper(x), self.pool(x)], dim=1)


class FlattenedReduction(nn.Module):
    """y = [conv3x3/2(conv1x1(x)), conv3x3/2(conv7x1(conv1x7(conv1x1(x)))), maxpool3x3/2(x)].

    [batch, in_channels, h, w] -> [batch, branch3[1] + flattened[3] + in_channels, h / 2, w / 2],
    rounded up with "same" padding and down with "valid". Sources: Szegedy et al. 2016, the second
    reduction of Inception V3; 2017, figure 8.
    """

    def __init__(
        self,
        in_channels: int,
        branch3: tuple[int, int],
        flattened: tuple[int, int, int, int],
        pool: Literal["max", "average"] = "max",
        padding: Padding = "valid",
    ) -> None:
        super().__init__()
        self.out_channels = branch3[-1] + flattened[-1] + in_channels
        self.branch3 = conv_chain(in_channels, branch3, (1, 3), 2, padding)
        self.flattened = conv_chain(in_channels, flattened, (1, (1, 7), (7, 1), 3), 2, padding)
        border = 1 if padding == "same" else 0
        self.pool = nn.MaxPool2d(3, 2, border) if pool == "max" else nn.AvgPool2d(3, 2, border)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch3(x), self.flattened(x), self.pool(x)], dim=1)


class InceptionA(nn.Module):
    """y = [conv1x1(x), conv5x5(conv1x1(x)), conv3x3(conv3x3(conv1x1(x))), conv1x1(avgpool3x3(x))].

    [batch, in_channels, h, w] -> [batch, sum of the branches' last channels, h, w]. ``single`` and
    ``double`` are the channels of the second and third branch; ``large`` the kernel at the end of
    the second (5 in Inception V3, 3 in V4). Sources: Szegedy et al. 2016, figure 5; 2017, figure 4.
    """

    def __init__(
        self,
        in_channels: int,
        branch1: int,
        single: tuple[int, int],
        double: tuple[int, int, int],
        pool_projection: int,
        large: Literal[3, 5] = 5,
    ) -> None:
        super().__init__()
        self.out_channels = branch1 + single[-1] + double[-1] + pool_projection
        self.branch1 = ConvNormAct(in_channels, branch1, 1)
        self.single = conv_chain(in_channels, single, (1, large))
        self.deeper = conv_chain(in_channels, double, (1, 3, 3))
        self.pool = pooled(in_channels, pool_projection, "average")

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.single(x), self.deeper(x), self.pool(x)], dim=1)


class InceptionB(nn.Module):
    """y = [conv1x1(x), conv7x1(conv1x7(conv1x1(x))), the same twice, conv1x1(avgpool3x3(x))].

    [batch, in_channels, h, w] -> [batch, sum of the branches' last channels, h, w]. ``single`` and
    ``double`` are the channels of the three and five convolutions of the second and third branch;
    ``kernel`` is the n of 1xn and nx1. Sources: Szegedy et al. 2016, figure 6; 2017, figure 5.
    """

    def __init__(
        self,
        in_channels: int,
        branch1: int,
        single: tuple[int, int, int],
        double: tuple[int, int, int, int, int],
        pool_projection: int,
        kernel: int = 7,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel {kernel}; allowed: odd numbers")
        self.out_channels = branch1 + single[-1] + double[-1] + pool_projection
        row, column = (1, kernel), (kernel, 1)
        self.branch1 = ConvNormAct(in_channels, branch1, 1)
        self.single = conv_chain(in_channels, single, (1, row, column))
        self.deeper = conv_chain(in_channels, double, (1, column, row, column, row))
        self.pool = pooled(in_channels, pool_projection, "average")

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.single(x), self.deeper(x), self.pool(x)], dim=1)


class InceptionC(nn.Module):
    """y = [conv1x1(x), wide(conv1x1(x)), wide(conv3x3(conv1x1(x))), conv1x1(avgpool3x3(x))].

    wide(x) = [conv1x3(x), conv3x1(x)]: [batch, in_channels, h, w] -> [batch, branch1 + 2 split[-1]
    + 2 deep[-1] + pool_projection, h, w]. ``split`` and ``deep`` are channels along the second and
    third branch; four numbers in ``deep`` put 1x3 and 3x1 for the 3x3 (Inception V4). Sources:
    Szegedy et al. 2016, figure 7; 2017, figure 6.
    """

    def __init__(
        self,
        in_channels: int,
        branch1: int,
        split: tuple[int, int],
        deep: tuple[int, int, int] | tuple[int, int, int, int],
        pool_projection: int,
    ) -> None:
        super().__init__()
        self.out_channels = branch1 + 2 * split[-1] + 2 * deep[-1] + pool_projection
        self.branch1 = ConvNormAct(in_channels, branch1, 1)
        self.split = ConvNormAct(in_channels, split[0], 1)
        self.split_row = ConvNormAct(split[0], split[1], (1, 3))
        self.split_column = ConvNormAct(split[0], split[1], (3, 1))
        kernels = (1, 3) if len(deep) == 3 else (1, (3, 1), (1, 3))
        self.deep = conv_chain(in_channels, deep[:-1], kernels)
        self.deep_row = ConvNormAct(deep[-2], deep[-1], (1, 3))
        self.deep_column = ConvNormAct(deep[-2], deep[-1], (3, 1))
        self.pool = pooled(in_channels, pool_projection, "average")

    def forward(self, x: Tensor) -> Tensor:
        split, deep = self.split(x), self.deep(x)
        wide = [self.split_row(split), self.split_column(split)]
        deeper = [self.deep_row(deep), self.deep_column(deep)]
        return torch.cat([self.branch1(x), *wide, *deeper, self.pool(x)], dim=1)
