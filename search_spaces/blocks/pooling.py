"""Pooling that draws. Source: Zeiler and Fergus 2013 (1301.3557)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StochasticPool(nn.Module):
    """y = one pixel of each window, drawn with probability p = x / sum of x; in evaluation sum p x.

    [batch, c, h, w] -> [batch, c, ceil(h / stride), ceil(w / stride)] with "same" padding and an
    odd kernel; "valid" pads nothing. Values below zero count as zero, as behind a ReLU; padding is
    never drawn.
    """

    def __init__(
        self,
        in_channels: int,
        kernel: int = 3,
        stride: int = 2,
        padding: Literal["same", "valid"] = "same",
    ) -> None:
        super().__init__()
        self.out_channels = in_channels
        self.kernel = kernel
        self.stride = stride
        self.border = (kernel - 1) // 2 if padding == "same" else 0

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(F.relu(x), (self.border,) * 4)
        if not self.training:
            wide = x.float()  # squares and small sums do not fit into half precision
            total = F.avg_pool2d(wide, self.kernel, self.stride).clamp(min=1e-12)
            return (F.avg_pool2d(wide * wide, self.kernel, self.stride) / total).to(x.dtype)
        windows = x.unfold(2, self.kernel, self.stride).unfold(3, self.kernel, self.stride)
        windows = windows.flatten(4)
        places = torch.multinomial(windows.detach().flatten(0, 3).float() + 1e-12, 1)
        return windows.gather(4, places.view(*windows.shape[:4], 1)).squeeze(4)
