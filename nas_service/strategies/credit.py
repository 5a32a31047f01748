"""What the proposals of a strategy came from, and how well each source did: told with every result, and recorded."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from nas_service.strategies.decisions import Sample


class Sources:
    """Where each trial came from, in the order of results.

    A ``repeat`` decides as an earlier trial did, a ``step`` differs from one in one decision; ``scores`` are of the
    best of a pool of random samples, by zero-cost scores; what is left are ``jumps``: random samples, and larger
    variations. All of it follows from the trials themselves, so a rebuilt strategy tells the same.
    """

    def __init__(self, scored: Container[str]) -> None:
        """``scored``: signatures of the best of the pool."""
        self._scored = scored
        self._around: set[tuple[str, int]] = set()
        """(decision, hash of the answers to all others) of every trial."""
        self._tried: set[str] = set()
        self.found: list[str] = []
        """Source of each trial: repeat, step, scores or jump."""

    def add(self, questions: Sample, key: str) -> None:
        """The next trial; ``key`` is its signature."""
        answers = {q.name: hash((q.name, repr(q.answer))) for q in questions}
        total = sum(answers.values())
        around = {(name, total - answer) for name, answer in answers.items()}
        near, again = not self._around.isdisjoint(around), key in self._tried
        self._around |= around
        self._tried.add(key)
        self.found.append("repeat" if again else "step" if near else "scores" if key in self._scored else "jump")


def credit(sources: Iterable[str], merits: Iterable[float]) -> Mapping[str, float]:
    """``credit_<source>``: the mean merit of its trials, for each source that there is; see ``Ranking.merit``."""
    by_source: dict[str, list[float]] = {}
    for source, merit in zip(sources, merits, strict=True):
        by_source.setdefault(source, []).append(merit)
    return {f"credit_{name}": sum(found) / len(found) for name, found in sorted(by_source.items())}
