"""Published networks: parameters and multiply-accumulates to the last unit."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from search_spaces.build import build
from search_spaces.catalogue import REFERENCES, block
from search_spaces.cost import costs
from search_spaces.profile import profiled
from search_spaces.references.inception import module
from search_spaces.signature import checked

ROW_OF = {
    ("GoogLeNet / Inception V1", "paper/Caffe (true 5x5, biases, no BN), no aux"): "googlenet",
    ("GoogLeNet / Inception V1", "torchvision (3x3 instead of 5x5, BN, no aux)"): "googlenet_bn",
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
    ("SENet", "SE-ResNet-18"): "se_resnet18",
    ("SENet", "SE-ResNet-50 (stride in 1x1)"): "se_resnet50",
    ("SENet", "SE-ResNet-101"): "se_resnet101",
    ("SENet", "SE-ResNeXt-50 32x4d"): "se_resnext50_32x4d",
    ("MobileNet V2", "1.0-224"): "mobilenet_v2",
    ("MobileNet V2", "1.0-192"): "mobilenet_v2_192",
    ("MobileNet V2", "1.0-160"): "mobilenet_v2_160",
    ("MobileNet V2", "1.4-224"): "mobilenet_v2_1.4",
    ("MobileNet V2", "0.75-224"): "mobilenet_v2_0.75",
    ("MobileNet V2", "0.35-224"): "mobilenet_v2_0.35",
    **{("EfficientNet", f"B{i}"): f"efficientnet_b{i}" for i in range(6)},
    ("NASNet", "A 4@1056 (mobile)"): "nasnet_a_mobile",
    ("NASNet", "A 4@1056, PyTorch-port padding"): "nasnet_a_mobile_shifted",
    ("NASNet", "A 6@4032 (large)"): "nasnet_a_large",
    ("NASNet", "A 6@4032, Cadene/osmr padding"): "nasnet_a_large_shifted",
    ("NASNet", "A 6@768 CIFAR-10 (32 filters, stem x3, no aux)"): "nasnet_a_cifar",
    ("ENet", "e-lab Torch7 original, 20 classes (encoder 338,156 + decoder 26,220)"): "enet",
    ("ENet", "e-lab original, 12 classes (CamVid)"): "enet_camvid",
    ("ENet", "davidtvs port (no conv biases), 12 classes"): "enet_port_camvid",
    ("ENet", "davidtvs port, 19 classes"): "enet_port",
    ("ENet", "osmr port"): "enet_port_3x3",
}
"""The row of the published figures each reference must meet."""

FAMILIES = {"ResNet", "MobileNet V2", "EfficientNet", "GoogLeNet / Inception V1", "NASNet", "ENet"}
ELSEWHERE = ("Keras", "features only")
"""Rows that count something else (running statistics, a part of the network)."""


def rows(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (folder / "oracles" / "oracles.csv").open(newline="", encoding="utf-8") as file:
        return {(row["architecture"], row["variant"]): row for row in csv.DictReader(file)}


@pytest.mark.parametrize("key", list(ROW_OF), ids=list(ROW_OF.values()))
def test_counts_are_the_published_ones(key: tuple[str, str], shared: Path) -> None:
    row = rows(shared)[key]
    reference = REFERENCES[ROW_OF[key]]
    price = costs(reference.build())
    assert row["confidence"] == "exact"
    assert price.params == reference.params == int(row["params"])
    if row["macs"]:
        assert price.macs == reference.macs == int(row["macs"])


def test_every_exact_row_of_the_five_families_is_checked(shared: Path) -> None:
    wanted = {
        key
        for key, row in rows(shared).items()
        if key[0] in FAMILIES and row["confidence"] == "exact" and not any(word in key[1] for word in ELSEWHERE)
    }
    assert wanted <= set(ROW_OF), wanted - set(ROW_OF)


@pytest.mark.parametrize("name", ["3a", "4a", "4c", "4e", "5b"])
def test_modules_of_googlenet(name: str, shared: Path) -> None:
    row = rows(shared)["GoogLeNet module", f"inception({name})"]
    inception = block("inception_block")
    channels = {"3a": 192, "4a": 480, "4c": 512, "4e": 528, "5b": 832}[name]
    side = int(row["input_size"].split("x")[0])
    args = checked(inception, module(name, norm="none"), "")
    profile = profiled(inception, args, ((channels, side, side),), 1)
    assert (profile.params, profile.macs) == (int(row["params"]), int(row["macs"]))


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_own_table_is_what_is_built(name: str) -> None:
    """Also without the shared folder: the numbers beside a network are its own."""
    reference = REFERENCES[name]
    price = costs(reference.build())
    assert reference.params in (None, price.params)
    assert reference.macs in (None, price.macs)


@pytest.mark.parametrize(
    ("name", "field"), [("resnet50", 427), ("resnet50_paper", 483), ("mobilenet_v2", 491), ("efficientnet_b0", 851)]
)
def test_receptive_fields_follow_the_recurrence(name: str, field: int) -> None:
    """483 for the ResNet-50 of the paper is in Araujo et al., Distill 2019; the others are computed in the same way."""
    assert costs(REFERENCES[name].build()).receptive_field == field


def test_depth_counts_layers_on_the_longest_path() -> None:
    assert [costs(REFERENCES[name].build()).depth for name in ("resnet18", "resnet50", "googlenet")] == [18, 50, 22]


def test_nasnet_with_and_without_the_shift_have_the_same_weights() -> None:
    with torch.device("meta"):
        one, two = (build(REFERENCES[name].build()) for name in ("nasnet_a_mobile", "nasnet_a_mobile_shifted"))
    assert {k: v.shape for k, v in one.state_dict().items()} == {k: v.shape for k, v in two.state_dict().items()}
