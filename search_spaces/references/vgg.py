"""VGG A to E. Source: Simonyan and Zisserman 2015 (1409.1556), table 1."""

from __future__ import annotations

from functools import partial

from search_spaces.architecture import Architecture, Arg, Task
from search_spaces.references.reference import IMAGENET, Row, references
from search_spaces.spaces.chain import Chain

WIDTHS = (64, 128, 256, 512, 512)
COLUMNS: dict[str, tuple[tuple[int, ...], ...]] = {
    "a": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "a_lrn": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "b": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "c": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "d": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "e": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
"""Kernels of the convolutions of each of the five stages."""


def vgg(column: str, batch_norm: bool = False, task: Task = IMAGENET) -> Architecture:
    """Stages of 3x3 convolutions, each closed by a 2x2 max pool, and a perceptron of 4096 and 4096 units."""
    chain = Chain()
    plain: dict[str, Arg] = {"bias": True, **({} if batch_norm else {"norm": "none"})}
    for width, kernels in zip(WIDTHS, COLUMNS[column], strict=True):
        for kernel in kernels:
            chain.append("conv_norm_act", out_channels=width, kernel=kernel, **plain)
            if column == "a_lrn" and chain.last == 1:
                chain.append("local_response_norm")
        chain.append("pool", kernel=2)
    chain.append("flatten_dense", classes=task.classes, widths=(4096, 4096), dropout=0.5)
    return chain.architecture(task)


TABLE: tuple[tuple[str, str, int | None, int | None, int | None], ...] = (
    # column, name, parameters, the same with batch norm, multiply-accumulates
    ("a", "vgg11", 132_863_336, 132_868_840, 7_609_090_048),
    ("a_lrn", "vgg11_lrn", 132_863_336, None, 7_609_090_048),
    ("b", "vgg13", 133_047_848, 133_053_736, 11_308_466_176),
    ("c", "vgg16_c", None, None, None),
    ("d", "vgg16", 138_357_544, 138_365_992, 15_470_264_320),
    ("e", "vgg19", 143_667_240, 143_678_248, None),
)
ROWS: tuple[Row, ...] = (
    *(
        (name, f"VGG, column {column.upper().replace('_', '-')}", "1409.1556", params, macs, partial(vgg, column))
        for column, name, params, _, macs in TABLE
    ),
    *(
        (
            f"{name}_bn",
            f"VGG, column {column.upper()}, with batch norm",
            "1409.1556; torchvision",
            params,
            macs,
            partial(vgg, column, batch_norm=True),
        )
        for column, name, _, params, macs in TABLE
        if column != "a_lrn"
    ),
)
REFERENCES = references("vgg", ROWS)
