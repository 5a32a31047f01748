"""Inverted residuals: the blocks of MobileNetV2, EfficientNet and EfficientNetV2.

Sources: Sandler et al. 2018 (1801.04381), Tan and Le 2019 (1905.11946) and 2021 (2104.00298).
"""

from torch import Tensor, nn

from search_spaces.blocks.convolution import Activation, ConvNormAct, SqueezeExcitation
from search_spaces.blocks.drop_path import DropPath


def squeeze_by_share(
    channels: int, block_channels: int, share: float, activation: Activation
) -> nn.Module:
    """Squeeze-and-excitation, ``share`` of the block's input channels wide; 0: the identity."""
    if not share:
        return nn.Identity()
    inner: Activation = "silu" if activation == "silu" else "relu"
    return SqueezeExcitation(channels, max(1, int(block_channels * share)), inner)


class InvertedResidual(nn.Module):
    """y = x + project1x1(squeeze(depthwise(expand1x1(x)))); x is left out where shapes change.

    [batch, in_channels, h, w] -> [batch, out_channels, ceil(h / stride), ceil(w / stride)].
    ``expansion`` times in_channels inside (1: no expand); ``squeeze`` > 0 reweights channels with a
    squeeze-and-excitation whose width is that share of the block's input channels. The projection
    has no activation. ``drop_path``: share of images whose branch is left out in training.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        expansion: int = 6,
        squeeze: float = 0.0,
        activation: Activation = "relu6",
        *,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel {kernel}; allowed: odd numbers")
        self.out_channels = out_channels
        self.keeps_shape = stride == 1 and in_channels == out_channels
        width = in_channels * expansion
        self.expand: nn.Module = nn.Identity()
        if expansion != 1:
            self.expand = ConvNormAct(in_channels, width, 1, activation=activation)
        self.depthwise = ConvNormAct(
            width, width, kernel, stride, groups=width, activation=activation
        )
        self.squeeze = squeeze_by_share(width, in_channels, squeeze, activation)
        self.project = ConvNormAct(width, out_channels, 1, activation="none")
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.squeeze(self.depthwise(self.expand(x))))
        return x + self.drop_path(y) if self.keeps_shape else y


class FusedInvertedResidual(nn.Module):
    """y = x + project1x1(squeeze(expand kxk(x))); x is left out where shapes change.

    [batch, in_channels, h, w] -> [batch, out_channels, ceil(h / stride), ceil(w / stride)]. One
    full convolution takes the place of the 1x1 and the depthwise convolution of an inverted
    residual; with ``expansion`` 1 it is the only one, without a projection. ``squeeze`` as there.
    Source: Tan and Le 2021, figure 2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        expansion: int = 4,
        squeeze: float = 0.0,
        activation: Activation = "silu",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel {kernel}; allowed: odd numbers")
        self.out_channels = out_channels
        self.keeps_shape = stride == 1 and in_channels == out_channels
        width = in_channels * expansion if expansion != 1 else out_channels
        self.expand = ConvNormAct(in_channels, width, kernel, stride, activation=activation)
        self.squeeze = squeeze_by_share(width, in_channels, squeeze, activation)
        self.project: nn.Module = nn.Identity()
        if expansion != 1:
            self.project = ConvNormAct(width, out_channels, 1, activation="none")
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.squeeze(self.expand(x)))
        return x + self.drop_path(y) if self.keeps_shape else y
