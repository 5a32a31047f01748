"""Dense blocks: every layer reads all layers before it.

Source: Huang et al. 2017 (1608.06993), sections 3 and 4.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DenseLayer(nn.Module):
    """y = [x, dropout(conv3x3(relu(norm(b))))], b = conv1x1(relu(norm(x))), or x without it."""

    def __init__(self, in_channels: int, growth: int, bottleneck: int, dropout: float) -> None:
        super().__init__()
        width = bottleneck * growth or in_channels
        self.reduce: nn.Module = nn.Identity()
        if bottleneck:
            self.reduce = nn.Sequential(
                nn.BatchNorm2d(in_channels),
                nn.ReLU(),
                nn.Conv2d(in_channels, width, 1, bias=False),
            )
        self.norm = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, growth, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(self.conv(F.relu(self.norm(self.reduce(x)))))
        return torch.cat([x, y], dim=1)


class DenseBlock(nn.Module):
    """x_l = [x_0, ..., x_(l-1), H_l([x_0, ..., x_(l-1)])], H = conv3x3(relu(norm(.))).

    [batch, in_channels, h, w] -> [batch, in_channels + layers * growth, h, w]. ``bottleneck`` > 0
    puts relu(norm(.)) and a 1x1 convolution to that many times ``growth`` channels before the 3x3
    (4 in DenseNet-B).
    """

    def __init__(
        self,
        in_channels: int,
        layers: int,
        growth: int,
        bottleneck: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.out_channels = in_channels + layers * growth
        self.layers = nn.Sequential(
            *(
                DenseLayer(in_channels + i * growth, growth, bottleneck, dropout)
                for i in range(layers)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class DenseTransition(nn.Module):
    """y = average pool 2x2(dropout(conv1x1(relu(norm(x))))).

    [batch, c, h, w] -> [batch, floor(compression * c), floor(h / 2), floor(w / 2)]; a side of one
    pixel stays.
    """

    def __init__(
        self,
        in_channels: int,
        in_size: tuple[int, int],
        compression: float = 0.5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.out_channels = max(1, int(compression * in_channels + 1e-9))
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, self.out_channels, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.pool = nn.AvgPool2d((min(2, in_size[0]), min(2, in_size[1])))

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.dropout(self.conv(F.relu(self.norm(x)))))
