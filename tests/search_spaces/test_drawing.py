"""Drawings: DOT and SVG, the same bytes each time."""

from __future__ import annotations

import random
import re
from xml.etree import ElementTree

import pytest

from search_spaces.architecture import Architecture, Node, Task
from search_spaces.build import live_nodes, node_names
from search_spaces.catalogue import REFERENCES, SPACES
from search_spaces.choose import sample
from search_spaces.drawing import dot, svg


@pytest.mark.parametrize("name", sorted(SPACES))
def test_svg_is_well_formed_and_names_every_node(name: str) -> None:
    architecture = SPACES[name].bound(Task((1, 8, 8), 10))(sample(random.Random(1)))
    text = svg(architecture)
    root = ElementTree.fromstring(text)
    ids = {element.get("id") for element in root.iter()}
    assert {node_names(architecture)[number - 1] for number in live_nodes(architecture)} <= ids
    assert "script" not in text.lower()
    assert svg(architecture) == text


def test_dot_carries_shapes_and_channels() -> None:
    text = dot(REFERENCES["resnet18"].build())
    assert '" 3×224×224"' in text
    assert '" 512×7×7"' in text
    assert "512 channels · stride 2" in text
    assert "stage 4 · 7×7" in text


def test_edges_are_those_of_the_architecture() -> None:
    nodes = (
        Node("pool", (0,)),
        Node("pool", (0,), {"kind": "average"}),
        Node("add", (1, 2)),
        Node("classifier", (3,), {"classes": 2}),
    )
    text = dot(Architecture(Task((1, 8, 8), 2), nodes))
    assert [line.split("[")[0].strip() for line in text.splitlines() if re.match(r"  n\d+ -> ", line)] == [
        "n0 -> n1",
        "n0 -> n2",
        "n1 -> n3",
        "n2 -> n3",
        "n3 -> n4",
        "n4 -> out",
    ]


def test_sixty_nodes_are_drawn_in_a_moment() -> None:
    assert svg(REFERENCES["resnet152"].build()).count('class="node"') == 55
