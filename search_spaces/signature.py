"""The signature of a block is its schema: checking arguments against it, and telling it to forms and docs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from torch import nn

from search_spaces.architecture import ArchitectureError, Arg, frozen

P = ParamSpec("P")
R = TypeVar("R")

FILLED_IN = ("self", "in_channels", "in_size")
"""Parameters that never stand in a node's arguments."""


class BlockError(TypeError):
    """A class that is no block: says which rule it breaks."""


def remembered(function: Callable[P, R]) -> Callable[P, R]:
    """``function`` with its last 8,192 results remembered (lru_cache, with a type that says what goes in)."""
    return cast(Callable[P, R], lru_cache(maxsize=8192)(function))


@remembered
def arguments(block: type[nn.Module]) -> type[BaseModel]:
    """Strict model of a block's keyword arguments. Raises BlockError when the constructor cannot be a schema."""
    hints = get_type_hints(block.__init__)
    parameters = inspect.signature(block.__init__).parameters
    if "in_channels" not in parameters:
        raise BlockError(f"{block.__name__}: the constructor of a block takes in_channels")
    fields: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise BlockError(f"{block.__name__}: the constructor of a block takes named arguments, not *{name}")
        if name not in hints and name != "self":
            raise BlockError(f"{block.__name__}: argument {name} has no type")
        if name not in FILLED_IN:
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[name] = (hints[name], default)
    config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())
    return cast(type[BaseModel], create_model(block.__name__, __config__=config, **fields))


@remembered
def input_count(block: type[nn.Module]) -> int | None:
    """How many inputs a block reads: 1 for ``in_channels: int``, n for a tuple of n, None for any number."""
    hint = get_type_hints(block.__init__)["in_channels"]
    if get_origin(hint) is not tuple:
        return 1
    items = get_args(hint)
    return None if items[-1] is ... else len(items)


@remembered
def wants_size(block: type[nn.Module]) -> bool:
    """Whether the constructor takes ``in_size``: (height, width), or a tuple of those for several inputs."""
    return "in_size" in inspect.signature(block.__init__).parameters


def checked(block: type[nn.Module], args: Mapping[str, Arg], pointer: str) -> dict[str, Arg]:
    """Every argument in the order of the signature, defaults filled in.

    Those behind ``*`` are left out at their defaults: an argument that a block gets later stands there, so that the
    architectures of before keep their fingerprints. Raises ArchitectureError that points at a wrong one.
    """
    model = arguments(block)
    try:
        valid = model.model_validate(dict(args))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name, *inside = first["loc"]  # in a union pydantic also names the member, which is no place in the JSON
        where = "/".join([pointer, str(name), *(str(step) for step in inside if isinstance(step, int))])
        if first["type"] == "extra_forbidden":
            message = f"no argument of {block.__name__}; allowed: {', '.join(model.model_fields) or 'none'}"
        else:
            message = f"{first['input']!r} for {block.__name__}: {first['msg']}"
        raise ArchitectureError(message[:500], where) from None
    found = {name: frozen(getattr(valid, name)) for name in model.model_fields}
    late = _added_later(block)
    return {name: value for name, value in found.items() if not (name in late and repr(value) == late[name])}


@remembered
def _added_later(block: type[nn.Module]) -> Mapping[str, str]:
    """Keyword-only arguments and their defaults, printed."""
    parameters = inspect.signature(block.__init__).parameters.values()
    return {p.name: repr(p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}


def schema(name: str, block: type[nn.Module]) -> dict[str, Any]:
    """Description of a block for JSON: its documentation, how many inputs it reads, the schema of its arguments."""
    parameters = arguments(block).model_json_schema()
    return {
        "name": name,
        "doc": inspect.cleandoc(block.__doc__ or ""),
        "inputs": input_count(block),
        "arguments": {
            "type": "object",
            "properties": parameters.get("properties", {}),
            "required": parameters.get("required", []),
            "additionalProperties": False,
        },
    }
