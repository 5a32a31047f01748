"""MobileNetV2 as published. Source: 1801.04381, table 2."""

from __future__ import annotations

from search_spaces.architecture import Architecture, Task
from search_spaces.references.reference import Row, references
from search_spaces.spaces.chain import Chain, divisible

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks and stride of the first block; table 2."""


def mobilenet_v2(alpha: float = 1.0, side: int = 224, classes: int = 1000) -> Architecture:
    """Channels times ``alpha``, rounded to multiples of 8; the last convolution widens only for alpha > 1."""
    chain = Chain()
    chain.append("conv_norm_act", out_channels=divisible(32 * alpha), stride=2, activation="relu6")
    for expansion, channels, blocks, stride in STAGES:
        for i in range(blocks):
            chain.append(
                "inverted_residual",
                out_channels=divisible(channels * alpha),
                stride=stride if i == 0 else 1,
                expansion=expansion,
            )
    chain.append("conv_norm_act", out_channels=divisible(1280 * max(1.0, alpha)), kernel=1, activation="relu6")
    chain.append("classifier", classes=classes, dropout=0.2)
    return chain.architecture(Task((3, side, side), classes))


ROWS: tuple[Row, ...] = (
    ("mobilenet_v2", "MobileNetV2 1.0, 224 pixels", "1801.04381", 3_504_872, 300_774_272, mobilenet_v2),
    ("mobilenet_v2_192", "1.0, 192 pixels", "TF-slim", 3_504_872, 221_316_608, lambda: mobilenet_v2(side=192)),
    ("mobilenet_v2_160", "1.0, 160 pixels", "TF-slim", 3_504_872, 154_083_200, lambda: mobilenet_v2(side=160)),
    ("mobilenet_v2_1.4", "1.4, 224 pixels", "1801.04381", 6_108_776, 582_195_824, lambda: mobilenet_v2(1.4)),
    ("mobilenet_v2_0.75", "0.75, 224 pixels", "TF-slim", 2_636_424, 209_069_792, lambda: mobilenet_v2(0.75)),
    ("mobilenet_v2_0.35", "0.35, 224 pixels", "TF-slim", 1_677_128, 59_285_808, lambda: mobilenet_v2(0.35)),
)
REFERENCES = references("mbconv", ROWS)
