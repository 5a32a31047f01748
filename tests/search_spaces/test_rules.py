"""Design rules: each with a network that keeps it and one that breaks it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from search_spaces import catalogue
from search_spaces.architecture import Architecture, Node, Task
from search_spaces.build import walk
from search_spaces.catalogue import REFERENCES, UnknownNameError
from search_spaces.rules import RULES, Broken, broken, layers

Part = tuple[str, dict[str, Any]]


class Flat(nn.Module):
    """y = linear(flatten(x)): a dense head for the tests."""

    def __init__(self, in_channels: int, in_size: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.out_channels = classes
        self.linear = nn.Linear(in_channels * in_size[0] * in_size[1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1))


@pytest.fixture(autouse=True)
def flat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block with a dense head, in the catalogue for a test."""
    monkeypatch.setitem(catalogue.BLOCKS, "flat_for_tests", Flat)


def conv(channels: int, **args: Any) -> Part:
    return "conv_norm_act", {"out_channels": channels, **args}


POOL: Part = ("pool", {"kernel": 2, "padding": "valid"})
HEAD: Part = ("classifier", {"classes": 10})


def chain(*parts: Part, side: int = 32, channels: int = 3) -> Architecture:
    """A network of parts in a row, with a classifier unless the last part is one."""
    row = parts if "classes" in parts[-1][1] else (*parts, HEAD)
    nodes = tuple(Node(block, (i,), args) for i, (block, args) in enumerate(row))
    return Architecture(Task((channels, side, side), 10), nodes)


VGG = chain(conv(64), conv(64), POOL, conv(128), conv(128), POOL, conv(256), conv(256))
ALEX = chain(conv(96, kernel=11, stride=4), POOL, conv(256, kernel=5), POOL, conv(384), conv(256), side=128)
THIN = chain(conv(64), POOL, conv(32))
TWO_LAYERS = Architecture(
    Task((3, 8, 8), 10),
    (
        Node("conv_norm_act", (0,), {"out_channels": 8}),
        Node("conv_norm_act", (1,), {"out_channels": 8}),
        Node("conv_norm_act", (2,), {"out_channels": 8}),
        Node("add", (1, 3)),
        Node("classifier", (4,), {"classes": 10}),
    ),
)
ONE_LAYER = Architecture(
    Task((3, 8, 8), 10), (*TWO_LAYERS.nodes[:2], Node("add", (1, 2)), Node("classifier", (3,), {"classes": 10}))
)
DEPTHWISE = conv(16, groups=16)
DENSE_HEAD: Part = ("flat_for_tests", {"classes": 10})


def reference(name: str) -> Architecture:
    return REFERENCES[name].build()


CASES: dict[str, tuple[list[Architecture], list[tuple[Architecture, str, str]]]] = {
    # rule: networks that keep it; networks that break it, at which node, words of the reason
    "monotone_width": ([VGG, reference("resnet50"), reference("mobilenet_v2")], [(THIN, "conv2", "32 channels")]),
    "pyramid": (
        [VGG, reference("resnet50"), reference("resnet20_cifar")],
        [(chain(conv(64), POOL, conv(64)), "conv2", "grow 1 times"), (reference("googlenet"), "stage3_block2", "1.23")],
    ),
    "small_kernels": (
        [VGG, reference("resnet20_cifar"), reference("efficientnet_b0")],  # its 5x5 are depthwise
        [(ALEX, "conv1", "11x11"), (chain(conv(8), conv(8, kernel=5)), "conv2", "5x5")],
    ),
    "small_stem": (
        [VGG, chain(conv(8), conv(8, kernel=5)), reference("efficientnet_b0")],
        [(ALEX, "conv1", "11x11"), (reference("resnet50"), "stem", "7x7")],
    ),
    "reduced_before_expensive": (
        [
            reference("resnet50"),
            reference("googlenet"),
            reference("mobilenet_v2"),
            chain(conv(256), conv(128, kernel=1), conv(256)),
        ],
        [(VGG, "conv4", "reads 128 channels"), (reference("resnet18"), "stage2_block1", "3x3")],
    ),
    "two_layers_per_shortcut": (
        [TWO_LAYERS, reference("resnet18"), reference("mobilenet_v2"), reference("preact_resnet18"), VGG],
        [(ONE_LAYER, "add", "around 1 layer")],
    ),
    "depthwise_with_pointwise": (
        [reference("mobilenet_v2"), reference("nasnet_a_cifar"), chain(conv(16), DEPTHWISE, conv(32, kernel=1)), VGG],
        [(chain(conv(16), DEPTHWISE, DEPTHWISE, conv(8)), "conv2", "never mixed")],
    ),
    "homogeneous_stages": (
        [reference("resnet50"), reference("nasbench201_best"), VGG],
        [
            (
                chain(conv(16), ("basic_block", {"out_channels": 16}), ("inverted_residual", {"out_channels": 16})),
                "stage1_block2",
                "inverted_residual in one stage with basic_block",
            )
        ],
    ),
    "max_pooling": (
        [VGG, reference("nasbench101_inception_like"), chain(conv(8, kernel=5, padding="valid"), POOL, conv(8))],
        [
            (reference("resnet20_cifar"), "stage2_block1", "basic_block"),
            (chain(conv(8), ("pool", {"kind": "average"}), conv(8)), "pool", "pool"),
        ],
    ),
    "width_before_pooling": ([VGG, ALEX], [(chain(conv(16), POOL, conv(8), POOL, conv(32)), "pool2", "8 channels")]),
    "no_raw_pixel_mlp": ([VGG, chain(conv(8), DENSE_HEAD)], [(chain(DENSE_HEAD), "stage1_block1", "linear")]),
    "light_head": ([VGG, reference("resnet50")], [(chain(conv(8), DENSE_HEAD), "stage1_block1", "in linear layers")]),
    "memory_budget": ([VGG, reference("resnet50")], [(reference("efficientnet_b7"), "stage2_block1", "8,000")]),
}


def test_every_rule_has_its_cases_and_says_what_it_asks() -> None:
    assert set(CASES) == set(RULES)
    for name, rule in RULES.items():
        assert rule.name == name
        assert rule.summary.endswith(".")
        assert rule.source


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_rule_is_kept_and_broken(name: str) -> None:
    kept, broken_by = CASES[name]
    for architecture in kept:
        assert broken(walk(architecture), [name]) == ()
    for architecture, node, words in broken_by:
        (found,) = broken(walk(architecture), [name])
        assert (found.rule, found.node) == (name, node)
        assert words in found.reason


def test_rules_are_told_apart_and_in_order() -> None:
    found = broken(walk(ALEX), ["small_stem", "monotone_width", "small_kernels"])
    assert [each.rule for each in found] == ["small_stem", "small_kernels"]
    assert isinstance(found[0], Broken)
    with pytest.raises(UnknownNameError, match="did you mean 'small_stem'"):
        broken(walk(ALEX), ["small_stm"])


def test_dead_nodes_break_nothing() -> None:
    nodes = (*VGG.nodes[:-1], Node("conv_norm_act", (1,), {"out_channels": 8, "kernel": 9}))
    dead = Architecture(VGG.task, (*nodes, Node("classifier", (len(VGG.nodes) - 1,), {"classes": 10})))
    assert broken(walk(dead), ["small_kernels"]) == ()


def test_layers_are_looked_up_inside_blocks() -> None:
    looked_into = walk(chain(conv(16), ("inverted_residual", {"out_channels": 24, "kernel": 5})))
    assert [(layer.in_channels, layer.kernel, layer.depthwise) for layer in layers(looked_into, 2)] == [
        (16, (1, 1), False),
        (96, (5, 5), True),
        (96, (1, 1), False),
    ]
