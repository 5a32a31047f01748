"""Pooling that draws. Source: Zeiler and Fergus 2013 (1301.3557)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StochasticPool(nn.Module):
    """y = one pixel of each window, drawn with probability p = x / sum of x; in evaluation sum p x.

    [batch, c, h, w] -> [batch, c, floor((h - kernel) / stride) + 1, ...]. Values below zero count
    as zero, as behind a ReLU.
    """

    def __init__(self, in_channels: int, kernel: int = 3, stride: int = 2) -> None:
        super().__init__()
        self.out_channels = in_channels
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        if not self.training:
            total = F.avg_pool2d(x, self.kernel, self.stride)
            return F.avg_pool2d(x * x, self.kernel, self.stride) / (total + 1e-12)
        windows = x.unfold(2, self.kernel, self.stride).unfold(3, self.kernel, self.stride)
        windows = windows.flatten(4)
        places = torch.multinomial(windows.detach().flatten(0, 3) + 1e-12, 1)
        return windows.gather(4, places.view(*windows.shape[:4], 1)).squeeze(4)
