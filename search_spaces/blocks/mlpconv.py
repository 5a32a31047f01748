"""Convolutions of one pixel: networks in networks, and colours that are learned.

Sources: Lin et al. 2014 (1312.4400), Mishkin et al. 2016 (1606.02228).
"""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from search_spaces.blocks.convolution import Activation, ConvNormAct, Norm


class MlpConv(nn.Module):
    """y = f(conv1x1(f(conv1x1(f(conv kxk(x)))))), f = activation(norm(.)): a sliding perceptron.

    [batch, in_channels, h, w] -> [batch, widths[-1], ceil(h / stride), ceil(w / stride)].
    ``widths``: channels of the first convolution and of the 1x1 convolutions behind it. Without a
    norm there are biases. Source: Lin et al. 2014, section 3.1.
    """

    def __init__(
        self,
        in_channels: int,
        widths: tuple[int, ...],
        kernel: int = 3,
        stride: int = 1,
        padding: Literal["same", "valid"] | int = "same",
        norm: Norm = "none",
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.out_channels = widths[-1]
        bias = norm == "none"
        self.layers = nn.Sequential(
            ConvNormAct(
                in_channels,
                widths[0],
                kernel,
                stride,
                padding=padding,
                bias=bias,
                norm=norm,
                activation=activation,
            )
        )
        for before, width in pairwise(widths):
            self.layers.append(
                ConvNormAct(before, width, 1, bias=bias, norm=norm, activation=activation)
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ColourTransform(nn.Module):
    """y = activation(conv1x1(activation(conv1x1(x)))): learned colours, as many as there were.

    [batch, c, h, w] -> [batch, c, h, w] with ``width`` channels between (3 -> 10 -> 3), put in
    front of a network. Source: Mishkin et al. 2016, section 3.2.
    """

    def __init__(self, in_channels: int, width: int = 10, activation: Activation = "relu") -> None:
        super().__init__()
        self.out_channels = in_channels
        self.spread = ConvNormAct(
            in_channels, width, 1, bias=True, norm="none", activation=activation
        )
        self.gather = ConvNormAct(
            width, in_channels, 1, bias=True, norm="none", activation=activation
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.gather(self.spread(x))
