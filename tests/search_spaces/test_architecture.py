"""Architectures as data: JSON both ways, canonical form, hostile input."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.architecture import MAX_INTEGER, Architecture, ArchitectureError, Node, Task

TASK = Task((3, 8, 8), 10)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-MAX_INTEGER, MAX_INTEGER),
    st.floats(-1e6, 1e6, allow_nan=False),
    st.text(max_size=10),
)
ARGS = st.dictionaries(st.text(min_size=1, max_size=6), SCALARS | st.lists(SCALARS, max_size=3).map(tuple), max_size=3)


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Any directed acyclic graph of up to eight nodes, sums among them."""
    nodes = []
    for i in range(draw(st.integers(1, 8))):
        inputs = draw(st.lists(st.integers(0, i), min_size=1, max_size=3))
        nodes.append(Node(draw(st.sampled_from(("add", "concat", "conv", "pool"))), tuple(inputs), draw(ARGS)))
    return Architecture(TASK, tuple(nodes))


@given(architectures())
def test_json_round_trip(architecture: Architecture) -> None:
    text = json.dumps(architecture.to_json(), allow_nan=False)
    again = Architecture.from_json(json.loads(text))
    assert again == architecture
    assert again.fingerprint() == architecture.fingerprint()


@given(architectures())
def test_canonical_form_is_a_fixed_point(architecture: Architecture) -> None:
    assert architecture.canonical().canonical() == architecture.canonical()


@given(architectures(), st.randoms(use_true_random=False))
def test_fingerprint_ignores_node_order_sum_order_and_dead_nodes(architecture: Architecture, rng: Any) -> None:
    assert shuffled(architecture, rng).fingerprint() == architecture.fingerprint()


def shuffled(architecture: Architecture, rng: Any) -> Architecture:
    """The same network with a dead node, sums turned round and nodes in another order that still is one."""
    count = len(architecture.nodes)
    waiting = list(range(1, count))
    order: list[int] = []
    while waiting:
        ready = [n for n in waiting if all(i == 0 or i in order for i in architecture.nodes[n - 1].inputs)]
        order.append(rng.choice(ready))
        waiting.remove(order[-1])
    order.append(count)
    numbers = {0: 0, **{old: new + 1 for new, old in enumerate(order, 1)}}
    nodes = [Node("dead", (0,), {"x": 1})]
    for old in order:
        node = architecture.nodes[old - 1]
        inputs = [numbers[i] for i in node.inputs]
        if node.block == "add":
            rng.shuffle(inputs)
        nodes.append(Node(node.block, tuple(inputs), dict(reversed(list(node.args.items())))))
    return Architecture(architecture.task, tuple(nodes))


def test_fingerprint_tells_networks_apart() -> None:
    one = Architecture(TASK, (Node("conv", (0,), {"k": 3}), Node("pool", (0,)), Node("concat", (1, 2))))
    others = [
        Architecture(Task((3, 8, 8), 11), one.nodes),
        Architecture(TASK, (*one.nodes[:2], Node("concat", (2, 1)))),
        Architecture(TASK, (Node("conv", (0,), {"k": 5}), *one.nodes[1:])),
        Architecture(TASK, (Node("conv", (0,), {"k": 3.0}), *one.nodes[1:])),
        Architecture(TASK, (one.nodes[0], Node("pool", (1,)), one.nodes[2])),
    ]
    assert len({a.fingerprint() for a in (one, *others)}) == 6


def valid() -> dict[str, Any]:
    return Architecture(TASK, (Node("conv", (0,), {"k": 3}), Node("classifier", (1,), {"classes": 10}))).to_json()


@pytest.mark.parametrize(
    ("path", "value", "pointer"),
    [
        (("version",), 2, "/version"),
        (("version",), True, "/version"),
        (("task", "classes"), 0, "/task/classes"),
        (("task", "classes"), True, "/task/classes"),
        (("task", "classes"), 10**9, "/task/classes"),
        (("task", "kind"), "magic", "/task/kind"),
        (("task", "input_shape"), [3, 8], "/task/input_shape"),
        (("task", "input_shape"), [3, 8, 8.0], "/task/input_shape"),
        (("task", "input_shape"), "388", "/task/input_shape"),
        (("nodes",), [], "/nodes"),
        (("nodes",), {}, "/nodes"),
        (("nodes", 0, "block"), 7, "/nodes/0/block"),
        (("nodes", 0, "inputs"), [1], "/nodes/0/inputs/0"),
        (("nodes", 0, "inputs"), [-1], "/nodes/0/inputs/0"),
        (("nodes", 1, "inputs"), [True], "/nodes/1/inputs/0"),
        (("nodes", 1, "inputs"), [], "/nodes/1/inputs"),
        (("nodes", 1, "inputs"), [[0]], "/nodes/1/inputs/0"),
        (("nodes", 0, "args", "k"), float("nan"), "/nodes/0/args/k"),
        (("nodes", 0, "args", "k"), 10**400, "/nodes/0/args/k"),
        (("nodes", 0, "args", "k"), {"a": 1}, "/nodes/0/args/k"),
        (("nodes", 0, "args", "k"), "x" * 201, "/nodes/0/args/k"),
        (("nodes", 0, "args", "k"), [[[[[[[1]]]]]]], "/nodes/0/args/k/0/0/0/0/0"),
        (("nodes", 0, "args"), [], "/nodes/0/args"),
        (("nodes", 0, "extra"), 1, "/nodes/0"),
    ],
)
def test_bad_json_is_refused_with_a_pointer(path: tuple[str | int, ...], value: Any, pointer: str) -> None:
    data = copy.deepcopy(valid())
    at: Any = data
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(ArchitectureError) as error:
        Architecture.from_json(data)
    assert error.value.pointer == pointer
    assert "allowed" in str(error.value) or "must be" in str(error.value) or "deeper" in str(error.value)


@pytest.mark.parametrize("data", [None, [], "x", 3, {"version": 1}])
def test_json_that_is_no_architecture(data: Any) -> None:
    with pytest.raises(ArchitectureError):
        Architecture.from_json(data)
