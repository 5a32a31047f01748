"""NASNet-A and PNASNet-5 as published.

Sources: 1707.07012, figure 4 and appendix A; 1712.00559, figure 1; stems and skips as in the authors' code.
"""

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


PNASNET: Genotype = (
    (0, "separable5x5", 0, "max3x3", "add"),
    (1, "separable7x7", 1, "max3x3", "add"),
    (1, "separable5x5", 1, "separable3x3", "add"),
    (4, "separable3x3", 1, "max3x3", "add"),
    (0, "separable3x3", 1, "identity", "add"),
)
PNASNET_OUTPUT = (2, 3, 4, 5, 6)
"""Also the third node's state, though the fourth reads it."""


def pnasnet(cells: int, filters: int, task: Task, stem: int) -> Architecture:
    """PNASNet-5: three stacks of ``cells`` cells of one kind; the first cell of the second and third has stride 2."""
    stack = CellStack((task.input_shape[1], task.input_shape[2]))
    if task.input_shape[1] >= 128:
        stack.stem(stem, stride=2, padding="valid")
        stack.cell(filters // 4, PNASNET, True, output=PNASNET_OUTPUT, previous="raw")
        stack.cell(filters // 2, PNASNET, True, output=PNASNET_OUTPUT)
    else:
        stack.stem(stem)
    for i in range(3):
        for j in range(cells):
            stack.cell(filters * 2**i, PNASNET, i > 0 and j == 0, output=PNASNET_OUTPUT)
    return stack.architecture(task, dropout=0.5 if task.input_shape[1] >= 128 else 0.0)


def _shift(stack: CellStack, shifted: bool) -> dict[str, bool]:
    """The ports shift where the size is even: there padding on both sides alone would look at other pixels."""
    return {"shifted": True} if shifted and stack.size[0] % 2 == 0 else {}


def pnasnet_cifar(task: Task = CIFAR10) -> Architecture:
    """The network of table 2: N = 3, F = 48."""
    return pnasnet(3, 48, task, 48)


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
    (
        "pnasnet5_large",
        "PNASNet-5, 4 cells a stack, 216 filters",
        "1712.00559",
        86_057_668,
        None,
        lambda: pnasnet(4, 216, LARGE, 96),
    ),
    (
        "pnasnet5_mobile",
        "PNASNet-5, 3 cells a stack, 54 filters",
        "1712.00559",
        None,
        None,
        lambda: pnasnet(3, 54, MOBILE, 32),
    ),
    ("pnasnet5_cifar", "PNASNet-5, 3 cells a stack, 48 filters", "1712.00559", None, None, pnasnet_cifar),
    ("nasnet_a_cifar", "NASNet-A 6@768", "1707.07012", 3_328_234, 525_786_624, lambda: nasnet_a(6, 32, CIFAR10, 96)),
)
REFERENCES = references("nasnet", ROWS)
