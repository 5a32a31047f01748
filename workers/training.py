"""Train a network on a data set in memory: one plain loop, one report an epoch.

Nothing random runs on: batch order, augmentation and dropout of an epoch depend on (seed, epoch) alone, so that a run
that is continued from a checkpoint is the run that was never stopped, byte for byte on a CPU. The inner loop never
waits for the device.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.auxiliary import AuxiliaryClassifier
from search_spaces.blocks.drop_path import DropPath
from workers.augmentation import augmented, draw, views
from workers.datasets import Dataset, Split
from workers.recipe import AdamW, AnySchedule, Constant, Cosine, Linear, Plateau, Recipe, RmsProp, Step
from workers.tasks import TASKS, LearningTask, LossOptions, class_weights, comparable

EVALUATION_BATCH = 512
"""Images that are evaluated at a time, at most."""
EVALUATION_PIXELS = EVALUATION_BATCH * 64 * 64
"""Pixels that are evaluated at a time, at most: a training in small batches shall not fail for want of memory here."""


class NonFinite(ArithmeticError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class EpochReport:
    """What one epoch gave. ``epoch`` counts from 1; ``lr`` is the last step's; losses in nats.

    ``scores``: the task's figures by name, of training (``train_accuracy``) and of validation (``val_accuracy``).
    """

    epoch: int
    train_loss: float
    val_loss: float
    lr: float
    seconds: float
    scores: Mapping[str, float]

    def flat(self) -> dict[str, Any]:
        """Every figure by name, JSON-able."""
        figures = asdict(self)
        return {**figures.pop("scores"), **figures}

    @staticmethod
    def from_flat(figures: Mapping[str, Any]) -> EpochReport:
        """The inverse of ``flat``. Raises TypeError where a figure is missing."""
        fields = {name: value for name, value in figures.items() if name in EpochReport.__annotations__}
        return EpochReport(**fields, scores={k: v for k, v in figures.items() if k not in fields})


@dataclass
class Progress:
    """What a run needs beside its weights to go on: optimiser, loss scaler, averaged weights, the reports so far.

    ``average`` is a second network with the moving average of the weights, where the recipe asks for one. ``best`` is
    the state dict after ``best_epoch``, kept only where somebody fills it in.
    """

    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    history: list[EpochReport] = field(default_factory=list)
    best_epoch: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    average: nn.Module | None = None

    def evaluated(self, network: nn.Module) -> nn.Module:
        """The network that is evaluated and kept: the averaged one where there is one."""
        return network if self.average is None else self.average


def prepare(network: nn.Module, recipe: Recipe, device: torch.device) -> Progress:
    """Move ``network`` to the device and set up its optimiser: where a run starts or a checkpoint is loaded."""
    network.to(device)
    if recipe.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks the keyword alone
    scaler = torch.amp.GradScaler("cuda", enabled=recipe.precision == "fp16" and device.type == "cuda")
    average = None if recipe.ema_decay is None else copy.deepcopy(network).requires_grad_(False)
    return Progress(make_optimizer(network, recipe), scaler, average=average)


def initialise(network: nn.Module, kind: str) -> None:
    """Fresh weights of convolutions and linear layers, from torch's generator; "torch" leaves them as they are."""
    if kind == "torch":
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            fan_in, fan_out = fans(module)
            if kind == "xavier":
                bound = math.sqrt(6 / (fan_in + fan_out))
                nn.init.uniform_(module.weight, -bound, bound)
            else:
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_in) if kind == "he" else 0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def fans(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> tuple[int, int]:
    """(numbers that one output reads, outputs that read one input), strides and borders left aside.

    torch's own functions take all channels for those of a group, and swap the two for transposed convolutions.
    """
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    window = math.prod(layer.kernel_size)
    return layer.in_channels // layer.groups * window, layer.out_channels // layer.groups * window


def train(
    network: nn.Module,
    data: Dataset,
    recipe: Recipe,
    epochs: int,
    seed: int,
    device: torch.device,
    resume: Progress | None = None,
) -> Iterator[EpochReport]:
    """Train up to epoch ``epochs`` and yield a report after each. Raises NonFinite.

    ``resume`` is a Progress from ``prepare``, perhaps with a checkpoint loaded; it is up to date at every report.
    Without it the network gets the recipe's fresh weights.
    """
    if resume is None:
        initialise(network, recipe.init)
    progress = resume or prepare(network, recipe, device)
    optimizer, scaler = progress.optimizer, progress.scaler
    images, task = data.train, TASKS[data.task]
    options = loss_options(recipe, data)
    auxiliary = auxiliary_heads(network, recipe.auxiliary_weight)
    n = len(images.labels)
    steps = math.ceil(n / recipe.batch_size)
    for epoch in range(len(progress.history), epochs):
        started = time.perf_counter()
        random = torch.Generator().manual_seed(derived(seed, epoch, "batches"))
        torch.manual_seed(derived(seed, epoch, "network"))  # dropout and the like, on the CPU and on every GPU
        order = torch.randperm(n, generator=random).to(device)
        draws = draw(recipe, n, data.input_shape[1:], random, device)
        shares = mixing(recipe, steps, derived(seed, epoch, "mixup"))
        losses = torch.zeros((), dtype=torch.float64, device=device)
        tally = torch.zeros((), dtype=torch.int64, device=device)
        lr = 0.0
        network.train()
        for step, rows in enumerate(order.tensor_split(steps)):
            position = epoch + (step + 1) / steps
            lr = set_lr(optimizer, recipe, position, epochs, progress.history)
            set_drop_paths(network, recipe, position / epochs)
            x, y = augmented(images.batch(rows), images.labels[rows], draws, rows, recipe, data.task)
            share = shares[step]
            if share < 1:
                x = share * x + (1 - share) * x.flip(0)
            with autocast(recipe, device):
                outputs = network(fitted(x, images.size, recipe.channels_last))
            outputs = outputs.float()
            loss = whole_loss(task, outputs, y, options, auxiliary, recipe)
            if share < 1:
                loss = share * loss + (1 - share) * whole_loss(task, outputs, y.flip(0), options, auxiliary, recipe)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            if recipe.gradient_clip is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_clip)
            scaler.step(optimizer)
            scaler.update()
            update_average(progress, network, recipe, epoch * steps + step)
            losses += loss.detach() * len(rows)
            tally = tally + task.tally(outputs.detach(), y)
        train_loss = losses.item() / n
        if not math.isfinite(train_loss):
            raise NonFinite(f"training loss is {train_loss} in epoch {epoch + 1}")
        scores = {f"train_{name}": value for name, value in task.scores(tally, n).items()}
        val_loss, found = evaluate_split(progress.evaluated(network), data.validation, recipe, device, options)
        if not math.isfinite(val_loss):
            raise NonFinite(f"validation loss is {val_loss} in epoch {epoch + 1}")
        scores |= {f"val_{name}": value for name, value in found.items()}
        report = EpochReport(epoch + 1, train_loss, val_loss, lr, time.perf_counter() - started, scores)
        progress.history.append(report)
        yield report


def loss_options(recipe: Recipe, data: Dataset) -> LossOptions:
    """What the recipe says about the loss; weights of classes are counted in the training part."""
    weights = class_weights(recipe.class_weights, TASKS[data.task].classes_of(data.train.labels), data.classes)
    return LossOptions(recipe.label_smoothing, weights, recipe.box_weight)


def whole_loss(
    task: LearningTask,
    outputs: Tensor,
    targets: Tensor,
    options: LossOptions,
    auxiliary: Sequence[AuxiliaryClassifier],
    recipe: Recipe,
) -> Tensor:
    """The task's loss + auxiliary_weight times the cross entropy of each auxiliary head."""
    loss = task.loss(outputs, targets, options)
    for head in auxiliary:
        assert head.logits is not None, "a head that is on keeps its logits in training"
        logits = head.logits.float()
        labels = task.classes_of(targets)
        extra = F.cross_entropy(logits, labels, options.class_weights, label_smoothing=options.label_smoothing)
        loss = loss + recipe.auxiliary_weight * extra
    return loss


def auxiliary_heads(network: nn.Module, weight: float) -> list[AuxiliaryClassifier]:
    """The auxiliary heads of a network, switched on; switched off, and none, where their weight is 0."""
    heads = [module for module in network.modules() if isinstance(module, AuxiliaryClassifier)]
    for head in heads:
        head.active = weight > 0
    return heads if weight > 0 else []


def mixing(recipe: Recipe, steps: int, seed: int) -> list[float]:
    """λ of each step's mixup, 0.5 to 1 so that the first image of a pair counts most; 1 where there is no mixup."""
    random = Random(seed)
    drawn = [random.betavariate(recipe.mixup, recipe.mixup) if recipe.mixup else 1.0 for _ in range(steps)]
    return [max(share, 1 - share) for share in drawn]


def set_drop_paths(network: nn.Module, recipe: Recipe, done: float) -> None:
    """Set the rate of every drop path after the share ``done`` of the training; without drop_path they keep theirs."""
    if not recipe.drop_path:
        return
    paths = [module for module in network.modules() if isinstance(module, DropPath)]
    for number, path in enumerate(paths, 1):
        rate = recipe.drop_path
        rate *= number / len(paths) if "depth" in recipe.drop_path_over else 1.0
        path.rate = rate * (done if "epochs" in recipe.drop_path_over else 1.0)


@torch.no_grad()
def update_average(progress: Progress, network: nn.Module, recipe: Recipe, step: int) -> None:
    """average = d · average + (1 − d) · weights, with d = min(ema_decay, (1 + step) / (10 + step)).

    Statistics of norms are averaged too, counters are copied.
    """
    if progress.average is None or recipe.ema_decay is None:
        return
    decay = min(recipe.ema_decay, (1 + step) / (10 + step))
    for mean, new in zip(progress.average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(new, 1 - decay)
        else:
            mean.copy_(new)


@torch.no_grad()
def evaluate_split(
    network: nn.Module, split: Split, recipe: Recipe, device: torch.device, options: LossOptions | None = None
) -> tuple[float, dict[str, float]]:
    """(mean loss in nats, the task's scores) over a whole split, in evaluation mode, without augmentation.

    Labels are not smoothed here.
    """
    network.eval()
    task = TASKS[split.task]
    plain = LossOptions(0.0, options.class_weights if options else None, recipe.box_weight)
    losses = torch.zeros((), dtype=torch.float64, device=device)
    tally = torch.zeros((), dtype=torch.int64, device=device)
    n = len(split.labels)
    for rows in batches(split, split.size):
        with autocast(recipe, device):
            outputs = network(fitted(split.batch(rows), split.size, recipe.channels_last))
        targets = split.labels[rows]
        losses += task.loss(outputs.float(), targets, plain).double() * len(targets)
        tally = tally + task.tally(outputs.float(), targets)
    return losses.item() / n, task.scores(tally, n)


def batches(split: Split, *sizes: tuple[int, int] | None) -> Iterator[slice]:
    """Rows of a split that are evaluated together by networks which want these (height, width)."""
    stored = tuple(split.images.shape[2:])
    pixels = max(math.prod(size or stored) for size in (stored, *sizes))
    step = min(EVALUATION_BATCH, max(1, EVALUATION_PIXELS // pixels))
    for start in range(0, len(split.labels), step):
        yield slice(start, start + step)


Wanting = tuple[nn.Module, tuple[int, int] | None]
"""A network with the (height, width) that it wants, None for the stored one."""


@torch.no_grad()
def probabilities(
    networks: Sequence[Wanting],
    split: Split,
    recipe: Recipe,
    device: torch.device,
    view: str = "one",
    rows: slice = slice(None),
) -> Tensor:
    """Mean of what the networks say over the views of some images, classes as probabilities: [n, *output_shape]."""
    batch = split.batch(rows)
    found = []
    for network, size in networks:
        network.eval()
        for image in views(batch, view, recipe):
            with autocast(recipe, device):
                outputs = network(fitted(image, size, recipe.channels_last)).float()
            if split.task == "segmentation" and outputs.shape[2:] != split.labels.shape[1:]:
                outputs = F.interpolate(outputs, size=split.labels.shape[1:], mode="bilinear")
            found.append(comparable(split.task, outputs))
    return torch.stack(found).mean(0)


def mean_scores(
    networks: Sequence[Wanting], split: Split, recipe: Recipe, device: torch.device, view: str = "one"
) -> dict[str, float]:
    """The task's scores of ``probabilities`` for a whole split."""
    task = TASKS[split.task]
    tally = torch.zeros((), dtype=torch.int64, device=device)
    for rows in batches(split, *(size for _, size in networks)):
        tally = tally + task.tally(probabilities(networks, split, recipe, device, view, rows), split.labels[rows])
    return task.scores(tally, len(split.labels))


def fitted(x: Tensor, size: tuple[int, int] | None, channels_last: bool) -> Tensor:
    """Images resized (bilinear) to the size of the network's input where that is another, in the chosen layout."""
    if size is not None and tuple(x.shape[2:]) != size:
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
    return x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """Mixed precision where the recipe asks for it; fp16 on a CPU is fp32."""
    dtype = torch.float16 if recipe.precision == "fp16" else torch.bfloat16
    enabled = recipe.precision == "bf16" or (recipe.precision == "fp16" and device.type == "cuda")
    return torch.autocast(device.type, dtype=dtype, enabled=enabled)


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser; by default biases and scales (parameters of one dimension) are not decayed."""
    chosen = recipe.optimizer
    parameters = [p for p in network.parameters() if p.requires_grad]
    decayed = [p for p in parameters if recipe.decay_norm_and_bias or p.ndim > 1]
    spared = [p for p in parameters if not recipe.decay_norm_and_bias and p.ndim <= 1]
    groups = [
        {"params": some, "weight_decay": decay}
        for some, decay in ((decayed, chosen.weight_decay), (spared, 0.0))
        if some
    ]
    if isinstance(chosen, RmsProp):
        return torch.optim.RMSprop(groups, chosen.lr, chosen.decay, chosen.epsilon, momentum=chosen.momentum)
    if isinstance(chosen, AdamW):
        return torch.optim.AdamW(groups, lr=chosen.lr, betas=(chosen.beta1, chosen.beta2))
    return torch.optim.SGD(groups, lr=chosen.lr, momentum=chosen.momentum, nesterov=chosen.nesterov)


def set_lr(
    optimizer: torch.optim.Optimizer, recipe: Recipe, position: float, epochs: int, history: Sequence[EpochReport]
) -> float:
    """Set and return the learning rate of the step that ends at ``position`` epochs of ``epochs``."""
    warmup = recipe.schedule.warmup_epochs
    if position <= warmup:
        lr = recipe.highest_lr * position / warmup
    else:
        lr = recipe.highest_lr * lr_factor(recipe.schedule, position, epochs, [report.val_loss for report in history])
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr


def lr_factor(schedule: AnySchedule, position: float, epochs: int, val_losses: Sequence[float]) -> float:
    """What the highest lr is multiplied by after the warm-up: a function of the position and the curve so far."""
    done = min((position - schedule.warmup_epochs) / max(epochs - schedule.warmup_epochs, 1e-9), 1.0)
    match schedule:
        case Constant():
            return 1.0
        case Cosine(final_fraction=final):
            return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2
        case Linear(final_fraction=final):
            return final + (1 - final) * (1 - done)
        case Step():
            return schedule.factor ** ((math.ceil(position - 1e-9) - 1) // schedule.every_epochs)
        case Plateau():
            return max(schedule.factor ** plateaus(val_losses, schedule.patience), schedule.final_fraction)


def plateaus(val_losses: Sequence[float], patience: int) -> int:
    """How often the validation loss has not fallen for more than ``patience`` epochs in a row."""
    best, waited, count = math.inf, 0, 0
    for loss in val_losses:
        if loss < best:
            best, waited = loss, 0
        else:
            waited += 1
            if waited > patience:
                waited, count = 0, count + 1
    return count


def derived(seed: int, epoch: int, purpose: str) -> int:
    """A 63-bit seed for one purpose in one epoch."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}/{purpose}".encode()).digest()[:8], "big") >> 1
