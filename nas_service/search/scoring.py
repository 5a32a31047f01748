"""Zero-cost scores in a search: each network is scored once, and a screen trains the best of several proposals."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

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
NO_SCORES: Mapping[str, float] = dict.fromkeys(FOR_STRATEGIES, math.nan)


class Scorer:
    """Remembers the scores of every network that it was asked for, by fingerprint; in a file too, for later drivers.

    A network that two drivers began and did not end has no scores: it may be what took them down.
    """

    def __init__(self, file: Path | None = None, tell: Callable[[], None] = lambda: None) -> None:
        """``tell`` is called for every network whose scores had to be computed."""
        self._known: dict[str, dict[str, float]] = {}
        self._tell = tell
        self._file = file
        self._begun: Counter[str] = Counter()
        """fingerprint → drivers that began to compute its scores and did not end."""
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            for line in file.read_text().splitlines() if file.exists() else ():
                with contextlib.suppress(ValueError):  # torn by a crash
                    self._take(*json.loads(line))

    def _take(self, fingerprint: str, found: Mapping[str, float] | None = None) -> None:
        """One line of the file: a network whose scores were begun, or its scores."""
        if found is None:
            self._begun[fingerprint] += 1
        else:
            del self._begun[fingerprint]
            self._known.setdefault(fingerprint, {}).update(found)

    def _note(self, *line: Any) -> None:
        if self._file is not None:
            with self._file.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def __call__(self, architecture: Architecture, names: Sequence[str] = FOR_STRATEGIES) -> Mapping[str, float]:
        """Scores by name, NaN where one cannot be computed."""
        fingerprint = architecture.fingerprint()
        known = self._known.setdefault(fingerprint, {})
        missing = [name for name in names if name not in known]
        if missing:
            self._note(fingerprint)
            known |= self._computed(architecture, missing)
            self._note(fingerprint, known)
            self._tell()
        return {name: known[name] for name in names}

    def _computed(self, architecture: Architecture, names: Sequence[str]) -> dict[str, float]:
        try:
            if self._begun[architecture.fingerprint()] > 1:
                raise RuntimeError("two drivers ended while they computed them")
            return scores(architecture, names)
        except Exception as error:  # a block of a plug-in may raise anything
            log.warning("a network has no zero-cost scores: %s: %s", type(error).__name__, error)
            return dict.fromkeys(names, math.nan)

    def told(self, fingerprint: str) -> dict[str, float]:
        """What is known of a network, as metrics of its trial; costs are there already."""
        known = self._known.get(fingerprint, {})
        return {PREFIX + name: value for name, value in known.items() if name not in COSTS and math.isfinite(value)}


class Screen:
    """Draws several proposals for a trial and picks the one with the best joint rank of scores.

    Source: Abdelfattah et al. 2021, arXiv 2101.08134, "warm-up" and "move proposal".
    """

    def __init__(
        self,
        spec: ScreenSpec,
        ask: Callable[[Choose], Architecture],
        scorer: Callable[[Architecture, Sequence[ZeroCostName]], Mapping[str, float]],
    ) -> None:
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
