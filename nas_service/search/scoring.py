"""Zero-cost scores in a search: each network is scored once, and a screen trains the best of several proposals."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence

from nas_service.search.request import ScreenSpec
from nas_service.strategies.protocol import Proposed, Strategy
from search_spaces.architecture import Architecture
from search_spaces.choose import Choose, Question, Recorder
from workers.proxies import scores
from workers.scores import PREFIX, ZeroCostName, ranked

log = logging.getLogger(__name__)

FOR_STRATEGIES: tuple[ZeroCostName, ...] = ("params", "macs", "synflow", "jacov", "nwot", "zen")
"""Those that strategies may ask for: the ones that rank best for what they cost."""
COSTS = ("params", "macs")
"""Scores that every trial lists already, as costs."""


class Scorer:
    """Remembers the scores of every network that it was asked for, by fingerprint."""

    def __init__(self, tell: Callable[[], None] = lambda: None) -> None:
        """``tell`` is called for every network whose scores had to be computed."""
        self._known: dict[str, dict[str, float]] = {}
        self._tell = tell

    def __call__(self, architecture: Architecture, names: Sequence[str] = FOR_STRATEGIES) -> Mapping[str, float]:
        """Scores by name, NaN where one cannot be computed."""
        known = self._known.setdefault(architecture.fingerprint(), {})
        missing = [name for name in names if name not in known]
        if missing:
            try:
                known |= scores(architecture, missing)
            except Exception as error:  # a block of a plug-in may raise anything
                log.warning("a network has no zero-cost scores: %s: %s", type(error).__name__, error)
                known |= dict.fromkeys(missing, math.nan)
            self._tell()
        return {name: known[name] for name in names}

    def learn(self, fingerprint: str, metrics: Mapping[str, float]) -> None:
        """Take over what an earlier driver recorded of a trial: its scores, and costs, which are scores too."""
        listed = {name.removeprefix(PREFIX): value for name, value in metrics.items() if name.startswith(PREFIX)}
        found = listed | {name: float(metrics[name]) for name in COSTS if name in metrics}
        if found:
            self._known.setdefault(fingerprint, {}).update(found)

    def told(self, fingerprint: str) -> dict[str, float]:
        """What is known of a network, as metrics of its trial; costs are there already."""
        known = self._known.get(fingerprint, {})
        return {PREFIX + name: value for name, value in known.items() if name not in COSTS and math.isfinite(value)}


class Screen:
    """Draws several proposals for a trial and picks the one with the best joint rank of scores.

    Source: Abdelfattah et al. 2021, arXiv 2101.08134, "warm-up" and "move proposal".
    """

    def __init__(self, spec: ScreenSpec, ask: Callable[[Choose], Architecture], scorer: Scorer) -> None:
        self._spec, self._ask, self._scorer = spec, ask, scorer

    def proposal(
        self, strategy: Strategy, number: int, running: Proposed, unwanted: Callable[[Architecture], bool]
    ) -> Proposed:
        """The trials to count as running when ``strategy`` is asked for ``number``, so that it answers the best one.

        ``unwanted`` tells architectures that would not be trained: known ones, those that break a constraint.
        """
        drawn: dict[int, tuple[Question, ...]] = {}
        options: list[tuple[Proposed, Mapping[str, float]]] = []
        for i in range(self._spec.candidates_per_trial):
            before = {**running, **drawn}
            recorder = Recorder(strategy.propose(number, before))
            try:
                architecture = self._ask(recorder)
                wanted = not unwanted(architecture)
            except Exception:  # the chain records what a wrong proposal was
                return before
            if wanted:
                options.append((before, self._scorer(architecture, self._spec.scores)))
            drawn[-1 - i] = tuple(recorder.questions)
        if not options:
            return running
        merits = ranked([figures for _, figures in options], self._spec.scores)
        return options[max(range(len(options)), key=lambda i: merits[i])][0]
