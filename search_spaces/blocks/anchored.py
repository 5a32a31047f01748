"""Layers that read any earlier layers, whatever their sizes: the chain of the first search by RL.

Source: Zoph and Le 2017 (1611.01578), section 3.3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PaddedConcat(nn.Module):
    """y = [x1, x2, ...] along the channels, smaller ones padded with zeros to the largest size.

    [batch, c_i, h_i, w_i] each -> [batch, sum of c_i, max h_i, max w_i]; zeros on all sides, the
    odd one at the bottom and the right.
    """

    def __init__(self, in_channels: tuple[int, ...], in_size: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        self.out_channels = sum(in_channels)
        height = max(size[0] for size in in_size)
        width = max(size[1] for size in in_size)
        self.borders = []
        for h, w in in_size:
            left, top = (width - w) // 2, (height - h) // 2
            self.borders.append((left, width - w - left, top, height - h - top))

    def forward(self, *parts: Tensor) -> Tensor:
        padded = [
            F.pad(part, border) if any(border) else part
            for part, border in zip(parts, self.borders, strict=True)
        ]
        return torch.cat(padded, dim=1)


class AnchoredConv(nn.Module):
    """y = relu(norm(conv([x1, x2, ...]))), inputs joined as ``PaddedConcat`` does.

    [batch, c_i, h_i, w_i] each -> [batch, out_channels, ceil(h / stride), ceil(w / stride)], h and
    w the largest; ``kernel`` and ``stride`` are (vertical, horizontal), kernels odd.
    """

    def __init__(
        self,
        in_channels: tuple[int, ...],
        in_size: tuple[tuple[int, int], ...],
        out_channels: int,
        kernel: tuple[int, int] = (3, 3),
        stride: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
            raise ValueError(f"kernel {kernel}; allowed: odd numbers")
        self.out_channels = out_channels
        self.join = PaddedConcat(in_channels, in_size)
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(
            self.join.out_channels, out_channels, kernel, stride, padding, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, *parts: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(self.join(*parts))))
