"""EfficientNet B0 to B7, EfficientNetV2 S, M, L and B0 to B3 as published.

Sources: 1905.11946 and the authors' table of (width, depth, resolution); 2104.00298, table 4, and the authors' tables.
"""

from __future__ import annotations

from functools import partial
from math import ceil
from typing import NamedTuple

from search_spaces.architecture import Architecture, Task
from search_spaces.references.reference import Row, references
from search_spaces.spaces.chain import Chain
from search_spaces.spaces.efficientnet import scaled

TABLE = (
    # width, depth, resolution, dropout, parameters, multiply-accumulates
    (1.0, 1.0, 224, 0.2, 5_288_548, 385_814_752),
    (1.0, 1.1, 240, 0.2, 7_794_184, 686_802_832),
    (1.1, 1.2, 260, 0.3, 9_109_994, 993_561_872),
    (1.2, 1.4, 300, 0.3, 12_233_232, 1_827_141_392),
    (1.4, 1.8, 380, 0.4, 19_341_616, 4_393_771_024),
    (1.6, 2.2, 456, 0.4, 30_389_784, 10_266_384_752),
    (1.8, 2.6, 528, 0.5, 43_040_704, None),
    (2.0, 3.1, 600, 0.5, 66_347_960, None),
)
"""The released coefficients are not alpha^phi, beta^phi, gamma^phi: they were rounded by hand."""


def efficientnet(number: int, classes: int = 1000) -> Architecture:
    """EfficientNet-B``number``."""
    width, depth, side, dropout, _, _ = TABLE[number]
    return scaled(Task((3, side, side), classes), depth, width, dropout)


class V2Stage(NamedTuple):
    """A stage of EfficientNetV2; ``squeeze`` 0 means fused inverted residuals."""

    expansion: int
    stride: int
    channels: int
    repeats: int
    squeeze: float


def _stages(*rows: tuple[int, int, int, int]) -> tuple[V2Stage, ...]:
    """Three fused stages, then stages with squeeze-and-excitation."""
    return tuple(V2Stage(*row, squeeze=0.0 if i < 3 else 0.25) for i, row in enumerate(rows))


V2_STAGES = {
    "s": _stages((1, 1, 24, 2), (4, 2, 48, 4), (4, 2, 64, 4), (4, 2, 128, 6), (6, 1, 160, 9), (6, 2, 256, 15)),
    "m": _stages(
        (1, 1, 24, 3), (4, 2, 48, 5), (4, 2, 80, 5), (4, 2, 160, 7), (6, 1, 176, 14), (6, 2, 304, 18), (6, 1, 512, 5)
    ),
    "l": _stages(
        (1, 1, 32, 4), (4, 2, 64, 7), (4, 2, 96, 7), (4, 2, 192, 10), (6, 1, 224, 19), (6, 2, 384, 25), (6, 1, 640, 7)
    ),
    "xl": _stages(
        (1, 1, 32, 4), (4, 2, 64, 8), (4, 2, 96, 8), (4, 2, 192, 16), (6, 1, 256, 24), (6, 2, 512, 32), (6, 1, 640, 8)
    ),
    "b": _stages((1, 1, 16, 1), (4, 2, 32, 2), (4, 2, 48, 2), (4, 2, 96, 3), (6, 1, 112, 5), (6, 2, 192, 8)),
}
"""Expansion, stride, channels, blocks; table 4 for S, the authors' configuration for the others."""

V2_TABLE: dict[str, tuple[str, float, float, int, float, int | None, int | None]] = {
    # stages, width, depth, resolution, dropout, parameters, multiply-accumulates
    "b0": ("b", 1.0, 1.0, 224, 0.2, 7_139_704, 718_086_176),
    "b1": ("b", 1.0, 1.1, 240, 0.2, 8_141_052, 1_196_819_360),
    "b2": ("b", 1.1, 1.2, 260, 0.3, 10_096_086, None),
    "b3": ("b", 1.2, 1.4, 300, 0.3, 14_358_406, None),
    "s": ("s", 1.0, 1.0, 384, 0.2, 21_458_488, 8_365_617_152),
    "m": ("m", 1.0, 1.0, 480, 0.3, 54_139_356, 24_582_460_384),
    "l": ("l", 1.0, 1.0, 480, 0.4, 118_515_272, None),
    "xl": ("xl", 1.0, 1.0, 512, 0.4, 208_119_808, None),
}


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, at least 8: unlike the first version it may fall below 90 %."""
    return max(8, int(channels + 4) // 8 * 8)


def efficientnet_v2(size: str, classes: int = 1000) -> Architecture:
    """EfficientNetV2-``size``: fused inverted residuals first, then inverted residuals with squeeze-and-excitation."""
    stages, width, depth, side, dropout, _, _ = V2_TABLE[size]
    chain = Chain()
    stem = 32 if stages == "b" else V2_STAGES[stages][0].channels
    chain.append("conv_norm_act", out_channels=_rounded(stem * width), stride=2, activation="silu")
    for stage in V2_STAGES[stages]:
        for block in range(ceil(depth * stage.repeats)):
            chain.append(
                "inverted_residual" if stage.squeeze else "fused_inverted_residual",
                out_channels=_rounded(stage.channels * width),
                stride=stage.stride if block == 0 else 1,
                expansion=stage.expansion,
                squeeze=stage.squeeze,
                activation="silu",
            )
    chain.append("conv_norm_act", out_channels=_rounded(1280 * width), kernel=1, activation="silu")
    chain.append("classifier", classes=classes, dropout=dropout)
    return chain.architecture(Task((3, side, side), classes))


ROWS: tuple[Row, ...] = (
    *(
        (
            f"efficientnet_b{i}",
            f"EfficientNet-B{i}, {row[2]} pixels",
            "1905.11946",
            row[4],
            row[5],
            partial(efficientnet, i),
        )
        for i, row in enumerate(TABLE)
    ),
    *(
        (
            f"efficientnet_v2_{size}",
            f"EfficientNetV2-{size.upper()}, {row[3]} pixels",
            "2104.00298",
            row[5],
            row[6],
            partial(efficientnet_v2, size),
        )
        for size, row in V2_TABLE.items()
    ),
)
REFERENCES = references("efficientnet", ROWS)
