"""SqueezeNet. Source: Iandola et al. 2016 (1602.07360), table 1 and figure 2."""

from __future__ import annotations

from functools import partial

from search_spaces.architecture import Architecture, Arg, Task
from search_spaces.references.reference import IMAGENET, Row, references
from search_spaces.spaces.chain import Chain

FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
"""Channels of the squeeze and of either expand convolution of fire2 to fire9."""


def squeezenet(version: str = "1.0", bypass: str = "none", task: Task = IMAGENET) -> Architecture:
    """Eight Fire modules between two convolutions; 1.1 has a smaller stem and pools earlier.

    ``bypass``: "simple" around every module that keeps its channels, "complex" around the others as well.
    """
    chain = Chain()
    stem: tuple[int, int] = (96, 7) if version == "1.0" else (64, 3)
    chain.append(
        "conv_norm_act", out_channels=stem[0], kernel=stem[1], stride=2, padding="valid", norm="none", bias=True
    )
    pools = (0, 3, 7) if version == "1.0" else (0, 2, 4)
    before = stem[0]
    for i, (squeeze, expand) in enumerate(FIRES):
        if i in pools:
            chain.append("pool", padding="ceil")
        around: dict[str, Arg] = {}
        if bypass != "none" and before == 2 * expand:
            around = {"bypass": "simple"}
        elif bypass == "complex":
            around = {"bypass": "complex"}
        chain.append("fire", squeeze=squeeze, expand1=expand, expand3=expand, **around)
        before = 2 * expand
    chain.append("convolutional_classifier", classes=task.classes, dropout=0.5, last="relu")
    return chain.architecture(task)


TABLE = (
    # version, bypass, parameters, multiply-accumulates
    ("1.0", "none", 1_248_424, 818_924_576),
    ("1.0", "simple", 1_248_424, 818_924_576),
    ("1.0", "complex", None, None),
    ("1.1", "none", 1_235_496, None),
    ("1.1", "simple", 1_235_496, None),
)
ROWS: tuple[Row, ...] = tuple(
    (
        f"squeezenet_{version}" + ("" if bypass == "none" else f"_{bypass}_bypass"),
        f"SqueezeNet {version}" + ("" if bypass == "none" else f", {bypass} bypass"),
        "1602.07360",
        params,
        macs,
        partial(squeezenet, version, bypass),
    )
    for version, bypass, params, macs in TABLE
)
REFERENCES = references("squeezenet", ROWS)
