"""Residual networks as published. Sources: 1512.03385, 1603.05027, 1605.07146, 1611.05431, 1709.01507 (squeeze)."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.architecture import Architecture, Arg, Task
from search_spaces.references.reference import CIFAR10, IMAGENET, Row, references
from search_spaces.spaces.chain import Chain

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Blocks of the four stages, table 1 of 1512.03385: basic blocks up to 34, bottlenecks from 50 on."""


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


def resnet_cifar(depth: int, shortcut: str = "zero_pad", task: Task = CIFAR10) -> Architecture:
    """Depth 6n + 2: n basic blocks of 16, 32 and 64 channels; section 4.2 of 1512.03385."""
    chain = Chain()
    chain.append("conv_norm_act", out_channels=16)
    stages(chain, "basic_block", [(depth - 2) // 6] * 3, (16, 32, 64), shortcut=shortcut)
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


ROWS: tuple[Row, ...] = (
    # name, summary, source, parameters, multiply-accumulates, architecture
    ("resnet18", "ResNet-18", "1512.03385", 11_689_512, 1_814_073_344, lambda: resnet(18)),
    ("resnet34", "ResNet-34", "1512.03385", 21_797_672, 3_663_761_408, lambda: resnet(34)),
    ("resnet50", "ResNet-50, stride in the 3x3 (v1.5)", "torchvision", 25_557_032, 4_089_184_256, lambda: resnet(50)),
    (
        "resnet50_paper",
        "ResNet-50, stride in the 1x1",
        "1512.03385",
        25_557_032,
        3_857_973_248,
        lambda: resnet(50, "1x1"),
    ),
    ("resnet152", "ResNet-152, stride in the 3x3", "torchvision", 60_192_808, 11_513_626_624, lambda: resnet(152)),
    (
        "resnet152_paper",
        "ResNet-152, stride in the 1x1",
        "1512.03385",
        60_192_808,
        11_282_415_616,
        lambda: resnet(152, "1x1"),
    ),
    ("resnet20_cifar", "ResNet-20, zero-pad shortcuts", "1512.03385", 269_722, 40_551_040, lambda: resnet_cifar(20)),
    ("resnet44_cifar", "ResNet-44, zero-pad shortcuts", "1512.03385", 658_586, 97_174_144, lambda: resnet_cifar(44)),
    (
        "resnet110_cifar",
        "ResNet-110, zero-pad shortcuts",
        "1512.03385",
        1_727_962,
        252_887_680,
        lambda: resnet_cifar(110),
    ),
    (
        "resnet20_cifar_b",
        "ResNet-20, 1x1 shortcuts",
        "imgclsmob",
        272_474,
        40_813_184,
        lambda: resnet_cifar(20, "projection"),
    ),
    (
        "resnet110_cifar_b",
        "ResNet-110, 1x1 shortcuts",
        "imgclsmob",
        1_730_714,
        253_149_824,
        lambda: resnet_cifar(110, "projection"),
    ),
    ("preact_resnet18", "Pre-activation ResNet-18", "1603.05027", 11_687_848, 1_814_073_344, lambda: preact_resnet(18)),
    ("preact_resnet50", "Pre-activation ResNet-50", "1603.05027", 25_549_480, 3_857_973_248, lambda: preact_resnet(50)),
    (
        "preact_resnet101",
        "Pre-activation ResNet-101",
        "1603.05027",
        44_541_608,
        7_570_194_432,
        lambda: preact_resnet(101),
    ),
    (
        "preact_resnet110_cifar",
        "Pre-activation ResNet-110",
        "1603.05027",
        1_730_522,
        253_149_824,
        lambda: preact_resnet_cifar(110),
    ),
    (
        "preact_resnet164_cifar",
        "Pre-activation ResNet-164",
        "1603.05027",
        1_703_258,
        247_646_720,
        lambda: preact_resnet_cifar(164, True),
    ),
    ("wrn40_1_cifar", "WRN-40-1", "1605.07146", 563_930, 83_280_512, lambda: wide_resnet_cifar(40, 1)),
    ("wrn40_4_cifar", "WRN-40-4", "1605.07146", 8_949_210, 1_298_582_016, lambda: wide_resnet_cifar(40, 4)),
    ("wrn28_10_cifar", "WRN-28-10", "1605.07146", 36_479_194, 5_243_328_768, lambda: wide_resnet_cifar(28, 10)),
    ("wrn22_8_cifar", "WRN-22-8", "1605.07146", 17_158_106, 2_454_115_328, lambda: wide_resnet_cifar(22, 8)),
    ("wrn16_8_cifar", "WRN-16-8", "1605.07146", 10_961_370, 1_548_145_664, lambda: wide_resnet_cifar(16, 8)),
    ("wrn16_10_cifar", "WRN-16-10", "1605.07146", 17_116_634, 2_412_173_568, lambda: wide_resnet_cifar(16, 10)),
    ("wrn16_4_cifar", "WRN-16-4", "1605.07146", 2_748_890, 392_612_352, lambda: wide_resnet_cifar(16, 4)),
    (
        "wrn50_2",
        "WRN-50-2, bottlenecks twice as wide",
        "1605.07146",
        68_883_240,
        11_398_021_120,
        lambda: resnet(50, group_width=128),
    ),
    (
        "resnext50_32x4d",
        "ResNeXt-50, 32 groups of 4",
        "1611.05431",
        25_028_904,
        4_230_479_872,
        lambda: resnet(50, "3x3", 32, 4),
    ),
    (
        "resnext101_32x4d",
        "ResNeXt-101, 32 groups of 4",
        "1611.05431",
        44_177_704,
        7_969_996_800,
        lambda: resnet(101, "3x3", 32, 4),
    ),
    (
        "resnext101_32x8d",
        "ResNeXt-101, 32 groups of 8",
        "1611.05431",
        88_791_336,
        16_414_015_488,
        lambda: resnet(101, "3x3", 32, 8),
    ),
    (
        "resnext29_8x64d_cifar",
        "ResNeXt-29, 8 groups of 64",
        "1611.05431",
        34_426_698,
        5_387_266_048,
        lambda: resnext_cifar(8, 64),
    ),
    (
        "resnext29_32x4d_cifar",
        "ResNeXt-29, 32 groups of 4",
        "1611.05431",
        4_775_754,
        774_055_936,
        lambda: resnext_cifar(32, 4),
    ),
    ("se_resnet18", "SE-ResNet-18", "1709.01507", 11_778_592, 1_814_160_384, lambda: resnet(18, squeeze=16)),
    (
        "se_resnet50",
        "SE-ResNet-50, stride in the 1x1",
        "1709.01507",
        28_088_024,
        3_860_488_192,
        lambda: resnet(50, "1x1", squeeze=16),
    ),
    (
        "se_resnet101",
        "SE-ResNet-101, stride in the 1x1",
        "1709.01507",
        49_326_872,
        7_574_937_600,
        lambda: resnet(101, "1x1", squeeze=16),
    ),
    (
        "se_resnext50_32x4d",
        "SE-ResNeXt-50, 32 groups of 4",
        "1709.01507",
        27_559_896,
        4_232_994_816,
        lambda: resnet(50, "3x3", 32, 4, 16),
    ),
)
REFERENCES = references("residual", ROWS)
