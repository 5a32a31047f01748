"""Train a network on a data set in memory: one plain loop, one report an epoch.

Nothing random runs on: batch order, augmentation and dropout of an epoch depend on (seed, epoch) alone, so that a run
that is continued from a checkpoint is the run that was never stopped, byte for byte on a CPU. The inner loop never
waits for the device.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workers.augmentation import augmented, draw
from workers.datasets import Dataset, Split
from workers.recipe import AdamW, AnySchedule, Constant, Cosine, Linear, Plateau, Recipe, Step

EVALUATION_BATCH = 512


class NonFinite(ArithmeticError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class EpochReport:
    """What one epoch gave. ``epoch`` counts from 1; accuracies are 0 to 1; ``lr`` the last step's; losses in nats."""

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    lr: float
    seconds: float


@dataclass
class Progress:
    """What a run needs beside its weights to go on: optimiser, loss scaler, the reports so far.

    ``best`` is the state dict after ``best_epoch``, kept only where somebody fills it in.
    """

    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    history: list[EpochReport] = field(default_factory=list)
    best_epoch: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)


def prepare(network: nn.Module, recipe: Recipe, device: torch.device) -> Progress:
    """Move ``network`` to the device and set up its optimiser: where a run starts or a checkpoint is loaded."""
    network.to(device)
    if recipe.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks the keyword alone
    scaler = torch.amp.GradScaler("cuda", enabled=recipe.precision == "fp16" and device.type == "cuda")
    return Progress(make_optimizer(network, recipe), scaler)


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
    """
    progress = resume or prepare(network, recipe, device)
    optimizer, scaler = progress.optimizer, progress.scaler
    images = data.train
    n = len(images.labels)
    steps = math.ceil(n / recipe.batch_size)
    for epoch in range(len(progress.history), epochs):
        started = time.perf_counter()
        random = torch.Generator().manual_seed(derived(seed, epoch, "batches"))
        torch.manual_seed(derived(seed, epoch, "network"))  # dropout and the like, on the CPU and on every GPU
        order = torch.randperm(n, generator=random).to(device)
        draws = draw(recipe, n, data.input_shape[1:], random, device)
        losses = torch.zeros((), dtype=torch.float64, device=device)
        correct = torch.zeros((), dtype=torch.int64, device=device)
        lr = 0.0
        network.train()
        for step, rows in enumerate(order.tensor_split(steps)):
            lr = set_lr(optimizer, recipe, epoch + (step + 1) / steps, epochs, progress.history)
            x = augmented(images.batch(rows), draws, rows, recipe)  # [b, c, h, w]
            y = images.labels[rows]  # [b]
            with autocast(recipe, device):
                logits = network(fitted(x, images.size, recipe.channels_last))  # [b, classes]
            loss = F.cross_entropy(logits.float(), y, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            if recipe.gradient_clip is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_clip)
            scaler.step(optimizer)
            scaler.update()
            losses += loss.detach() * len(rows)
            correct += (logits.detach().argmax(1) == y).sum()
        train_loss, train_accuracy = losses.item() / n, correct.item() / n
        if not math.isfinite(train_loss):
            raise NonFinite(f"training loss is {train_loss} in epoch {epoch + 1}")
        val_loss, val_accuracy = evaluate_split(network, data.validation, recipe, device)
        if not math.isfinite(val_loss):
            raise NonFinite(f"validation loss is {val_loss} in epoch {epoch + 1}")
        seconds = time.perf_counter() - started
        report = EpochReport(epoch + 1, train_loss, train_accuracy, val_loss, val_accuracy, lr, seconds)
        progress.history.append(report)
        yield report


@torch.no_grad()
def evaluate_split(network: nn.Module, split: Split, recipe: Recipe, device: torch.device) -> tuple[float, float]:
    """(mean cross entropy in nats, accuracy) over a whole split, in evaluation mode, without augmentation."""
    network.eval()
    losses = torch.zeros((), dtype=torch.float64, device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    n = len(split.labels)
    for start in range(0, n, EVALUATION_BATCH):
        rows = slice(start, start + EVALUATION_BATCH)
        with autocast(recipe, device):
            logits = network(fitted(split.batch(rows), split.size, recipe.channels_last))
        losses += F.cross_entropy(logits.float(), split.labels[rows], reduction="sum").double()
        correct += (logits.argmax(1) == split.labels[rows]).sum()
    return losses.item() / n, correct.item() / n


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
    if isinstance(chosen, AdamW):
        return torch.optim.AdamW(groups, lr=chosen.lr, betas=(chosen.beta1, chosen.beta2))
    return torch.optim.SGD(groups, lr=chosen.lr, momentum=chosen.momentum, nesterov=chosen.nesterov)


def set_lr(
    optimizer: torch.optim.Optimizer, recipe: Recipe, position: float, epochs: int, history: Sequence[EpochReport]
) -> float:
    """Set and return the learning rate of the step that ends at ``position`` epochs of ``epochs``."""
    warmup = recipe.schedule.warmup_epochs
    if position <= warmup:
        lr = recipe.optimizer.lr * position / warmup
    else:
        lr = recipe.optimizer.lr * lr_factor(recipe.schedule, position, epochs, [report.val_loss for report in history])
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
