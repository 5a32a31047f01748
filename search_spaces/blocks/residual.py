"""Residual blocks: y = x + f(x).

Sources: He et al. 2015 (1512.03385) and 2016 (1603.05027), Xie et al. 2017 (1611.05431). In every
block ``squeeze`` > 0 reweights the branch's channels with a squeeze-and-excitation of out_channels
/ squeeze (Hu et al. 2018, 1709.01507), and ``drop_path`` is the share of images whose branch is
left out in training (stochastic depth, Huang et al. 2016, 1603.09382).
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.convolution import ConvNormAct, SqueezeExcitation
from search_spaces.blocks.drop_path import DropPath

ShortcutKind = Literal["projection", "projection3x3", "zero_pad"]


class ZeroPadShortcut(nn.Module):
    """Option A of He et al. 2015: every ``stride``-th pixel, new channels filled with zeros."""

    def __init__(self, new_channels: int, stride: int) -> None:
        super().__init__()
        if new_channels < 0:
            raise ValueError(f"a zero-pad shortcut cannot remove {-new_channels} channels")
        self.new_channels = new_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.new_channels))


def shortcut_layer(
    in_channels: int, out_channels: int, stride: int, kind: ShortcutKind, norm: bool = True
) -> nn.Module:
    """The way around a residual block: the identity where shapes agree, else ``kind``."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if kind == "zero_pad":
        return ZeroPadShortcut(out_channels - in_channels, stride)
    side = 3 if kind == "projection3x3" else 1
    if norm:
        return ConvNormAct(in_channels, out_channels, side, stride, activation="none")
    return nn.Conv2d(in_channels, out_channels, side, stride, padding=side // 2, bias=False)


def squeeze_layer(channels: int, reduction: int) -> nn.Module:
    """Squeeze-and-excitation of channels / reduction; the identity at 0."""
    if not reduction:
        return nn.Identity()
    return SqueezeExcitation(channels, max(1, channels // reduction))


class BasicBlock(nn.Module):
    """y = relu(shortcut(x) + conv3x3(relu(conv3x3(x)))), all with batch norm.

    [batch, in_channels, h, w] -> [batch, out_channels, ceil(h / stride), ceil(w / stride)].
    ``shortcut`` where shapes change: "projection" is a 1x1 convolution (option B of the paper),
    "zero_pad" fills new channels with zeros (option A).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        shortcut: ShortcutKind = "projection",
        squeeze: int = 0,
        *,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.conv1 = ConvNormAct(in_channels, out_channels, 3, stride)
        self.conv2 = ConvNormAct(out_channels, out_channels, 3, activation="none")
        self.squeeze = squeeze_layer(out_channels, squeeze)
        self.drop_path = DropPath(drop_path)
        self.shortcut = shortcut_layer(in_channels, out_channels, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.squeeze(self.conv2(self.conv1(x)))
        return F.relu(self.shortcut(x) + self.drop_path(branch))


class BottleneckBlock(nn.Module):
    """y = relu(shortcut(x) + conv1x1(relu(conv3x3(relu(conv1x1(x)))))), all with batch norm.

    [batch, in_channels, h, w] -> [batch, out_channels, ceil(h / stride), ceil(w / stride)].
    ``width`` channels inside (0: out_channels / 4), in ``groups`` groups (the cardinality of
    ResNeXt). ``stride_at``: "3x3" as torchvision and ResNeXt do it, "1x1" as the paper of 2015
    did. ``first_width``: channels of the first convolution (0: ``width``; SENet-154 has half).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        width: int = 0,
        groups: int = 1,
        stride_at: Literal["1x1", "3x3"] = "3x3",
        shortcut: ShortcutKind = "projection",
        squeeze: int = 0,
        *,
        drop_path: float = 0.0,
        first_width: int = 0,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        width = width or out_channels // 4
        first, second = (stride, 1) if stride_at == "1x1" else (1, stride)
        first_width = first_width or width
        self.conv1 = ConvNormAct(in_channels, first_width, 1, first)
        self.conv2 = ConvNormAct(first_width, width, 3, second, groups=groups)
        self.conv3 = ConvNormAct(width, out_channels, 1, activation="none")
        self.squeeze = squeeze_layer(out_channels, squeeze)
        self.drop_path = DropPath(drop_path)
        self.shortcut = shortcut_layer(in_channels, out_channels, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.squeeze(self.conv3(self.conv2(self.conv1(x))))
        return F.relu(self.shortcut(x) + self.drop_path(branch))


class PreActBlock(nn.Module):
    """y = shortcut(x) + conv3x3(relu(norm(conv3x3(relu(norm(x)))))).

    [batch, in_channels, h, w] -> [batch, out_channels, ceil(h / stride), ceil(w / stride)].
    Where shapes change, the shortcut reads the activated input. ``dropout`` acts between the
    convolutions (wide ResNets).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        shortcut: ShortcutKind = "projection",
        dropout: float = 0.0,
        *,
        squeeze: int = 0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.keeps_shape = stride == 1 and in_channels == out_channels
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.squeeze = squeeze_layer(out_channels, squeeze)
        self.drop_path = DropPath(drop_path)
        self.shortcut = shortcut_layer(in_channels, out_channels, stride, shortcut, norm=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.norm1(x))
        around = x if self.keeps_shape else self.shortcut(activated)
        y = self.conv1(activated)
        y = self.conv2(self.dropout(F.relu(self.norm2(y))))
        return around + self.drop_path(self.squeeze(y))


class PreActBottleneck(nn.Module):
    """y = shortcut(x) + conv1x1(conv3x3(conv1x1(x))) with norm and ReLU before each convolution.

    [batch, in_channels, h, w] -> [batch, out_channels, ceil(h / stride), ceil(w / stride)].
    ``width`` channels inside (0: out_channels / 4), in ``groups`` groups.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        width: int = 0,
        groups: int = 1,
        stride_at: Literal["1x1", "3x3"] = "3x3",
        shortcut: ShortcutKind = "projection",
        *,
        squeeze: int = 0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.keeps_shape = stride == 1 and in_channels == out_channels
        width = width or out_channels // 4
        first, second = (stride, 1) if stride_at == "1x1" else (1, stride)
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1, first, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=1, groups=groups, bias=False)
        self.norm3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.squeeze = squeeze_layer(out_channels, squeeze)
        self.drop_path = DropPath(drop_path)
        self.shortcut = shortcut_layer(in_channels, out_channels, stride, shortcut, norm=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.norm1(x))
        around = x if self.keeps_shape else self.shortcut(activated)
        y = self.conv1(activated)
        y = self.conv2(F.relu(self.norm2(y)))
        y = self.conv3(F.relu(self.norm3(y)))
        return around + self.drop_path(self.squeeze(y))
