"""Blocks of ENet: bottlenecks that halve, keep or double the resolution; max-unpooling.

Source: Paszke et al. 2016 (1606.02147), figure 2, and the authors' code. There a convolution
that is followed by another one has no bias, the middle one has; "port" is the later form of
PyTorch-ENet: no biases, one PReLU weight a layer, norm and activation after every convolution.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EnetActivation = Literal["prelu", "relu"]
EnetStyle = Literal["authors", "port"]


def enet_activation(channels: int, kind: EnetActivation, style: EnetStyle) -> nn.Module:
    """ReLU, or PReLU with a weight a channel; one weight in all in a port."""
    if kind == "relu":
        return nn.ReLU()
    return nn.PReLU(channels if style == "authors" else 1)


def enet_middle(
    width: int, dilation: int, asymmetric: int, kind: EnetActivation, style: EnetStyle
) -> nn.Sequential:
    """3x3, or ``asymmetric`` x 1 and 1 x ``asymmetric``, then norm and activation."""
    bias = style == "authors"
    layers: list[nn.Module]
    if asymmetric:
        pad = (asymmetric - 1) // 2
        layers = [nn.Conv2d(width, width, (asymmetric, 1), padding=(pad, 0), bias=False)]
        if style == "port":
            layers += [nn.BatchNorm2d(width), enet_activation(width, kind, style)]
        layers += [nn.Conv2d(width, width, (1, asymmetric), padding=(0, pad), bias=bias)]
    else:
        layers = [nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=bias)]
    return nn.Sequential(*layers, nn.BatchNorm2d(width), enet_activation(width, kind, style))


def enet_project(
    width: int, out_channels: int, kind: EnetActivation, style: EnetStyle, dropout: float
) -> nn.Sequential:
    """1x1 back to ``out_channels``, norm, and spatial dropout, which drops whole channels."""
    last = enet_activation(out_channels, kind, style) if style == "port" else nn.Identity()
    return nn.Sequential(
        nn.Conv2d(width, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        last,
        nn.Dropout2d(dropout),
    )


class EnetInitial(nn.Module):
    """y = prelu(norm([conv3x3 with stride 2 (x), maximum over 2x2 (x)])).

    [batch, c, h, w] -> [batch, new_channels + c, ceil(h / 2), ceil(w / 2)].
    """

    def __init__(
        self, in_channels: int, new_channels: int = 13, style: EnetStyle = "authors"
    ) -> None:
        super().__init__()
        self.out_channels = new_channels + in_channels
        self.conv = nn.Conv2d(in_channels, new_channels, 3, 2, padding=1, bias=style == "authors")
        self.norm = nn.BatchNorm2d(self.out_channels)
        self.activation = enet_activation(self.out_channels, "prelu", style)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.max_pool2d(x, 2, ceil_mode=True)
        return self.activation(self.norm(torch.cat([self.conv(x), pooled], dim=1)))


class EnetBottleneck(nn.Module):
    """y = activation(x + project(middle(reduce(x)))); the shape stays as it is.

    ``width`` channels inside (0: a quarter). The middle is a 3x3 convolution with ``dilation``, or
    the pair ``asymmetric`` x 1 and 1 x ``asymmetric`` where that is not 0.
    """

    def __init__(
        self,
        in_channels: int,
        dilation: int = 1,
        asymmetric: int = 0,
        dropout: float = 0.0,
        width: int = 0,
        activation: EnetActivation = "prelu",
        style: EnetStyle = "authors",
    ) -> None:
        super().__init__()
        if asymmetric and asymmetric % 2 == 0:
            raise ValueError(f"asymmetric {asymmetric}; allowed: 0 or an odd number")
        self.out_channels = in_channels
        width = width or in_channels // 4
        self.reduce = nn.Sequential(
            nn.Conv2d(in_channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            enet_activation(width, activation, style),
        )
        self.middle = enet_middle(width, dilation, asymmetric, activation, style)
        self.project = enet_project(width, in_channels, activation, style, dropout)
        self.activation = enet_activation(in_channels, activation, style)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x + self.project(self.middle(self.reduce(x))))


class EnetDownsampling(nn.Module):
    """y = prelu([maximum over 2x2 (x), zeros] + project(conv3x3(conv2x2 with stride 2 (x)))).

    [batch, in_channels, h, w] -> [batch, out_channels, ceil(h / 2), ceil(w / 2)], out_channels at
    least in_channels; ``width`` channels inside (0: out_channels / 4). An ``EnetUpsampling`` that
    reads the same x finds again where the maxima were.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dropout: float = 0.0,
        width: int = 0,
        style: EnetStyle = "authors",
    ) -> None:
        super().__init__()
        self.new_channels = out_channels - in_channels
        if self.new_channels < 0:
            raise ValueError(f"out_channels {out_channels}; allowed: at least {in_channels}")
        self.out_channels = out_channels
        width = width or out_channels // 4
        self.reduce = nn.Sequential(
            nn.Conv2d(in_channels, width, 2, 2, bias=False),
            nn.BatchNorm2d(width),
            enet_activation(width, "prelu", style),
        )
        self.middle = enet_middle(width, 1, 0, "prelu", style)
        self.project = enet_project(width, out_channels, "prelu", style, dropout)
        self.activation = enet_activation(out_channels, "prelu", style)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.pad(F.max_pool2d(x, 2, ceil_mode=True), (0, 0, 0, 0, 0, self.new_channels))
        even = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        return self.activation(pooled + self.project(self.middle(self.reduce(even))))


class MaxUnpool(nn.Module):
    """y = x with each value where the maximum of a 2x2 window of the encoder was, zeros elsewhere.

    Reads x [batch, c, ceil(h / 2), ceil(w / 2)] and what the encoder pooled, [batch, c, h, w]; the
    output has the shape of the latter. Source: SegNet (1511.00561), section 3.
    """

    def __init__(self, in_channels: tuple[int, int]) -> None:
        super().__init__()
        if in_channels[0] != in_channels[1]:
            raise ValueError(f"{in_channels[0]} and {in_channels[1]} channels; allowed: as many")
        self.out_channels = in_channels[0]

    def forward(self, x: Tensor, encoder: Tensor) -> Tensor:
        _, where = F.max_pool2d(encoder, 2, ceil_mode=True, return_indices=True)
        return F.max_unpool2d(x, where, (2, 2), output_size=list(encoder.shape[2:]))


class EnetUpsampling(nn.Module):
    """y = relu(unpool(conv1x1(x)) + project(transposed conv with stride 2 (reduce(x)))).

    Reads x [batch, c, ceil(h / 2), ceil(w / 2)] and what the encoder pooled, [batch, out_channels,
    h, w]; gives the shape of the latter. Unpooling puts each value where the encoder's maximum over
    2x2 was, zeros elsewhere. ``width`` channels inside (0: out_channels / 4); ``unpool`` "none"
    reads the encoder for its size alone, and repeats each value 2x2 times instead.
    """

    def __init__(
        self,
        in_channels: tuple[int, int],
        dropout: float = 0.0,
        width: int = 0,
        kernel: Literal[2, 3] = 3,
        unpool: Literal["max", "none"] = "max",
        activation: EnetActivation = "relu",
        style: EnetStyle = "authors",
    ) -> None:
        super().__init__()
        channels, self.out_channels = in_channels
        same = (self.out_channels, self.out_channels)
        self.unpool = MaxUnpool(same) if unpool == "max" else None
        width = width or self.out_channels // 4
        edge = 1 if kernel == 3 else 0
        bias = style == "authors"
        self.main = nn.Sequential(
            nn.Conv2d(channels, self.out_channels, 1, bias=False), nn.BatchNorm2d(self.out_channels)
        )
        self.reduce = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            enet_activation(width, activation, style),
        )
        self.middle = nn.Sequential(
            nn.ConvTranspose2d(width, width, kernel, 2, edge, edge, bias=bias),
            nn.BatchNorm2d(width),
            enet_activation(width, activation, style),
        )
        self.project = enet_project(width, self.out_channels, activation, style, dropout)
        self.activation = enet_activation(self.out_channels, activation, style)

    def forward(self, x: Tensor, encoder: Tensor) -> Tensor:
        height, width = encoder.shape[2:]
        main = self.main(x)
        if self.unpool is not None:
            main = self.unpool(main, encoder)
        else:
            main = F.interpolate(main, scale_factor=2.0)[:, :, :height, :width]
        branch = self.project(self.middle(self.reduce(x)))[:, :, :height, :width]
        return self.activation(main + branch)
