"""Residual networks as published.

Sources: 1512.03385 (ResNet), 1603.05027 (pre-activation), 1603.09382 (stochastic depth), 1605.07146 (wide), 1611.05431
(ResNeXt), 1709.01507 (squeeze-and-excitation).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from search_spaces.architecture import Architecture, Arg, Task
from search_spaces.references.reference import CIFAR10, IMAGENET, Row, references
from search_spaces.spaces.chain import Chain

DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
"""Blocks of the four stages, table 1 of 1512.03385 (200: 1603.05027): basic blocks up to 34, bottlenecks from 50 on."""


def stages(chain: Chain, block: str, depths: Sequence[int], channels: Sequence[int], **args: Arg) -> None:
    """Append stages of ``block``; every stage but the first begins with stride 2."""
    for stage, (depth, width) in enumerate(zip(depths, channels, strict=True)):
        for i in range(depth):
            stride = 2 if stage and i == 0 else 1
            chain.append(block, out_channels=width, **({"stride": stride} if stride > 1 else {}), **args)


def resnet(
    depth: int,
    stride_at: str = "3x3",
    groups: int = 1,
    group_width: int = 64,
    squeeze: int = 0,
    task: Task = IMAGENET,
) -> Architecture:
    """ResNet, ResNeXt (``groups`` of ``group_width`` channels), wide ResNet (``group_width`` 128) or SE-ResNet."""
    chain = Chain()
    chain.append("conv_norm_act", out_channels=64, kernel=7, stride=2)
    chain.append("pool")
    extra: dict[str, Arg] = {"squeeze": squeeze} if squeeze else {}
    if depth < 50:
        stages(chain, "basic_block", DEPTHS[depth], (64, 128, 256, 512), squeeze=squeeze)
    else:
        for stage, blocks in enumerate(DEPTHS[depth]):
            width = groups * group_width * 2**stage
            for i in range(blocks):
                stride: dict[str, Arg] = {"stride": 2} if stage and i == 0 else {}
                chain.append(
                    "bottleneck_block",
                    out_channels=256 * 2**stage,
                    width=width,
                    groups=groups,
                    stride_at=stride_at,
                    **stride,
                    **extra,
                )
    chain.append("classifier", classes=task.classes)
    return chain.architecture(task)


def senet154(task: Task = IMAGENET) -> Architecture:
    """SENet-154: ResNeXt-152 64x4d with squeeze-and-excitation, half the first 1x1, a stem and shortcuts of 3x3."""
    chain = Chain()
    chain.append("conv_norm_act", out_channels=64, stride=2)
    chain.append("conv_norm_act", out_channels=64)
    chain.append("conv_norm_act", out_channels=128)
    chain.append("pool", padding="ceil")
    for stage, blocks in enumerate(DEPTHS[152]):
        for i in range(blocks):
            stride: dict[str, Arg] = {"stride": 2} if stage and i == 0 else {}
            chain.append(
                "bottleneck_block",
                out_channels=256 * 2**stage,
                width=256 * 2**stage,
                first_width=128 * 2**stage,
                groups=64,
                squeeze=16,
                shortcut="projection3x3" if stage else "projection",
                **stride,
            )
    chain.append("classifier", classes=task.classes, dropout=0.2)
    return chain.architecture(task)


def resnet_cifar(depth: int, shortcut: str = "zero_pad", drop_last: float = 0.0, task: Task = CIFAR10) -> Architecture:
    """Depth 6n + 2: n basic blocks of 16, 32 and 64 channels; section 4.2 of 1512.03385.

    ``drop_last``: share of the images whose branch is left out in the last block, rising linearly from the first on
    (stochastic depth with p_L = 1 - ``drop_last``).
    """
    chain = Chain()
    chain.append("conv_norm_act", out_channels=16)
    blocks = (depth - 2) // 6
    for i in range(3 * blocks):
        extra: dict[str, Arg] = {"drop_path": round(drop_last * (i + 1) / (3 * blocks), 6)} if drop_last else {}
        if i in (blocks, 2 * blocks):
            extra["stride"] = 2
        chain.append("basic_block", out_channels=16 * 2 ** (i // blocks), shortcut=shortcut, **extra)
    chain.append("classifier", classes=task.classes)
    return chain.architecture(task)


def preact_resnet(depth: int, stride_at: str = "1x1", task: Task = IMAGENET) -> Architecture:
    """Norm and activation before the convolutions; the stem keeps its own, as in the authors' code."""
    chain = Chain()
    chain.append("conv_norm_act", out_channels=64, kernel=7, stride=2)
    chain.append("pool")
    if depth < 50:
        stages(chain, "preact_block", DEPTHS[depth], (64, 128, 256, 512))
    else:
        stages(chain, "preact_bottleneck", DEPTHS[depth], (256, 512, 1024, 2048), stride_at=stride_at)
    chain.append("norm_act")
    chain.append("classifier", classes=task.classes)
    return chain.architecture(task)


def preact_resnet_cifar(depth: int, bottleneck: bool = False, task: Task = CIFAR10) -> Architecture:
    """Depth 6n + 2 of basic blocks, or 9n + 2 of bottlenecks with 64, 128 and 256 channels; 1x1 shortcuts."""
    chain = Chain()
    chain.append("conv_norm_act", out_channels=16, norm="none", activation="none")
    if bottleneck:
        stages(chain, "preact_bottleneck", [(depth - 2) // 9] * 3, (64, 128, 256), stride_at="3x3")
    else:
        stages(chain, "preact_block", [(depth - 2) // 6] * 3, (16, 32, 64))
    chain.append("norm_act")
    chain.append("classifier", classes=task.classes)
    return chain.architecture(task)


def wide_resnet_cifar(depth: int, width: int, task: Task = CIFAR10) -> Architecture:
    """WRN-depth-width: (depth - 4) / 6 pre-activation blocks of 16, 32, 64 times ``width`` channels."""
    chain = Chain()
    chain.append("conv_norm_act", out_channels=16, norm="none", activation="none")
    stages(chain, "preact_block", [(depth - 4) // 6] * 3, [16 * width, 32 * width, 64 * width])
    chain.append("norm_act")
    chain.append("classifier", classes=task.classes)
    return chain.architecture(task)


def resnext_cifar(groups: int, group_width: int, task: Task = CIFAR10) -> Architecture:
    """ResNeXt-29: three bottlenecks a stage, section 4 and table 7 of 1611.05431."""
    chain = Chain()
    chain.append("conv_norm_act", out_channels=64)
    for stage in range(3):
        for i in range(3):
            stride: dict[str, Arg] = {"stride": 2} if stage and i == 0 else {}
            chain.append(
                "bottleneck_block",
                out_channels=256 * 2**stage,
                width=groups * group_width * 2**stage,
                groups=groups,
                **stride,
            )
    chain.append("classifier", classes=task.classes)
    return chain.architecture(task)


def wide_resnet(depth: int, width: float, task: Task = IMAGENET) -> Architecture:
    """WRN-depth-width for large images: the 3x3 of bottlenecks, or both of basic blocks, ``width`` times as wide."""
    if depth >= 50:
        return resnet(depth, group_width=round(64 * width), task=task)
    chain = Chain()
    chain.append("conv_norm_act", out_channels=64, kernel=7, stride=2)
    chain.append("pool")
    stages(chain, "basic_block", DEPTHS[depth], [round(c * width) for c in (64, 128, 256, 512)])
    chain.append("classifier", classes=task.classes)
    return chain.architecture(task)


Published = tuple[int | None, int | None]
"""Parameters and multiply-accumulates, None where unpublished."""

RESNETS: dict[int, Published] = {
    18: (11_689_512, 1_814_073_344),
    34: (21_797_672, 3_663_761_408),
    50: (25_557_032, 4_089_184_256),
    101: (44_549_160, 7_801_405_440),
    152: (60_192_808, 11_513_626_624),
}
PAPER_RESNETS: dict[int, Published] = {
    50: (25_557_032, 3_857_973_248),
    101: (44_549_160, 7_570_194_432),
    152: (60_192_808, 11_282_415_616),
}
CIFAR_RESNETS: dict[tuple[int, str], Published] = {
    (20, "zero_pad"): (269_722, 40_551_040),
    (32, "zero_pad"): (464_154, None),
    (44, "zero_pad"): (658_586, 97_174_144),
    (56, "zero_pad"): (853_018, None),
    (110, "zero_pad"): (1_727_962, 252_887_680),
    (1202, "zero_pad"): (19_421_274, 2_829_238_912),
    (20, "projection"): (272_474, 40_813_184),
    (32, "projection"): (None, None),
    (44, "projection"): (None, None),
    (56, "projection"): (855_770, None),
    (110, "projection"): (1_730_714, 253_149_824),
    (1202, "projection"): (19_424_026, None),
}
PREACT_RESNETS: dict[int, Published] = {
    18: (11_687_848, 1_814_073_344),
    34: (21_796_008, None),
    50: (25_549_480, 3_857_973_248),
    101: (44_541_608, 7_570_194_432),
    152: (60_185_256, None),
    200: (64_666_280, None),
}
CIFAR_PREACT_RESNETS: dict[tuple[int, bool], Published] = {
    (20, False): (272_282, None),
    (56, False): (855_578, None),
    (110, False): (1_730_522, 253_149_824),
    (164, True): (1_703_258, 247_646_720),
    (1001, True): (10_327_706, None),
    (1202, False): (19_423_834, None),
}
WIDE_RESNETS: dict[tuple[int, int], Published] = {
    (40, 1): (563_930, 83_280_512),
    (40, 2): (2_243_546, None),
    (40, 4): (8_949_210, 1_298_582_016),
    (40, 8): (35_748_314, None),
    (28, 2): (1_467_610, None),
    (28, 10): (36_479_194, 5_243_328_768),
    (28, 12): (None, None),
    (22, 8): (17_158_106, 2_454_115_328),
    (16, 4): (2_748_890, 392_612_352),
    (16, 8): (10_961_370, 1_548_145_664),
    (16, 10): (17_116_634, 2_412_173_568),
}
IMAGENET_WIDE_RESNETS: dict[tuple[int, float], Published] = {
    (18, 1.5): (None, None),
    (18, 2.0): (None, None),
    (18, 3.0): (None, None),
    (34, 1.5): (None, None),
    (34, 2.0): (None, None),
    (50, 2.0): (68_883_240, 11_398_021_120),
    (101, 2.0): (126_886_696, None),
}
RESNEXTS: dict[tuple[int, int, int], Published] = {
    (50, 32, 4): (25_028_904, 4_230_479_872),
    (101, 32, 4): (44_177_704, 7_969_996_800),
    (101, 64, 4): (83_455_272, None),
    (101, 32, 8): (88_791_336, 16_414_015_488),
    (152, 64, 4): (None, None),
}
CIFAR_RESNEXTS: dict[tuple[int, int], Published] = {
    (8, 64): (34_426_698, 5_387_266_048),
    (16, 64): (68_155_210, None),
    (32, 4): (4_775_754, 774_055_936),
}
SE_RESNETS: dict[int, Published] = {
    18: (11_778_592, 1_814_160_384),
    34: (21_958_868, None),
    50: (28_088_024, 3_860_488_192),
    101: (49_326_872, 7_574_937_600),
    152: (66_821_848, None),
}
SE_RESNEXTS: dict[tuple[int, int, int], Published] = {
    (50, 32, 4): (27_559_896, 4_232_994_816),
    (101, 32, 4): (48_955_416, None),
}


def _rows() -> list[Row]:
    rows: list[Row] = []
    for depth, counts in RESNETS.items():
        summary = f"ResNet-{depth}" + (", stride in the 3x3 (v1.5)" if depth >= 50 else "")
        source = "torchvision" if depth >= 50 else "1512.03385"
        rows.append((f"resnet{depth}", summary, source, *counts, partial(resnet, depth)))
    for depth, counts in PAPER_RESNETS.items():
        build = partial(resnet, depth, "1x1")
        rows.append((f"resnet{depth}_paper", f"ResNet-{depth}, stride in the 1x1", "1512.03385", *counts, build))
    for (depth, shortcut), counts in CIFAR_RESNETS.items():
        option_b = shortcut == "projection"
        name = f"resnet{depth}_cifar" + ("_b" if option_b else "")
        summary = f"ResNet-{depth}, {'1x1' if option_b else 'zero-pad'} shortcuts"
        source = "1512.03385; imgclsmob" if option_b else "1512.03385"
        rows.append((name, summary, source, *counts, partial(resnet_cifar, depth, shortcut)))
    for depth in (110, 1202):
        name, summary = f"stochastic_depth{depth}_cifar", f"ResNet-{depth} with stochastic depth, p_L = 0.5"
        counts = CIFAR_RESNETS[depth, "zero_pad"]
        rows.append((name, summary, "1603.09382", *counts, partial(resnet_cifar, depth, drop_last=0.5)))
    for depth, counts in PREACT_RESNETS.items():
        build = partial(preact_resnet, depth)
        rows.append((f"preact_resnet{depth}", f"Pre-activation ResNet-{depth}", "1603.05027", *counts, build))
    for (depth, bottleneck), counts in CIFAR_PREACT_RESNETS.items():
        summary = f"Pre-activation ResNet-{depth}" + (", bottlenecks" if bottleneck else "")
        build = partial(preact_resnet_cifar, depth, bottleneck)
        rows.append((f"preact_resnet{depth}_cifar", summary, "1603.05027", *counts, build))
    for (depth, width), counts in WIDE_RESNETS.items():
        build = partial(wide_resnet_cifar, depth, width)
        rows.append((f"wrn{depth}_{width}_cifar", f"WRN-{depth}-{width}", "1605.07146", *counts, build))
    for (depth, factor), counts in IMAGENET_WIDE_RESNETS.items():
        summary = f"WRN-{depth}-{factor:g}, " + ("bottlenecks twice as wide" if depth >= 50 else "basic blocks")
        build = partial(wide_resnet, depth, factor)
        rows.append((f"wrn{depth}_{factor:g}", summary, "1605.07146", *counts, build))
    for (depth, groups, width), counts in RESNEXTS.items():
        build = partial(resnet, depth, "3x3", groups, width)
        summary = f"ResNeXt-{depth}, {groups} groups of {width}"
        rows.append((f"resnext{depth}_{groups}x{width}d", summary, "1611.05431", *counts, build))
    for (groups, width), counts in CIFAR_RESNEXTS.items():
        build = partial(resnext_cifar, groups, width)
        summary = f"ResNeXt-29, {groups} groups of {width}"
        rows.append((f"resnext29_{groups}x{width}d_cifar", summary, "1611.05431", *counts, build))
    for depth, counts in SE_RESNETS.items():
        summary = f"SE-ResNet-{depth}" + (", stride in the 1x1" if depth >= 50 else "")
        build = partial(resnet, depth, "1x1", squeeze=16)
        rows.append((f"se_resnet{depth}", summary, "1709.01507", *counts, build))
    for (depth, groups, width), counts in SE_RESNEXTS.items():
        summary = f"SE-ResNeXt-{depth}, {groups} groups of {width}"
        build = partial(resnet, depth, "3x3", groups, width, 16)
        rows.append((f"se_resnext{depth}_{groups}x{width}d", summary, "1709.01507", *counts, build))
    rows.append(("senet154", "SENet-154", "1709.01507", 115_088_984, 20_688_363_520, senet154))
    return rows


REFERENCES = references("residual", _rows())
