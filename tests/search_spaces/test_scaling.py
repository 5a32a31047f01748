"""Scaling: published members of a family follow from one of them, and any network can be scaled."""

from __future__ import annotations

import random

import pytest

from search_spaces.architecture import TASKS, Architecture, ArchitectureError, Node, Task
from search_spaces.build import fingerprint, shapes, walk
from search_spaces.catalogue import REFERENCES, SPACES, configured
from search_spaces.choose import sample
from search_spaces.cost import costs
from search_spaces.references.efficientnet import TABLE
from search_spaces.scaling import compound, restacked, runs, scaled, with_lengths
from search_spaces.spaces.chain import divisible

DIGITS, CIFAR = Task((1, 8, 8), 10), Task((3, 32, 32), 10)


@pytest.mark.parametrize("number", range(8))
def test_b0_scaled_by_the_released_coefficients_is_b1_to_b7(number: int) -> None:
    width, depth, side, *_ = TABLE[number]
    found = costs(scaled(REFERENCES["efficientnet_b0"].build(), depth, width, Task((3, side, side), 1000)))
    published = REFERENCES[f"efficientnet_b{number}"]
    built = costs(published.build())
    assert (found.params, found.macs) == (built.params, built.macs)
    assert published.params in (None, found.params)


@pytest.mark.parametrize(
    ("name", "cells", "filters", "task", "stem", "skip"),
    [
        ("nasnet_a_mobile", 4, 44, Task((3, 224, 224), 1000), 32, False),
        ("nasnet_a_large", 6, 168, Task((3, 331, 331), 1000), 96, True),
        ("nasnet_a_cifar", 6, 32, CIFAR, 96, False),
    ],
)
@pytest.mark.parametrize("start", ["nasnet_a_mobile", "nasnet_a_cifar"])
def test_n_and_f_of_nasnets_cell_give_every_published_size(
    start: str, name: str, cells: int, filters: int, task: Task, stem: int, skip: bool
) -> None:
    found = costs(restacked(REFERENCES[start].build(), cells, filters, task, stem, skip))
    assert (found.params, found.macs) == (REFERENCES[name].params, REFERENCES[name].macs)


@pytest.mark.parametrize(
    ("name", "cells", "filters"),
    [("pnasnet5_mobile", 3, 54), ("pnasnet5_large", 4, 216), ("pnasnet5_cifar", 3, 48), ("darts_v2_cifar", 6, 36)],
)
def test_n_and_f_of_other_cells(name: str, cells: int, filters: int) -> None:
    """Where they are those of the network itself nothing changes; PNASNet's strided cell is one of the N."""
    base = REFERENCES[name].build()
    assert costs(restacked(base, cells, filters)).params == costs(base).params
    assert costs(restacked(base, cells + 1, 2 * filters)).params > 3 * costs(base).params


def test_a_residual_family_follows_from_its_smallest() -> None:
    """CIFAR networks of He et al.: 6 n + 2 layers."""
    small = REFERENCES["resnet20_cifar"].build()
    assert costs(restacked(small, 18, 16)) == costs(REFERENCES["resnet110_cifar"].build())
    wide = scaled(REFERENCES["wrn16_4_cifar"].build(), width=2.0)
    assert costs(wide).params > 3.9 * costs(REFERENCES["wrn16_4_cifar"].build()).params


def test_phi_is_the_power_of_all_three() -> None:
    base = REFERENCES["efficientnet_b0"].build()
    assert fingerprint(compound(base, 0.0, 1.2, 1.1, 1.15)) == fingerprint(base)
    once = compound(base, 1.0, 1.2, 1.1, 1.15)
    assert once.task.input_shape == (3, 258, 258)
    assert once == scaled(base, 1.2, 1.1, Task((3, 258, 258), 1000))
    assert 1.8 < costs(once).macs / costs(base).macs < 2.7
    assert compound(base, 1.0, 1.2, 1.1, 1.15, classes=7).nodes[-1].args["classes"] == 7


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_every_reference_can_be_made_larger(name: str) -> None:
    """Deeper and wider: it still builds, for other data too, and has more of everything."""
    base = REFERENCES[name].build()
    own = costs(base)
    factor = 1.5 if own.macs < 10**10 else 1.25
    larger = costs(scaled(base, factor, factor))
    assert larger.params > 1.2 * own.params
    assert larger.macs > 1.2 * own.macs
    if runs(walk(base)):
        assert larger.depth > own.depth


@pytest.mark.parametrize("name", sorted(SPACES))
def test_what_a_space_finds_can_be_scaled_to_other_data(name: str) -> None:
    for seed in range(5):
        found = SPACES[name].bound(DIGITS)(sample(random.Random(seed)))
        assert shapes(scaled(found, 1.5, 1.25, Task((3, 32, 32), 7)))[-1] == (7,)


def test_runs_are_made_longer_and_shorter() -> None:
    base = REFERENCES["resnet20_cifar"].build()
    first, second, third = runs(walk(base))
    changed = with_lengths(walk(base).architecture, {first: 1, second: 5})
    assert [len(run.numbers) for run in runs(walk(changed))] == [1, 5, 3]
    assert third.numbers == (8, 9, 10)
    assert with_lengths(walk(base).architecture, {}) == walk(base).architecture


def test_groups_go_on_dividing_the_channels() -> None:
    wider = scaled(REFERENCES["resnext29_32x4d_cifar"].build(), width=1.3)
    for node in wider.nodes:
        if node.args.get("groups", 1) != 1:
            assert int(node.args["width"]) % int(node.args["groups"]) == 0  # type: ignore[arg-type]


def test_what_cannot_be_scaled_says_so() -> None:
    bare = Architecture(DIGITS, (Node("pool", (0,)), Node("classifier", (1,), {"classes": 10})))
    with pytest.raises(ArchitectureError, match="no block that can be repeated"):
        restacked(bare, 3, 16)
    with pytest.raises(ArchitectureError):
        scaled(REFERENCES["efficientnet_b0"].build(), width=10.0, depth=10.0, task=Task((3, 4096, 4096), 1000))
    only_normal = SPACES["nasnet"].bound(Task((1, 1, 1), 2))(sample(random.Random(0)))
    with pytest.raises(ArchitectureError, match="no reduction cell"):
        restacked(only_normal, 2, 16, CIFAR)


@pytest.mark.parametrize("seed", range(12))
def test_segmenters_of_every_form_can_be_scaled(seed: int) -> None:
    """The first block hands its image on beside new channels: rounded by themselves they would be too many."""
    task = Task((1, 32, 32), 11, "segmentation")
    found = SPACES["segmentation"].bound(task)(sample(random.Random(seed)))
    for factor in (0.5, 1.5):
        first, wider = (walk(one).shapes[0][0] for one in (found, scaled(found, width=factor)))
        assert wider == divisible(first * factor)
    other = scaled(found, task=Task((3, 48, 40), 5, "segmentation"))
    assert walk(other).shapes[-1] == (5, 48, 40)
    assert walk(other).shapes[0][0] == walk(found).shapes[0][0]


def test_every_channel_of_a_fire_module_is_scaled() -> None:
    for name in ("squeezenet_1.0", "squeezenet_1.0_complex_bypass"):
        small = REFERENCES[name].build()
        fires = [(one.args, two.args) for one, two in zip(small.nodes, scaled(small, width=2.0).nodes, strict=True)
                 if one.block == "fire"]  # fmt: skip
        assert len(fires) == 8
        for before, after in fires:
            assert all(after[width] == 2 * before[width] for width in ("squeeze", "expand1", "expand3"))


@pytest.mark.parametrize("kind", TASKS)
def test_restacked_cells_keep_their_heads(kind: str) -> None:
    """What a search on small images found is stacked for larger ones, whatever its task is and how it is trained."""
    space, config = configured({"name": "nasnet", "auxiliary": True})
    found = space.bound(Task((3, 32, 32), 7, kind), config)(sample(random.Random(0)))
    if kind == "localisation":
        *body, box, joined = found.nodes
        found = Architecture(found.task, (*body, Node(box.block, box.inputs, {"widths": (32,)}), joined))
    larger = restacked(found, 3, 16, Task((3, 64, 64), 5, kind))
    assert walk(larger).shapes[-1] == Task((3, 64, 64), 5, kind).output_shape
    assert sum(node.block == "nasnet_cell" for node in larger.nodes) >= 9
    heads = [node.args["form"] for node in larger.nodes if node.block == "auxiliary_classifier"]
    assert heads == ([] if kind == "segmentation" else ["nasnet"])
    assert [node.args["widths"] for node in larger.nodes if node.block == "box_regressor"] == (
        [(32,)] if kind == "localisation" else []
    )
