"""The networks of DARTS. Source: Liu et al. 2019 (1806.09055), figures 4 and 5; stems as in the authors' code."""

from __future__ import annotations

from search_spaces.architecture import Architecture, Arg, Task
from search_spaces.references.reference import CIFAR10, IMAGENET, Row, references
from search_spaces.spaces.chain import CellStack

Genotype = tuple[tuple[Arg, ...], ...]
SEP, DIL, SKIP, MAX, AVERAGE = "separable3x3", "dilated_separable3x3", "skip", "max3x3", "average3x3"

CELLS: dict[str, tuple[Genotype, Genotype]] = {
    "v1": (
        ((0, SEP, 1, SEP, "add"), (0, SKIP, 1, SEP, "add"), (0, SKIP, 1, SEP, "add"), (0, SEP, 2, SKIP, "add")),
        ((0, MAX, 1, MAX, "add"), (2, SKIP, 0, MAX, "add"), (0, MAX, 2, SKIP, "add"), (2, SKIP, 0, AVERAGE, "add")),
    ),
    "v2": (
        ((0, SEP, 1, SEP, "add"), (0, SEP, 1, SEP, "add"), (1, SEP, 0, SKIP, "add"), (0, SKIP, 2, DIL, "add")),
        ((0, MAX, 1, MAX, "add"), (2, SKIP, 1, MAX, "add"), (0, MAX, 2, SKIP, "add"), (2, SKIP, 1, MAX, "add")),
    ),
}
"""Normal and reduction cell of the first- and second-order search: DARTS_V1 and DARTS_V2."""

OUTPUT = (2, 3, 4, 5)


def darts(version: str, channels: int = 36, cells: int = 20, task: Task = CIFAR10) -> Architecture:
    """``cells`` cells, reductions at one and two thirds, channels doubled at each.

    The stem of images below 128 pixels is a 3x3 convolution of 3 * ``channels``, of larger ones three with stride 2.
    """
    normal, reduction = CELLS[version]
    stack = CellStack((task.input_shape[1], task.input_shape[2]))
    if task.input_shape[1] >= 128:
        stack.double_stem(channels)
    else:
        stack.stem(3 * channels)
    for i in range(cells):
        reducing = i in (cells // 3, 2 * cells // 3)
        channels = 2 * channels if reducing else channels
        extra: dict[str, Arg] = {"previous": "always"} if stack.even else {}
        stack.cell(channels, reduction if reducing else normal, reducing, False, output=OUTPUT, **extra)
    return stack.architecture(task, activation=False)


ROWS: tuple[Row, ...] = (
    ("darts_v2_cifar", "DARTS, second order", "1806.09055", 3_349_342, 528_359_040, lambda: darts("v2")),
    ("darts_v1_cifar", "DARTS, first order", "1806.09055", 3_169_414, 500_987_520, lambda: darts("v1")),
    ("darts_v2_imagenet", "DARTS, second order", "1806.09055", 4_718_752, None, lambda: darts("v2", 48, 14, IMAGENET)),
)
REFERENCES = references("darts", ROWS)
