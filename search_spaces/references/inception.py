"""GoogLeNet, BN-Inception, Inception V3 and V4, Inception-ResNet, without the heads that are dropped at inference.

Sources: 1409.4842, table 1; 1502.03167, appendix; 1512.00567, table 1; 1602.07261, figures 3 to 19; channels that the
papers leave open are those of the released networks.
"""

from __future__ import annotations

from search_spaces.architecture import Architecture, Arg, Task
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


def googlenet(batch_norm: bool = False, task: Task = IMAGENET) -> Architecture:
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
    chain.append("classifier", classes=task.classes, dropout=0.4)
    return chain.architecture(task)


BN_MODULES: dict[str, tuple[tuple[int, ...], ...]] = {
    # the variants are "caffe", as Caffe's port has it, and "slim", as TensorFlow's
    "caffe": (
        (64, 64, 64, 64, 96, 32),
        (64, 64, 96, 64, 96, 64),
        (128, 160, 64, 96),
        (224, 64, 96, 96, 128, 128),
        (192, 96, 128, 96, 128, 128),
        (160, 128, 160, 128, 160, 128),
        (96, 128, 192, 160, 192, 128),
        (128, 192, 192, 256),
        (352, 192, 320, 160, 224, 128),
        (352, 192, 320, 192, 224, 128),
    ),
    "slim": (
        (64, 64, 64, 64, 96, 32),
        (64, 64, 96, 64, 96, 64),
        (128, 160, 64, 96),
        (224, 64, 96, 96, 128, 128),
        (192, 96, 128, 96, 128, 128),
        (160, 128, 160, 128, 160, 96),
        (96, 128, 192, 160, 192, 96),
        (128, 192, 192, 256),
        (352, 192, 320, 160, 224, 128),
        (352, 192, 320, 192, 224, 128),
    ),
}
"""Channels of #1x1, #3x3 reduce, #3x3, double #3x3 reduce, double #3x3, pool proj; of a reduction the middle four."""


def bn_inception(variant: str = "caffe", task: Task = IMAGENET) -> Architecture:
    """Inception V2: batch norm, two 3x3 for the 5x5, reductions between the stages; "slim" has a separable stem."""
    chain = Chain()
    if variant == "slim":
        chain.append("depthwise_separable", out_channels=64, kernel=7, stride=2, multiplier=8, between=False)
    else:
        chain.append("conv_norm_act", out_channels=64, kernel=7, stride=2, bias=True)
    bias: dict[str, Arg] = {"bias": True} if variant == "caffe" else {}
    chain.append("pool", padding="ceil")
    chain.append("conv_norm_act", out_channels=64, kernel=1, **bias)
    chain.append("conv_norm_act", out_channels=192, **bias)
    chain.append("pool", padding="ceil")
    modules = BN_MODULES[variant]
    for i, widths in enumerate(modules):
        if len(widths) == 4:
            reduce3, branch3, reduce5, branch5 = widths
            double = (reduce5, branch5, branch5)
            chain.append("inception_reduction", reduce3=reduce3, branch3=branch3, double=double, padding="same", **bias)
        else:
            pool = "max" if i == len(modules) - 1 else "average"
            channels: dict[str, Arg] = dict(zip(NAMES, widths, strict=True))
            chain.append("inception_block", **channels, large="3x3_3x3", pool=pool, **bias)
    chain.append("classifier", classes=task.classes)
    return chain.architecture(task)


IMAGENET299 = Task((3, 299, 299), 1000)


def _stem(chain: Chain) -> None:
    """The stem of Inception V3 and Inception-ResNet: 299 -> 35 pixels, 192 channels."""
    chain.append("conv_norm_act", out_channels=32, stride=2, padding="valid")
    chain.append("conv_norm_act", out_channels=32, padding="valid")
    chain.append("conv_norm_act", out_channels=64)
    chain.append("pool", padding="valid")
    chain.append("conv_norm_act", out_channels=80, kernel=1)
    chain.append("conv_norm_act", out_channels=192, padding="valid")


def inception_v3(early: bool = False, task: Task = IMAGENET299) -> Architecture:
    """Inception V3 as released; ``early``: as it was first written for Keras, which the Xception paper counted."""
    chain = Chain()
    _stem(chain)
    chain.append("pool", padding="valid")
    for pool in (32, 32, 32) if early else (32, 64, 64):
        chain.append("inception_a", branch1=64, single=(48, 64), double=(64, 96, 96), pool_projection=pool)
    chain.append("inception_reduction", branch3=384, double=(64, 96, 96))
    for width in (128, 160, 160, 192):
        second = 160 if early and width == 192 else width
        chain.append(
            "inception_b",
            branch1=192,
            single=(width, width, 192),
            double=(second, width, width, width, 192),
            pool_projection=192,
        )
    chain.append("flattened_reduction", branch3=(192, 320), flattened=(192, 192, 192, 192))
    for _ in range(2):
        chain.append("inception_c", branch1=320, split=(384, 384), deep=(448, 384, 384), pool_projection=192)
    chain.append("classifier", classes=task.classes, dropout=0.2)
    return chain.architecture(task)


def inception_v4(task: Task = IMAGENET299) -> Architecture:
    """Inception V4: a stem that branches three times, 4, 7 and 3 modules with two reductions between them."""
    chain = Chain()
    chain.append("conv_norm_act", out_channels=32, stride=2, padding="valid")
    chain.append("conv_norm_act", out_channels=32, padding="valid")
    stem = chain.append("conv_norm_act", out_channels=64)
    pool = chain.append("pool", stem, padding="valid")
    conv = chain.append("conv_norm_act", stem, out_channels=96, stride=2, padding="valid")
    joined = chain.append("concat", pool, conv)
    chain.append("conv_norm_act", joined, out_channels=64, kernel=1)
    short = chain.append("conv_norm_act", out_channels=96, padding="valid")
    chain.append("conv_norm_act", joined, out_channels=64, kernel=1)
    chain.append("conv_norm_act", out_channels=64, kernel=(1, 7))
    chain.append("conv_norm_act", out_channels=64, kernel=(7, 1))
    long = chain.append("conv_norm_act", out_channels=96, padding="valid")
    joined = chain.append("concat", short, long)
    conv = chain.append("conv_norm_act", joined, out_channels=192, stride=2, padding="valid")
    pool = chain.append("pool", joined, padding="valid")
    chain.append("concat", conv, pool)
    for _ in range(4):
        chain.append("inception_a", branch1=96, single=(64, 96), double=(64, 96, 96), pool_projection=96, large=3)
    chain.append("inception_reduction", branch3=384, double=(192, 224, 256))
    for _ in range(7):
        chain.append(
            "inception_b", branch1=384, single=(192, 224, 256), double=(192, 192, 224, 224, 256), pool_projection=128
        )
    chain.append("flattened_reduction", branch3=(192, 192), flattened=(256, 256, 320, 320))
    for _ in range(3):
        chain.append("inception_c", branch1=256, split=(384, 256), deep=(384, 448, 512, 256), pool_projection=256)
    chain.append("classifier", classes=task.classes, dropout=0.2)
    return chain.architecture(task)


def inception_resnet_v1(task: Task = IMAGENET299) -> Architecture:
    """Inception-ResNet-v1: the hybrid that costs what Inception V3 does."""
    chain = Chain()
    _stem(chain)
    chain.append("conv_norm_act", out_channels=256, stride=2, padding="valid")
    for _ in range(5):
        chain.append("inception_resnet_a", branch1=32, single=(32, 32), double=(32, 32, 32))
    chain.append("inception_reduction", branch3=384, double=(192, 192, 256))
    for _ in range(10):
        chain.append("inception_resnet_b", branch1=128, flattened=(128, 128, 128))
    chain.append("inception_resnet_reduction", first=(256, 384), second=(256, 256), double=(256, 256, 256))
    for _ in range(5):
        chain.append("inception_resnet_c", branch1=192, flattened=(192, 192, 192))
    chain.append("classifier", classes=task.classes, dropout=0.2)
    return chain.architecture(task)


def inception_resnet_v2(task: Task = IMAGENET299) -> Architecture:
    """Inception-ResNet-v2 as released: Inception V3's stem with one module, 10, 20 and 10 residual modules."""
    chain = Chain()
    _stem(chain)
    chain.append("pool", padding="valid")
    chain.append("inception_a", branch1=96, single=(48, 64), double=(64, 96, 96), pool_projection=64)
    for _ in range(10):
        chain.append("inception_resnet_a", branch1=32, single=(32, 32), double=(32, 48, 64))
    chain.append("inception_reduction", branch3=384, double=(256, 256, 384))
    for _ in range(20):
        chain.append("inception_resnet_b", branch1=192, flattened=(128, 160, 192))
    chain.append("inception_resnet_reduction", first=(256, 384), second=(256, 288), double=(256, 288, 320))
    for _ in range(9):
        chain.append("inception_resnet_c", branch1=192, flattened=(192, 224, 256))
    chain.append("inception_resnet_c", branch1=192, flattened=(192, 224, 256), scale=1.0, relu=False)
    chain.append("conv_norm_act", out_channels=1536, kernel=1)
    chain.append("classifier", classes=task.classes, dropout=0.2)
    return chain.architecture(task)


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
    (
        "bn_inception",
        "BN-Inception (Inception V2), Caffe's port",
        "1502.03167",
        11_295_240,
        2_032_600_064,
        bn_inception,
    ),
    (
        "inception_v2",
        "BN-Inception (Inception V2) with a separable stem",
        "1502.03167; TF-slim",
        None,
        None,
        lambda: bn_inception("slim"),
    ),
    ("inception_v3", "Inception V3", "1512.00567", 23_834_568, 5_713_216_096, inception_v3),
    (
        "inception_v3_early",
        "Inception V3 as first written for Keras",
        "Keras, 2016",
        None,
        None,
        lambda: inception_v3(early=True),
    ),
    ("inception_v4", "Inception V4", "1602.07261", 42_679_816, 12_253_974_624, inception_v4),
    ("inception_resnet_v1", "Inception-ResNet-v1", "1602.07261", None, None, inception_resnet_v1),
    ("inception_resnet_v2", "Inception-ResNet-v2", "1602.07261", 55_843_464, 13_155_794_016, inception_resnet_v2),
)
REFERENCES = references("inception", ROWS)
