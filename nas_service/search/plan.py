"""A request with everything it names looked up: the API builds it to validate, the driver to run."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nas_service.errors import InvalidRequest, json_pointer
from nas_service.search.means import within_means
from nas_service.search.request import COST_METRICS, SCORES, SearchRequest
from nas_service.settings import Settings
from nas_service.strategies import STRATEGIES
from nas_service.strategies.protocol import Objective, Problem, StrategyConfig, StrategyEntry
from search_spaces.architecture import Architecture, ArchitectureError, Task
from search_spaces.auxiliary import without_auxiliary
from search_spaces.build import Walk, resolved, walk
from search_spaces.catalogue import SPACES, UnknownNameError
from search_spaces.choose import Choose, Decisions, Recorder, SpaceError, first
from search_spaces.cost import Costs, costs_of
from search_spaces.fitting import fitted, reference
from search_spaces.rules import Broken, broken
from search_spaces.space import Space, SpaceConfig
from workers.assignment import Assignment, LatencyRequest, ParentWeights, TableRow
from workers.dataset_spec import DataError, regular_file
from workers.datasets import DatasetInfo, DatasetSource
from workers.drill import DrillSettings
from workers.scores import own_score
from workers.tables import TableError, load_table
from workers.tasks import TASKS

FEW_STEPS = 50
"""Steps of the optimiser in which many a network learns nothing; small ones have learned digits in 81."""


@dataclass(frozen=True)
class Plan:
    """One search, ready to run. Frozen; everything in it follows from the stored request and the data."""

    request: SearchRequest
    source: DatasetSource
    info: DatasetInfo
    task: Task
    space: Space
    space_config: SpaceConfig
    strategy: StrategyEntry
    strategy_config: StrategyConfig
    roots: tuple[Path, ...]
    first: tuple[Architecture, ...] = ()
    """Trials 0, 1, …: networks that were given, fitted to the task; the strategy proposes those after them."""
    table: Path | None = None
    """Table that candidates are looked up in."""
    scored: bool = False
    """Whether the strategy gets zero-cost scores of untrained networks."""

    @property
    def few_steps(self) -> bool:
        """Whether these may be too few to learn anything."""
        return self.steps is not None and self.steps < FEW_STEPS

    @property
    def steps(self) -> int | None:
        """Steps of its optimiser that a candidate takes which is never stopped; None where nothing is trained."""
        if self.request.evaluator.name != "train":
            return None
        images = _train_images(self.request, self.info)
        return math.ceil(images / self.request.recipe.batch_size) * self.request.scheduler.max_epochs

    def ask(self, choose: Choose) -> Architecture:
        """The space's architecture for a chooser, every argument present."""
        return resolved(self.space.bound(self.task, self.space_config)(choose))

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return tuple(Objective(o.metric, o.better) for o in self.request.objectives)

    @property
    def score(self) -> str:
        """The validation score that people go by: the first objective that is one, else the task's own."""
        named = next((o.metric for o in self.request.objectives if o.metric in SCORES), None)
        return named or own_score(self.task.kind)

    @property
    def problem(self) -> Problem:
        """What the strategy may know."""
        return Problem(
            self.ask,
            self.objectives,
            self.request.seed,
            self.request.budget.max_trials,
            self.request.scheduler.max_epochs,
            parallel=self.request.resources.max_parallel,
        )

    @property
    def final_epochs(self) -> int:
        return self.request.finalists.epochs or 2 * self.request.scheduler.max_epochs

    def broken(self, looked_into: Walk) -> tuple[Broken, ...]:
        """The design rules of the request that an architecture breaks."""
        return broken(looked_into, self.request.rules)

    def violations(
        self, metrics: Mapping[str, Any], *, costs_only: bool = False, broken: Sequence[Broken] = ()
    ) -> list[float]:
        """How far each constraint of the request is missed, then 1 for each rule that is broken and 0 for others.

        Constraints whose figure is not known yet count as kept.
        """
        found = []
        for constraint in self.request.constraints:
            value = None if costs_only and constraint.metric not in COST_METRICS else metrics.get(constraint.metric)
            found.append(constraint.violation(float(value)) if value is not None else 0.0)
        names = {each.rule for each in broken}
        return found + [float(rule in names) for rule in self.request.rules]

    def objections(self, metrics: Mapping[str, Any], broken: Sequence[Broken]) -> str:
        """Why a candidate is not trained, for a person: bounds that its costs miss, rules that it breaks and where."""
        found = []
        for constraint in self.request.constraints:
            value = metrics.get(constraint.metric)
            if value is not None and constraint.violation(float(value)) > 0:
                bounds = {"max": constraint.max, "min": constraint.min}
                allowed = ", ".join(f"{name} {bound:g}" for name, bound in bounds.items() if bound is not None)
                found.append(f"{constraint.metric} is {value:g}; allowed: {allowed}")
        found += [f"rule {each.rule} is broken by {each.node}: {each.reason}" for each in broken]
        return "; ".join(found)

    def values(self, metrics: Mapping[str, Any]) -> list[float] | None:
        """Objective values, or None while one of them is missing."""
        found = [objective.value(metrics) for objective in self.request.objectives]
        return None if any(value is None for value in found) else [value for value in found if value is not None]

    @property
    def inherits(self) -> bool:
        """Whether candidates may start from the weights of earlier ones."""
        return bool(getattr(self.strategy_config, "inherit_weights", False))

    def evaluation_key(self, fingerprint: str) -> str:
        """SHA-256 of everything that decides what a training of this architecture gives."""
        request = self.request
        parts = {
            "architecture": fingerprint,
            "data": self.info.content_hash,
            "split": request.dataset.model_dump(mode="json"),
            "recipe": request.recipe.identity(),
            "evaluator": request.evaluator.model_dump(mode="json"),
            "epochs": request.scheduler.max_epochs,
            "seed": request.seed,
            "gpus": request.resources.gpus > 0,
            "latency": request.latency_batch,
        }
        if request.recipe.init != "torch":  # version 2 takes the fan-in, as He et al. do; results of the first differ
            parts["init"] = 2
        if self.inherits:  # the result depends on the parent too: no other search may take it
            parts["inherits"] = True
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def assignment(
        self,
        search_id: str,
        number: int,
        attempt: int,
        architecture: Mapping[str, Any],
        folder: Path,
        *,
        seed: int | None = None,
        parent: ParentWeights | None = None,
        decisions: Decisions | None = None,
    ) -> Assignment:
        """What a worker needs for one candidate; with ``seed`` it is a finalist's full training. Tables are asked for
        ``decisions``.
        """
        request, final = self.request, seed is not None
        return Assignment(
            search_id=search_id,
            trial=number,
            attempt=attempt - 1,
            architecture=dict(architecture),
            evaluator=request.evaluator.name,
            drill=request.evaluator.settings if request.evaluator.name == "drill" else DrillSettings(),
            table=self._row(decisions or {}),
            dataset=request.dataset,
            source=self.source,
            train_hash=None if self.source.format == "plugin" else self.info.train_hash or None,
            data_roots=[str(root) for root in self.roots],
            recipe=request.recipe,
            epochs=self.final_epochs if final else request.scheduler.max_epochs,
            seed=seed if seed is not None else request.seed,
            directory=str(folder),
            timeout_seconds=request.resources.trial_timeout_seconds
            * (self.final_epochs / request.scheduler.max_epochs if final else 1),
            memory_mb=request.resources.memory_mb,
            gpus=request.resources.gpus,
            latency=LatencyRequest(batch_size=request.latency_batch) if request.latency_batch else None,
            keep_weights=True,
            final=final,
            parent=parent,
        )

    def _row(self, decisions: Decisions) -> TableRow | None:
        evaluator = self.request.evaluator
        if evaluator.name != "table":
            return None
        return TableRow(path=str(self.table), decisions=dict(decisions), noisy=evaluator.noisy)


def make_plan(request: SearchRequest, source: DatasetSource, info: DatasetInfo, settings: Settings) -> Plan:
    """Look up what the request names. Raises InvalidRequest with the JSON pointer of what does not fit."""
    if request.evaluator.name == "drill" and not settings.allow_drill:
        raise InvalidRequest(
            "evaluator 'drill' is switched off on this server (setting allow_drill); allowed: 'train'",
            pointer="/evaluator/name",
        )
    space = _entry(SPACES, request.space, "/space")
    strategy = _entry(STRATEGIES, request.strategy, "/strategy")
    space_config = _options(space.config, request.space, "/space")
    strategy_config = _options(strategy.config, request.strategy, "/strategy")
    task = Task(info.input_shape, info.classes, info.task)
    _check_task(request, task, space)
    _check_limits(request, info)
    given = tuple(_given(network, task, f"/first/{i}") for i, network in enumerate(request.first))
    roots = tuple(settings.roots())
    table = _table(request, space, task, space_config, roots)
    strategy_config, affordable = within_means(strategy_config, request, _train_images(request, info))
    trains = request.evaluator.name == "train"  # a table and a drill say nothing about untrained networks
    scored = affordable and trains and task.kind == "classification"
    return Plan(
        request, source, info, task, space, space_config, strategy, strategy_config, roots, given, table, scored
    )


def _check_limits(request: SearchRequest, info: DatasetInfo) -> None:
    """Raise InvalidRequest where a limit leaves no image of some class."""
    if info.task == "segmentation":
        return
    share = request.dataset.validation_fraction
    held = sum(count * share >= 1 for count in info.class_counts)
    for name, limit, classes in (
        ("max_train", request.dataset.max_train, info.classes),
        ("max_validation", request.dataset.max_validation, held),
    ):
        if limit is not None and limit < classes:
            raise InvalidRequest(
                f"{name} is {limit}; allowed: at least {classes}, an image of each class", pointer=f"/dataset/{name}"
            )


def _train_images(request: SearchRequest, info: DatasetInfo) -> int:
    """Images of an epoch."""
    images = round(info.train * (1 - request.dataset.validation_fraction))
    return min(images, request.dataset.max_train or images)


def _table(request: SearchRequest, space: Space, task: Task, config: SpaceConfig, roots: Sequence[Path]) -> Path | None:
    """The file of the request's table, which asks what the space asks; None: it has none. Raises InvalidRequest."""
    if request.evaluator.name != "table":
        return None
    named = request.evaluator.table
    places = [root / named for root in roots if (root / named).exists()] or [Path(named)]
    try:
        path = regular_file(places[0], roots)
        table = load_table(path)
    except (DataError, TableError) as error:
        raise InvalidRequest(str(error), pointer="/evaluator/table") from error
    recorder = Recorder(first)
    space.bound(task, config)(recorder)
    asked = {question.name: set(question.options) for question in recorder.questions}
    known = {name: set(options) for name, options in table.questions}
    if asked.keys() != known.keys() or not all(asked[name] <= known[name] for name in asked):
        raise InvalidRequest(
            f"table {named!r} has the decisions {sorted(known)}; space {space.name!r} asks {sorted(asked)}: names and "
            "options must agree",
            pointer="/evaluator/table",
        )
    if request.first:
        raise InvalidRequest("no decisions lead to the networks of 'first': a table cannot tell", pointer="/first")
    return path


def _given(network: str | Mapping[str, Any], task: Task, pointer: str) -> Architecture:
    """A reference or an architecture for the images and classes of a task, every argument present."""
    try:
        if isinstance(network, str):
            return reference(network, task)
        return fitted(Architecture.from_json(network), task)
    except UnknownNameError as error:
        raise InvalidRequest(str(error), pointer=pointer) from error
    except ArchitectureError as error:
        at = pointer + error.pointer if isinstance(network, dict) else pointer
        raise InvalidRequest(f"{pointer} does not fit the data: {error}", pointer=at) from error


def _check_task(request: SearchRequest, task: Task, space: Space) -> None:
    """Raise InvalidRequest where space, objectives or recipe do not go with the task of the data."""
    kind, learned = task.kind, TASKS[task.kind]
    try:
        space.bound(task)
    except SpaceError as error:
        raise InvalidRequest(str(error), pointer="/space/name") from error
    scores = [f"val_{name}" for name in learned.metrics]
    for i, objective in enumerate(request.objectives):
        if objective.metric in SCORES and objective.metric not in scores:
            raise InvalidRequest(
                f"metric {objective.metric!r} does not go with data for {kind}; allowed: {', '.join(scores)}, val_loss "
                "and costs",
                pointer=f"/objectives/{i}/metric",
            )
    if request.recipe.mixup and not learned.mixes:
        raise InvalidRequest(f"mixup {request.recipe.mixup} for {kind}; allowed: 0", pointer="/recipe/mixup")
    if request.recipe.test_views != "one" and kind != "classification":
        raise InvalidRequest(
            f"test_views {request.recipe.test_views!r} for {kind}; allowed: 'one'", pointer="/recipe/test_views"
        )
    if request.screen and kind != "classification":
        raise InvalidRequest(f"a screen by zero-cost scores for {kind}; allowed: classification", pointer="/screen")
    if request.evaluator.name != "train" and kind != "classification":
        raise InvalidRequest(
            f"evaluator {request.evaluator.name!r} on data for {kind}; allowed: classification",
            pointer="/evaluator/name",
        )


def space_options(name: str, options: Mapping[str, Any], pointer: str) -> tuple[Space, SpaceConfig]:
    """A space and its options. Raises InvalidRequest with the pointer of what does not fit."""
    space: Space = _entry(SPACES, {"name": name}, "/space")
    return space, _options(space.config, options, pointer)


def _entry(catalogue: Mapping[str, Any], named: Mapping[str, Any], pointer: str) -> Any:
    name = named.get("name")
    if not isinstance(name, str) or name not in catalogue:
        raise InvalidRequest(
            f"{pointer[1:]} {name!r} is not known; allowed: {', '.join(sorted(catalogue))}", pointer=f"{pointer}/name"
        )
    return catalogue[name]


def _options(model: type[Any], named: Mapping[str, Any], pointer: str) -> Any:
    try:
        return model.model_validate({key: value for key, value in named.items() if key != "name"})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = pointer + json_pointer(first["loc"])
        allowed = f"; options: {', '.join(model.model_fields) or 'none'}" if first["type"] == "extra_forbidden" else ""
        given = first.get("input")
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidRequest(f"{at}: {message} (given: {given!r:.100}){allowed}", pointer=at) from error


def network_costs(looked_into: Walk) -> dict[str, float | int]:
    """The costs of what is taken home: without auxiliary heads."""
    bare = without_auxiliary(looked_into.architecture)
    return cost_metrics(costs_of(looked_into if bare is looked_into.architecture else walk(bare)))


def cost_metrics(costs: Costs) -> dict[str, float | int]:
    """The costs that objectives and constraints can name."""
    return {name: getattr(costs, name) for name in COST_METRICS}
