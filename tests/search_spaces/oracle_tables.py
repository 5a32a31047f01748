"""Which row of the published figures is met by what. A new family appends its rows to one of the tables."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.architecture import Architecture, Arg, Task
from search_spaces.blocks.auxiliary import AuxiliaryClassifier
from search_spaces.blocks.nasbench import vertex_channels
from search_spaces.build import build, walk
from search_spaces.catalogue import SPACES, block, reference
from search_spaces.choose import estimated_size, every
from search_spaces.cost import costs
from search_spaces.profile import profiled
from search_spaces.references.alexnet import alexnet_two_towers
from search_spaces.references.inception import module
from search_spaces.references.squeezenet import FIRES
from search_spaces.signature import checked, input_count
from search_spaces.spaces.efficientnet import EfficientnetConfig, grid
from tests.search_spaces.nasbench_counting import unique_cells

Key = tuple[str, str]
"""Architecture and variant: the first two columns."""

BUILT: dict[Key, str] = {
    ("LeNet-5", "modern (dense C3, avg-pool, softmax)"): "lenet5",
    ("LeNet-5", "1998 original (sparse C3, trainable subsampling)"): "lenet5_original",
    ("Ciresan GPU MLP (arXiv 1003.0358)", "1000-500-10"): "ciresan_mlp_2",
    ("Ciresan GPU MLP (arXiv 1003.0358)", "2500-2000-1500-1000-500-10"): "ciresan_mlp_5",
    ("Ciresan GPU MLP (arXiv 1003.0358)", "9x1000-10"): "ciresan_mlp_9",
    ("AlexNet", "torchvision one-tower (arXiv 1404.5997)"): "alexnet",
    ("AlexNet", "original two-tower, groups=2 in conv2/4/5"): "alexnet_two_towers",
    ("AlexNet", "no-groups 96-256-384-384-256 (CS231n table)"): "alexnet_no_groups",
    ("ZFNet", "paper (7x7/2, then AlexNet widths)"): "zfnet",
    ("OverFeat", "fast"): "overfeat_fast",
    ("ENet", "e-lab Torch7 original, 20 classes (encoder 338,156 + decoder 26,220)"): "enet",
    ("ENet", "e-lab original, 12 classes (CamVid)"): "enet_camvid",
    ("ENet", "davidtvs port (no conv biases), 12 classes"): "enet_port_camvid",
    ("ENet", "davidtvs port, 19 classes"): "enet_port",
    ("ENet", "osmr port"): "enet_port_3x3",
    ("SegNet (ENet comparison)", ""): "segnet_camvid",
    ("OverFeat", "accurate"): "overfeat_accurate",
    ("VGG", "A / VGG-11"): "vgg11",
    ("VGG", "B / VGG-13"): "vgg13",
    ("VGG", "D / VGG-16"): "vgg16",
    ("VGG", "VGG-16-BN"): "vgg16_bn",
    ("NiN", "CIFAR-10 (192-160-96 / 192x3 / 192-192-10)"): "nin_cifar",
    ("NiN", "ImageNet (Caffe zoo 11x11 variant)"): "nin_imagenet",
    ("GoogLeNet / Inception V1", "paper/Caffe (true 5x5, biases, no BN), no aux"): "googlenet",
    ("GoogLeNet / Inception V1", "torchvision (3x3 instead of 5x5, BN, no aux)"): "googlenet_bn",
    ("BN-Inception / Inception V2", "Cadene/osmr (Caffe port)"): "bn_inception",
    ("BN-Inception / Inception V2", "TF-slim (separable 7x7 stem)"): "inception_v2",
    ("Inception V3", "no aux head"): "inception_v3",
    ("Inception V4", ""): "inception_v4",
    ("Inception-ResNet V2", ""): "inception_resnet_v2",
    ("ResNet", "18"): "resnet18",
    ("ResNet", "34"): "resnet34",
    ("ResNet", "50 (v1.5: stride in 3x3)"): "resnet50",
    ("ResNet", "50 (paper: stride in first 1x1)"): "resnet50_paper",
    ("ResNet", "152 (v1.5)"): "resnet152",
    ("ResNet", "152 (paper stride)"): "resnet152_paper",
    ("ResNet CIFAR", "20 option A (zero-pad identity)"): "resnet20_cifar",
    ("ResNet CIFAR", "44 option A (zero-pad identity)"): "resnet44_cifar",
    ("ResNet CIFAR", "110 option A (zero-pad identity)"): "resnet110_cifar",
    ("ResNet CIFAR", "20 option B (1x1 projection + BN)"): "resnet20_cifar_b",
    ("ResNet CIFAR", "110 option B (1x1 projection + BN)"): "resnet110_cifar_b",
    ("Pre-activation ResNet", "18"): "preact_resnet18",
    ("Pre-activation ResNet", "50 (stride in 1x1)"): "preact_resnet50",
    ("Pre-activation ResNet", "101"): "preact_resnet101",
    ("Pre-activation ResNet CIFAR", "110"): "preact_resnet110_cifar",
    ("Pre-activation ResNet CIFAR", "164"): "preact_resnet164_cifar",
    ("Wide ResNet CIFAR", "WRN-40-1"): "wrn40_1_cifar",
    ("Wide ResNet CIFAR", "WRN-40-4"): "wrn40_4_cifar",
    ("Wide ResNet CIFAR", "WRN-28-10"): "wrn28_10_cifar",
    ("Wide ResNet CIFAR", "WRN-22-8"): "wrn22_8_cifar",
    ("Wide ResNet CIFAR", "WRN-16-8"): "wrn16_8_cifar",
    ("Wide ResNet CIFAR", "WRN-16-10"): "wrn16_10_cifar",
    ("Wide ResNet CIFAR", "WRN-16-4"): "wrn16_4_cifar",
    ("Wide ResNet", "WRN-50-2-bottleneck"): "wrn50_2",
    ("ResNeXt", "50 32x4d"): "resnext50_32x4d",
    ("ResNeXt", "101 32x4d"): "resnext101_32x4d",
    ("ResNeXt", "101 32x8d"): "resnext101_32x8d",
    ("ResNeXt CIFAR", "29 8x64d"): "resnext29_8x64d_cifar",
    ("ResNeXt CIFAR", "29 32x4d"): "resnext29_32x4d_cifar",
    ("Stochastic depth", "ResNet-110 option A, p_L=0.5 linear decay"): "stochastic_depth110_cifar",
    ("Stochastic depth", "ResNet-1202, p_L=0.5"): "stochastic_depth1202_cifar",
    ("SENet", "SE-ResNet-18"): "se_resnet18",
    ("SENet", "SE-ResNet-50 (stride in 1x1)"): "se_resnet50",
    ("SENet", "SE-ResNet-101"): "se_resnet101",
    ("SENet", "SE-ResNeXt-50 32x4d"): "se_resnext50_32x4d",
    ("SENet", "SENet-154"): "senet154",
    ("FractalNet", "C=3 B=5 (64,128,256,512,512), CIFAR-10"): "fractalnet_cifar",
    ("FractalNet", "same, CIFAR-100"): "fractalnet_cifar100",
    **{("DenseNet", f"{depth} (k=32)"): f"densenet{depth}" for depth in (121, 169, 201)},
    ("DenseNet CIFAR", "L=40 k=12 (16 stem ch, theta=1)"): "densenet_40_12_cifar",
    ("DenseNet CIFAR", "L=100 k=12"): "densenet_100_12_cifar",
    ("DenseNet CIFAR", "BC L=100 k=12"): "densenet_bc_100_12_cifar",
    ("DenseNet CIFAR", "BC L=190 k=40"): "densenet_bc_190_40_cifar",
    ("DenseNet CIFAR", "Wide BC L=40 k=48"): "densenet_bc_40_48_cifar",
    ("SqueezeNet", "v1.0"): "squeezenet_1.0",
    ("Xception", "paper / Keras / Cadene"): "xception",
    ("Xception", "Xception-41 (TF DeepLab aligned)"): "xception41",
    **{
        ("MobileNet V1", f"{alpha}-{side}"): f"mobilenet-v1-{alpha}-{side}".replace("-1.0", "").replace("-224", "")
        for alpha, sides in {
            "1.0": (224, 160, 128),
            "0.75": (224, 192),
            "0.5": (224, 160),
            "0.25": (224, 192, 128),
        }.items()
        for side in sides
    },
    ("MobileNet V2", "1.0-224"): "mobilenet_v2",
    ("MobileNet V2", "1.0-192"): "mobilenet_v2_192",
    ("MobileNet V2", "1.0-160"): "mobilenet_v2_160",
    ("MobileNet V2", "1.4-224"): "mobilenet_v2_1.4",
    ("MobileNet V2", "0.75-224"): "mobilenet_v2_0.75",
    ("MobileNet V2", "0.35-224"): "mobilenet_v2_0.35",
    **{("EfficientNet", f"B{i}"): f"efficientnet_b{i}" for i in range(6)},
    **{("EfficientNetV2", size): f"efficientnet_v2_{size.lower()}" for size in ("S", "M", "B0", "B1")},
    ("NASNet", "A 4@1056 (mobile)"): "nasnet_a_mobile",
    ("NASNet", "A 4@1056, PyTorch-port padding"): "nasnet_a_mobile_shifted",
    ("NASNet", "A 6@4032 (large)"): "nasnet_a_large",
    ("NASNet", "A 6@4032, Cadene/osmr padding"): "nasnet_a_large_shifted",
    ("NASNet", "A 6@768 CIFAR-10 (32 filters, stem x3, no aux)"): "nasnet_a_cifar",
    ("NAS-Bench-101", "Inception-like cell of the README"): "nasbench101_inception_like",
    ("DARTS", "DARTS_V2 CIFAR-10 C=36 L=20, no aux"): "darts_v2_cifar",
    ("DARTS", "DARTS_V1 CIFAR-10 C=36 L=20"): "darts_v1_cifar",
}
"""The reference that each row of a whole network must equal."""

Counts = tuple[int | None, int | None]
"""Parameters and multiply-accumulates; None where the row gives none."""


def of_block(name: str, *in_shapes: tuple[int, int, int], **args: Arg) -> Counts:
    """Counts of one block for inputs of these shapes."""
    found = block(name)
    profile = profiled(found, checked(found, args, ""), in_shapes, input_count(found))
    return profile.params, profile.macs


def of_network(architecture: Architecture) -> Counts:
    price = costs(architecture)
    return price.params, price.macs


def with_statistics(name: str, biases: bool = False, scale: bool = True) -> Counts:
    """Parameters as Keras counts a reference: moving means and variances too, and whatever it has that we have not.

    ``biases``: every convolution in front of a norm has one; ``scale`` False: batch norms have none.
    """
    with torch.device("meta"):
        network = build(reference(name).build())
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    features = sum(norm.num_features for norm in norms)
    return costs(reference(name).build()).params + features * (2 + biases - (not scale)), None


def with_biases(name: str) -> Counts:
    """Parameters of a reference whose every convolution in front of a norm had a bias."""
    with torch.device("meta"):
        network = build(reference(name).build())
    features = sum(m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    return costs(reference(name).build()).params + features, None


def first_nodes(name: str, count: int, parameters_only: bool = False) -> Counts:
    """Counts of the first ``count`` nodes of a reference (all but the last ones where negative)."""
    profiles = walk(reference(name).build()).profiles[:count]
    return sum(p.params for p in profiles), None if parameters_only else sum(p.macs for p in profiles)


def googlenet_module(name: str) -> Callable[[], Counts]:
    channels, side = {"3a": (192, 28), "4a": (480, 14), "4c": (512, 14), "4e": (528, 14), "5b": (832, 7)}[name]
    return lambda: of_block("inception_block", (channels, side, side), **module(name, norm="none"))


def fire(number: int) -> Callable[[], Counts]:
    squeeze, expand = FIRES[number - 2]
    before = 96 if number == 2 else 2 * FIRES[number - 3][1]
    return lambda: of_block("fire", (before, 13, 13), squeeze=squeeze, expand1=expand, expand3=expand)


PLAIN: dict[str, Arg] = {"norm": "none", "activation": "none"}


def bottleneck() -> Counts:
    """1x1, 3x3 and 1x1 convolutions on one pixel."""
    steps = (
        of_block("conv_norm_act", (256, 1, 1), out_channels=64, kernel=1, **PLAIN),
        of_block("conv_norm_act", (64, 1, 1), out_channels=64, **PLAIN),
        of_block("conv_norm_act", (64, 1, 1), out_channels=256, kernel=1, **PLAIN),
    )
    return sum(p or 0 for p, _ in steps), sum(m or 0 for _, m in steps)


def naive_inception() -> Counts:
    """The row counts weights alone."""
    params, macs = of_block("naive_inception", (256, 28, 28), branch1=128, branch3=192, branch5=96, norm="none")
    return (params or 0) - (128 + 192 + 96), macs


def reduced_inception() -> Counts:
    widths = {"branch1": 128, "reduce3": 64, "branch3": 192, "reduce5": 64, "branch5": 96, "pool_projection": 64}
    params, macs = of_block("inception_block", (256, 28, 28), norm="none", **widths)
    return (params or 0) - sum(widths.values()), macs


def depthwise_separable() -> Counts:
    params, macs = of_block("depthwise_separable", (512, 14, 14), out_channels=512)
    return (params or 0) - 2 * (512 + 512), macs


PARTS: dict[Key, Callable[[], Counts]] = {
    ("AlexNet", "conv1 only (96 x 11x11x3 stride 4)"): lambda: first_of(alexnet_two_towers()),
    **{("GoogLeNet module", f"inception({name})"): googlenet_module(name) for name in ("3a", "4a", "4c", "4e", "5b")},
    ("GoogLeNet module", "aux head after 4a (avgpool5x5/3, 1x1x128, FC1024, FC1000)"): lambda: auxiliary_head(),
    **{("SqueezeNet module", f"fire{number}"): fire(number) for number in (2, 3, 5, 6, 8)},
    ("EfficientNet", "B0 features only (no head conv/fc)"): lambda: first_nodes("efficientnet_b0", -2, True),
    ("Inception V3", "Keras (BN scale=False, incl. moving stats)"): lambda: with_statistics(
        "inception_v3", scale=False
    ),
    ("Inception V3", "Xception-paper count"): lambda: with_biases("inception_v3_early"),
    ("ResNet", "50 Keras (conv biases + BN stats)"): lambda: with_statistics("resnet50", biases=True),
    ("ResNet", "101 Keras"): lambda: with_statistics("resnet101", biases=True),
    ("ResNet", "152 Keras"): lambda: with_statistics("resnet152", biases=True),
    ("Xception", "Keras total incl. BN moving stats"): lambda: with_statistics("xception"),
    ("MobileNet V1", "Keras total incl. BN stats"): lambda: with_statistics("mobilenet_v1"),
    ("MobileNet V2", "Keras total incl. BN stats"): lambda: with_statistics("mobilenet_v2"),
    ("NASNet", "A 6@4032 Keras total"): lambda: with_statistics("nasnet_a_large"),
    ("block", "1x1-3x3-1x1 bottleneck 256-64-64-256, weights=MACs/pixel"): bottleneck,
    ("block", "plain 3x3 256->256"): lambda: of_block("conv_norm_act", (256, 1, 1), out_channels=256, **PLAIN),
    ("block", "naive Inception 28x28x256: 1x1x128, 3x3x192, 5x5x96, pool"): naive_inception,
    ("block", "bottlenecked Inception (64/64 reduce, 64 pool proj)"): reduced_inception,
    ("block", "depthwise-separable vs 3x3 conv, 512->512 @14x14"): depthwise_separable,
}
"""Rows that count a part of a network, a block, or what other frameworks count."""


def first_of(architecture: Architecture) -> Counts:
    profile = walk(architecture).profiles[0]
    return profile.params, profile.macs


def auxiliary_head() -> Counts:
    """What an auxiliary classifier costs in training: in evaluation it is the identity."""
    with torch.device("meta"):
        block = AuxiliaryClassifier(512, (14, 14), 1000)
        with FlopCounterMode(display=False) as counter:
            block(torch.empty(1, 512, 14, 14))
    return sum(p.numel() for p in block.parameters()), counter.get_total_flops() // 2


def vgg16_activations() -> None:
    """15,237,608 floats: all layer outputs and the image; ours also lists what closes the head."""
    looked_into = walk(reference("vgg16").build())
    floats = 3 * 224 * 224 + sum(c * h * w for c, h, w in looked_into.shapes[:-1]) + 4096 + 4096 + 1000
    assert floats == 15_237_608


def stacks_of_3x3() -> None:
    """27 C^2 for three 3x3 against 49 C^2 for a 7x7; 18 C^2 for two against 25 C^2 for a 5x5."""

    def weights(kernel: int) -> int:
        return of_block("conv_norm_act", (8, 16, 16), out_channels=8, kernel=kernel, **PLAIN)[0] or 0

    assert (3 * weights(3), weights(7)) == (27 * 64, 49 * 64)
    assert (2 * weights(3), weights(5)) == (18 * 64, 25 * 64)
    assert round(1 - 27 / 49, 3) == 0.449
    assert 1 - 18 / 25 == 0.28


def compound_constraint() -> None:
    """1.2 * 1.1^2 * 1.15^2 = 1.92 is in the grid of the space; the released B1 is not alpha^1, beta^1."""
    assert abs(1.2 * 1.1**2 * 1.15**2 - 1.92027) < 1e-5
    assert (1.2, 1.1, 1.15) in grid(EfficientnetConfig())
    assert len(reference("efficientnet_b1").build().nodes) != len(reference("efficientnet_b0").build().nodes)
    assert reference("efficientnet_b1").build().task == Task((3, 240, 240), 1000)
    assert reference("efficientnet_b7").build().task == Task((3, 600, 600), 1000)


def cells_of_the_space(vertices: int, count: int) -> Callable[[], None]:
    """How many different cells of exactly so many vertices the space asks for, and how many there are."""

    def check() -> None:
        space = SPACES["nasbench101"]

        def up_to(most: int) -> int:
            ask = space.bound(Task((1, 8, 8), 10), space.config.model_validate({"vertices": most}))
            return len({architecture.fingerprint() for _, architecture in every(ask)})

        assert up_to(vertices) - (up_to(vertices - 1) if vertices > 2 else 0) == count
        assert unique_cells(vertices) == count

    return check


def nasbench101_size() -> None:
    assert sum(unique_cells(vertices) for vertices in range(2, 8)) == 423_624


def nasbench101_largest() -> None:
    assert unique_cells(7) == 359_082


def nasbench201_size() -> None:
    ask = SPACES["nasbench201"].bound(Task((3, 32, 32), 10))
    assert estimated_size(ask, random.Random(0), samples=20, exact_up_to=10).estimate == 5**6 == 15_625


def nasbench101_channels() -> None:
    assert vertex_channels(8, 8, ((0, 1), (0, 2), (1, 3), (2, 3)), 4) == [8, 4, 4, 8]
    assert vertex_channels(8, 15, ((0, 1), (0, 2), (1, 3), (2, 3)), 4) == [8, 8, 7, 15]
    assert vertex_channels(8, 8, ((0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)), 5) == [8, 3, 3, 2, 8]


OTHERWISE: dict[Key, Callable[[], None]] = {
    **{
        ("NAS-Bench-101", f"unique cells with {vertices} vertices, <=9 edges, 3 ops"): cells_of_the_space(
            vertices, count
        )
        for vertices, count in ((2, 1), (3, 6), (4, 84))
    },
    ("NAS-Bench-101", "unique cells with 7 vertices, <=9 edges, 3 ops"): nasbench101_largest,
    ("NAS-Bench-101", "whole search space"): nasbench101_size,
    ("NAS-Bench-201", "whole search space"): nasbench201_size,
    ("block", "NAS-Bench-101 vertex channels"): nasbench101_channels,
    ("VGG", "VGG-16 activation count (all layer outputs + input)"): vgg16_activations,
    ("block", "three 3x3 vs one 7x7 at C channels"): stacks_of_3x3,
    ("block", "EfficientNet compound constraint"): compound_constraint,
}
"""Rows whose figure is in their text: a function that asserts it."""

UNCOVERED: dict[Key, str] = {
    ("BN-Inception / Inception V2", "BN paper text"): (
        "the paper says 13.6 million and does not say what it counts; its table 5 gives 11.3 million without the heads "
        "of training"
    ),
    ("SENet", "SENet (ILSVRC17, 320px)"): (
        "its multiply-accumulates are those of SENet-154 (checked in test_oracles.py); no released network has its "
        "145.8 million parameters, SENet-154 has 115.1"
    ),
    **{
        ("NAS with RL (Zoph & Le 2017)", variant): "the paper draws its network of 15 layers, and tells no other"
        for variant in ("v3 max pooling, 39 layers", "v3 + more filters, 39 layers", "v2 predicting strides, 20 layers")
    },
    ("NAS with RL (Zoph & Le 2017)", "v1 no stride/pooling, 15 layers"): "the row is from memory",
    ("NASNet", "A 7@2304 CIFAR-10"): "the row says itself that the released cell does not give it",
    ("NASNet", "A 5@1538 ImageNet"): "the row says itself that the released cell does not give it",
    ("NASNet", "A 7@1920 ImageNet"): "the row says itself that the released cell does not give it",
    **{
        ("NASNet", variant): "the cells B and C were published as pictures alone, and never released"
        for variant in ("B 4@1152 CIFAR-10", "C 4@640 CIFAR-10", "B 4@1536 ImageNet", "C 3@960 ImageNet")
    },
}
"""Rows that nothing can meet, and why: ``exact`` rows never stand here."""
