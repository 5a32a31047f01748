"""A residual stage whose steps share their weights: a recurrent network.

Source: Liao and Poggio 2016 (1604.03640), sections 3 and 4: a ResNet whose output is fed back.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class RecurrentStage(nn.Module):
    """x_(t+1) = x_t + conv3x3(relu(norm_t'(conv3x3(relu(norm_t(x_t)))))), the convolutions tied.

    The shape stays as it is. ``steps`` times the same weights; every step has batch norms of its
    own (section 4.2: time-specific batch normalisation).
    """

    def __init__(self, in_channels: int, steps: int = 3, kernel: int = 3) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel {kernel}; allowed: odd numbers")
        self.out_channels = in_channels
        half = kernel // 2
        self.conv1 = nn.Conv2d(in_channels, in_channels, kernel, padding=half, bias=False)
        self.conv2 = nn.Conv2d(in_channels, in_channels, kernel, padding=half, bias=False)
        self.norms1 = nn.ModuleList(nn.BatchNorm2d(in_channels) for _ in range(steps))
        self.norms2 = nn.ModuleList(nn.BatchNorm2d(in_channels) for _ in range(steps))

    def forward(self, x: Tensor) -> Tensor:
        for norm1, norm2 in zip(self.norms1, self.norms2, strict=True):
            y = self.conv1(F.relu(norm1(x)))
            x = x + self.conv2(F.relu(norm2(y)))
        return x
