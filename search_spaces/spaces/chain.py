"""Writing an architecture node by node."""

from __future__ import annotations

from search_spaces.architecture import Architecture, Arg, Node, Task


class Chain:
    """Nodes in the order they are appended; each reads the one before unless it is told otherwise."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    @property
    def last(self) -> int:
        """Number of the node appended last; 0, the image, where there is none."""
        return len(self.nodes)

    def append(self, block: str, /, *inputs: int, **args: Arg) -> int:
        """Append a node that reads ``inputs`` (node numbers; none: the last node). Returns its number."""
        self.nodes.append(Node(block, inputs or (self.last,), args))
        return self.last

    def architecture(self, task: Task) -> Architecture:
        return Architecture(task, tuple(self.nodes))
