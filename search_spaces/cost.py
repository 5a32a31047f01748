"""What an architecture costs: parameters, multiply-accumulates, activations, memory, depth and receptive field.

One source for all of them, the meta device: no weight is ever allocated. Blocks that were looked into before are
remembered, so the second sample of a space costs a fraction of the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from search_spaces.architecture import Architecture
from search_spaces.build import Walk, live_nodes, walk
from search_spaces.profile import Path

TRAINING_BATCH = 32
BYTES = 4
COPIES_OF_A_PARAMETER = 4
"""Weight, gradient and the two moments of Adam."""


@dataclass(frozen=True)
class Costs:
    """Costs of one network.

    ``params``: trainable parameters. ``macs``: multiply-accumulates of convolutions and linear layers for one image in
    evaluation mode. ``activations``: floats of the image and of all node outputs, one image. ``memory_mb``: estimate
    for a training step with 32 images in float32: 16 bytes a parameter plus 4 bytes for each float that any operator
    writes; megabytes of 10^6 bytes. ``depth``: convolutions and linear layers on the longest path.
    ``receptive_field``: side in pixels of what one position of the last feature map sees, global pooling left aside,
    the larger of height and width; None where there is no path from the image to the output.
    """

    params: int
    macs: int
    activations: int
    memory_mb: float
    depth: int
    receptive_field: int | None


def costs(architecture: Architecture) -> Costs:
    """Costs of an architecture; dead nodes cost nothing.

    Raises ArchitectureError where it cannot be built or is out of bounds.
    """
    return costs_of(walk(architecture))


def costs_of(looked_into: Walk) -> Costs:
    """Costs of an architecture that has been looked into already."""
    architecture = looked_into.architecture
    live = live_nodes(architecture)
    profiles = [looked_into.profiles[number - 1] for number in live]
    params = sum(profile.params for profile in profiles)
    written = sum(profile.written for profile in profiles)
    paths: dict[int, Path | None] = {0: Path()}
    for number, profile in zip(live, profiles, strict=True):
        joined: Path | None = None
        for source, step in zip(architecture.nodes[number - 1].inputs, profile.paths, strict=True):
            before = paths[source]
            if before is not None and step is not None:
                whole = before.through(step.field, step.jump, step.depth)
                joined = whole if joined is None else joined.joined(whole)
        paths[number] = joined
    path = paths[live[-1]]
    return Costs(
        params=params,
        macs=sum(profile.macs for profile in profiles),
        activations=prod(architecture.task.input_shape) + sum(prod(profile.out_shape) for profile in profiles),
        memory_mb=round(BYTES * (COPIES_OF_A_PARAMETER * params + TRAINING_BATCH * written) / 1e6, 3),
        depth=path.depth if path else 0,
        receptive_field=1 + round(max(path.field)) if path else None,
    )
