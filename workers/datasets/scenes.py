"""Scenes: real digits or garments at random places and sizes on a noisy canvas, with a label a pixel or a box.

A function of its spec and of the source images alone; numpy's RandomState keeps its stream for good.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.dataset_spec import DataError, Part, SceneSpec
from workers.datasets.arrays import Arrays

POOLS = 20
"""Pools of source images; a scene takes its objects from one of them, and a split never parts a pool."""
INK = 0.4
"""Share of the brightest pixel from which a pixel belongs to the object."""


def draw(spec: SceneSpec, objects: Arrays, part: Part) -> Arrays:
    """Scenes of one part, of its own source images ``objects`` (grey, one label each). Raises DataError."""
    if objects.images.shape[1] != 1 or objects.task != "classification":
        raise DataError(f"scenes of {spec.objects}: allowed: grey images with one label each")
    random = np.random.RandomState([spec.seed, 0 if part == "train" else 1])
    n = spec.train if part == "train" else spec.test
    pools = np.array_split(random.permutation(len(objects.images)), POOLS)
    groups = np.arange(n) % POOLS
    images = random.randint(0, spec.noise + 1, (n, 1, spec.size, spec.size)).astype(np.uint8)
    masks = np.zeros((n, spec.size, spec.size), np.uint8)
    boxes = np.zeros((n, 5), np.float32)
    for i in range(n):
        count = 1 if spec.task == "localisation" else random.randint(1, spec.most + 1)
        for source in random.choice(pools[groups[i]], count):
            label = int(objects.labels[source])
            boxes[i] = label, *_put(images[i, 0], masks[i], objects.images[source, 0], label + 1, spec, random)
    if spec.task == "localisation":
        return Arrays(images, boxes, objects.label_names, "localisation", groups)
    names = ("background", *objects.label_names)
    return Arrays(images, masks, names, "segmentation", groups)


def _put(
    canvas: NDArray[np.uint8], mask: NDArray[np.uint8], tile: NDArray[Any], label: int, spec: SceneSpec, random: Any
) -> tuple[float, float, float, float]:
    """Put one object on the canvas over what is there; its box: centre x, centre y, width, height as shares."""
    side = max(2, round(spec.size * random.uniform(spec.smallest, spec.largest)))
    top, left = random.randint(0, spec.size - side + 1, 2)
    pixels = enlarged(tile, side)
    pixels = pixels * (255.0 / max(float(pixels.max()), 1.0))
    ink = pixels >= INK * 255
    window = canvas[top : top + side, left : left + side]
    window[ink] = np.round(pixels[ink]).astype(np.uint8)
    mask[top : top + side, left : left + side][ink] = label
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    low_y, high_y, low_x, high_x = top + rows[0], top + rows[-1] + 1, left + columns[0], left + columns[-1] + 1
    edges = (low_x + high_x) / 2, (low_y + high_y) / 2, high_x - low_x, high_y - low_y
    return tuple(float(edge) / spec.size for edge in edges)  # type: ignore[return-value]  # four of them


def enlarged(tile: NDArray[Any], side: int) -> NDArray[np.float64]:
    """[h, w] -> [side, side], bilinear between pixel centres."""
    out = tile.astype(np.float64)
    for axis in (0, 1):
        length = out.shape[axis]
        at = np.clip((np.arange(side) + 0.5) * length / side - 0.5, 0, length - 1)
        low = np.floor(at).astype(int)
        share = (at - low).reshape([-1, 1] if axis == 0 else [1, -1])
        after = np.minimum(low + 1, length - 1)
        out = np.take(out, low, axis) * (1 - share) + np.take(out, after, axis) * share
    return out
