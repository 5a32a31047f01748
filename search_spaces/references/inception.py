"""GoogLeNet as published. Source: 1409.4842, table 1, without the auxiliary heads, which are dropped at inference."""

from __future__ import annotations

from search_spaces.architecture import Architecture, Arg
from search_spaces.references.reference import IMAGENET, Row, references
from search_spaces.spaces.chain import Chain

MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Channels of #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5 and pool proj; table 1."""

NAMES = ("branch1", "reduce3", "branch3", "reduce5", "branch5", "pool_projection")


def module(name: str, **args: Arg) -> dict[str, Arg]:
    """Arguments of the module called ``name`` in table 1."""
    return {**dict(zip(NAMES, MODULES[name], strict=True)), **args}


def googlenet(batch_norm: bool = False) -> Architecture:
    """The paper's network: true 5x5, biases, local response norm; or torchvision's: 3x3 for 5x5, batch norm instead."""
    chain = Chain()
    conv: dict[str, Arg] = {} if batch_norm else {"norm": "none", "bias": True}
    inside: dict[str, Arg] = {"large": "3x3"} if batch_norm else {"norm": "none"}
    chain.append("conv_norm_act", out_channels=64, kernel=7, stride=2, **conv)
    chain.append("pool", padding="ceil")
    if not batch_norm:
        chain.append("local_response_norm")
    chain.append("conv_norm_act", out_channels=64, kernel=1, **conv)
    chain.append("conv_norm_act", out_channels=192, **conv)
    if not batch_norm:
        chain.append("local_response_norm")
    for name in MODULES:
        if name.endswith("a"):
            chain.append("pool", padding="ceil")
        chain.append("inception_block", **module(name, **inside))
    chain.append("classifier", classes=1000, dropout=0.4)
    return chain.architecture(IMAGENET)


ROWS: tuple[Row, ...] = (
    ("googlenet", "GoogLeNet: true 5x5, biases, no batch norm", "1409.4842", 6_998_552, 1_582_671_872, googlenet),
    (
        "googlenet_bn",
        "GoogLeNet with batch norm and 3x3 for 5x5",
        "torchvision",
        6_624_904,
        1_498_376_192,
        lambda: googlenet(batch_norm=True),
    ),
)
REFERENCES = references("inception", ROWS)
