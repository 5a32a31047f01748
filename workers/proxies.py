"""Zero-cost scores: what an untrained network tells about how well it may train. More is better, for all of them.

``scores(architecture)`` needs no data: images are Gaussian noise, labels are drawn at random, weights are freshly
initialised; all follow from the seed, so a score belongs to the architecture alone. A score that cannot be computed or
is not finite is NaN. Screens and models use them; none of them is a judge (see ``docs/search-quality.md``).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from search_spaces.architecture import Architecture
from search_spaces.auxiliary import without_auxiliary
from search_spaces.build import Network, Walk, walk
from search_spaces.cost import costs_of
from workers.scores import ZERO_COST, ZeroCostName
from workers.training import initialise

BATCH = 16
"""Images in the batch: enough to tell networks apart, few enough for milliseconds on a CPU."""
JITTER = 1e-5
ZEN_STEP = 1e-2
WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def scores(
    architecture: Architecture, names: Sequence[str] | None = None, *, seed: int = 0, batch: int = BATCH
) -> dict[str, float]:
    """Scores of a classifier by name, those of ``names`` or all in ``SCORES``; leaves torch's generator as it was.

    Raises ValueError for an unknown name or another task, ArchitectureError where the network cannot be built.
    """
    wanted = tuple(SCORES) if names is None else tuple(names)
    for name in wanted:
        if name not in SCORES:
            raise ValueError(f"score {name!r}; allowed: {', '.join(SCORES)}")
    if architecture.task.kind != "classification":
        raise ValueError(f"zero-cost scores of a network for {architecture.task.kind}; allowed: classification")
    looked_into = walk(without_auxiliary(architecture))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = Probe(looked_into, batch)
        drawn = torch.random.get_rng_state()
        found = {}
        for name in wanted:
            torch.random.set_rng_state(drawn)  # a score is the same whichever others are asked for
            found[name] = SCORES[name](probe)
    return {name: value if math.isfinite(value) else math.nan for name, value in found.items()}


class Probe:
    """One network with a batch, and what several scores share, computed once."""

    def __init__(self, looked_into: Walk, batch: int) -> None:
        task = looked_into.architecture.task
        self.costs = costs_of(looked_into)
        self.network = Network(looked_into)
        initialise(self.network, "he")
        statistics_of_the_batch(self.network)
        self.images = torch.randn(batch, *task.input_shape)
        self.labels = torch.randint(task.classes, (batch,))

    @cached_property
    def gradients(self) -> list[tuple[Tensor, Tensor]]:
        """(weight, gradient of the cross entropy) of every convolution and linear layer."""
        weights = [m.weight for m in self.network.modules() if isinstance(m, WEIGHTED)]
        loss = nn.functional.cross_entropy(self.network(self.images), self.labels)
        found = torch.autograd.grad(loss, weights, allow_unused=True)
        return [(w.detach(), g) for w, g in zip(weights, found, strict=True) if g is not None]

    @cached_property
    def codes_and_jacobian(self) -> tuple[Tensor, Tensor]:
        """Sum over the rectifiers of the agreements of each two images' codes ``[batch, batch]``, and the gradient of
        the summed logits with respect to each image ``[batch, values]``."""
        images = self.images.clone().requires_grad_()
        with Codes() as codes:
            logits = self.network(images)
        (jacobian,) = torch.autograd.grad(logits.sum(), images)
        return codes.agreements(len(images)), jacobian.flatten(1)

    @cached_property
    def block_outputs(self) -> list[tuple[Tensor, Tensor]]:
        """(input, output) of every block that makes a feature map from one; the input is a leaf of its own."""
        found: list[tuple[Tensor, Tensor]] = []

        def cut(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(value.detach().requires_grad_() for value in inputs)

        def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if output.dim() == 4 and inputs[0].dim() == 4:
                found.append((inputs[0], output))

        handles = [h for child in self.network.children()
                   for h in (child.register_forward_pre_hook(cut), child.register_forward_hook(note))]  # fmt: skip
        self.network(self.images)
        for handle in handles:
            handle.remove()
        return found

    @cached_property
    def entropies(self) -> list[float]:
        """Entropy of the principal components of each block's features."""
        return [entropy(output) for _, output in self.block_outputs]


class Codes(TorchDispatchMode):
    """Notes for every rectifier, module or function, which of its inputs are positive."""

    RECTIFIERS = frozenset({"relu", "relu_", "hardtanh", "hardtanh_", "silu", "silu_", "hardswish", "hardswish_", "elu",
                            "elu_", "gelu", "leaky_relu", "leaky_relu_"})  # fmt: skip

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self._total: Tensor | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.overloadpacket.__name__ in self.RECTIFIERS:
            code = (args[0].detach() > 0).flatten(1).float()
            agreements = code @ code.T + (1 - code) @ (1 - code).T
            self._total = agreements if self._total is None else self._total + agreements
        return func(*args, **(kwargs or {}))

    def agreements(self, batch: int) -> Tensor:
        """``[batch, batch]``; zeros where the network has no rectifier."""
        return torch.zeros(batch, batch) if self._total is None else self._total


def statistics_of_the_batch(network: nn.Module) -> None:
    """Batch norms take the statistics of the batch; whatever drops at random does not."""
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()


def grad_norm(probe: Probe) -> float:
    """Sum over the layers of the norm of the loss's gradient. Abdelfattah et al. 2021, arXiv 2101.08134."""
    return sum(float(gradient.norm()) for _, gradient in probe.gradients)


def snip(probe: Probe) -> float:
    """Sum of abs(weight * gradient of the loss). Lee et al. 2019, arXiv 1810.02340."""
    return sum(float((weight * gradient).abs().sum()) for weight, gradient in probe.gradients)


def synflow(probe: Probe) -> float:
    """log of the sum of abs(weight) * gradient of the summed outputs, for an image of ones, abs(weights), norms left
    out. Tanaka et al. 2020, arXiv 2006.05467."""
    network = copy.deepcopy(probe.network).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()  # each norm is the identity
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    weights = [m.weight for m in network.modules() if isinstance(m, WEIGHTED)]
    total = network(torch.ones_like(probe.images[:1], dtype=torch.float64)).sum()
    found = torch.autograd.grad(total, weights, allow_unused=True)
    score = sum(float((w * g).detach().abs().sum()) for w, g in zip(weights, found, strict=True) if g is not None)
    return math.log(score) if score > 0 else math.nan


def jacov(probe: Probe) -> float:
    """-sum of log(v + k) + 1 / (v + k) over the eigenvalues v of the correlation of the images' Jacobians. Mellor et
    al. 2020, arXiv 2006.04647v1."""
    correlation = torch.corrcoef(probe.codes_and_jacobian[1].double())
    if not correlation.isfinite().all():  # an image that does not reach the output
        return math.nan
    values = torch.linalg.eigvalsh(correlation)
    return -float((torch.log(values + JITTER) + 1 / (values + JITTER)).sum())


def nwot(probe: Probe) -> float:
    """log of the determinant of how often the rectifiers' codes of two images agree. Mellor et al. 2021, arXiv
    2006.04647."""
    return float(torch.linalg.slogdet(probe.codes_and_jacobian[0].double()).logabsdet)


def zen(probe: Probe) -> float:
    """log of the mean change of the last features under a small change of a Gaussian image, weights N(0, 1), and for
    each batch norm the log of the deviation that it takes out. Lin et al. 2021, arXiv 2102.01063."""
    network = copy.deepcopy(probe.network)
    for module in network.modules():
        if isinstance(module, WEIGHTED):
            nn.init.normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    deviations: list[float] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        deviations.append(float(inputs[0].var(dim=(0, 2, 3), unbiased=False).mean().sqrt()))

    features: list[Tensor] = []
    head = list(network.children())[-1]
    head.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    with torch.no_grad():
        network(probe.images + ZEN_STEP * torch.randn_like(probe.images))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_pre_hook(note)
        network(probe.images)
    change = float((features[1] - features[0]).abs().mean())
    if change <= 0 or min(deviations, default=1.0) <= 0:
        return math.nan
    return math.log(change) + sum(map(math.log, deviations))


def entropy(features: Tensor) -> float:
    """Entropy of the shares of the principal components' variances; ``features`` ``[n, channels, h, w]``."""
    rows = features.detach().transpose(0, 1).flatten(1)
    values = torch.linalg.eigvalsh(torch.cov(rows, correction=0).reshape(len(rows), len(rows))).clamp_min(0)
    shares = values / values.sum()
    return float(-(shares * torch.log(shares + 1e-8)).sum())


def az_expressivity(probe: Probe) -> float:
    """Sum over the blocks of the entropy of their features' principal components. Lee and Ham 2024, arXiv
    2403.19232."""
    return sum(probe.entropies)


def az_progressivity(probe: Probe) -> float:
    """Smallest growth of that entropy from one block to the next. Lee and Ham 2024."""
    return min((b - a for a, b in pairwise(probe.entropies)), default=math.nan)


def az_trainability(probe: Probe) -> float:
    """Mean over the blocks of 2 - s - 1 / s, with s the largest singular value of the correlation of random signs as
    gradient of a block's output with what arrives at its input: 0 where gradients keep their size. Lee and Ham 2024."""
    found = []
    for source, output in probe.block_outputs[1:]:
        if not output.requires_grad:
            continue
        signs = torch.randint(2, output.shape).float() * 2 - 1
        (arrived,) = torch.autograd.grad(output, source, signs, allow_unused=True)
        if arrived is None or torch.equal(arrived, signs):  # a join or an identity says nothing
            continue
        if arrived.shape[2:] != signs.shape[2:]:
            down = arrived.shape[2] // signs.shape[2]
            if down < 2 or any(a != down * b for a, b in zip(arrived.shape[2:], signs.shape[2:], strict=True)):
                continue
            arrived = nn.functional.pixel_unshuffle(arrived, down)
        correlation = torch.einsum("bchw,bdhw->cd", arrived, signs) / (signs.numel() / signs.shape[1])
        largest = float(torch.linalg.matrix_norm(correlation, 2))
        found.append(2 - largest - 1 / (largest + 1e-6))
    return sum(found) / len(found) if found else math.nan


_SCORES: dict[ZeroCostName, Callable[[Probe], float]] = {
    "params": lambda probe: float(probe.costs.params),
    "macs": lambda probe: float(probe.costs.macs),
    "grad_norm": grad_norm,
    "snip": snip,
    "synflow": synflow,
    "jacov": jacov,
    "nwot": nwot,
    "zen": zen,
    "az_expressivity": az_expressivity,
    "az_progressivity": az_progressivity,
    "az_trainability": az_trainability,
}
SCORES: dict[str, Callable[[Probe], float]] = {name: _SCORES[name] for name in ZERO_COST}
"""Score by name. AZ-NAS is the sum of the log ranks of its three and of macs (see ``workers.scores.ranked``)."""
