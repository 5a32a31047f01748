"""AlexNet and its children. Sources: Krizhevsky et al. 2012 and 1404.5997; 1311.2901 (ZFNet); 1312.6229 (OverFeat)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from search_spaces.architecture import Architecture, Arg, Task
from search_spaces.references.reference import IMAGENET, Row, references
from search_spaces.spaces.chain import Chain

IMAGENET227 = replace(IMAGENET, input_shape=(3, 227, 227))
"""What the network of 2012 needs: (227 - 11) / 4 is whole, (224 - 11) / 4 is not."""

PLAIN: dict[str, Arg] = {"norm": "none", "bias": True}


def alexnet(
    widths: Sequence[int] = (64, 192, 384, 256, 256),
    first: tuple[int, int, int] = (11, 4, 2),
    second: tuple[int, int] = (1, 2),
    groups: int = 1,
    lrn: bool = False,
    pool: str = "valid",
    task: Task = IMAGENET,
) -> Architecture:
    """Five convolutions of ``widths`` channels, three overlapping pools, three linear layers.

    ``first``: kernel, stride and padding of the first convolution; ``second``: stride and padding of the second, 5x5;
    ``groups``: 2 for the two towers of 2012, which meet in the third convolution; ``pool``: padding of the pools.
    """
    chain = Chain()
    kernel, stride, padding = first
    chain.append("conv_norm_act", out_channels=widths[0], kernel=kernel, stride=stride, padding=padding, **PLAIN)
    chain.append("pool", padding=pool)
    if lrn:
        chain.append("local_response_norm")
    stride, padding = second
    chain.append(
        "conv_norm_act", out_channels=widths[1], kernel=5, stride=stride, padding=padding, groups=groups, **PLAIN
    )
    chain.append("pool", padding=pool)
    if lrn:
        chain.append("local_response_norm")
    for i, width in enumerate(widths[2:]):
        chain.append("conv_norm_act", out_channels=width, groups=groups if i else 1, **PLAIN)
    chain.append("pool", padding=pool)
    chain.append("flatten_dense", classes=task.classes, widths=(4096, 4096), dropout=0.5)
    return chain.architecture(task)


FULL = (96, 256, 384, 384, 256)


def alexnet_two_towers(task: Task = IMAGENET227) -> Architecture:
    """The network of 2012: two halves, one a GPU."""
    return alexnet(FULL, first=(11, 4, 0), groups=2, lrn=True, task=task)


def alexnet_no_groups(task: Task = IMAGENET) -> Architecture:
    """The widths of 2012 without the split."""
    return alexnet(FULL, first=(11, 4, 0), lrn=True, pool="ceil", task=task)


def zfnet(widths: Sequence[int] = FULL, task: Task = IMAGENET) -> Architecture:
    """AlexNet with a first convolution of 7x7 and stride 2, and stride 2 in the second."""
    return alexnet(widths, first=(7, 2, 1), second=(2, 0), lrn=True, pool="ceil", task=task)


OVERFEAT: dict[str, tuple[Arg, ...]] = {
    # side; kernel, stride of conv1; pool1; kernel of conv2; widths of conv1 to the last; last pool; hidden units
    "fast": (231, 11, 4, 2, 5, (96, 256, 512, 1024, 1024), 2, (3072, 4096)),
    "accurate": (221, 7, 2, 3, 7, (96, 256, 512, 512, 1024, 1024), 3, (4096, 4096)),
}
"""Tables 1 and 3 of 1312.6229."""


def overfeat_features(chain: Chain, kernel: int, stride: int, pool: int, second: int, widths: Sequence[int]) -> None:
    """Append the convolutions of OverFeat up to the last, without its pool."""
    chain.append("conv_norm_act", out_channels=widths[0], kernel=kernel, stride=stride, padding="valid", **PLAIN)
    chain.append("pool", kernel=pool, stride=pool, padding="valid")
    chain.append("conv_norm_act", out_channels=widths[1], kernel=second, padding="valid", **PLAIN)
    chain.append("pool", kernel=2, padding="valid")
    for width in widths[2:]:
        chain.append("conv_norm_act", out_channels=width, **PLAIN)


def overfeat(model: str = "fast", task: Task | None = None) -> Architecture:
    """OverFeat's classifier, whose linear layers slide over larger images and average what they say."""
    side, kernel, stride, pool, second, widths, last, hidden = OVERFEAT[model]
    task = task or Task((3, int(str(side)), int(str(side))), 1000)
    chain = Chain()
    overfeat_features(chain, kernel, stride, pool, second, widths)  # type: ignore[arg-type]  # see OVERFEAT
    chain.append("pool", kernel=last, stride=last, padding="valid")
    six = 6 if model == "fast" else 5
    chain.append("convolutional_classifier", classes=task.classes, kernel=six, widths=hidden, dropout=0.5)
    return chain.architecture(task)


ROWS: tuple[Row, ...] = (
    ("alexnet", "AlexNet, one tower", "1404.5997", 61_100_840, 714_188_480, alexnet),
    (
        "alexnet_two_towers",
        "AlexNet of 2012, two towers by groups",
        "Krizhevsky et al. 2012",
        60_965_224,
        724_406_816,
        alexnet_two_towers,
    ),
    (
        "alexnet_no_groups",
        "AlexNet 96-256-384-384-256 without groups",
        "imgclsmob",
        62_378_344,
        1_131_457_664,
        alexnet_no_groups,
    ),
    ("zfnet", "ZFNet with AlexNet's widths", "1311.2901", 62_357_608, 1_168_032_896, zfnet),
    (
        "zfnet_wide",
        "ZFNet with 512, 1024 and 512 channels at the end",
        "CS231n, lecture 9; imgclsmob",
        107_627_624,
        None,
        lambda: zfnet((96, 256, 512, 1024, 512)),
    ),
    ("overfeat_fast", "OverFeat, fast model", "1312.6229", 145_920_872, 2_801_403_904, overfeat),
    (
        "overfeat_accurate",
        "OverFeat, accurate model",
        "1312.6229",
        144_656_488,
        5_355_446_784,
        lambda: overfeat("accurate"),
    ),
)
REFERENCES = references("alexnet", ROWS)
