"""Every option of every block does something: an option that changes nothing would be searched in vain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import product
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
import torch

from search_spaces.build import walk
from search_spaces.catalogue import BLOCKS
from search_spaces.profile import Shape, make
from search_spaces.signature import arguments, input_count
from tests.search_spaces.example_networks import around

PLACES: tuple[dict[str, Any], ...] = (
    {}, {"stride": 2}, {"stride": 2, "padding": "valid"}, {"out_channels": 16}, {"drop_path": 0.5}, {"dropout": 0.5},
    {"widths": (8,)}, {"width": 5}, {"bypass": "complex"}, {"large": "3x3_3x3"}, {"kernel": 2}, {"reduction": True},
)  # fmt: skip
"""Arguments beside which an option may matter, where it does not beside the defaults."""


def others(hint: Any, default: Any) -> Iterator[Any]:
    """Some values of a type, the default aside."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        yield from (value for value in inner if value != default)
    elif origin in (Union, UnionType):
        yield from (value for part in inner for value in others(part, default))
    elif origin is tuple:
        yield from ((2,), (8,)) if inner[-1] is ... else ((5, 1), (2, 2))
    elif hint is bool:
        yield not default
    elif hint is float:
        yield 0.3
    elif hint is int and isinstance(default, int):
        yield from (default + 1, default + 2, 2)


def computed(name: str, args: Mapping[str, Any], shapes: tuple[Shape, ...], training: bool) -> list[Any]:
    """Shapes of the weights, and what the block makes of the same images with the same random numbers."""
    torch.manual_seed(0)
    module = make(BLOCKS[name], args, shapes, input_count(BLOCKS[name])).train(training)
    images = [3 * torch.randn(4, *shape, generator=torch.Generator().manual_seed(1)) for shape in shapes]
    torch.manual_seed(2)
    y = module(*images)
    logits = getattr(module, "logits", None)
    return [[p.shape for p in module.parameters()], y.tolist(), None if logits is None else logits.tolist()]


def fields_of(name: str) -> dict[str, Any]:
    return dict(arguments(BLOCKS[name]).model_fields)


OPTIONS = [(name, key) for name in BLOCKS for key, field in fields_of(name).items() if not field.is_required()]


@pytest.mark.parametrize(("name", "key"), OPTIONS, ids=[f"{name}-{key}" for name, key in OPTIONS])
def test_an_option_of_a_block_changes_what_it_computes(name: str, key: str) -> None:
    looked_into = walk(around(name))
    node = [node for node in looked_into.architecture.nodes if node.block == name][-1]
    fields, shapes = fields_of(name), looked_into.in_shapes(node)
    for place in PLACES:
        if key in place or not set(place) <= set(fields):
            continue
        base = {**{k: field.default for k, field in fields.items() if not field.is_required()}, **node.args, **place}
        for value, training in product(others(fields[key].annotation, base[key]), (False, True)):
            with suppress(RuntimeError, ValueError, TypeError, IndexError):  # what cannot be built beside the others
                if computed(name, base, shapes, training) != computed(name, {**base, key: value}, shapes, training):
                    return
    pytest.fail(f"{name}: {key} changes nothing")
