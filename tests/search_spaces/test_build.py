"""Building, resolving, naming; and architectures that a stranger might send."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
import torch
from torch import nn

from search_spaces.architecture import Architecture, ArchitectureError, Node, Task
from search_spaces.build import build, fingerprint, live_nodes, node_names, resolved, shapes
from search_spaces.catalogue import BLOCKS, REFERENCES, UnknownNameError, block, block_schema
from search_spaces.cost import costs
from search_spaces.profile import profiled
from search_spaces.signature import BlockError, arguments
from search_spaces.source import source

TASK = Task((3, 8, 8), 10)
BEFORE = "6bcbe9b5c8e19f22fcd769b8acef5e7100db4339f81c9881f9b333ce7faf7a97"
HEAD = Node("classifier", (1,), {"classes": 10})


def network(*nodes: Node, task: Task = TASK) -> Architecture:
    """``nodes`` and a classifier on the last of them."""
    return Architecture(task, (*nodes, Node("classifier", (len(nodes),), {"classes": task.classes})))


def test_resolved_fills_in_every_default() -> None:
    args = resolved(network(Node("conv_norm_act", (0,), {"out_channels": 8}))).nodes[0].args
    assert [*args, "order"] == list(arguments(block("conv_norm_act")).model_fields)
    assert (args["kernel"], args["norm"]) == (3, "batch")


def test_fingerprint_ignores_written_defaults_but_not_other_values() -> None:
    short = network(Node("conv_norm_act", (0,), {"out_channels": 8}))
    long = network(Node("conv_norm_act", (0,), {"kernel": 3, "out_channels": 8, "stride": 1}))
    other = network(Node("conv_norm_act", (0,), {"kernel": 5, "out_channels": 8}))
    assert fingerprint(short) == fingerprint(long)
    assert fingerprint(short) != fingerprint(other)


def test_an_argument_that_came_later_keeps_old_fingerprints() -> None:
    """At its default it is left out. The digest is that of the release before ``order`` was there."""
    plain = network(Node("conv_norm_act", (0,), {"out_channels": 8}))
    written = network(Node("conv_norm_act", (0,), {"out_channels": 8, "order": "conv-norm-act"}))
    other = network(Node("conv_norm_act", (0,), {"out_channels": 8, "order": "norm-act-conv"}))
    assert fingerprint(plain) == fingerprint(written) == BEFORE
    assert fingerprint(other) != BEFORE


def test_an_integer_for_a_float_is_that_float() -> None:
    one, two = (network(Node("dropout", (0,), {"rate": rate})) for rate in (0, 0.0))
    assert fingerprint(one) == fingerprint(two)


def test_branches_sums_and_dead_nodes() -> None:
    architecture = Architecture(
        TASK,
        (
            Node("conv_norm_act", (0,), {"out_channels": 4}),
            Node("conv_norm_act", (0,), {"out_channels": 4, "kernel": 5}),
            Node("conv_norm_act", (0,), {"out_channels": 99}),
            Node("add", (1, 2)),
            Node("concat", (0, 4, 1)),
            Node("classifier", (5,), {"classes": 10}),
        ),
    )
    assert live_nodes(architecture) == (1, 2, 4, 5, 6)
    assert shapes(architecture)[4] == (11, 8, 8)
    assert node_names(architecture) == ("conv1", "conv2", "conv3", "add", "concat", "head")
    built = build(architecture)
    assert [name for name, _ in built.named_children()] == ["conv1", "conv2", "add", "concat", "head"]
    conv1, conv2 = built.get_submodule("conv1"), built.get_submodule("conv2")
    x = torch.randn(2, 3, 8, 8)
    expected = built.get_submodule("head")(torch.cat([x, conv1(x) + conv2(x), conv1(x)], dim=1))
    assert torch.allclose(built(x), expected, atol=1e-6)
    alive = Architecture(
        TASK,
        (
            *architecture.nodes[:2],
            Node("add", (2, 1)),
            Node("concat", (0, 3, 1)),
            Node("classifier", (4,), {"classes": 10}),
        ),
    )
    assert fingerprint(alive) == fingerprint(architecture)
    assert costs(alive) == costs(architecture)


def test_costs_by_hand() -> None:
    price = costs(network(Node("conv_norm_act", (0,), {"out_channels": 4, "norm": "none", "bias": True, "stride": 2})))
    assert price.params == 3 * 4 * 9 + 4 + 4 * 10 + 10
    assert price.macs == 3 * 4 * 9 * 16 + 40
    assert price.activations == 3 * 64 + 4 * 16 + 10
    assert (price.depth, price.receptive_field) == (2, 3)
    assert 0 < price.memory_mb < 0.2


def test_names_of_the_references_read_well() -> None:
    names = node_names(REFERENCES["mobilenet_v2"].build())
    assert (names[0], names[1], names[2], names[-2:]) == (
        "stem",
        "stage1_block1",
        "stage2_block1",
        ("final_conv", "head"),
    )
    for reference in REFERENCES.values():
        names = node_names(reference.build())
        assert len(set(names)) == len(names)
        assert all(name.isidentifier() for name in names)


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_every_block_tells_its_schema(name: str) -> None:
    schema = block_schema(name)
    assert schema["doc"]
    assert set(schema["arguments"]["required"]) <= set(schema["arguments"]["properties"])
    assert "in_channels" not in schema["arguments"]["properties"]


def test_schema_of_a_block_names_types_defaults_and_allowed_values() -> None:
    properties = block_schema("pool")["arguments"]["properties"]
    assert properties["kind"]["enum"] == ["max", "average", "sum"]
    assert (properties["kernel"]["type"], properties["kernel"]["default"]) == ("integer", 3)
    with pytest.raises(UnknownNameError, match="did you mean 'pool'"):
        block_schema("poool")


@pytest.mark.parametrize(
    ("node", "pointer", "message"),
    [
        (Node("magic", (0,)), "/nodes/0/block", "no block is called 'magic'"),
        (Node("conv_norm_act", (0,)), "/nodes/0/args/out_channels", "Field required"),
        (Node("conv_norm_act", (0,), {"out_channels": "8"}), "/nodes/0/args/out_channels", "valid integer"),
        (Node("conv_norm_act", (0,), {"out_channels": True}), "/nodes/0/args/out_channels", "valid integer"),
        (Node("conv_norm_act", (0,), {"out_channels": 8.0}), "/nodes/0/args/out_channels", "valid integer"),
        (Node("conv_norm_act", (0,), {"out_channels": 8, "norm": "x"}), "/nodes/0/args/norm", "'batch', 'group'"),
        (Node("conv_norm_act", (0,), {"out_channels": 8, "kernel": "3"}), "/nodes/0/args/kernel", "valid integer"),
        (Node("conv_norm_act", (0,), {"out_channels": 8, "in_size": 3}), "/nodes/0/args/in_size", "no argument"),
        (Node("conv_norm_act", (0,), {"out_channels": 8, "device": "cuda"}), "/nodes/0/args/device", "no argument"),
        (Node("conv_norm_act", (0, 0), {"out_channels": 8}), "/nodes/0/inputs", "reads 1 inputs, not 2"),
        (Node("nasnet_cell", (0,), {"channels": 8, "nodes": ()}), "/nodes/0/inputs", "reads 2 inputs, not 1"),
        (Node("conv_norm_act", (0,), {"out_channels": 0}), "/nodes/0", "cannot be built on 3x8x8"),
        (Node("conv_norm_act", (0,), {"out_channels": -8}), "/nodes/0", "cannot be built"),
        (Node("conv_norm_act", (0,), {"out_channels": 8, "stride": 0}), "/nodes/0", "cannot be built"),
        (Node("conv_norm_act", (0,), {"out_channels": 8, "groups": 7}), "/nodes/0", "cannot be built"),
        (Node("conv_norm_act", (0,), {"out_channels": 8, "kernel": 99, "padding": "valid"}), "/nodes/0", "cannot"),
        (Node("basic_block", (0,), {"out_channels": 2, "shortcut": "zero_pad"}), "/nodes/0", "cannot remove 1"),
        (Node("nasnet_cell", (0, 0), {"channels": 8, "nodes": ()}), "/nodes/0", "1 to 20"),
        (Node("classifier", (0,), {"classes": 7}), "/nodes/1", "cannot be built on 7"),
    ],
)
def test_wrong_nodes_are_refused_with_a_pointer(node: Node, pointer: str, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message) as error:
        build(network(node))
    assert error.value.pointer == pointer


def test_the_output_must_be_one_number_a_class() -> None:
    with pytest.raises(ArchitectureError, match=r"allowed: \(10,\)"):
        build(Architecture(TASK, (Node("classifier", (0,), {"classes": 7}),)))


BIG = 10**6
SEPARABLE = ("separable7x7", "separable7x7")


def wide() -> Architecture:
    return network(*(Node("conv_norm_act", (i,), {"out_channels": BIG, "kernel": 3}) for i in range(200)))


def deep() -> Architecture:
    """2,000 nodes, each another one."""
    nodes = (Node("bottleneck_block", (i,), {"out_channels": 8 + 4 * (i % 1000)}) for i in range(1999))
    return network(*nodes)


def deep_cells() -> Architecture:
    cells = tuple((0, "separable7x7", 1, "separable7x7", "concat") for _ in range(20))
    return network(*(Node("nasnet_cell", (i, i), {"channels": 4 + i, "nodes": cells}) for i in range(1000)))


def bombs() -> dict[str, Architecture]:
    lists = tuple(tuple(range(100)) for _ in range(100))
    return {
        "wide": wide(),
        "deep": deep(),
        "cells": deep_cells(),
        "one wide convolution": network(Node("conv_norm_act", (0,), {"out_channels": BIG, "kernel": BIG - 1})),
        "a large image": network(Node("pool", (0,)), task=Task((BIG, BIG, BIG), 10)),
        "many classes": network(Node("pool", (0,)), task=Task((3, 8, 8), BIG)),
        "long lists": network(Node("nasnet_cell", (0, 0), {"channels": 4, "nodes": lists})),
        "many inputs": network(*(Node("concat", tuple([0] * 2000)) for _ in range(1000))),
        "doubling": network(*(Node("concat", (i, i)) for i in range(60))),
        "pixels": network(
            *(Node("conv_norm_act", (i,), {"out_channels": 64}) for i in range(100)), task=Task((3, 4096, 4096), 10)
        ),
    }


@pytest.mark.parametrize("name", sorted(bombs()))
def test_bombs_cost_little(name: str) -> None:
    """Refused before a weight is allocated, after milliseconds to 1.5 s of computing (more beside busy neighbours)."""
    bomb = bombs()[name]
    start = time.process_time()
    with pytest.raises(ArchitectureError, match=r"allowed|cannot be built"):
        build(bomb)
    assert time.process_time() - start < 4


@pytest.mark.parametrize(
    ("task", "channels", "what"),
    [(Task((3, 1, 1), 10), 100_000, "parameters"), (Task((3, 256, 256), 10), 8000, "multiply-accumulates")],
)
def test_each_total_has_its_own_limit(task: Task, channels: int, what: str) -> None:
    nodes = (Node("conv_norm_act", (i,), {"out_channels": channels}) for i in range(4))
    with pytest.raises(ArchitectureError, match=rf"\d+ {what} up to this node; allowed: \d+"):
        build(network(*nodes, task=task))


class Spread(nn.Module):
    """y = mean of x over the image, times x: the smaller factor first."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_channels = in_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3), keepdim=True) * x


def test_shapes_are_broadcast_as_torch_does() -> None:
    assert profiled(Spread, {}, ((3, 8, 6),), 1).out_shape == (3, 8, 6)


def test_arguments_cannot_inject_code() -> None:
    evil = 'batch"); import os; os.system("true"); ("'
    with pytest.raises(ArchitectureError):
        source(network(Node("conv_norm_act", (0,), {"out_channels": 8, "norm": evil})))


def test_counting_leaves_the_random_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    costs(network(Node("basic_block", (0,), {"out_channels": 13})))
    assert torch.equal(before, torch.random.get_rng_state())


def test_same_seed_same_weights() -> None:
    architecture = network(Node("basic_block", (0,), {"out_channels": 6}))
    weights = []
    for _ in range(2):
        torch.manual_seed(5)
        weights.append(build(architecture).state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


class Untyped(nn.Module):
    def __init__(self, in_channels: int, width=3) -> None:  # type: ignore[no-untyped-def]  # what is refused
        super().__init__()


class Open(nn.Module):
    def __init__(self, in_channels: int, **anything: Any) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("wrong", "message"), [(Untyped, "width has no type"), (Open, "named arguments"), (nn.ReLU, "in_channels")]
)
def test_a_class_that_is_no_block_says_why(wrong: type[nn.Module], message: str) -> None:
    with pytest.raises(BlockError, match=message):
        arguments(wrong)


def test_spaces_and_references_need_no_torch() -> None:
    """But for the two spaces that look up blocks and networks by name."""
    code = (
        "import sys; from search_spaces import sample; from search_spaces.catalogue import SPACES, REFERENCES; "
        "import random; from search_spaces.architecture import Task; "
        "[s.bound(Task((1, 8, 8), 10))(sample(random.Random(0))) for n, s in SPACES.items() "
        "if n not in ('composed', 'neighbourhood')]; "
        "[r.build() for r in REFERENCES.values()]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
