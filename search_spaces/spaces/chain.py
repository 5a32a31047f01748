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


class CellStack:
    """Cells of NASNet stacked on a stem; each reads the two before it and knows their sizes."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._chain = Chain()
        self._sizes = [size]
        self._before = 0
        self._current = 0
        self.filters = 0
        """Filters of the last stack; 0 before the first."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that the next cell will read."""
        return self._sizes[self._current]

    def stem(self, channels: int, stride: int = 1, padding: str = "same") -> None:
        """Append the first convolution, 3x3, without an activation: cells begin with one."""
        self._chain.append("conv_norm_act", out_channels=channels, stride=stride, padding=padding, activation="none")
        edge = 2 if padding == "valid" else 0
        height, width = (-(-(side - edge) // stride) for side in self._sizes[0])
        self._sizes.append((height, width))
        self._before = self._current = 1

    def double_stem(self, channels: int) -> None:
        """Append three 3x3 convolutions with stride 2; the first cell reads the last two of them."""
        self._chain.append("conv_norm_act", out_channels=channels // 2, stride=2)
        self._chain.append("conv_norm_act", out_channels=channels, stride=2, activation="none")
        self._chain.append("conv_norm_act", out_channels=channels, stride=2, order="act-conv-norm")
        for _ in range(3):
            height, width = self._sizes[-1]
            self._sizes.append((-(-height // 2), -(-width // 2)))
        self._before, self._current = 2, 3

    @property
    def even(self) -> bool:
        """Whether both inputs of the next cell have one size."""
        return self._sizes[self._before] == self._sizes[self._current]

    def cell(
        self,
        channels: int,
        nodes: tuple[tuple[Arg, ...], ...],
        reduction: bool = False,
        skipped: bool = False,
        **args: Arg,
    ) -> None:
        """Append a cell of ``channels`` filters; ``skipped``: the next cell does not read this one's current input."""
        number = self._chain.append(
            "nasnet_cell",
            self._before,
            self._current,
            channels=channels,
            nodes=nodes,
            **({"reduction": True} if reduction else {}),
            **({} if self.even or "previous" in args else {"previous": "reduce"}),
            **args,
        )
        height, width = self._sizes[self._current]
        self._sizes.append((-(-height // 2), -(-width // 2)) if reduction else (height, width))
        self._before = self._before if skipped else self._current
        self._current = number

    def architecture(self, task: Task, dropout: float = 0.0, activation: bool = True) -> Architecture:
        """Classifier on top, and a ReLU before it where ``activation`` says so."""
        if activation:
            self._chain.append("norm_act", norm="none")
        self._chain.append("classifier", classes=task.classes, dropout=dropout)
        return self._chain.architecture(task)


def divisible(channels: float, by: int = 8) -> int:
    """``channels`` rounded to a multiple of ``by``, at least ``by`` and never below 90 % of ``channels``."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded
