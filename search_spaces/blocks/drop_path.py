"""Drop path: a residual branch left out at random, sample by sample."""

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """y = x * keep / (1 - rate), keep one random 0 or 1 a sample, in training; y = x in evaluation.

    Put it at the end of a branch, before the sum: ``x + drop_path(branch(x))``. The shape stays as
    it is. A trainer finds these modules by their type and sets ``rate`` (0 <= rate < 1): rising
    with depth for stochastic depth (Huang et al. 2016, section 3), over time for scheduled drop
    path (Zoph et al. 2018, section 4). At rate 0 it draws no random number. Divided by 1 - rate the
    expectation stays the same, so evaluation needs no scaling.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"drop path rate {rate}; allowed: 0 to below 1")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        shape = (len(x),) + (1,) * (x.ndim - 1)
        keep = torch.rand(shape, device=x.device) >= self.rate
        return x * keep / (1 - self.rate)
