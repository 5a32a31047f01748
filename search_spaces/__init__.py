"""What can be built: search spaces, building blocks, published networks; building, counting, drawing and printing them.

Useful alone. What stands here needs no torch; the rest is one import away::

    from search_spaces.catalogue import SPACES, REFERENCES, BLOCKS, configured
    from search_spaces.build import build, fingerprint
    from search_spaces.cost import costs
    from search_spaces.source import source
    from search_spaces.drawing import svg
"""

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

__all__ = [
    "Architecture",
    "ArchitectureError",
    "Choose",
    "Node",
    "Question",
    "Recorder",
    "SpaceError",
    "Task",
    "crossed",
    "estimated_size",
    "every",
    "first",
    "mutated",
    "replay",
    "sample",
]
