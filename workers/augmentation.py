"""Random crops, flips and cut-outs of whole batches on the device, a function of (seed, epoch) alone.

The random numbers of an epoch are drawn at once on the CPU: the same on every device, and no synchronisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.dataset_spec import UNKNOWN
from workers.recipe import Recipe


@dataclass(frozen=True)
class Draws:
    """Random numbers of an epoch, a row an image: ``shift``, ``centre`` [n, 2] (down, right), ``flip`` [n] bool."""

    shift: Tensor | None
    flip: Tensor | None
    centre: Tensor | None


def padding(recipe: Recipe, height: int) -> int:
    """Pixels that are added on each side before a crop."""
    return recipe.crop_padding or max(1, round(height / 8))


def draw(recipe: Recipe, n: int, size: tuple[int, int], random: torch.Generator, device: torch.device) -> Draws:
    """What the augmentation of ``n`` images of ``size`` (height, width) needs for one epoch."""
    parts = recipe.augmentation.split("-")
    shift = flip = centre = None
    if "crop" in parts:
        shift = torch.randint(0, 2 * padding(recipe, size[0]) + 1, (n, 2), generator=random).to(device)
    if "flip" in parts:
        flip = (torch.rand(n, generator=random) < 0.5).to(device)
    if "cutout" in parts:
        rows = torch.randint(0, size[0], (n,), generator=random)
        columns = torch.randint(0, size[1], (n,), generator=random)
        centre = torch.stack([rows, columns], dim=1).to(device)
    return Draws(shift, flip, centre)


def augmented(
    images: Tensor, targets: Tensor, draws: Draws, rows: Tensor, recipe: Recipe, task: str = "classification"
) -> tuple[Tensor, Tensor]:
    """``images`` [b, c, h, w] cropped, flipped and cut out as drawn for ``rows``, and their targets moved with them.

    0 must be the mean pixel. Pixels of a mask that come from beyond the image, or that are cut out, become unknown; a
    box is cut off at the border.
    """
    if draws.shift is not None:
        pad = padding(recipe, images.shape[2])
        targets = moved(targets, draws.shift[rows], pad, images.shape[2:], task)
        images = cropped(images, draws.shift[rows], pad)
    if draws.flip is not None:
        flip = draws.flip[rows].view(-1, 1, 1)
        images = torch.where(flip.unsqueeze(1), images.flip(3), images)
        if task == "segmentation":
            targets = torch.where(flip, targets.flip(2), targets)
        elif task == "localisation":
            centre = torch.where(draws.flip[rows], 1 - targets[:, 1], targets[:, 1])
            targets = torch.cat([targets[:, :1], centre.unsqueeze(1), targets[:, 2:]], dim=1)
    if draws.centre is not None:
        side = recipe.cutout_size or max(1, images.shape[2] // 2)
        images = cut_out(images, draws.centre[rows], side)
        if task == "segmentation":
            targets = cut_out(targets.unsqueeze(1), draws.centre[rows], side, UNKNOWN).squeeze(1)
    return images, targets


def moved(targets: Tensor, shift: Tensor, pad: int, size: Sequence[int], task: str) -> Tensor:
    """Targets of images that were cropped with ``shift`` (down, right) after a padding."""
    if task == "segmentation":
        return cropped(targets.unsqueeze(1), shift, pad, UNKNOWN).squeeze(1)
    if task != "localisation":
        return targets
    by = (shift.float() - pad).flip(1) / torch.tensor([size[1], size[0]], device=shift.device)
    low = (targets[:, 1:3] - targets[:, 3:] / 2 - by).clamp(0, 1)
    high = (targets[:, 1:3] + targets[:, 3:] / 2 - by).clamp(0, 1)
    return torch.cat([targets[:, :1], (low + high) / 2, high - low], dim=1)


def views(images: Tensor, kind: str, recipe: Recipe) -> list[Tensor]:
    """The images themselves ("one"), with their mirror images ("flip"), or ten crops as in training ("ten-crop").

    The ten are the four corners and the middle of the padded image, each with its mirror image (Krizhevsky et al. 2012,
    section 4.1).
    """
    if kind == "one":
        return [images]
    found = [images]
    if kind == "ten-crop":
        pad = padding(recipe, images.shape[2])
        ends = [(down, right) for down in (0, 2 * pad) for right in (0, 2 * pad)]
        shifts = [torch.tensor([end] * len(images), device=images.device) for end in ends]
        found += [cropped(images, shift, pad) for shift in shifts]
    return [*found, *(image.flip(3) for image in found)]


def cropped(images: Tensor, shift: Tensor, pad: int, around: float = 0.0) -> Tensor:
    """out[b, c, y, x] = padded[b, c, y + shift[b, 0], x + shift[b, 1]], zeros (or ``around``) around the image."""
    height, width = images.shape[2:]
    padded = F.pad(images, (pad, pad, pad, pad), value=around)
    batch = torch.arange(len(images), device=images.device).view(-1, 1, 1)
    rows = torch.arange(height, device=images.device).view(1, -1, 1) + shift[:, 0].view(-1, 1, 1)
    columns = torch.arange(width, device=images.device).view(1, 1, -1) + shift[:, 1].view(-1, 1, 1)
    return padded.permute(0, 2, 3, 1)[batch, rows, columns].permute(0, 3, 1, 2)


def cut_out(images: Tensor, centre: Tensor, side: int, fill: float = 0.0) -> Tensor:
    """A square of ``side`` pixels around ``centre`` set to ``fill``, cut off at the border (1708.04552)."""
    height, width = images.shape[2:]
    top, left = (centre - side // 2).unbind(1)
    y = torch.arange(height, device=images.device).view(1, -1) - top.view(-1, 1)
    x = torch.arange(width, device=images.device).view(1, -1) - left.view(-1, 1)
    inside = ((y >= 0) & (y < side)).unsqueeze(2) & ((x >= 0) & (x < side)).unsqueeze(1)
    return images.masked_fill(inside.unsqueeze(1), fill)
