"""What a user asks for: the body of ``POST /v1/searches``. Unknown keys, NaN and values out of range are refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from search_spaces.rule_names import RuleName
from workers.dataset_spec import DatasetSpec
from workers.drill import DrillSettings
from workers.recipe import Recipe
from workers.recipes import RECIPES
from workers.scores import ZERO_COST, ZeroCostName, own_score

COST_METRICS = ("params", "macs", "activations", "memory_mb", "depth")
"""Known before training."""
SCORES = ("val_accuracy_at_iou50", "val_miou", "val_accuracy", "val_pixel_accuracy", "val_iou")
"""Scores of the tasks on the validation part, 0 to 1; of those that a task has, the first is its own."""
MEASURED_METRICS = (*SCORES, "val_loss", "train_seconds", "latency_ms")
"""Known after training."""

Metric = Literal[
    "val_accuracy",
    "val_miou",
    "val_pixel_accuracy",
    "val_accuracy_at_iou50",
    "val_iou",
    "val_loss",
    "train_seconds",
    "latency_ms",
    "params",
    "macs",
    "activations",
    "memory_mb",
    "depth",
]
ConstraintMetric = Literal["latency_ms", "params", "macs", "activations", "memory_mb", "depth"]
Direction = Literal["maximize", "minimize"]
BETTER: dict[str, Direction] = dict.fromkeys(SCORES, "maximize")
"""Which way is better; all others are minimised."""


class Strict(BaseModel):
    """Refuses unknown keys, numbers in strings, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class SoftTarget(Strict):
    """A wish about a cost: the objective is multiplied by (cost / target) ** exponent.

    Source: MnasNet, Tan et al. 2019, arXiv 1807.11626, whose exponent is -0.07 on both sides of the target.
    """

    metric: ConstraintMetric = Field(description="the cost")
    target: float = Field(gt=0, description="its wanted value")
    exponent: float = Field(-0.07, lt=0, ge=-10, description="-0.07: twice the cost for 5 % more accuracy is a draw")
    side: Literal["both", "above"] = Field("both", description="both: being below the target pays; above: it does not")

    def factor(self, cost: float) -> float:
        """What the objective is multiplied by. ``cost`` counts as within a millionth and a million times the target."""
        share = min(max(cost / self.target, 1e-6), 1e6)
        return float(share**self.exponent) if self.side == "both" or share > 1 else 1.0


class ObjectiveSpec(Strict):
    """One figure to make as good as possible."""

    metric: Metric = Field(description="what is compared")
    direction: Direction | None = Field(
        None, description="left out: the usual one, maximize for scores, minimize for the rest"
    )
    device: Literal["worker"] = Field(
        "worker", description="where latency is measured: on the worker that trained the candidate"
    )
    batch_size: int = Field(1, ge=1, le=4096, description="images at a time when latency is measured")

    soft: list[SoftTarget] = Field(
        [], max_length=5, description="wishes about costs that the value of a maximised score is multiplied with"
    )

    @model_validator(mode="after")
    def _softened(self) -> ObjectiveSpec:
        if self.soft and self.metric not in SCORES:
            raise ValueError(f"soft goes with a score; {self.metric!r} is none of {', '.join(SCORES)}")
        if self.soft and self.better != "maximize":
            raise ValueError("soft goes with a score that is maximized")
        return self

    @property
    def better(self) -> Direction:
        return self.direction or BETTER.get(self.metric, "minimize")

    def value(self, metrics: Mapping[str, Any]) -> float | None:
        """The objective's value; None while a figure that it needs is missing."""
        needed = [metrics.get(name) for name in (self.metric, *(wish.metric for wish in self.soft))]
        known = [float(figure) for figure in needed if figure is not None]
        if len(known) < len(needed):
            return None
        value, *costs = known
        for wish, cost in zip(self.soft, costs, strict=True):
            value *= wish.factor(cost)
        return value


class ConstraintSpec(Strict):
    """A bound that a candidate must keep. Costs are checked before training, latency in its first epoch."""

    metric: ConstraintMetric = Field(description="what is bounded")
    max: float | None = Field(None, description="largest allowed value")
    min: float | None = Field(None, description="smallest allowed value")

    @model_validator(mode="after")
    def _bounded(self) -> ConstraintSpec:
        if self.max is None and self.min is None:
            raise ValueError(f"the constraint on {self.metric} has no bound; give max, min or both")
        if self.max is not None and self.min is not None and self.min > self.max:
            raise ValueError(f"the constraint on {self.metric} has min {self.min} above max {self.max}")
        return self

    def violation(self, value: float) -> float:
        """How far the bound is missed, as a share of it (of 0: in the metric's unit); at most 0 where it is kept."""
        over = (value - self.max) / (abs(self.max) or 1.0) if self.max is not None else float("-inf")
        under = (self.min - value) / (abs(self.min) or 1.0) if self.min is not None else float("-inf")
        return max(over, under)


class SchedulerSpec(Strict):
    """How long candidates train, and when weak ones are stopped."""

    name: Literal["asha", "hyperband", "median", "curve", "none"] = Field(
        "asha",
        description="asha stops the weaker part of the candidates at each rung; hyperband does so with a later first "
        "rung for some; median stops those below the median of the others; curve those whose learning curve will not "
        "reach the best; none trains all",
    )
    min_epochs: int = Field(
        1,
        ge=1,
        le=10_000,
        description="epochs before a candidate may be stopped; left out: to the first after the recipe's warm-up",
    )
    max_epochs: int = Field(9, ge=1, le=10_000, description="epochs of a candidate that is never stopped")
    reduction_factor: int = Field(3, ge=2, le=100, description="asha, hyperband: one in so many goes on at each rung")

    @model_validator(mode="after")
    def _ordered(self) -> SchedulerSpec:
        if self.min_epochs > self.max_epochs:
            raise ValueError(f"min_epochs is {self.min_epochs}, above max_epochs {self.max_epochs}")
        return self


class ScreenSpec(Strict):
    """Of several proposals only the one that its untrained network speaks for is trained."""

    scores: list[ZeroCostName] = Field(
        ["nwot", "jacov", "synflow", "macs"],
        min_length=1,
        max_length=len(ZERO_COST),
        description="zero-cost scores, joined by the ranks of the proposals",
    )
    candidates_per_trial: int = Field(8, ge=2, le=1000, description="proposals for each trial")

    @model_validator(mode="after")
    def _distinct(self) -> ScreenSpec:
        if len(set(self.scores)) != len(self.scores):
            raise ValueError(f"scores names a score twice: {self.scores}")
        return self


class BudgetSpec(Strict):
    """When the search is over: at whichever limit comes first."""

    max_trials: int = Field(
        30, ge=1, le=100_000, description="candidates to train; infeasible and repeated ones are free"
    )
    max_seconds: float | None = Field(
        None, gt=0, le=31_536_000, description="working time in seconds; pauses do not count"
    )


class ResourceSpec(Strict):
    """What one candidate gets, and how many run at once."""

    cpus: float = Field(1, ge=0, le=1024, description="CPUs for one candidate")
    gpus: float = Field(
        0,
        ge=0,
        le=64,
        description="GPUs for one candidate, 0: it trains on CPUs; 0.25 lets four share one, each with a quarter of "
        "its memory; a candidate trains on one, so that more than 1 only keeps others away",
    )
    max_parallel: int = Field(2, ge=1, le=1024, description="candidates that train at once")
    trial_timeout_seconds: float = Field(900, gt=0, le=604_800, description="hard limit for one candidate")
    memory_mb: int | None = Field(
        None, ge=16, le=10_000_000, description="memory that one candidate may take beside its warm worker, MiB"
    )

    @model_validator(mode="after")
    def _whole_gpus(self) -> ResourceSpec:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus is {self.gpus}; allowed: a fraction up to 1, or whole numbers")
        return self


class FinalistSpec(Strict):
    """The best candidates are trained again, fully, before one is called the winner."""

    top_k: int = Field(
        3, ge=0, le=100, description="candidates to train again; 0: the best trial is the winner as it is"
    )
    epochs: int | None = Field(
        None, ge=1, le=100_000, description="epochs of the full training; left out: twice max_epochs"
    )
    seeds: list[Annotated[int, Field(ge=0, le=2**31 - 1)]] = Field(
        [0], min_length=1, max_length=20, description="one training a seed"
    )

    ensemble: int = Field(
        0,
        ge=0,
        le=20,
        description="best full trainings whose probabilities are averaged and scored beside the winner; 0: none",
    )

    @model_validator(mode="after")
    def _distinct(self) -> FinalistSpec:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {self.seeds} has a seed twice")
        return self


class TrainEvaluator(Strict):
    """Trains each candidate on the data set."""

    name: Literal["train"] = "train"


class DrillEvaluator(Strict):
    """Rehearses failures instead of training; only where the server's settings allow it."""

    name: Literal["drill"]
    settings: DrillSettings = Field(default_factory=DrillSettings)


class TableEvaluator(Strict):
    """Looks candidates up in a table of trained networks instead of training them: a rehearsal in seconds."""

    name: Literal["table"]
    table: str = Field(
        min_length=1, max_length=4096, description="file of the table, by its path or within a folder of data sets"
    )
    noisy: bool = Field(False, description="one training that the seed picks, not the mean of all in the table")


Named = Annotated[dict[str, Any], Field(description="an object with a name and the options of what it names")]
Name = Annotated[str, StringConstraints(max_length=200, strip_whitespace=True)]


class SearchRequest(Strict):
    """A search: data, space, what is wanted, and what it may cost."""

    name: Name = Field("", description="for people; left out: made from space and data")
    dataset: DatasetSpec
    space: Named
    objectives: list[ObjectiveSpec] = Field(
        default_factory=lambda: [ObjectiveSpec(metric="val_accuracy")],
        min_length=1,
        max_length=4,
        description="left out: the task's own score, val_accuracy for classification",
    )
    constraints: list[ConstraintSpec] = Field([], max_length=20)
    first: list[Name | dict[str, Any]] = Field(
        [],
        max_length=100,
        description="networks to train before the strategy proposes any: names of references, or architectures as JSON",
    )
    rules: list[RuleName] = Field(
        [], max_length=50, description="design rules that every candidate must keep; GET /v1/rules tells them"
    )
    strategy: Named = Field(default_factory=lambda: {"name": "auto"})
    screen: ScreenSpec | None = Field(
        None, description="choose among several proposals by zero-cost scores; left out: every proposal is trained"
    )
    scheduler: SchedulerSpec = Field(default_factory=SchedulerSpec)
    recipe: Recipe = Field(default_factory=Recipe)
    evaluator: TrainEvaluator | DrillEvaluator | TableEvaluator = Field(
        default_factory=TrainEvaluator, discriminator="name"
    )
    budget: BudgetSpec = Field(default_factory=BudgetSpec)
    resources: ResourceSpec = Field(default_factory=ResourceSpec)
    finalists: FinalistSpec = Field(default_factory=FinalistSpec)
    reuse: Literal["all", "search", "none"] = Field(
        "all", description="whose earlier results of the same training may be taken"
    )
    replays: str | None = Field(
        None,
        max_length=32,
        description="a search that this one repeats: what it took from other searches is taken again (nas replay)",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="of proposals and trainings")

    @model_validator(mode="after")
    def _distinct(self) -> SearchRequest:
        metrics = [objective.metric for objective in self.objectives]
        if len(set(metrics)) != len(metrics):
            raise ValueError(f"objectives names a metric twice: {metrics}")
        if len(set(self.rules)) != len(self.rules):
            raise ValueError(f"rules names a rule twice: {self.rules}")
        return self

    def settled(self, task: str) -> SearchRequest:
        """The request for data of this task.

        Where it names no objectives, the task's own score is the objective. Several views that a published recipe asks
        for are one view where the task is not classification. Where it does not say after how many epochs candidates
        may be stopped, that is not while the learning rate still warms up (``docs/searching.md`` has a measurement).
        """
        changes: dict[str, Any] = {}
        warm, most = math.ceil(self.recipe.schedule.warmup_epochs), self.scheduler.max_epochs
        if warm and "min_epochs" not in self.scheduler.model_fields_set:
            changes["scheduler"] = self.scheduler.model_copy(update={"min_epochs": min(1 + warm, most)})
        if "objectives" not in self.model_fields_set:
            changes["objectives"] = [ObjectiveSpec.model_validate({"metric": own_score(task)})]
        published = RECIPES[self.recipe.name].options if self.recipe.name else {}
        if task != "classification" and self.recipe.test_views == published.get("test_views"):
            changes["recipe"] = self.recipe.model_copy(update={"test_views": "one"})
        return self.model_copy(update=changes) if changes else self

    @property
    def latency_batch(self) -> int | None:
        """Batch size to measure latency with; None where nobody asked for latency."""
        for objective in self.objectives:
            if "latency_ms" in (objective.metric, *(wish.metric for wish in objective.soft)):
                return objective.batch_size
        return 1 if any(constraint.metric == "latency_ms" for constraint in self.constraints) else None
