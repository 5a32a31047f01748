"""How many cells NAS-Bench-101 has, counted without building one."""

from __future__ import annotations

from itertools import combinations, permutations
from math import factorial


def unique_cells(vertices: int, most_edges: int = 9, operations: int = 3) -> int:
    """Cells of so many vertices, input and output among them, that are different up to the names of the others.

    By Burnside's lemma: the mean, over all ways to rename the inner vertices, of the number of cells that stay the
    same. An inner vertex must be read and must read something; the output may read the input.
    """
    inner = vertices - 2
    if inner == 0:
        return 1
    pairs = list(combinations(range(inner), 2))
    graphs = {
        frozenset((order[a], order[b]) for i, (a, b) in enumerate(pairs) if chosen >> i & 1)
        for chosen in range(2 ** len(pairs))
        for order in permutations(range(inner))
    }
    alike: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for renamed in permutations(range(inner)):
        alike.setdefault(tuple(sorted(map(len, cycles(renamed)))), []).append(renamed)
    total = 0
    for (renamed, *_), count in ((group, len(group)) for group in alike.values()):
        loops = cycles(renamed)
        same = (g for g in graphs if frozenset((renamed[a], renamed[b]) for a, b in g) == g)
        total += count * operations ** len(loops) * sum(_with_ends(graph, loops, most_edges) for graph in same)
    return total // factorial(inner)


def _with_ends(graph: frozenset[tuple[int, int]], loops: list[list[int]], most_edges: int) -> int:
    """In how many ways a graph of inner vertices is joined to input and output with at most so many edges."""
    edges, free = len(graph), [1]  # from the input to the output: may be there or not
    for ends in ({b for _, b in graph}, {a for a, _ in graph}):
        for loop in loops:
            if loop[0] in ends:
                free.append(len(loop))
            else:
                edges += len(loop)  # nothing inside reads it, or is read by it: the edge must be there
    ways = [int(number == edges) for number in range(most_edges + 1)]
    for size in free:
        ways = [n + (ways[number - size] if number >= size else 0) for number, n in enumerate(ways)]
    return sum(ways)


def cycles(renamed: tuple[int, ...]) -> list[list[int]]:
    """Cycles of a permutation."""
    left, found = set(range(len(renamed))), []
    while left:
        loop = [min(left)]
        while renamed[loop[-1]] != loop[0]:
            loop.append(renamed[loop[-1]])
        left -= set(loop)
        found.append(loop)
    return found
