"""The cells of NASNet, PNASNet and DARTS: small graphs of operations on two input states.

Sources: Zoph et al. 2018 (1707.07012), section 3 and appendix A; Liu et al. 2018 (1712.00559),
figure 1; Liu et al. 2019 (1806.09055), section 2.1; details as in the authors' code.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.convolution import ConvNormAct
from search_spaces.blocks.drop_path import DropPath

Operation = Literal[
    "identity",
    "conv1x3_3x1",
    "conv1x7_7x1",
    "dilated3x3",
    "average3x3",
    "max3x3",
    "max5x5",
    "max7x7",
    "conv1x1",
    "conv3x3",
    "separable3x3",
    "separable5x5",
    "separable7x7",
    "skip",
    "dilated_separable3x3",
    "dilated_separable5x5",
]
CellNode = tuple[int, Operation, int, Operation, Literal["add", "concat"]]


class ActConvNorm(nn.Module):
    """y = norm(conv(relu(x))), padded so that the stride alone changes the size."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        dilation: int = 1,
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2 * dilation, kernel[1] // 2 * dilation)
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding, dilation, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(F.relu(x)))


class SeparableTwice(nn.Module):
    """y = norm(separable(relu(norm(separable(relu(x)))))); the first one has the stride.

    ``shifted`` is what PyTorch ports do at even sizes: a row and a column of zeros more at the top
    left, cropped again after the first convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, shifted: bool
    ) -> None:
        super().__init__()
        self.shift = 1 if shifted else 0
        half = kernel // 2
        self.depthwise1 = nn.Conv2d(
            in_channels, in_channels, kernel, stride, half, groups=in_channels, bias=False
        )
        self.pointwise1 = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.depthwise2 = nn.Conv2d(
            out_channels, out_channels, kernel, 1, half, groups=out_channels, bias=False
        )
        self.pointwise2 = nn.Conv2d(out_channels, out_channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        if self.shift:
            x = F.pad(x, (self.shift, 0, self.shift, 0))
        x = self.pointwise1(self.depthwise1(x))
        if self.shift:
            x = x[:, :, self.shift :, self.shift :]
        x = F.relu(self.norm1(x))
        return self.norm2(self.pointwise2(self.depthwise2(x)))


class FactorizedReduction(nn.Module):
    """y = norm([conv1x1(even pixels), conv1x1(odd pixels)]): half the size, rounded up."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels - out_channels // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        shifted = F.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))
        return self.norm(torch.cat([self.even(x), self.odd(shifted)], dim=1))


class DilatedSeparable(nn.Module):
    """y = norm(conv1x1(depthwise(relu(x)))), the depthwise convolution with dilation 2."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            in_channels,
            in_channels,
            kernel,
            stride,
            padding=kernel - 1,
            dilation=2,
            groups=in_channels,
            bias=False,
        )
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.pointwise(self.depthwise(F.relu(x))))


def pooling(kind: str, kernel: int, stride: int) -> nn.Module:
    """Maximum or mean over kernel x kernel pixels; padding never enters a mean."""
    if kind == "max":
        return nn.MaxPool2d(kernel, stride, padding=kernel // 2)
    return nn.AvgPool2d(kernel, stride, padding=kernel // 2, count_include_pad=False)


def cell_operation(
    name: Operation, in_channels: int, channels: int, stride: int, shifted: bool
) -> nn.Module:
    """The operation called ``name``; a 1x1 convolution follows where it cannot change channels."""
    if name.startswith("separable"):
        return SeparableTwice(in_channels, channels, int(name[-1]), stride, shifted)
    if name.startswith("dilated_separable"):
        return DilatedSeparable(in_channels, channels, int(name[-1]), stride)
    if name == "skip" and stride > 1:
        return FactorizedReduction(in_channels, channels)
    if name in ("identity", "skip"):
        if stride == 1 and in_channels == channels:
            return nn.Identity()
        return ActConvNorm(in_channels, channels, stride=(stride, stride))
    if name == "dilated3x3":
        return ActConvNorm(in_channels, channels, (3, 3), (stride, stride), dilation=2)
    if name in ("conv1x3_3x1", "conv1x7_7x1"):
        side = int(name[6])
        return nn.Sequential(
            ActConvNorm(in_channels, channels, (1, side), (1, stride)),
            ActConvNorm(channels, channels, (side, 1), (stride, 1)),
        )
    if name in ("conv1x1", "conv3x3"):
        side = int(name[-1])
        return ActConvNorm(in_channels, channels, (side, side), (stride, stride))
    pool = pooling(name[:-3], int(name[-1]), stride)
    if in_channels == channels:
        return pool
    return nn.Sequential(pool, ConvNormAct(in_channels, channels, 1, activation="none"))


class NasnetCell(nn.Module):
    """y = concat of the states in ``output``; state i + 2 = join(op(a), op(b)) of node i.

    State 0 is the output of the cell before the previous one, state 1 that of the previous one,
    both brought to ``channels`` first; a node is (a, operation, b, operation, join). ``output`` ()
    means all states that no node reads. In a ``reduction`` cell operations on states 0 and 1 have
    stride 2: [batch, ., h, w] -> [batch, ., ceil(h / 2), ceil(w / 2)]. ``previous`` says how state
    0 gets there: "project" (1x1 convolution where channels differ), "reduce" (it has twice the
    size), "raw" (as it is), "always" (1x1 convolution, as in DARTS). A "skip" with stride 2 is a
    factorized reduction, an "identity" a strided 1x1 convolution. ``drop_path`` leaves operations
    other than identities out at that rate in training, image by image.
    """

    def __init__(
        self,
        in_channels: tuple[int, int],
        channels: int,
        nodes: tuple[CellNode, ...],
        reduction: bool = False,
        output: tuple[int, ...] = (),
        previous: Literal["project", "reduce", "raw", "always"] = "project",
        shifted: bool = False,
        *,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        states = len(nodes) + 2
        if not 1 <= len(nodes) <= 20 or not all(0 <= i < states for i in output):
            raise ValueError(
                f"{len(nodes)} nodes, output {output}; allowed: 1 to 20, states 0 to {states - 1}"
            )
        self.nodes = tuple((node[0], node[2], node[4]) for node in nodes)
        self.previous: nn.Module = nn.Identity()
        widths = [in_channels[0] if previous == "raw" else channels, channels]
        if previous == "reduce":
            self.previous = FactorizedReduction(in_channels[0], channels)
        elif previous == "always" or (previous == "project" and in_channels[0] != channels):
            self.previous = ActConvNorm(in_channels[0], channels)
        self.current = ActConvNorm(in_channels[1], channels)
        self.left = nn.ModuleList()
        self.right = nn.ModuleList()
        self.drop_paths = nn.ModuleList()
        for i, (a, left, b, right, join) in enumerate(nodes):
            if not (0 <= a < i + 2 and 0 <= b < i + 2):
                raise ValueError(f"node {i} reads states {a} and {b}; allowed: 0 to {i + 1}")
            for state, name, side in ((a, left, self.left), (b, right, self.right)):
                stride = 2 if reduction and state < 2 else 1
                operation = cell_operation(name, widths[state], channels, stride, shifted)
                side.append(operation)
                dropped = not isinstance(operation, nn.Identity)
                self.drop_paths.append(DropPath(drop_path) if dropped else nn.Identity())
            widths.append(2 * channels if join == "concat" else channels)
        read = {state for a, b, _ in self.nodes for state in (a, b)}
        self.output = output or tuple(state for state in range(states) if state not in read)
        self.reduced = nn.ModuleDict()
        for state in self.output:
            if reduction and state < 2:
                self.reduced[str(state)] = FactorizedReduction(widths[state], channels)
                widths[state] = channels
        self.out_channels = sum(widths[state] for state in self.output)

    def forward(self, before: Tensor, current: Tensor) -> Tensor:
        states = [self.previous(before), self.current(current)]
        for i, (a, b, join) in enumerate(self.nodes):
            x = self.drop_paths[2 * i](self.left[i](states[a]))
            y = self.drop_paths[2 * i + 1](self.right[i](states[b]))
            states.append(torch.cat([x, y], dim=1) if join == "concat" else x + y)
        for state, reduction in self.reduced.items():
            states[int(state)] = reduction(states[int(state)])
        return torch.cat([states[i] for i in self.output], dim=1)
