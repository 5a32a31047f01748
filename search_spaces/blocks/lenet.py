"""The layers of LeNet-5 that later networks left behind.

Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.B.
"""

import torch
from torch import Tensor, nn

from search_spaces.blocks.convolution import Activation, activation_layer


class SparseConv(nn.Module):
    """y_o = activation(bias_o + sum over i in table[o] of conv(x_i)): a table of connections.

    [batch, in_channels, h, w] -> [batch, len(table), h - kernel + 1, w - kernel + 1]. Each map
    reads only the input maps that its row of ``table`` names. Source: table I and layer C3.
    """

    def __init__(
        self,
        in_channels: int,
        table: tuple[tuple[int, ...], ...],
        kernel: int = 5,
        activation: Activation = "tanh",
    ) -> None:
        super().__init__()
        for row in table:
            if not row or not all(0 <= i < in_channels for i in row):
                raise ValueError(f"a map reads {row}; allowed: some of 0 to {in_channels - 1}")
        self.out_channels = len(table)
        self.table = [list(row) for row in table]
        self.maps = nn.ModuleList(nn.Conv2d(len(row), 1, kernel) for row in table)
        self.activation = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        maps = [conv(x[:, row]) for conv, row in zip(self.maps, self.table, strict=True)]
        return self.activation(torch.cat(maps, dim=1))


class Subsample(nn.Module):
    """y_c = activation(weight_c * sum of x_c over kernel x kernel pixels + bias_c), both trained.

    [batch, c, h, w] -> [batch, c, ceil(h / kernel), ceil(w / kernel)]; a window that hangs over the
    edge counts as if it were full of its mean. Source: layers S2 and S4.
    """

    def __init__(self, in_channels: int, kernel: int = 2, activation: Activation = "tanh") -> None:
        super().__init__()
        self.out_channels = in_channels
        self.mean = nn.AvgPool2d(kernel, ceil_mode=True)
        self.pixels = kernel * kernel
        self.weight = nn.Parameter(torch.full((in_channels, 1, 1), 1 / self.pixels))
        self.bias = nn.Parameter(torch.zeros(in_channels, 1, 1))
        self.activation = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.weight * (self.mean(x) * self.pixels) + self.bias)


class RadialBasisClassifier(nn.Module):
    """logit_i = -sum over j of (f_j - code_ij)^2 with f = tanh(linear(x)): a distance to each code.

    [batch, in_channels, h, w] -> [batch, classes]. The codes are +1 and -1 and not trained: row i
    of a Hadamard matrix, so any two differ in about half of ``width`` places (the paper draws
    digits).
    Source: layers F6 and OUTPUT.
    """

    codes: Tensor

    def __init__(
        self, in_channels: int, in_size: tuple[int, int], classes: int, width: int = 84
    ) -> None:
        super().__init__()
        self.out_channels = classes
        self.linear = nn.Linear(in_channels * in_size[0] * in_size[1], width)
        rows = [[1.0 - 2 * ((i & j).bit_count() % 2) for j in range(width)] for i in range(classes)]
        self.register_buffer("codes", torch.tensor(rows))

    def forward(self, x: Tensor) -> Tensor:
        f = torch.tanh(self.linear(x.flatten(1)))
        return -(f.unsqueeze(1) - self.codes).square().sum(2)
