"""FractalNet. Source: Larsson et al. 2017 (1605.07648), section 4; channels and dropout of the authors' generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from search_spaces.architecture import Architecture, Task
from search_spaces.references.reference import CIFAR10, Row, references
from search_spaces.spaces.chain import Chain

CHANNELS = (64, 128, 256, 512, 512)


def fractalnet(
    columns: int = 3,
    channels: Sequence[int] = CHANNELS,
    drop_path: float = 0.15,
    task: Task = CIFAR10,
) -> Architecture:
    """Fractal blocks of ``columns``, a 2x2 max pool behind each, dropout that rises from 0 by 0.1 a block."""
    chain = Chain()
    for i, width in enumerate(channels):
        chain.append(
            "fractal_block", out_channels=width, columns=columns, dropout=round(0.1 * i, 1), drop_path=drop_path
        )
        chain.append("pool", kernel=2)
    chain.append("classifier", classes=task.classes)
    return chain.architecture(task)


ROWS: tuple[Row, ...] = (
    ("fractalnet_cifar", "FractalNet, 20 layers", "1605.07648", 33_724_618, 845_222_912, fractalnet),
    (
        "fractalnet_cifar100",
        "FractalNet, 20 layers, CIFAR-100",
        "1605.07648",
        33_770_788,
        845_268_992,
        lambda: fractalnet(task=replace(CIFAR10, classes=100)),
    ),
    (
        "fractalnet_40_cifar",
        "FractalNet, 40 layers (four columns)",
        "1605.07648",
        None,
        None,
        lambda: fractalnet(columns=4),
    ),
)
REFERENCES = references("fractalnet", ROWS)
