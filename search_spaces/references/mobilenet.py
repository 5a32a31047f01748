"""MobileNet V1 and V2 as published. Sources: 1704.04861, table 1; 1801.04381, table 2; TF-slim's tables of variants."""

from __future__ import annotations

from functools import partial

from search_spaces.architecture import Architecture, Task
from search_spaces.references.reference import Row, references
from search_spaces.spaces.chain import Chain, divisible

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks and stride of the first block; table 2."""


def mobilenet_v2(alpha: float = 1.0, side: int = 224, classes: int = 1000) -> Architecture:
    """Channels times ``alpha``, rounded to multiples of 8; the last convolution widens only for alpha > 1."""
    chain = Chain()
    chain.append("conv_norm_act", out_channels=divisible(32 * alpha), stride=2, activation="relu6")
    for expansion, channels, blocks, stride in STAGES:
        for i in range(blocks):
            chain.append(
                "inverted_residual",
                out_channels=divisible(channels * alpha),
                stride=stride if i == 0 else 1,
                expansion=expansion,
            )
    chain.append("conv_norm_act", out_channels=divisible(1280 * max(1.0, alpha)), kernel=1, activation="relu6")
    chain.append("classifier", classes=classes, dropout=0.2)
    return chain.architecture(Task((3, side, side), classes))


V1_STAGES = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *(((512, 1),) * 5), (1024, 2), (1024, 1))
"""Channels and stride of the thirteen depthwise separable convolutions; table 1."""


def mobilenet_v1(alpha: float = 1.0, side: int = 224, classes: int = 1000) -> Architecture:
    """Depthwise separable convolutions with ``alpha`` times the channels, on images of ``side`` pixels."""
    chain = Chain()
    chain.append("conv_norm_act", out_channels=int(32 * alpha), stride=2)
    for channels, stride in V1_STAGES:
        chain.append("depthwise_separable", out_channels=int(channels * alpha), stride=stride)
    chain.append("classifier", classes=classes)
    return chain.architecture(Task((3, side, side), classes))


Published = tuple[int | None, int | None]

V1_PARAMS = {1.0: 4_231_976, 0.75: 2_585_560, 0.5: 1_331_592, 0.25: 470_072}
V1_MACS = {
    (1.0, 224): 568_740_352,
    (1.0, 160): 290_675_200,
    (1.0, 128): 186_400_768,
    (0.75, 224): 325_400_448,
    (0.75, 192): 239_273_472,
    (0.5, 224): 149_497_088,
    (0.5, 160): 76_524_800,
    (0.25, 224): 41_030_272,
    (0.25, 192): 30_212_608,
    (0.25, 128): 13_570_048,
}
V2_PARAMS = {
    1.4: 6_108_776,
    1.3: None,
    1.0: 3_504_872,
    0.75: 2_636_424,
    0.5: 1_968_680,
    0.35: 1_677_128,
}
V2_MACS = {
    (1.0, 224): 300_774_272,
    (1.0, 192): 221_316_608,
    (1.0, 160): 154_083_200,
    (1.4, 224): 582_195_824,
    (0.75, 224): 209_069_792,
    (0.35, 224): 59_285_808,
}


def _name(version: int, alpha: float, side: int) -> str:
    """mobilenet_v1, mobilenet_v1_0.5, mobilenet_v1_160, mobilenet_v1_0.5_160."""
    return f"mobilenet_v{version}" + (f"_{alpha:g}" if alpha != 1.0 else "") + (f"_{side}" if side != 224 else "")


ROWS: tuple[Row, ...] = (
    *(
        (
            _name(1, alpha, side),
            f"MobileNetV1 {alpha}, {side} pixels",
            "1704.04861",
            params,
            V1_MACS.get((alpha, side)),
            partial(mobilenet_v1, alpha, side),
        )
        for alpha, params in V1_PARAMS.items()
        for side in (224, 192, 160, 128)
    ),
    *(
        (
            _name(2, alpha, side),
            f"MobileNetV2 {alpha}, {side} pixels",
            "1801.04381; TF-slim",
            params,
            V2_MACS.get((alpha, side)),
            partial(mobilenet_v2, alpha, side),
        )
        for alpha, params in V2_PARAMS.items()
        for side in ((224, 192, 160, 128, 96) if alpha <= 1 else (224,))
    ),
)
REFERENCES = references("mbconv", ROWS)
