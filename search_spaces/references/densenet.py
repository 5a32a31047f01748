"""DenseNet. Source: Huang et al. 2017 (1608.06993), sections 3 and 4 and table 1."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from search_spaces.architecture import Architecture, Task
from search_spaces.references.reference import CIFAR10, IMAGENET, Row, references
from search_spaces.spaces.chain import Chain

DEPTHS = {
    121: (6, 12, 24, 16),
    169: (6, 12, 32, 32),
    201: (6, 12, 48, 32),
    161: (6, 12, 36, 24),
    264: (6, 12, 64, 48),
}
"""Layers of the four dense blocks; table 1."""


def densenet(layers: Sequence[int], growth: int = 32, task: Task = IMAGENET) -> Architecture:
    """DenseNet-BC for large images: a stem of 2 * ``growth`` channels, bottlenecks, compression 0.5."""
    chain = Chain()
    chain.append("conv_norm_act", out_channels=2 * growth, kernel=7, stride=2)
    chain.append("pool")
    for i, count in enumerate(layers):
        if i:
            chain.append("dense_transition")
        chain.append("dense_block", layers=count, growth=growth)
    chain.append("norm_act")
    chain.append("classifier", classes=task.classes)
    return chain.architecture(task)


def densenet_cifar(
    depth: int, growth: int, bc: bool = False, dropout: float = 0.0, task: Task = CIFAR10
) -> Architecture:
    """Three dense blocks: (depth - 4) / 3 layers each and 16 channels in the stem, or, ``bc``, half the layers.

    ``bc``: bottlenecks, compression 0.5 and a stem of 2 * ``growth`` channels.
    """
    chain = Chain()
    stem = 2 * growth if bc else 16
    chain.append("conv_norm_act", out_channels=stem, norm="none", activation="none")
    for i in range(3):
        if i:
            chain.append("dense_transition", compression=0.5 if bc else 1.0, dropout=dropout)
        chain.append(
            "dense_block",
            layers=(depth - 4) // (6 if bc else 3),
            growth=growth,
            bottleneck=4 if bc else 0,
            dropout=dropout,
        )
    chain.append("norm_act")
    chain.append("classifier", classes=task.classes)
    return chain.architecture(task)


IMAGENET_TABLE: tuple[tuple[int, int, int | None, int | None], ...] = (
    # depth, growth, parameters, multiply-accumulates
    (121, 32, 7_978_856, 2_834_161_664),
    (169, 32, 14_149_480, 3_359_843_328),
    (201, 32, 20_013_928, 4_291_365_888),
    (161, 48, 28_681_000, None),
    (264, 32, None, None),
)
CIFAR_TABLE: tuple[tuple[int, int, bool, int | None, int | None], ...] = (
    # depth, growth, bc, parameters, multiply-accumulates
    (40, 12, False, 1_019_722, 264_812_928),
    (100, 12, False, 6_979_642, 1_769_516_448),
    (100, 24, False, None, None),
    (100, 12, True, 769_162, 287_929_692),
    (250, 24, True, None, None),
    (190, 40, True, 25_624_430, 9_301_945_740),
    (40, 48, True, 2_733_130, 1_149_867_168),
    (40, 36, True, None, None),
    (40, 60, True, None, None),
)
ROWS: tuple[Row, ...] = (
    *(
        (
            f"densenet{depth}",
            f"DenseNet-{depth}, growth {growth}",
            "1608.06993",
            params,
            macs,
            partial(densenet, DEPTHS[depth], growth),
        )
        for depth, growth, params, macs in IMAGENET_TABLE
    ),
    *(
        (
            f"densenet{'_bc' if bc else ''}_{depth}_{growth}_cifar",
            f"DenseNet{'-BC' if bc else ''}, {depth} layers, growth {growth}",
            "1608.06993",
            params,
            macs,
            partial(densenet_cifar, depth, growth, bc),
        )
        for depth, growth, bc, params, macs in CIFAR_TABLE
    ),
)
REFERENCES = references("densenet", ROWS)
