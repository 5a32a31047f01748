"""Auxiliary classifiers: a second loss in the middle of a network, while it trains."""

from typing import Literal

from torch import Tensor, nn


class AuxiliaryClassifier(nn.Module):
    """y = x; in training ``logits`` [batch, classes] keeps what a small classifier says of x.

    The shape stays as it is. "googlenet": average over 5x5 with stride 3, 1x1 to 128 channels,
    1024 hidden units, dropout 0.7 (Szegedy et al. 2015, section 5; loss weight 0.3). "nasnet": a
    ReLU, the same average, 1x1 to 128, a convolution over all that is left to 768, both with batch
    norm (Zoph et al. 2018; loss weight 0.4). A trainer adds the loss of ``logits`` to its own and
    switches ``active`` off where it does not; the block is left out of what is exported.
    """

    def __init__(
        self,
        in_channels: int,
        in_size: tuple[int, int],
        classes: int,
        form: Literal["googlenet", "nasnet"] = "googlenet",
    ) -> None:
        super().__init__()
        self.out_channels = in_channels
        self.active = True
        self.logits: Tensor | None = None
        window = (min(5, in_size[0]), min(5, in_size[1]))
        left = tuple((side - edge) // 3 + 1 for side, edge in zip(in_size, window, strict=True))
        pool = nn.AvgPool2d(window, 3)
        if form == "googlenet":
            self.head = nn.Sequential(
                pool,
                nn.Conv2d(in_channels, 128, 1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(128 * left[0] * left[1], 1024),
                nn.ReLU(),
                nn.Dropout(0.7),
                nn.Linear(1024, classes),
            )
        else:
            self.head = nn.Sequential(
                nn.ReLU(),
                pool,
                nn.Conv2d(in_channels, 128, 1, bias=False),
                nn.BatchNorm2d(128),
                nn.ReLU(),
                nn.Conv2d(128, 768, (left[0], left[1]), bias=False),
                nn.BatchNorm2d(768),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(768, classes),
            )

    def forward(self, x: Tensor) -> Tensor:
        self.logits = self.head(x) if self.training and self.active else None
        return x
