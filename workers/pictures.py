"""A picture of what a network says about a few images: for people, beside the scores."""

from __future__ import annotations

import colorsys
import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor, nn

from workers.dataset_spec import UNKNOWN
from workers.datasets import Split
from workers.recipe import Recipe
from workers.tasks import as_large_as, predictions
from workers.training import fitted

SHOWN = 8
"""Images in a picture."""
TILE = 128
"""Least height of an image in the picture, in pixels."""
TRUE, FOUND = (5, 150, 105), (220, 38, 38)
"""Colours of true boxes and of those that were found."""
GAP = 4


@torch.no_grad()
def picture(network: nn.Module, split: Split, recipe: Recipe, label_names: tuple[str, ...]) -> bytes:
    """PNG of the first images of a split in columns: the image, what is true, what the network says.

    Segmentation: a colour a class, black for class 0, grey where nobody knows. Localisation: boxes with their classes.
    """
    network.eval()
    rows = slice(0, SHOWN)
    outputs = network(fitted(split.batch(rows), split.size, recipe.channels_last)).float().cpu()
    targets = split.labels[rows].cpu()
    images = [_grey_or_colour(image) for image in split.images[rows].cpu()]
    if split.task == "segmentation":
        said = predictions("segmentation", as_large_as(outputs, targets))
        colours = palette(len(label_names))
        columns = [
            (image, colours[true.numpy()], colours[found.numpy()])
            for image, true, found in zip(images, targets, said, strict=True)
        ]
        return _png([[_scaled(part) for part in column] for column in columns])
    said = predictions("localisation", outputs)
    return _png(
        [
            [_boxed(image, true, TRUE, label_names), _boxed(image, found, FOUND, label_names)]
            for image, true, found in zip(images, targets, said, strict=True)
        ]
    )


def palette(classes: int) -> NDArray[np.uint8]:
    """[256, 3] colours of class labels: black for 0, hues around the circle for the others, grey for unknown."""
    table = np.zeros((UNKNOWN + 1, 3), np.uint8)
    for label in range(1, min(classes, UNKNOWN)):
        hue = (label - 1) / max(classes - 1, 1)
        table[label] = [round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.75, 1.0 - 0.25 * (label % 2))]
    table[UNKNOWN] = 128
    return table


def _grey_or_colour(image: Tensor) -> NDArray[np.uint8]:
    """[height, width, 3]; numbers that are no bytes are stretched from their least to their most."""
    array = image.numpy()
    if array.dtype != np.uint8:
        low, high = float(array.min()), float(array.max())
        array = np.round(255 * (array - low) / (high - low or 1.0)).astype(np.uint8)
    array = array[:3] if len(array) >= 3 else array[:1].repeat(3, axis=0)
    return np.ascontiguousarray(array.transpose(1, 2, 0))


def _scaled(pixels: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(pixels)
    factor = max(1, -(-TILE // image.height))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _boxed(
    pixels: NDArray[np.uint8], said: Tensor, colour: tuple[int, int, int], label_names: tuple[str, ...]
) -> Image.Image:
    """The image with one box: class, centre x, centre y, width, height."""
    image = _scaled(pixels)
    draw = ImageDraw.Draw(image)
    label, x, y, width, height = said.tolist()
    left, right = sorted((image.width * (x - width / 2), image.width * (x + width / 2)))
    top, bottom = sorted((image.height * (y - height / 2), image.height * (y + height / 2)))
    draw.rectangle((left, top, right, bottom), outline=colour, width=2)
    draw.text((max(left, 0) + 4, max(top, 0) + 2), label_names[int(label)], fill=colour)
    return image


def _png(columns: list[list[Image.Image]]) -> bytes:
    """Images side by side, each column from top to bottom."""
    width, height = columns[0][0].size
    sheet = Image.new(
        "RGB", (len(columns) * (width + GAP) - GAP, len(columns[0]) * (height + GAP) - GAP), (255, 255, 255)
    )
    for i, column in enumerate(columns):
        for j, image in enumerate(column):
            sheet.paste(image, (i * (width + GAP), j * (height + GAP)))
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()
