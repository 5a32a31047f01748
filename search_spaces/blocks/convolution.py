"""Convolution with norm and activation, pooling, joins, classifier: what every family shares."""

from math import gcd
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["relu", "relu6", "elu", "tanh", "sigmoid", "silu", "hardswish", "gelu", "none"]
Norm = Literal["batch", "group", "local_response", "none"]
Order = Literal[
    "conv-norm-act",
    "conv-act-norm",
    "norm-act-conv",
    "norm-conv-act",
    "act-conv-norm",
    "act-norm-conv",
]


def activation_layer(name: Activation) -> nn.Module:
    """The activation called ``name``; "none" is the identity."""
    layers: dict[str, type[nn.Module]] = {
        "relu": nn.ReLU,
        "relu6": nn.ReLU6,
        "elu": nn.ELU,
        "tanh": nn.Tanh,
        "sigmoid": nn.Sigmoid,
        "silu": nn.SiLU,
        "hardswish": nn.Hardswish,
        "gelu": nn.GELU,
        "none": nn.Identity,
    }
    return layers[name]()


def norm_layer(name: Norm, channels: int) -> nn.Module:
    """The norm called ``name``; "group" makes up to 32 groups of equal size."""
    if name == "batch":
        return nn.BatchNorm2d(channels)
    if name == "group":
        return nn.GroupNorm(gcd(32, channels), channels)
    return nn.LocalResponseNorm(5) if name == "local_response" else nn.Identity()


class ConvNormAct(nn.Module):
    """y = activation(norm(conv(x))), or the three in another ``order``.

    [batch, in_channels, h, w] -> [batch, out_channels, ceil(h / stride), ceil(w / stride)] with
    "same" padding and an odd kernel; "valid" pads nothing, a number that many pixels on each side.
    ``kernel`` is a side, or (height, width).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int] = 3,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        padding: Literal["same", "valid"] | int = "same",
        bias: bool = False,
        norm: Norm = "batch",
        activation: Activation = "relu",
        *,
        order: Order = "conv-norm-act",
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        border = (0, 0) if isinstance(padding, str) else (padding, padding)
        if padding == "same":
            border = ((height - 1) // 2 * dilation, (width - 1) // 2 * dilation)
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            (height, width),
            stride,
            padding=border,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )
        self.steps = order.replace("act", "activation").split("-")
        after_conv = self.steps.index("norm") > self.steps.index("conv")
        self.norm = norm_layer(norm, out_channels if after_conv else in_channels)
        self.activation = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = getattr(self, step)(x)
        return x


class NormAct(nn.Module):
    """y = activation(norm(x)): what closes a pre-activation network. The shape stays as it is."""

    def __init__(
        self, in_channels: int, norm: Norm = "batch", activation: Activation = "relu"
    ) -> None:
        super().__init__()
        self.out_channels = in_channels
        self.norm = norm_layer(norm, in_channels)
        self.activation = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(x))


class Pool(nn.Module):
    """y = maximum, mean, or their sum, over windows of kernel x kernel pixels.

    [batch, c, h, w] -> [batch, c, ceil(h / stride), ceil(w / stride)] for an odd kernel. "ceil"
    pads nothing and lets the last window hang over the edge. Padding never enters a mean. With
    kernel > stride windows overlap (AlexNet). Sources: Krizhevsky et al. 2012, section 3.4; the
    sum: Mishkin et al. 2016 (1606.02228), section 3.3.
    """

    def __init__(
        self,
        in_channels: int,
        kind: Literal["max", "average", "sum"] = "max",
        kernel: int = 3,
        stride: int = 2,
        padding: Literal["same", "ceil", "valid"] = "same",
    ) -> None:
        super().__init__()
        self.out_channels = in_channels
        border = (kernel - 1) // 2 if padding == "same" else 0
        hang_over = padding == "ceil"
        self.kind = kind
        self.maximum = nn.MaxPool2d(kernel, stride, padding=border, ceil_mode=hang_over)
        self.mean = nn.AvgPool2d(
            kernel, stride, padding=border, ceil_mode=hang_over, count_include_pad=False
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "sum":
            return self.maximum(x) + self.mean(x)
        return self.maximum(x) if self.kind == "max" else self.mean(x)


class LocalResponseNorm(nn.Module):
    """y = x / (1 + alpha / size * sum of x^2 over ``size`` neighbouring channels) ^ beta.

    The shape stays as it is. Source: Krizhevsky et al. 2012, section 3.3.
    """

    def __init__(
        self, in_channels: int, size: int = 5, alpha: float = 0.0001, beta: float = 0.75
    ) -> None:
        super().__init__()
        self.out_channels = in_channels
        self.norm = nn.LocalResponseNorm(size, alpha, beta, k=1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Dropout(nn.Module):
    """y = x with each value dropped at ``rate`` in training, the others times 1 / (1 - rate)."""

    def __init__(self, in_channels: int, rate: float = 0.5) -> None:
        super().__init__()
        self.out_channels = in_channels
        self.dropout = nn.Dropout(rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(x)


class Add(nn.Module):
    """y = x1 + x2 + ...; all of one shape [batch, c, h, w]."""

    def __init__(self, in_channels: tuple[int, ...]) -> None:
        super().__init__()
        if len(set(in_channels)) != 1:
            raise ValueError(f"a sum of {in_channels} channels; allowed: equal numbers")
        self.out_channels = in_channels[0]

    def forward(self, *terms: Tensor) -> Tensor:
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total


class Concat(nn.Module):
    """y = [x1, x2, ...] along the channels; all of one height and width."""

    def __init__(self, in_channels: tuple[int, ...]) -> None:
        super().__init__()
        self.out_channels = sum(in_channels)

    def forward(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, dim=1)


class Classifier(nn.Module):
    """logits = linear(dropout(mean of x over h and w)): [batch, c, h, w] -> [batch, classes]."""

    def __init__(self, in_channels: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.out_channels = classes
        self.dropout = dropout
        self.linear = nn.Linear(in_channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(x.mean((2, 3)), self.dropout, self.training)
        return self.linear(x)


class SqueezeExcitation(nn.Module):
    """y = x * sigmoid(expand(activation(squeeze(mean of x over h and w)))): one weight a channel.

    The shape stays as it is; ``width`` channels in the middle. Source: Hu et al. 2018, figure 2.
    """

    def __init__(self, channels: int, width: int, activation: Activation = "relu") -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, width, 1)
        self.activation = activation_layer(activation)
        self.expand = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.activation(self.squeeze(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.expand(weights))
