"""NASNet-A as published. Source: 1707.07012, figure 4 and appendix A; stems and skips as in the authors' code."""

from __future__ import annotations

from search_spaces.architecture import Architecture, Arg, Task
from search_spaces.references.reference import CIFAR10, Row, references
from search_spaces.spaces.chain import CellStack

Genotype = tuple[tuple[Arg, ...], ...]

NORMAL: Genotype = (
    (0, "separable3x3", 1, "separable5x5", "add"),
    (0, "separable5x5", 0, "separable3x3", "add"),
    (0, "identity", 1, "average3x3", "add"),
    (0, "average3x3", 0, "average3x3", "add"),
    (1, "separable3x3", 1, "identity", "add"),
)
NORMAL_OUTPUT = (0, 2, 3, 4, 5, 6)
"""The authors' cell also hands on state 0, though nodes read it."""

REDUCTION: Genotype = (
    (0, "separable7x7", 1, "separable5x5", "add"),
    (0, "separable7x7", 1, "max3x3", "add"),
    (0, "separable5x5", 1, "average3x3", "add"),
    (2, "average3x3", 3, "identity", "add"),
    (1, "max3x3", 2, "separable3x3", "add"),
)
REDUCTION_OUTPUT = (3, 4, 5, 6)
"""Likewise state 3."""


def nasnet_a(
    cells: int, filters: int, task: Task, stem: int, skipped: bool = False, shifted: bool = False
) -> Architecture:
    """NASNet-A (cells @ 24 * filters): three stacks of ``cells`` normal cells with two reduction cells between them.

    ImageNet-sized images pass a strided 3x3 convolution with ``stem`` channels and two reduction cells first.
    ``skipped``: the cell after a reduction reads what stands two before it. ``shifted``: padding of the PyTorch ports.
    """
    stack = CellStack((task.input_shape[1], task.input_shape[2]))
    if task.input_shape[1] >= 128:
        stack.stem(stem, stride=2, padding="valid")
        stack.cell(filters // 4, REDUCTION, True, output=REDUCTION_OUTPUT, previous="raw")
        stack.cell(filters // 2, REDUCTION, True, output=REDUCTION_OUTPUT, **_shift(stack, shifted))
    else:
        stack.stem(stem)
    for i in range(3):
        if i:
            extra = _shift(stack, shifted)
            stack.cell(filters * 2**i, REDUCTION, True, skipped, output=REDUCTION_OUTPUT, **extra)
        for _ in range(cells):
            stack.cell(filters * 2**i, NORMAL, output=NORMAL_OUTPUT)
    return stack.architecture(task, dropout=0.5 if task.input_shape[1] >= 128 else 0.0)


def _shift(stack: CellStack, shifted: bool) -> dict[str, bool]:
    """The ports shift where the size is even: there padding on both sides alone would look at other pixels."""
    return {"shifted": True} if shifted and stack.size[0] % 2 == 0 else {}


MOBILE, LARGE = Task((3, 224, 224), 1000), Task((3, 331, 331), 1000)
ROWS: tuple[Row, ...] = (
    ("nasnet_a_mobile", "NASNet-A 4@1056", "1707.07012", 5_289_978, 563_638_816, lambda: nasnet_a(4, 44, MOBILE, 32)),
    (
        "nasnet_a_mobile_shifted",
        "NASNet-A 4@1056 with the padding of the PyTorch ports",
        "Cadene",
        5_289_978,
        568_234_858,
        lambda: nasnet_a(4, 44, MOBILE, 32, shifted=True),
    ),
    (
        "nasnet_a_large",
        "NASNet-A 6@4032",
        "1707.07012",
        88_753_150,
        23_783_414_658,
        lambda: nasnet_a(6, 168, LARGE, 96, skipped=True),
    ),
    (
        "nasnet_a_large_shifted",
        "NASNet-A 6@4032 with the padding of the PyTorch ports",
        "Cadene",
        88_753_150,
        23_809_955_634,
        lambda: nasnet_a(6, 168, LARGE, 96, skipped=True, shifted=True),
    ),
    ("nasnet_a_cifar", "NASNet-A 6@768", "1707.07012", 3_328_234, 525_786_624, lambda: nasnet_a(6, 32, CIFAR10, 96)),
)
REFERENCES = references("nasnet", ROWS)
