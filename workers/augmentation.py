"""Random crops, flips and cut-outs of whole batches on the device, a function of (seed, epoch) alone.

The random numbers of an epoch are drawn at once on the CPU: the same on every device, and no synchronisation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

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


def augmented(images: Tensor, draws: Draws, rows: Tensor, recipe: Recipe) -> Tensor:
    """``images`` [b, c, h, w] cropped, flipped and cut out as drawn for ``rows``; 0 must be the mean pixel."""
    if draws.shift is not None:
        images = cropped(images, draws.shift[rows], padding(recipe, images.shape[2]))
    if draws.flip is not None:
        images = torch.where(draws.flip[rows].view(-1, 1, 1, 1), images.flip(3), images)
    if draws.centre is not None:
        images = cut_out(images, draws.centre[rows], recipe.cutout_size or max(1, images.shape[2] // 2))
    return images


def cropped(images: Tensor, shift: Tensor, pad: int) -> Tensor:
    """out[b, c, y, x] = padded[b, c, y + shift[b, 0], x + shift[b, 1]], zeros around the image."""
    height, width = images.shape[2:]
    padded = F.pad(images, (pad, pad, pad, pad))
    batch = torch.arange(len(images), device=images.device).view(-1, 1, 1)
    rows = torch.arange(height, device=images.device).view(1, -1, 1) + shift[:, 0].view(-1, 1, 1)
    columns = torch.arange(width, device=images.device).view(1, 1, -1) + shift[:, 1].view(-1, 1, 1)
    return padded.permute(0, 2, 3, 1)[batch, rows, columns].permute(0, 3, 1, 2)


def cut_out(images: Tensor, centre: Tensor, side: int) -> Tensor:
    """A square of ``side`` pixels around ``centre`` set to 0, cut off at the border (DeVries and Taylor, 2017)."""
    height, width = images.shape[2:]
    top, left = (centre - side // 2).unbind(1)
    y = torch.arange(height, device=images.device).view(1, -1) - top.view(-1, 1)
    x = torch.arange(width, device=images.device).view(1, -1) - left.view(-1, 1)
    inside = ((y >= 0) & (y < side)).unsqueeze(2) & ((x >= 0) & (x < side)).unsqueeze(1)
    return images.masked_fill(inside.unsqueeze(1), 0.0)
