"""Depthwise separable convolutions: one filter a channel, then 1x1 convolutions mix the channels.

Sources: Chollet 2017 (1610.02357), Howard et al. 2017 (1704.04861), Chen et al. 2018 (1802.02611).
"""

from torch import Tensor, nn

from search_spaces.blocks.convolution import Activation, ConvNormAct
from search_spaces.blocks.drop_path import DropPath


class DepthwiseSeparable(nn.Module):
    """y = f(conv1x1(f(depthwise kxk(x)))), f = activation(norm(.)).

    [batch, in_channels, h, w] -> [batch, out_channels, ceil(h / stride), ceil(w / stride)] for an
    odd kernel. ``multiplier`` filters a channel. ``between`` False leaves norm and activation
    between the two convolutions out. Source: Howard et al. 2017, figure 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        multiplier: int = 1,
        between: bool = True,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel {kernel}; allowed: odd numbers")
        self.out_channels = out_channels
        width = in_channels * multiplier
        self.depthwise = ConvNormAct(
            in_channels,
            width,
            kernel,
            stride,
            groups=in_channels,
            norm="batch" if between else "none",
            activation=activation if between else "none",
        )
        self.pointwise = ConvNormAct(width, out_channels, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class XceptionBlock(nn.Module):
    """y = shortcut(x) + pool(s(... s(x))), s = norm(separable3x3(relu(.))).

    [batch, in_channels, h, w] -> [batch, widths[-1], ceil(h / stride), ceil(w / stride)].
    ``widths``: output channels of the separable convolutions. A stride is that of a 3x3 max pool,
    or, with ``aligned``, of the last depthwise convolution, which then has norms of its own
    (DeepLab). The shortcut is a 1x1 convolution where shapes change, or left out with ``residual``
    False; ``first_relu`` False spares the first ReLU, ``last_relu`` moves ReLUs behind each norm.
    Source: Chollet 2017, figure 5 (entry, middle and exit flow).
    """

    def __init__(
        self,
        in_channels: int,
        widths: tuple[int, ...],
        stride: int = 1,
        first_relu: bool = True,
        last_relu: bool = False,
        aligned: bool = False,
        residual: bool = True,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.out_channels = widths[-1]
        self.layers = nn.Sequential()
        channels = in_channels
        for i, width in enumerate(widths):
            if not last_relu and (first_relu or i > 0):
                self.layers.append(nn.ReLU())
            last = i == len(widths) - 1
            self.layers.append(
                ConvNormAct(
                    channels,
                    channels,
                    stride=stride if aligned and last else 1,
                    groups=channels,
                    norm="batch" if aligned else "none",
                    activation="relu" if aligned and last_relu else "none",
                )
            )
            after: Activation = "relu" if last_relu else "none"
            self.layers.append(ConvNormAct(channels, width, 1, activation=after))
            channels = width
        if stride > 1 and not aligned:
            self.layers.append(nn.MaxPool2d(3, stride, padding=1))
        self.residual = residual
        self.shortcut: nn.Module = nn.Identity()
        if residual and (stride > 1 or in_channels != channels):
            self.shortcut = ConvNormAct(in_channels, channels, 1, stride, activation="none")
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return self.shortcut(x) + self.drop_path(y) if self.residual else y
