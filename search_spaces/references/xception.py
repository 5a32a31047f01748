"""Xception. Sources: Chollet 2017 (1610.02357), figure 5; the aligned variants: Chen et al. 2018 (1802.02611)."""

from __future__ import annotations

from functools import partial

from search_spaces.architecture import Architecture, Task
from search_spaces.references.reference import Row, references
from search_spaces.spaces.chain import Chain

IMAGENET299 = Task((3, 299, 299), 1000)


def xception(middle: int = 8, task: Task = IMAGENET299) -> Architecture:
    """Entry flow, ``middle`` blocks of three separable convolutions, exit flow."""
    chain = Chain()
    chain.append("conv_norm_act", out_channels=32, stride=2, padding="valid")
    chain.append("conv_norm_act", out_channels=64, padding="valid")
    chain.append("xception_block", widths=(128, 128), stride=2, first_relu=False)
    chain.append("xception_block", widths=(256, 256), stride=2)
    chain.append("xception_block", widths=(728, 728), stride=2)
    for _ in range(middle):
        chain.append("xception_block", widths=(728, 728, 728))
    chain.append("xception_block", widths=(728, 1024), stride=2)
    chain.append("depthwise_separable", out_channels=1536, between=False)
    chain.append("depthwise_separable", out_channels=2048, between=False)
    chain.append("classifier", classes=task.classes)
    return chain.architecture(task)


ENTRY = ((128, 2), (256, 2), (728, 2))
LONGER_ENTRY = ((128, 2), (256, 1), (256, 2), (728, 1), (728, 2))
"""Channels and stride of the blocks of the entry flow: of 41 and 65 layers, and of 71."""


def aligned_xception(
    middle: int = 8, entry: tuple[tuple[int, int], ...] = ENTRY, task: Task = IMAGENET299
) -> Architecture:
    """DeepLab's variant: strides in the convolutions, norms behind depthwise ones; ``middle`` 8 has 41 layers."""
    chain = Chain()
    chain.append("conv_norm_act", out_channels=32, stride=2)
    chain.append("conv_norm_act", out_channels=64)
    for width, stride in entry:
        chain.append("xception_block", widths=(width, width, width), stride=stride, aligned=True)
    for _ in range(middle):
        chain.append("xception_block", widths=(728, 728, 728), aligned=True)
    chain.append("xception_block", widths=(728, 1024, 1024), stride=2, aligned=True)
    chain.append("xception_block", widths=(1536, 1536, 2048), aligned=True, last_relu=True, residual=False)
    chain.append("classifier", classes=task.classes)
    return chain.architecture(task)


ROWS: tuple[Row, ...] = (
    ("xception", "Xception", "1610.02357", 22_855_952, 8_357_403_496, xception),
    ("xception41", "Xception-41, aligned", "1802.02611", 26_969_560, 9_204_134_312, aligned_xception),
    ("xception65", "Xception-65, aligned", "1802.02611", None, None, partial(aligned_xception, 16)),
    ("xception71", "Xception-71, aligned", "1802.02611", None, None, partial(aligned_xception, 16, LONGER_ENTRY)),
)
REFERENCES = references("xception", ROWS)
