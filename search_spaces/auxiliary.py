"""Auxiliary heads of an architecture: put in for training, left out of what is counted and taken home."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from search_spaces.architecture import Architecture, ArchitectureError, Node

BLOCK = "auxiliary_classifier"


def without_auxiliary(architecture: Architecture) -> Architecture:
    """The same network without its auxiliary heads; in evaluation both give the same outputs."""
    if all(node.block != BLOCK for node in architecture.nodes):
        return architecture
    numbers = {0: 0}
    nodes: list[Node] = []
    for number, node in enumerate(architecture.nodes, 1):
        inputs = tuple(numbers[i] for i in node.inputs)
        if node.block == BLOCK:
            numbers[number] = inputs[0]
        else:
            nodes.append(replace(node, inputs=inputs))
            numbers[number] = len(nodes)
    return replace(architecture, nodes=tuple(nodes))


def with_heads_in_body(architecture: Architecture, block: str, shares: Collection[float], form: str) -> Architecture:
    """Auxiliary heads behind the nodes of ``block`` that end these shares of all of them: 1/3, 2/3."""
    body = [number for number, node in enumerate(architecture.nodes, 1) if node.block == block]
    return with_auxiliary(architecture, {body[max(0, round(share * len(body)) - 1)] for share in shares}, form)


def with_auxiliary(architecture: Architecture, after: Collection[int], form: str = "googlenet") -> Architecture:
    """The same network with an auxiliary head behind each of the nodes numbered ``after`` (1 is the first node).

    Whatever reads such a node reads the head, which passes it on. Raises ArchitectureError for a number that is none of
    a node before the last.
    """
    numbers = {0: 0}
    nodes: list[Node] = []
    for number in after:
        if not 1 <= number < len(architecture.nodes):
            raise ArchitectureError(f"no head can follow node {number}; allowed: 1 to {len(architecture.nodes) - 1}")
    for number, node in enumerate(architecture.nodes, 1):
        nodes.append(replace(node, inputs=tuple(numbers[i] for i in node.inputs)))
        if number in after:
            nodes.append(Node(BLOCK, (len(nodes),), {"classes": architecture.task.classes, "form": form}))
        numbers[number] = len(nodes)
    return replace(architecture, nodes=tuple(nodes))
