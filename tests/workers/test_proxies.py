"""Zero-cost scores against what they are defined as, worked out in another way on networks small enough for it."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search_spaces.architecture import Architecture, Node, Task
from search_spaces.build import walk
from search_spaces.catalogue import SPACES
from search_spaces.choose import sample
from search_spaces.cost import costs
from search_spaces.fitting import reference
from workers.proxies import SCORES, ZEN_STEP, Probe, scores
from workers.scores import ranked

TASK = Task((1, 6, 6), 3)
BATCH = 5


def small(norm: str = "none", activation: str = "relu", stride: int = 1, channels: int = 4) -> Architecture:
    """Two convolutions and a classifier."""
    conv = {"out_channels": channels, "norm": norm, "activation": activation}
    nodes = (
        Node("conv_norm_act", (0,), conv),
        Node("conv_norm_act", (1,), {**conv, "stride": stride}),
        Node("classifier", (2,), {"classes": 3}),
    )
    return Architecture(TASK, nodes)


@pytest.fixture
def probe() -> Probe:
    torch.manual_seed(3)
    made = Probe(walk(small(channels=2)), BATCH)
    made.network.double()
    made.images = made.images.double()
    return made


def weights(probe: Probe) -> list[Tensor]:
    return [m.weight for m in probe.network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def slopes(probe: Probe, weight: Tensor) -> Tensor:
    """Gradient of the loss by central differences."""
    found = torch.zeros_like(weight)
    step = 1e-6
    with torch.no_grad():
        for index in itertools.product(*map(range, weight.shape)):
            there = []
            for sign in (1, -1):
                weight[index] += sign * step
                there.append(float(nn.functional.cross_entropy(probe.network(probe.images), probe.labels)))
                weight[index] -= sign * step
            found[index] = (there[0] - there[1]) / (2 * step)
    return found


def test_gradients(probe: Probe) -> None:
    expected = [(w.detach(), slopes(probe, w)) for w in weights(probe)]
    assert SCORES["grad_norm"](probe) == pytest.approx(sum(float(g.norm()) for _, g in expected), rel=1e-4)
    assert SCORES["snip"](probe) == pytest.approx(sum(float((w * g).abs().sum()) for w, g in expected), rel=1e-4)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_synflow(norm: str) -> None:
    """The summed output is linear in the weights of each of the three layers: each contributes it once."""
    torch.manual_seed(4)
    probe = Probe(walk(small(norm)), BATCH)
    probe.network(probe.images)  # a norm's statistics must not matter
    x = torch.ones(1, 1, 6, 6, dtype=torch.float64)
    *convolutions, linear = [w.detach().double().abs() for w in weights(probe)]
    for weight in convolutions:
        x = nn.functional.conv2d(x, weight, padding=1) / (math.sqrt(1 + 1e-5) if norm == "batch" else 1)
    total = float((x.mean((2, 3)) @ linear.T).sum())
    assert SCORES["synflow"](probe) == pytest.approx(math.log(3 * total), rel=1e-6)


def test_jacov(probe: Probe) -> None:
    rows = []
    step = 1e-6
    for image in probe.images:
        row = []
        for position in itertools.product(range(6), range(6)):
            bump = torch.zeros_like(image)
            bump[0][position] = step
            with torch.no_grad():
                change = probe.network((image + bump)[None]) - probe.network((image - bump)[None])
            row.append(float(change.sum()) / (2 * step))
        rows.append(row)
    values = np.linalg.eigvalsh(np.corrcoef(np.array(rows)))
    expected = -np.sum(np.log(values + 1e-5) + 1 / (values + 1e-5))
    assert SCORES["jacov"](probe) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_nwot(activation: str) -> None:
    torch.manual_seed(5)
    probe = Probe(walk(small(activation=activation)), BATCH)
    x, kernel = probe.images, np.zeros((BATCH, BATCH))
    for weight in weights(probe)[:2]:
        before = nn.functional.conv2d(x, weight, padding=1).detach()
        for a, b in itertools.product(range(BATCH), repeat=2):
            kernel[a, b] += int(((before[a] > 0) == (before[b] > 0)).sum())
        x = getattr(nn.functional, activation)(before)
    assert SCORES["nwot"](probe) == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-6)


def test_zen() -> None:
    torch.manual_seed(6)
    probe = Probe(walk(small("batch", "none")), BATCH)
    torch.manual_seed(7)
    drawn = [torch.randn(w.shape) for w in weights(probe)]
    noise = torch.randn(probe.images.shape)
    torch.manual_seed(7)
    found = SCORES["zen"](probe)
    deviations, features = [], []
    for x in (probe.images, probe.images + ZEN_STEP * noise):
        deviations = deviations if features else []
        for weight in drawn[:2]:
            x = nn.functional.conv2d(x, weight, padding=1)
            mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
            if not features:
                deviations.append(float(variance.mean().sqrt()))
            x = (x - mean) / (variance + 1e-5).sqrt()
        features.append(x)
    change = float((features[0] - features[1]).abs().mean())
    assert found == pytest.approx(math.log(change) + sum(map(math.log, deviations)), rel=1e-3)


def test_az_entropies() -> None:
    torch.manual_seed(8)
    probe = Probe(walk(small("batch")), BATCH)
    x, entropies = probe.images, []
    for block in list(probe.network.children())[:2]:
        x = block(x).detach()
        values = np.linalg.eigvalsh(np.cov(x.numpy().transpose(1, 0, 2, 3).reshape(4, -1)))
        shares = values / values.sum()
        entropies.append(-float(np.sum(shares * np.log(shares))))
    assert SCORES["az_expressivity"](probe) == pytest.approx(sum(entropies), rel=1e-3)
    assert SCORES["az_progressivity"](probe) == pytest.approx(entropies[1] - entropies[0], rel=1e-3)


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 0.0), (2.0, 2 - 2 - 1 / 2), (0.5, 2 - 0.5 - 2)])
def test_az_trainability_is_best_where_gradients_keep_their_size(scale: float, expected: float) -> None:
    torch.manual_seed(9)
    nodes = (
        Node("conv_norm_act", (0,), {"out_channels": 4}),
        Node("conv_norm_act", (1,), {"out_channels": 4, "kernel": 1, "norm": "none", "activation": "none"}),
        Node("classifier", (2,), {"classes": 3}),
    )
    probe = Probe(walk(Architecture(TASK, nodes)), 4000)
    orthogonal = torch.linalg.qr(torch.randn(4, 4))[0]
    with torch.no_grad():
        weights(probe)[1].copy_(scale * orthogonal[:, :, None, None])
    assert SCORES["az_trainability"](probe) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("space", sorted(SPACES))
def test_every_space_has_scores(space: str) -> None:
    task = Task((1, 8, 8), 10)
    if space in ("segmentation", "neighbourhood"):
        pytest.skip("not for classification, or made of a given network")
    architecture = SPACES[space].bound(task)(sample(random.Random(1)))
    found = scores(architecture, batch=4)
    assert set(found) == set(SCORES)
    assert math.isfinite(found["synflow"])
    assert found["params"] == costs(architecture).params


def test_scores_follow_from_the_seed_and_leave_the_generator_alone() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    found = scores(small("batch", stride=2))
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    assert scores(small("batch", stride=2)) == found
    assert scores(small("batch", stride=2), ["nwot"], seed=1)["nwot"] != found["nwot"]
    for name in SCORES:
        assert scores(small("batch", stride=2), [name])[name] == found[name], "whichever others are asked for"


def test_what_cannot_be_scored_is_said() -> None:
    with pytest.raises(ValueError, match=r"score 'luck'; allowed: params, macs"):
        scores(small(), ["luck"])
    with pytest.raises(ValueError, match="segmentation; allowed: classification"):
        scores(reference("enet"))
    dead = Architecture(TASK, (Node("conv_norm_act", (0,), {"out_channels": 4, "activation": "none"}),
                               Node("classifier", (1,), {"classes": 3})))  # fmt: skip
    assert math.isnan(scores(dead)["nwot"]), "no rectifier, no codes"


def test_ranked() -> None:
    population = [{"a": 1.0, "b": 5.0}, {"a": 2.0, "b": math.nan}, {"a": 3.0, "b": 4.0}, {"a": 3.0}]
    found = ranked(population, ["a", "b"])
    log = math.log
    expected = [log(1 / 4) + log(4 / 4), log(2 / 4) + log(1 / 4), log(4 / 4) + log(3 / 4), log(4 / 4) + log(1 / 4)]
    assert found == pytest.approx(expected)
