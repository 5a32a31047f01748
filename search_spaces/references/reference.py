"""What a published network is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from search_spaces.architecture import Architecture, Task

IMAGENET = Task((3, 224, 224), 1000)
CIFAR10 = Task((3, 32, 32), 10)

Row = tuple[str, str, str, int | None, int | None, Callable[[], Architecture]]
"""Name, summary, source, published parameters and multiply-accumulates, function that returns the architecture."""


@dataclass(frozen=True)
class Reference:
    """A published network: ``build()`` is its architecture, ``params`` and ``macs`` are counts, None if unpublished."""

    name: str
    family: str
    summary: str
    source: str
    params: int | None
    macs: int | None
    build: Callable[[], Architecture]


def references(family: str, rows: Iterable[Row]) -> dict[str, Reference]:
    """The references of a family by name, in the order of its table."""
    return {row[0]: Reference(row[0], family, *row[1:]) for row in rows}
