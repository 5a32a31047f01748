"""What the proposals of a strategy came from, and how well each source did: told with every result, and recorded."""

from __future__ import annotations

from collections.abc import Container, Sequence

from nas_service.strategies.decisions import Sample, signature
from nas_service.strategies.merit import Ranking
from nas_service.strategies.protocol import Objective, ObservedTrial


class Credit:
    """Mean merit (share of the earlier results that a trial beats) of the trials of each source.

    A ``step`` differs from an earlier trial in one decision; ``scores`` were picked from a pool of random samples by
    their zero-cost scores; what is left are ``jumps``: random samples, and larger variations. All of it follows from
    the trials themselves, so a rebuilt strategy tells the same.
    """

    def __init__(self, objectives: Sequence[Objective], scored: Container[str]) -> None:
        """``scored``: signatures of the pool."""
        self._scored = scored
        self._ranking = Ranking(objectives)
        self._around: set[tuple[str, int]] = set()
        """(decision, hash of the answers to all others) of every trial."""
        self._merits: dict[str, list[float]] = {}

    def add(self, trial: ObservedTrial) -> dict[str, float]:
        """``credit_<source>`` for each source that there was."""
        self._ranking.add(trial)
        source = self._source(trial.questions)
        self._merits.setdefault(source, []).append(self._ranking.merit(len(self._ranking.trials) - 1))
        return {f"credit_{name}": sum(found) / len(found) for name, found in sorted(self._merits.items())}

    def _source(self, questions: Sample) -> str:
        answers = {q.name: hash((q.name, type(q.answer).__name__, q.answer)) for q in questions}
        total = sum(answers.values())
        around = {(name, total - answer) for name, answer in answers.items()}
        near = not self._around.isdisjoint(around)
        self._around |= around
        return "step" if near else "scores" if signature(questions) in self._scored else "jump"
