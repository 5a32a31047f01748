"""Growth: wider and deeper networks compute what they were made of; weights reach other networks as far as they fit."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch
from torch import nn

from search_spaces.architecture import Architecture, Node, Task
from search_spaces.blocks.inception import InceptionBlock
from search_spaces.build import Network, build
from search_spaces.catalogue import BLOCKS, SPACES
from search_spaces.choose import Recorder, mutated, replay, sample
from search_spaces.cost import costs
from search_spaces.growth import Inheritance, aligned, become_identity, grown, inherit
from search_spaces.scaling import scaled, walk
from tests.search_spaces.example_networks import around

TASK = Task((3, 8, 8), 5)
Part = tuple[str, dict[str, object]]
POOL: Part = ("pool", {"kernel": 2, "padding": "valid"})


def chain(*parts: Part) -> Architecture:
    row = (*parts, ("classifier", {"classes": 5}))
    return Architecture(TASK, tuple(Node(block, (i,), args) for i, (block, args) in enumerate(row)))  # type: ignore[arg-type]


def conv(channels: int, **args: object) -> Part:
    return "conv_norm_act", {"out_channels": channels, **args}


def blocks(block: str, **args: object) -> Architecture:
    """A stem and two stages of two blocks."""
    wide = {**args, "out_channels": 16}
    wider = {**args, "out_channels": 32}
    return chain(conv(16), (block, wide), (block, wide), (block, {**wider, "stride": 2}), (block, wider))


INCEPTION = {"branch1": 8, "reduce3": 8, "branch3": 8, "reduce5": 8, "branch5": 8, "pool_projection": 8}
EDGES = ("nor_conv_3x3", "skip_connect", "none", "avg_pool_3x3", "nor_conv_1x1", "skip_connect")
NETWORKS = {
    "vgg": chain(conv(8), conv(8), POOL, conv(16, bias=True, norm="none"), conv(16)),
    "residual": blocks("basic_block"),
    "residual_zero_pad": blocks("basic_block", shortcut="zero_pad"),
    "bottleneck": blocks("bottleneck_block"),
    "squeeze": blocks("basic_block", squeeze=4),
    "preact": blocks("preact_block"),
    "mbconv": blocks("inverted_residual", expansion=3),
    "mbconv_squeeze": blocks("inverted_residual", expansion=3, squeeze=0.5, kernel=5, activation="silu"),
    "inception": chain(conv(16), ("inception_block", INCEPTION), POOL, ("inception_block", INCEPTION)),
    "nasbench201": chain(
        conv(16, activation="none"),
        ("nasbench201_cell", {"operations": EDGES}),
        ("nasbench201_reduction", {"out_channels": 32}),
    ),
    "sum_and_concat": Architecture(
        TASK,
        (
            Node("conv_norm_act", (0,), {"out_channels": 8}),
            Node("conv_norm_act", (1,), {"out_channels": 8}),
            Node("concat", (1, 2)),
            Node("conv_norm_act", (3,), {"out_channels": 16}),
            Node("conv_norm_act", (4,), {"out_channels": 16}),
            Node("add", (4, 5)),
            Node("classifier", (6,), {"classes": 5}),
        ),
    ),
}  # fmt: skip
DEEPENED = ("vgg", "residual", "residual_zero_pad", "bottleneck", "squeeze", "preact", "mbconv", "mbconv_squeeze")


def trained(architecture: Architecture) -> Network:
    """A network whose norms have seen something, and whose weights are not those of its start."""
    torch.manual_seed(0)
    network = build(architecture)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(3):
        loss = nn.functional.cross_entropy(network(torch.randn(8, 3, 8, 8)), torch.arange(8) % 5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def inherited(parent: Architecture, child: Architecture) -> tuple[Inheritance, float, Network]:
    """What a child took over, and the largest difference of the outputs, computed here."""
    network, grown_up = trained(parent), build(child)
    found = inherit(parent, network.state_dict(), grown_up, child)
    images = torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        difference = float((network(images) - grown_up.eval()(images)).abs().max())
    return found, difference, grown_up


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_wider_network_computes_the_same(name: str) -> None:
    parent = NETWORKS[name]
    child = scaled(parent, width=1.75)
    assert costs(child).params > costs(parent).params
    found, difference, _ = inherited(parent, child)
    assert difference < 1e-5
    assert found.preserving
    assert found.share == pytest.approx(1)


@pytest.mark.parametrize("name", DEEPENED)
@pytest.mark.parametrize("width", [1.0, 1.75])
def test_a_deeper_network_computes_the_same(name: str, width: float) -> None:
    parent = NETWORKS[name]
    child = scaled(parent, depth=2.0, width=width)
    assert len(child.nodes) > len(parent.nodes)
    found, difference, _ = inherited(parent, child)
    assert difference < 1e-5
    assert found.preserving
    assert 0.2 < found.share < 1


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_every_block_takes_over_what_is_alike(name: str) -> None:
    """All weights of an equal network; of a wider one all that has a counterpart, and it runs."""
    parent = around(name)
    torch.manual_seed(0)
    network, same = build(parent).eval(), build(parent)
    found = inherit(parent, network.state_dict(), same, parent)
    assert found.preserving
    assert found.share == pytest.approx(1)
    wider = scaled(parent, width=1.5)
    assert inherit(parent, network.state_dict(), build(wider), wider).share > 0.5


def test_a_larger_kernel_computes_the_same_and_a_smaller_one_takes_the_middle() -> None:
    small, large = chain(conv(8), conv(8)), chain(conv(8), conv(8, kernel=5))
    found, difference, network = inherited(small, large)
    assert difference < 1e-5
    assert found.share < 1
    assert float(network.state_dict()["conv2.conv.weight"][:, :, 0].abs().max()) == 0
    found, difference, _ = inherited(large, small)
    assert difference > 1e-3
    assert not found.preserving
    assert found.share == 1


def test_copies_of_a_channel_part_ways_in_training() -> None:
    """Equal shares would keep the copies equal for ever."""
    parent = NETWORKS["vgg"]
    _, _, network = inherited(parent, scaled(parent, width=2.0))
    weight = network.state_dict()["conv1.conv.weight"]
    assert torch.equal(weight[:8], weight[8:16])
    images = torch.randn(8, 3, 8, 8)
    nn.functional.cross_entropy(network.train()(images), torch.arange(8) % 5).backward()
    gradient = next(network.parameters()).grad
    assert gradient is not None
    assert (gradient[:8] - gradient[8:16]).abs().max() > 1e-6


def test_another_block_gets_nothing_and_the_rest_its_weights() -> None:
    parent = chain(conv(16), ("basic_block", {"out_channels": 16}), conv(16))
    child = chain(conv(16), ("inverted_residual", {"out_channels": 16}), conv(16))
    found, _, network = inherited(parent, child)
    assert 0 < found.share < 1
    assert not found.preserving
    own = trained(parent).state_dict()
    assert torch.equal(network.state_dict()["stem.conv.weight"], own["stem.conv.weight"])


def test_other_data_is_no_obstacle() -> None:
    parent = NETWORKS["residual"]
    child = scaled(parent, task=Task((1, 12, 12), 7))
    grown_up = build(child)
    found = inherit(parent, trained(parent).state_dict(), grown_up, child)
    assert found.difference == float("inf")
    assert 0.9 < found.share <= 1


def test_nodes_are_aligned_in_order() -> None:
    parent, child = chain(conv(8), conv(8), POOL, conv(16)), chain(conv(8), conv(8), conv(8), POOL, conv(24))
    assert aligned(walk(parent), walk(child)) == {1: 1, 2: 2, 4: 3, 5: 4, 6: 5}


def test_blocks_become_the_identity_where_they_can() -> None:
    for block, args in (("basic_block", {}), ("inverted_residual", {}), ("preact_block", {}), ("conv_norm_act", {})):
        module = build(chain(conv(8), (block, {"out_channels": 8, **args})))
        part = next(child for name, child in module.named_children() if name not in ("stem", "conv1", "head"))
        assert become_identity(part, (8, 8, 8)), block
    inception = InceptionBlock(40, **INCEPTION)
    before = {name: tensor.clone() for name, tensor in inception.state_dict().items()}
    assert not become_identity(inception, (40, 8, 8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in inception.state_dict().items())


BEGINNERS: dict[str, dict[str, object]] = {
    "basic_block": {"out_channels": 8},
    "bottleneck_block": {"out_channels": 8},
    "preact_block": {"out_channels": 8},
    "preact_bottleneck": {"out_channels": 8},
    "inverted_residual": {"out_channels": 8},
    "fused_inverted_residual": {"out_channels": 8},
    "conv_norm_act": {"out_channels": 8},
    "recurrent_stage": {},
    "enet_bottleneck": {},
    "inception_resnet_b": {"branch1": 8, "flattened": (8, 8, 8)},
}


@pytest.mark.parametrize("name", BEGINNERS)
def test_a_block_that_begins_as_the_identity_can_learn(name: str) -> None:
    """A norm of zeros before a ReLU lets no gradient through: the branch would be zero for ever."""
    torch.manual_seed(0)
    network = build(chain(conv(8), (name, BEGINNERS[name])))
    block = [part for part in network.modules() if type(part) is BLOCKS[name]][-1]
    assert become_identity(block, (8, 8, 8))
    nn.functional.cross_entropy(network.train()(torch.randn(8, 3, 8, 8)), torch.arange(8) % 5).backward()
    assert any(p.grad is not None and p.grad.abs().max() > 1e-6 for p in block.parameters())


def test_small_outputs_do_not_make_two_functions_one() -> None:
    plain = {"norm": "none", "bias": True}
    parent, child = chain(conv(8, **plain), conv(8, **plain)), chain(conv(8, **plain), conv(8, **plain, kernel=1))
    network = build(parent)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(0.03)
    found = inherit(parent, network.state_dict(), build(child), child)
    assert 0 < found.difference < 1e-4
    assert not found.preserving


def test_channels_repeat_in_turn() -> None:
    assert grown(3, 5) == (0, 1, 2, 0, 1)
    assert grown(3, 8) == (0, 1, 2, 0, 1, 2, 0, 1)
    assert grown(3, 2) == (0, 1)


@pytest.mark.parametrize("name", sorted(SPACES))
def test_children_of_every_space_inherit(name: str) -> None:
    """Whatever the mutation was: the child is filled as far as it goes, and runs."""
    ask = SPACES[name].bound(TASK)
    for seed in range(2):
        recorder = Recorder(sample(random.Random(seed)))
        parent = ask(recorder)
        child = ask(mutated(recorder.questions, random.Random(seed), 2))
        network = build(child)
        found = inherit(parent, build(parent).state_dict(), network, child)
        assert 0 <= found.share <= 1
        assert network(torch.randn(2, *child.task.input_shape)).isfinite().all()
        same = build(parent)
        assert inherit(parent, build(parent).state_dict(), same, ask(replay(recorder.decisions))).preserving


def test_an_inheritance_is_data() -> None:
    assert dataclasses.asdict(Inheritance(0.5, 0.0, True)) == {"share": 0.5, "difference": 0.0, "preserving": True}
