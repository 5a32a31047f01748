"""The cells of the tabular benchmarks, and the block between the stacks of NAS-Bench-201.

Sources: Ying et al. 2019 (1902.09635) with the authors' code for channels and projections; Dong and
Yang 2020 (2001.00326).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.convolution import ConvNormAct

VertexOperation = Literal["conv1x1", "conv3x3", "maxpool3x3"]
EdgeOperation = Literal["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]


def vertex_channels(
    in_channels: int, out_channels: int, edges: tuple[tuple[int, int], ...], vertices: int
) -> list[int]:
    """Channels of every vertex: those that reach the output share its channels, the first of them
    take the remainder; any other has the most of its readers. Vertex 0 is the input."""
    channels = [0] * vertices
    channels[0], channels[-1] = in_channels, out_channels
    last = [v for v in range(1, vertices - 1) if (v, vertices - 1) in edges]
    for i, vertex in enumerate(last):
        channels[vertex] = out_channels // len(last) + (1 if i < out_channels % len(last) else 0)
    for vertex in range(vertices - 2, 0, -1):
        if vertex not in last:
            channels[vertex] = max(channels[b] for a, b in edges if a == vertex)
    return channels


class Nasbench101Cell(nn.Module):
    """y = [vertices that reach the output] + conv1x1(x) where the input does; a small graph.

    [batch, in_channels, h, w] -> [batch, out_channels, h, w]. ``operations`` belong to vertices
    1, 2, ...; vertex 0 is the input, the last one the output. An operation reads the sum of what
    its ``edges`` (from, to) bring: the input through a 1x1 projection, others cut to its channels.
    Every convolution is conv -> batch norm -> ReLU.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        operations: tuple[VertexOperation, ...],
        edges: tuple[tuple[int, int], ...],
    ) -> None:
        super().__init__()
        vertices = len(operations) + 2
        read = {a for a, _ in edges}
        reached = {b for _, b in edges}
        if not all(0 <= a < b < vertices for a, b in edges) or len(set(edges)) != len(edges):
            raise ValueError(f"edges {edges}; allowed: each once, 0 <= from < to < {vertices}")
        if not all(v in read and v in reached for v in range(1, vertices - 1)):
            raise ValueError(f"edges {edges} leave a vertex of {vertices} unread or without input")
        if vertices - 1 not in reached:
            raise ValueError(f"edges {edges} do not reach the output, vertex {vertices - 1}")
        self.out_channels = out_channels
        self.channels = vertex_channels(in_channels, out_channels, edges, vertices)
        self.sources = [tuple(a for a, b in edges if b == v) for v in range(vertices)]
        self.projections = nn.ModuleDict()
        self.operations = nn.ModuleList()
        for vertex, name in enumerate(operations, 1):
            width = self.channels[vertex]
            if 0 in self.sources[vertex]:
                self.projections[str(vertex)] = ConvNormAct(in_channels, width, 1)
            if name == "maxpool3x3":
                self.operations.append(nn.MaxPool2d(3, stride=1, padding=1))
            else:
                self.operations.append(ConvNormAct(width, width, int(name[-1])))
        self.has_shortcut = 0 in self.sources[-1]
        self.shortcut = (
            ConvNormAct(in_channels, out_channels, 1) if self.has_shortcut else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for vertex, operation in enumerate(self.operations, 1):
            width = self.channels[vertex]
            terms = [
                self.projections[str(vertex)](x) if source == 0 else values[source][:, :width]
                for source in self.sources[vertex]
            ]
            values.append(operation(sum(terms[1:], terms[0])))
        parts = [values[source] for source in self.sources[-1] if source > 0]
        if not parts:
            return self.shortcut(x)
        y = torch.cat(parts, dim=1)
        return y + self.shortcut(x) if self.has_shortcut else y


class ActConv(nn.Module):
    """y = norm(conv(relu(x))), the convolution of NAS-Bench-201."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(F.relu(x)))


class Zero(nn.Module):
    """y = 0 * x: an edge that carries nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.0


class Nasbench201Cell(nn.Module):
    """y = node 3 of 4, node j = sum over i < j of operation_ij(node i), node 0 = x.

    [batch, c, h, w] -> [batch, c, h, w]. ``operations`` stand in the order 0->1, 0->2, 1->2,
    0->3, 1->3, 2->3. Convolutions are ReLU -> conv -> batch norm; means leave padding out.
    """

    def __init__(
        self,
        in_channels: int,
        operations: tuple[
            EdgeOperation, EdgeOperation, EdgeOperation, EdgeOperation, EdgeOperation, EdgeOperation
        ],
    ) -> None:
        super().__init__()
        self.out_channels = in_channels
        self.edges = nn.ModuleList()
        for name in operations:
            if name == "none":
                self.edges.append(Zero())
            elif name == "skip_connect":
                self.edges.append(nn.Identity())
            elif name == "avg_pool_3x3":
                self.edges.append(nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False))
            else:
                self.edges.append(ActConv(in_channels, in_channels, int(name[-1])))

    def forward(self, x: Tensor) -> Tensor:
        edges = self.edges
        first = edges[0](x)
        second = edges[1](x) + edges[2](first)
        return edges[3](x) + edges[4](first) + edges[5](second)


class Nasbench201Reduction(nn.Module):
    """y = conv1x1(mean over 2x2(x)) + conv3x3(conv3x3(x)): half the size between two stacks.

    [batch, in_channels, h, w] -> [batch, out_channels, ceil(h / 2), ceil(w / 2)]. The 3x3
    convolutions are ReLU -> conv -> batch norm, the first with stride 2; the 1x1 is bare.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.conv1 = ActConv(in_channels, out_channels, 3, stride=2)
        self.conv2 = ActConv(out_channels, out_channels, 3)
        self.pool = nn.AvgPool2d(2, stride=2, ceil_mode=True, count_include_pad=False)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(self.pool(x)) + self.conv2(self.conv1(x))
