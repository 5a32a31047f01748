"""What can be searched and how: spaces, blocks, references, strategies, the schema of a request."""

from __future__ import annotations

import random
from collections.abc import Collection
from functools import lru_cache
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from nas_service.api.auth import Viewer
from nas_service.errors import InvalidRequest, NotFound
from nas_service.search.dry_run import Decision, Outlook, decisions_of, outlook_of
from nas_service.search.plan import cost_metrics, network_costs, space_options
from nas_service.search.request import SearchRequest, Strict
from nas_service.strategies import STRATEGIES
from search_spaces.architecture import ArchitectureError, Task
from search_spaces.build import resolved, walk
from search_spaces.catalogue import BLOCKS, REFERENCES, SPACES, UnknownNameError, block_schema
from search_spaces.catalogue import reference as find_reference
from search_spaces.choose import Recorder, SpaceError, replay, sample
from search_spaces.cost import costs
from search_spaces.rules import RULES
from workers.recipe import Recipe
from workers.recipes import RECIPES

router = APIRouter(prefix="/v1", tags=["catalogue"])


Kind = Literal["classification", "segmentation", "localisation"]


class SampleRequest(Strict):
    """Draw architectures of a space, or follow given decisions."""

    options: dict[str, Any] = Field(default_factory=dict, description="options of the space")
    input_shape: list[int] = Field([1, 28, 28], min_length=3, max_length=3, description="channels, height, width")
    classes: int = Field(10, ge=1, le=100_000, description="number of labels")
    task: Kind = Field("classification", description="what the networks are for")
    count: int = Field(1, ge=1, le=50, description="architectures to draw")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    decisions: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="decisions to keep; the rest is drawn"
    )


class SpaceView(BaseModel):
    """A search space, and what it holds with default options for one shape of image."""

    name: str
    summary: str
    source: str
    tasks: list[str]
    options: dict[str, Any]
    decisions: list[Decision]
    outlook: Outlook


class RuleView(BaseModel):
    """A design rule."""

    name: str
    summary: str
    source: str


def _require(kind: str, name: str, known: Collection[str]) -> None:
    """Raise NotFound, which tells what there is, for a name that the catalogue does not have."""
    if name not in known:
        raise NotFound(f"no {kind} {name!r}; there are: {', '.join(known)}")


@router.get("/spaces")
def list_spaces(_: Viewer) -> list[dict[str, Any]]:
    """Search spaces."""
    return [_space(name) for name in SPACES]


Shape = Annotated[str, Query(max_length=40, pattern=r"^\d+,\d+,\d+$", description="channels, height, width")]
Classes = Annotated[int, Query(ge=1, le=100_000, description="number of labels")]
Purpose = Annotated[Kind, Query(description="what the networks are for")]


@router.get("/spaces/{name}")
def get_space(
    name: str, _: Viewer, input_shape: Shape = "1,28,28", classes: Classes = 10, task: Purpose = "classification"
) -> SpaceView:
    """One search space: its options as JSON Schema, and with their defaults its decisions, size and range of costs."""
    _require("space", name, SPACES)
    try:
        chosen = _task([int(side) for side in input_shape.split(",")], classes, task)
    except ArchitectureError as error:
        raise InvalidRequest(f"input_shape {input_shape!r}: {error}", pointer="/input_shape") from error
    decisions, found = _described(name, chosen)
    return SpaceView(**_space(name), decisions=list(decisions), outlook=found)


@lru_cache(maxsize=64)
def _described(name: str, task: Task) -> tuple[tuple[Decision, ...], Outlook]:
    ask = SPACES[name].bound(task)
    return tuple(decisions_of(ask, name, 0)), outlook_of(lambda choose: resolved(ask(choose)), name, 0)


def _task(shape: list[int], classes: int, kind: str = "classification") -> Task:
    return Task((shape[0], shape[1], shape[2]), classes, kind)


def _space(name: str) -> dict[str, Any]:
    space = SPACES[name]
    return {
        "name": name,
        "summary": space.summary,
        "source": space.source,
        "tasks": list(space.tasks),
        "options": space.config.model_json_schema(),
    }


@router.post("/spaces/{name}/samples")
def sample_space(name: str, body: SampleRequest, _: Viewer) -> dict[str, Any]:
    """Architectures of a space, with decisions, fingerprint and costs; and what the space holds."""
    _require("space", name, SPACES)
    space, config = space_options(name, body.options, "/options")
    rng = random.Random(body.seed)
    samples = []
    try:
        task = _task(body.input_shape, body.classes, body.task)
        ask = space.bound(task, config)
        for _number in range(body.count):
            recorder = Recorder(replay(body.decisions, sample(rng)))
            looked_into = walk(ask(recorder))
            found = {
                "decisions": recorder.decisions,
                "fingerprint": looked_into.architecture.fingerprint(),
                "architecture": looked_into.architecture.to_json(),
            }
            samples.append({**found, "costs": network_costs(looked_into)})
            unknown = set(body.decisions) - {q.name for q in recorder.questions}
            if unknown:
                raise InvalidRequest(f"decisions {sorted(unknown)} are not asked by this space", pointer="/decisions")
    except (ArchitectureError, SpaceError, ValueError, RuntimeError) as error:
        raise InvalidRequest(
            str(error), pointer="/decisions" if isinstance(error, SpaceError) else "/input_shape"
        ) from error
    found_outlook: Outlook = outlook_of(lambda choose: resolved(ask(choose)), name, body.seed)
    return {"samples": samples, "outlook": vars(found_outlook)}


@router.get("/blocks")
def list_blocks(_: Viewer) -> list[dict[str, Any]]:
    """Building blocks with their arguments."""
    return [block_schema(name) for name in BLOCKS]


@router.get("/blocks/{name}")
def get_block(name: str, _: Viewer) -> dict[str, Any]:
    """One building block."""
    _require("block", name, BLOCKS)
    return block_schema(name)


@router.get("/references")
def list_references(_: Viewer) -> list[dict[str, Any]]:
    """Published networks with their published counts."""
    return [
        {
            "name": r.name,
            "family": r.family,
            "summary": r.summary,
            "source": r.source,
            "params": r.params,
            "macs": r.macs,
        }
        for r in REFERENCES.values()
    ]


@router.get("/references/{name}")
def get_reference(name: str, _: Viewer) -> dict[str, Any]:
    """One published network as an architecture, with the costs that we count; "ResNet-50" is "resnet50"."""
    try:
        reference = find_reference(name)
    except UnknownNameError as error:
        raise NotFound(str(error)) from error
    architecture = resolved(reference.build())
    published = {"params": reference.params, "macs": reference.macs}
    return {
        "name": reference.name,
        "family": reference.family,
        "summary": reference.summary,
        "source": reference.source,
        "published": published,
        "costs": cost_metrics(costs(architecture)),
        "fingerprint": architecture.fingerprint(),
        "architecture": architecture.to_json(),
    }


@router.get("/rules")
def list_rules(_: Viewer) -> list[RuleView]:
    """Design rules that a search can ask its candidates to keep."""
    return [RuleView(name=rule.name, summary=rule.summary, source=rule.source) for rule in RULES.values()]


@router.get("/strategies")
def list_strategies(_: Viewer) -> list[dict[str, Any]]:
    """Search strategies."""
    return [_strategy(name) for name in STRATEGIES]


@router.get("/strategies/{name}")
def get_strategy(name: str, _: Viewer) -> dict[str, Any]:
    """One search strategy, its options as JSON Schema."""
    _require("strategy", name, STRATEGIES)
    return _strategy(name)


def _strategy(name: str) -> dict[str, Any]:
    entry = STRATEGIES[name]
    return {"name": name, "summary": entry.summary, "source": entry.source, "options": entry.config.model_json_schema()}


@router.get("/recipes")
def list_recipes(_: Viewer) -> list[dict[str, Any]]:
    """Published training recipes."""
    return [_recipe(name) for name in RECIPES]


@router.get("/recipes/{name}")
def get_recipe(name: str, _: Viewer) -> dict[str, Any]:
    """One published recipe: what it sets, and the whole recipe that ``{"recipe": {"name": name}}`` stands for."""
    _require("recipe", name, RECIPES)
    return _recipe(name)


def _recipe(name: str) -> dict[str, Any]:
    recipe = RECIPES[name]
    return {
        "name": name,
        "summary": recipe.summary,
        "source": recipe.source,
        "notes": recipe.notes,
        "options": dict(recipe.options),
        "recipe": Recipe.model_validate({"name": name}).model_dump(mode="json"),
    }


@router.get("/search-schema")
def get_search_schema(_: Viewer) -> dict[str, Any]:
    """JSON Schema of ``POST /v1/searches``."""
    return SearchRequest.model_json_schema()
