"""What can be built: search spaces, building blocks, published networks; building, counting, drawing and printing them.

Useful alone::

    from search_spaces import build, costs, reference

    network = build(reference("resnet-50"))  # an nn.Module with fresh weights

torch is imported when one of these three is first used. More is one import away::

    from search_spaces.catalogue import SPACES, REFERENCES, BLOCKS, configured
    from search_spaces.source import source
    from search_spaces.drawing import svg
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from search_spaces.architecture import Architecture, ArchitectureError, Node, Task
from search_spaces.choose import (
    Choose,
    Question,
    Recorder,
    SpaceError,
    crossed,
    estimated_size,
    every,
    first,
    mutated,
    replay,
    sample,
)

if TYPE_CHECKING:
    from search_spaces.build import build
    from search_spaces.cost import costs
    from search_spaces.fitting import reference

_LATER = {"build": "build", "costs": "cost", "reference": "fitting"}
"""What needs torch, and the module it is in. The module ``build`` may itself be called: both go by one name."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)


__all__ = [
    "Architecture",
    "ArchitectureError",
    "Choose",
    "Node",
    "Question",
    "Recorder",
    "SpaceError",
    "Task",
    "build",
    "costs",
    "crossed",
    "estimated_size",
    "every",
    "first",
    "mutated",
    "reference",
    "replay",
    "sample",
]
