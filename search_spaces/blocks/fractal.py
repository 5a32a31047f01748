"""Fractal blocks: columns of different depth, joined again and again.

Source: Larsson et al. 2017 (1605.07648), section 3 and figure 1.
"""

import torch
from torch import Tensor, nn

from search_spaces.blocks.convolution import ConvNormAct


class FractalBlock(nn.Module):
    """f_1(x) = conv(x), f_(c+1)(x) = mean(f_c(f_c(x)), conv(x)), conv with norm, ReLU, dropout.

    [batch, in_channels, h, w] -> [batch, out_channels, h, w] with 2^columns - 1 convolutions, the
    longest path has 2^(columns - 1). In training ``drop_path`` leaves each input of a join out at
    that rate (local; at least one stays), or, for ``global_share`` of the images, all columns but
    one, drawn anew in each block (global). In evaluation the whole block works.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        columns: int = 3,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        global_share: float = 0.5,
    ) -> None:
        super().__init__()
        if not 1 <= columns <= 8:
            raise ValueError(f"columns {columns}; allowed: 1 to 8")
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop path rate {drop_path}; allowed: 0 to below 1")
        self.out_channels = out_channels
        self.columns = columns
        self.drop_path = drop_path
        self.global_share = global_share
        self.convs = nn.ModuleList()
        for column in range(columns):
            for i in range(2**column):
                channels = out_channels if i else in_channels
                conv = ConvNormAct(channels, out_channels)
                self.convs.append(nn.Sequential(conv, nn.Dropout(dropout)))

    def forward(self, x: Tensor) -> Tensor:
        steps = 2 ** (self.columns - 1)
        only = torch.randint(self.columns, (len(x),), device=x.device) if self.training else None
        alone = torch.rand(len(x), device=x.device) < self.global_share if self.training else None
        states = [x] * self.columns
        for step in range(1, steps + 1):
            ending = []
            for column in range(self.columns):
                length = steps // 2**column  # steps that one convolution of this column spans
                if step % length == 0:
                    number = 2**column - 1 + step // length - 1
                    states[column] = self.convs[number](states[column])
                    ending.append(column)
            joined = self.join([states[column] for column in ending], ending, only, alone)
            for column in ending:
                states[column] = joined
        return states[0]

    def join(
        self, parts: list[Tensor], columns: list[int], only: Tensor | None, alone: Tensor | None
    ) -> Tensor:
        """Mean of those inputs of a join that are not dropped, image by image."""
        stack = torch.stack(parts)
        if only is None or alone is None or self.drop_path == 0 or len(parts) == 1:
            return stack.mean(0)
        drawn = torch.rand(stack.shape[:2], device=stack.device)
        keep = (drawn >= self.drop_path) | (drawn == drawn.amax(0))  # the last one is never dropped
        chosen = torch.tensor(columns, device=stack.device).unsqueeze(1) == only
        globally = alone & chosen.any(0)  # a join that the only column does not pass is not read
        weights = torch.where(globally, chosen, keep).to(stack.dtype)
        weights = weights / weights.sum(0)
        return (stack * weights[:, :, None, None, None]).sum(0)
