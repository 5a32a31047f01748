"""EfficientNet B0 to B7 as published. Source: 1905.11946 and the authors' table of (width, depth, resolution)."""

from __future__ import annotations

from functools import partial

from search_spaces.architecture import Architecture, Task
from search_spaces.references.reference import Row, references
from search_spaces.spaces.efficientnet import scaled

TABLE = (
    # width, depth, resolution, dropout, parameters, multiply-accumulates
    (1.0, 1.0, 224, 0.2, 5_288_548, 385_814_752),
    (1.0, 1.1, 240, 0.2, 7_794_184, 686_802_832),
    (1.1, 1.2, 260, 0.3, 9_109_994, 993_561_872),
    (1.2, 1.4, 300, 0.3, 12_233_232, 1_827_141_392),
    (1.4, 1.8, 380, 0.4, 19_341_616, 4_393_771_024),
    (1.6, 2.2, 456, 0.4, 30_389_784, 10_266_384_752),
    (1.8, 2.6, 528, 0.5, None, None),
    (2.0, 3.1, 600, 0.5, None, None),
)
"""The released coefficients are not alpha^phi, beta^phi, gamma^phi: they were rounded by hand."""


def efficientnet(number: int, classes: int = 1000) -> Architecture:
    """EfficientNet-B``number``."""
    width, depth, side, dropout, _, _ = TABLE[number]
    return scaled(Task((3, side, side), classes), depth, width, dropout)


ROWS: tuple[Row, ...] = tuple(
    (
        f"efficientnet_b{i}",
        f"EfficientNet-B{i}, {row[2]} pixels",
        "1905.11946",
        row[4],
        row[5],
        partial(efficientnet, i),
    )
    for i, row in enumerate(TABLE)
)
REFERENCES = references("efficientnet", ROWS)
