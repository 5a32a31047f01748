"""Names of the design rules, apart from ``rules`` so that a request can be read without torch."""

from __future__ import annotations

from typing import Literal

RuleName = Literal[
    "monotone_width",
    "pyramid",
    "small_kernels",
    "small_stem",
    "reduced_before_expensive",
    "two_layers_per_shortcut",
    "depthwise_with_pointwise",
    "homogeneous_stages",
    "max_pooling",
    "width_before_pooling",
    "no_raw_pixel_mlp",
    "light_head",
    "memory_budget",
]
