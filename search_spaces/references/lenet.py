"""LeNet-5 and the first deep networks on a GPU. Sources: LeCun et al. 1998; Cireșan et al. 2010 (1003.0358)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from search_spaces.architecture import Architecture, Arg, Task
from search_spaces.references.reference import Row, references
from search_spaces.spaces.chain import Chain

MNIST32 = Task((1, 32, 32), 10)
"""Digits of 28 pixels in a frame of 32."""
MNIST29 = Task((1, 29, 29), 10)

C3 = (
    *((i, (i + 1) % 6, (i + 2) % 6) for i in range(6)),
    *((i, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)
"""Which of the six maps of S2 each of the sixteen maps of C3 reads; table I."""


def lenet5_original(task: Task = MNIST32) -> Architecture:
    """Sparse C3, trained subsampling, tanh, distances to fixed codes; 60,000 trained parameters."""
    chain = Chain()
    conv: dict[str, Arg] = {"kernel": 5, "padding": "valid", "bias": True, "norm": "none", "activation": "tanh"}
    chain.append("conv_norm_act", out_channels=6, **conv)
    chain.append("subsample")
    chain.append("sparse_conv", table=C3)
    chain.append("subsample")
    chain.append("conv_norm_act", out_channels=120, **conv)
    chain.append("radial_basis_classifier", classes=task.classes)
    return chain.architecture(task)


def lenet5(task: Task = MNIST32, activation: str = "tanh") -> Architecture:
    """CONV-POOL-CONV-POOL and a perceptron of 120 and 84 units, as it is taught today."""
    chain = Chain()
    conv: dict[str, Arg] = {"kernel": 5, "padding": "valid", "bias": True, "norm": "none", "activation": activation}
    chain.append("conv_norm_act", out_channels=6, **conv)
    chain.append("pool", kind="average", kernel=2)
    chain.append("conv_norm_act", out_channels=16, **conv)
    chain.append("pool", kind="average", kernel=2)
    chain.append("flatten_dense", classes=task.classes, widths=(120, 84), activation=activation)
    return chain.architecture(task)


def mlp(widths: Sequence[int], task: Task = MNIST29) -> Architecture:
    """Linear layers of ``widths`` units with tanh on the pixels."""
    chain = Chain()
    chain.append("flatten_dense", classes=task.classes, widths=tuple(widths), activation="tanh")
    return chain.architecture(task)


MLPS = (
    ((1000, 500), 1_347_510, 1_346_000),
    ((1500, 1000, 500), None, None),
    ((2000, 1500, 1000, 500), None, None),
    ((2500, 2000, 1500, 1000, 500), 12_115_010, 12_107_500),
    ((1000,) * 9, 8_860_010, 8_851_000),
)
"""Hidden layers, parameters, multiply-accumulates; table 1 of 1003.0358."""

ROWS: tuple[Row, ...] = (
    ("lenet5", "LeNet-5 with a dense C3 and average pooling", "LeCun et al. 1998", 61_706, 416_520, lenet5),
    ("lenet5_original", "LeNet-5 as published", "LeCun et al. 1998", 60_000, None, lenet5_original),
    *(
        (
            f"ciresan_mlp_{len(widths)}",
            f"Cireșan's perceptron {'-'.join(map(str, widths))}-10",
            "1003.0358",
            params,
            macs,
            partial(mlp, widths),
        )
        for widths, params, macs in MLPS
    ),
)
REFERENCES = references("lenet", ROWS)
