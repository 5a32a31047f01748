"""What a search space is: a name, a config that a form can be made of, and a function that asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict

from search_spaces.architecture import Architecture, Task
from search_spaces.choose import Choose, SpaceError
from search_spaces.tasks import with_task

Number = TypeVar("Number", int, float)


class SpaceConfig(BaseModel):
    """Settings of a space: frozen, unknown keys refused, every field described, bounded and with a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Space:
    """A search space: ``ask(choose, task, config)`` returns one Architecture for the answers it gets.

    ``tasks`` are the kinds that ``ask`` itself makes networks for. A classifier serves the others with another head.
    """

    name: str
    summary: str
    source: str
    config: type[SpaceConfig]
    ask: Callable[[Choose, Task, Any], Architecture]
    tasks: tuple[str, ...] = ("classification",)

    def bound(self, task: Task, config: SpaceConfig | None = None) -> Callable[[Choose], Architecture]:
        """The space with task and config filled in; the config's defaults where it is left out.

        Raises SpaceError where it makes no networks for the task.
        """
        settings = self.config() if config is None else config
        if task.kind in self.tasks:
            return lambda choose: self.ask(choose, task, settings)
        if "classification" not in self.tasks:
            raise SpaceError(f"space {self.name!r} is for {', '.join(self.tasks)}; the task is {task.kind}")
        plain = replace(task, kind="classification")
        return lambda choose: with_task(self.ask(choose, plain, settings), task.kind)


def ascending(values: tuple[Number, ...]) -> tuple[Number, ...]:
    """``values`` sorted; ValueError where one is given twice."""
    if len(set(values)) != len(values):
        raise ValueError(f"{list(values)} lists a value twice")
    return tuple(sorted(values))


Int = Annotated[int, Strict()]
"""An integer that is no bool and no float with a zero behind the point."""

Float = Annotated[float, Strict()]
Positive = Annotated[int, Strict(), Field(ge=1, le=4096)]
Choices = Annotated[tuple[Positive, ...], Field(min_length=1, max_length=32), AfterValidator(ascending)]
"""Options of a decision: integers of 1 to 4,096, sorted, each once."""


Flags = Annotated[tuple[Annotated[bool, Strict()], ...], Field(min_length=1, max_length=2), AfterValidator(ascending)]
"""Options of a yes-or-no decision: false, true or both."""


def once_each(name: str, values: tuple[str, ...]) -> None:
    """Raise ValueError where ``values`` lists one twice."""
    if len(set(values)) != len(values):
        raise ValueError(f"{name} {list(values)} lists a value twice")


def downsampling(size: tuple[int, int], stages: int, smallest: int = 2) -> tuple[int, ...]:
    """Stride of each stage: 1, then 2 while no side of ``size`` (height, width) falls below ``smallest``."""
    strides = []
    side = min(size)
    for stage in range(stages):
        halve = stage > 0 and (side + 1) // 2 >= smallest
        side = (side + 1) // 2 if halve else side
        strides.append(2 if halve else 1)
    return tuple(strides)


def halvings_of_stem(size: tuple[int, int]) -> int:
    """How often a stem halves an image of ``size`` (height, width) pixels: 0 below 48, 1 below 128, else 2."""
    side = min(size)
    return 0 if side < 48 else 1 if side < 128 else 2
