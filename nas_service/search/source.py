"""What an executor runs: a source of assignments, told how each of them goes. Search and finalists are two sources."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Protocol

from workers.ending import Failure
from workers.evaluate import Assignment


class Nothing(enum.Enum):
    """Why there is no assignment."""

    NOW = "now"
    """Ask again when a running candidate has ended."""
    MORE = "more"
    """The source is empty for good."""


@dataclass
class Control:
    """What the heartbeat tells the driver's main loop."""

    stopping: Event = field(default_factory=Event)
    """No new candidates; running ones go back into the queue at their next epoch (the search is pausing)."""
    spent: Event = field(default_factory=Event)
    """The seconds of the budget are used up: no new candidates, running ones are cancelled at their next epoch."""


class Source(Protocol):
    """Assignments to run, at most `parallel` at once. Called from one thread."""

    parallel: int

    def next(self) -> Assignment | Nothing:
        """The next candidate to run, or why there is none."""
        ...

    def report(self, key: str, report: Mapping[str, Any]) -> bool:
        """One epoch's report, or the last words of a candidate that failed by itself. True: stop this candidate."""
        ...

    def ended(self, key: str, *, pruned: bool, death: Failure | None) -> None:
        """The candidate runs no more: it finished, was stopped (``pruned`` by the scheduler), or its worker died."""
        ...


def assignment_key(assignment: Assignment) -> str:
    """Names one candidate among those of a search: trial number, and the seed of a finalist."""
    return f"{assignment.trial}-{assignment.seed}" if assignment.final else str(assignment.trial)
