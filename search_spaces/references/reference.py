"""What a published network is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from search_spaces.architecture import Architecture


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
