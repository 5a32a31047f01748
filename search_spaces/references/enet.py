"""ENet (1606.02147): the authors' network, and the two ports whose counts are published. SegNet (1511.00561)."""

from __future__ import annotations

from typing import Literal

from search_spaces.architecture import Architecture, Arg, Task
from search_spaces.references.reference import Row, references
from search_spaces.spaces.chain import Chain

MIDDLES: tuple[dict[str, Arg], ...] = (
    {},
    {"dilation": 2},
    {"asymmetric": 5},
    {"dilation": 4},
    {},
    {"dilation": 8},
    {"asymmetric": 5},
    {"dilation": 16},
)
"""Stage 2 and, once more, stage 3 of table 1: regular, dilated and asymmetric bottlenecks."""


def enet(
    classes: int,
    style: Literal["authors", "port"] = "authors",
    kernel: Literal[2, 3] = 3,
    size: tuple[int, int] = (360, 640),
) -> Architecture:
    """ENet for images of ``size``. ``kernel``: of the transposed convolutions inside the decoder.

    A port squeezes to a quarter of the input's channels where they change, not of the output's.
    """
    port = style == "port"
    chain = Chain()
    form: dict[str, Arg] = {"style": style} if port else {}
    initial = chain.append("enet_initial", **form)
    first = chain.append("enet_downsampling", initial, out_channels=64, dropout=0.01, **_width(port, 4), **form)
    for _ in range(4):
        first = chain.append("enet_bottleneck", dropout=0.01, **form)
    chain.append("enet_downsampling", out_channels=128, dropout=0.1, **_width(port, 16), **form)
    for _ in range(2):
        for middle in MIDDLES:
            chain.append("enet_bottleneck", dropout=0.1, **middle, **form)
    up: dict[str, Arg] = {"kernel": kernel, **({"dropout": 0.1} if port else {}), **form}
    plain: dict[str, Arg] = {"activation": "relu", **({"dropout": 0.1} if port else {}), **form}
    chain.append("enet_upsampling", chain.last, first, **up, **_width(port, 32))
    chain.append("enet_bottleneck", **plain)
    chain.append("enet_bottleneck", **plain)
    chain.append("enet_upsampling", chain.last, initial, **up, **_width(port, 16))
    chain.append("enet_bottleneck", **plain)
    ending: dict[str, Arg] = {"kernel": 3, "bias": False} if port else {}
    chain.append("segmentation_head", chain.last, 0, classes=classes, **ending)
    return chain.architecture(Task((3, *size), classes, "segmentation"))


def _width(port: bool, width: int) -> dict[str, Arg]:
    return {"width": width} if port else {}


SEGNET = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the convolutions of each stage: VGG-16's."""


def segnet(classes: int, size: tuple[int, int] = (360, 640)) -> Architecture:
    """SegNet: the convolutions of VGG-16, and the same once more backwards behind max-unpooling."""
    chain = Chain()
    pooled = []
    for stage in SEGNET:
        for width in stage:
            chain.append("conv_norm_act", out_channels=width, bias=True)
        pooled.append(chain.last)
        chain.append("pool", kernel=2, padding="ceil")
    for number in reversed(range(len(SEGNET))):
        chain.append("max_unpool", chain.last, pooled[number])
        for width in SEGNET[number][:-1]:
            chain.append("conv_norm_act", out_channels=width, bias=True)
        if number:
            chain.append("conv_norm_act", out_channels=SEGNET[number - 1][-1], bias=True)
    chain.append("segmentation_head", chain.last, 0, classes=classes, stride=1, kernel=3)
    return chain.architecture(Task((3, *size), classes, "segmentation"))


PORT = "PyTorch-ENet"
ROWS: tuple[Row, ...] = (
    ("enet", "ENet of its authors, 20 classes of Cityscapes", "1606.02147", 364_376, None, lambda: enet(20)),
    ("enet_camvid", "ENet of its authors, 12 classes of CamVid", "1606.02147", 363_856, None, lambda: enet(12)),
    ("enet_port", "ENet without biases, 19 classes", PORT, 351_660, 1_774_252_800, lambda: enet(19, "port", 2)),
    ("enet_port_camvid", "ENet without biases, 12 classes", PORT, 350_652, 1_716_192_000, lambda: enet(12, "port", 2)),
    ("enet_port_3x3", "ENet without biases, 3x3 in its decoder", "pytorchcv", 358_060, 1_811_116_800,
     lambda: enet(19, "port", 3)),
    ("segnet", "SegNet, 19 classes", "pytorchcv", 29_453_971, None, lambda: segnet(19)),
    ("segnet_camvid", "SegNet, 12 classes of CamVid", "1511.00561", None, None, lambda: segnet(12)),
)  # fmt: skip
REFERENCES = references("enet", ROWS)
