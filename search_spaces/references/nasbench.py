"""Cells of the tabular benchmarks, stacked as published.

Sources: NAS-Bench-101 (1902.09635; the cell of the authors' README), NAS-Bench-201 (2001.00326; ResNet's cell, and
the cell with the best mean test accuracy on CIFAR-10 after 200 epochs).
"""

from __future__ import annotations

from search_spaces.architecture import Architecture
from search_spaces.references.reference import CIFAR10, Row, references
from search_spaces.spaces.nasbench import Nasbench101Config, Nasbench201Config, stack101, stack201

INCEPTION_LIKE = ((0, 1), (0, 2), (0, 3), (0, 5), (1, 6), (2, 6), (3, 4), (4, 6), (5, 6))
RESNET = ("nor_conv_3x3", "none", "nor_conv_3x3", "skip_connect", "none", "skip_connect")
BEST = ("nor_conv_3x3", "nor_conv_3x3", "nor_conv_3x3", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")


def inception_like() -> Architecture:
    """The Inception-like cell of the README: 1x1, 3x3, two 3x3 and a pool in parallel."""
    operations = ("conv1x1", "conv3x3", "conv3x3", "conv3x3", "maxpool3x3")
    return stack101(CIFAR10, Nasbench101Config(), INCEPTION_LIKE, operations)


def cell201(operations: tuple[str, ...]) -> Architecture:
    """One cell of NAS-Bench-201 in its network for CIFAR-10."""
    return stack201(CIFAR10, Nasbench201Config(), operations)


ROWS: tuple[Row, ...] = (
    ("nasbench101_inception_like", "Cell of the README, 3 x 3", "1902.09635", 2_694_282, None, inception_like),
    ("nasbench201_resnet", "ResNet's cell, 3 x 5", "2001.00326", None, None, lambda: cell201(RESNET)),
    ("nasbench201_best", "The best cell on CIFAR-10, 3 x 5", "2001.00326", None, None, lambda: cell201(BEST)),
)
REFERENCES = references("nasbench", ROWS)
