"""What an executor runs: a source of assignments, told how each of them goes. Search and finalists are two sources."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from workers.assignment import Assignment, Failure


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

    halted: str = ""
    """Why the search cannot go on for now, whichever the candidate: it stops as for a pause, and rests with this."""

    def halt(self, reason: str) -> None:
        """Stop, because of something that is no candidate's fault."""
        self.halted = self.halted or reason
        self.stopping.set()

    @property
    def ending(self) -> bool:
        """Whether there are to be no new candidates, for whichever reason."""
        return self.stopping.is_set() or self.spent.is_set()


def elsewhere(failure: Failure | None, death: Failure | None) -> bool:
    """Whether another worker may do better: this one died of what may pass, or it alone cannot read the data."""
    if failure is None:
        return False
    return failure.kind == "data" or (death is not None and failure.kind in ("infrastructure", "crash"))


class Source(Protocol):
    """Assignments to run, at most `parallel` at once. Called from one thread."""

    parallel: int

    @property
    def finished(self) -> bool:
        """Whether ``next`` would surely answer MORE: then nobody need wait for a worker."""
        ...

    def next(self) -> Assignment | Nothing:
        """The next candidate to run, or why there is none."""
        ...

    def report(self, key: str, report: Mapping[str, Any]) -> bool:
        """One epoch's report, or the last words of a candidate that failed by itself. True: stop this candidate."""
        ...

    def ended(self, key: str, *, pruned: bool, death: Failure | None) -> None:
        """The candidate runs no more: it finished, was stopped (``pruned`` by the scheduler), or its worker died."""
        ...


NOT_FIGURES = frozenset(
    {"done", "failure", "epoch", "replayed", "weights_path", "weights_sha256", "weights_bytes", "weights_epoch"}
)
"""Keys of a report that are not figures of its epoch."""


def figures_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured in a report's epoch."""
    return {name: value for name, value in report.items() if name not in NOT_FIGURES and value is not None}


def weights_of(report: Mapping[str, Any], data_dir: Path) -> dict[str, Any] | None:
    """{path, sha256, bytes, epoch} of the weights that a candidate saved, path relative to the data folder."""
    if not report.get("weights_path"):
        return None
    return {
        "path": str(Path(report["weights_path"]).relative_to(data_dir)),
        "sha256": report["weights_sha256"],
        "bytes": report["weights_bytes"],
        "epoch": report["weights_epoch"],
    }


def assignment_key(assignment: Assignment) -> str:
    """Names one candidate among those of a search: trial number, and the seed of a finalist."""
    return f"{assignment.trial}-{assignment.seed}" if assignment.final else str(assignment.trial)
