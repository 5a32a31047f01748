"""What a strategy is: it answers the questions of trial ``number``, and is told how trials ended.

A strategy is rebuilt from the stored trials, in the order they finished, or from its last snapshot and the trials
since. Randomness comes only from ``(problem.seed, number)``: a search that was killed proposes what it would have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from search_spaces.architecture import Architecture
from search_spaces.choose import Choose, Question

Figures = Mapping[str, float | int | None]
Proposed = Mapping[int, tuple[Question, ...]]
"""Trials that were proposed and have not ended, by number: what runs, what waits."""


class StrategyConfig(BaseModel):
    """Options of a strategy: frozen, unknown keys refused. Forms are made from descriptions and bounds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def at_random(self, max_trials: int, scored: bool) -> int:
        """How many trials, from number 0 on, are uniform random samples, whatever the results: a baseline.

        ``scored``: the strategy had zero-cost scores of networks before they were trained.
        """
        return 0


@dataclass(frozen=True)
class Objective:
    """A metric and which way is better."""

    metric: str
    direction: Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Problem:
    """What a strategy may know of its search."""

    ask: Callable[[Choose], Architecture]
    """The space with its task and config bound: give it a chooser, get an architecture."""
    objectives: tuple[Objective, ...]
    seed: int
    max_trials: int | None
    max_epochs: int
    scores: Callable[[Architecture], Mapping[str, float]] | None = None
    """Zero-cost scores of an architecture by name, more is better, NaN where one could not be computed; None where the
    search has none. Asked often: whoever gives it remembers the answers."""
    parallel: int = 1
    """Trials that run at once."""


@dataclass(frozen=True)
class ObservedTrial:
    """One trial that ended."""

    number: int
    questions: tuple[Question, ...]
    """Every decision with its options and its answer, in the order of asking."""
    state: Literal["completed", "pruned", "infeasible", "failed"]
    values: tuple[float, ...] | None
    """Objective values in the order of ``problem.objectives``, as measured; None where there are none."""
    epoch: int | None
    """Epoch at which ``values`` were measured."""
    violations: tuple[float, ...] = ()
    """How far each constraint is missed; at most 0 where it is met."""
    reused: bool = False
    """The result was taken from an earlier trial of the same architecture."""


NONE_RUNNING: Proposed = MappingProxyType({})


class Strategy(Protocol):
    """Proposes trials and learns from their results."""

    def propose(self, number: int, running: Proposed = NONE_RUNNING) -> Choose:
        """Chooser for trial ``number`` while the trials ``running`` have no result yet: it does not repeat them.

        Changes nothing that the strategy knows: asked twice, it answers the same.
        """
        ...

    def observe(self, trial: ObservedTrial) -> Figures | None:
        """Learn from one ended trial; called once a trial. Figures of the update to record, or None for no update."""
        ...

    def snapshot(self) -> dict[str, Any]:
        """What the strategy knows, as JSON-able data."""
        ...

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot: with the trials observed since, this is the same strategy. ValueError if it cannot."""
        ...


@runtime_checkable
class Inheriting(Protocol):
    """A strategy whose trials may start from the weights of an earlier one."""

    def parent(self, number: int, running: Proposed = NONE_RUNNING) -> int | None:
        """Trial whose weights ``number``, as it would be proposed now, may start from; None: fresh weights."""
        ...


@dataclass(frozen=True)
class StrategyEntry:
    """A strategy as the catalogue lists it: name, summary, source (paper or library), options, constructor."""

    name: str
    summary: str
    source: str
    config: type[StrategyConfig]
    make: Callable[[Any, Problem], Strategy]
    """``make(config, problem)``; ``config`` is an instance of ``self.config``."""
