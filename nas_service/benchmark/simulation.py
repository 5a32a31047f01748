"""A search on a table of trained networks, in milliseconds: the rules of ``search.candidates`` without its database.

A trial whose network was trained before takes that result, free; free trials are bounded as in a search. Workers are
simulated: each trains one network after another, for the seconds that the table tells.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from nas_service.search.candidates import FREE_PROPOSALS
from nas_service.strategies.protocol import Objective, ObservedTrial, Problem, Strategy, StrategyConfig, StrategyEntry
from search_spaces.architecture import Architecture, Node, Task
from search_spaces.catalogue import SPACES
from search_spaces.choose import Choose, Question, Recorder, replay
from workers.tables import Answers, Table

ACCURACY = Objective("val_accuracy", "maximize")
TASK = Task((3, 32, 32), 10)
"""What the networks of the tables are for."""
POINTS = 100
"""Regret and accuracy are told in points: hundredths."""
BUDGETS = (25, 50, 100, 150)
"""Networks trained, at which strategies are looked at."""

Scores = Literal["absent", "given", "shuffled"]


class TableSpace:
    """A table as a search space: poses its questions, and remembers architectures, their names and rows."""

    def __init__(self, table: Table, ask: Callable[[Choose], Architecture] | None = None) -> None:
        """``ask`` is a space that asks the table's decisions; None: the one that the table names, if it does."""
        self.table = table
        self._ask = SPACES[table.space].bound(TASK) if ask is None and table.space is not None else ask
        self._known: dict[Answers, tuple[Architecture, str, int | None]] = {}
        self._rows: dict[int, int | None] = {}
        """By the identity of the architecture, which ``_known`` keeps."""

    def ask(self, choose: Choose) -> Architecture:
        """The architecture for a chooser; the same object for the same answers."""
        return self._of(tuple([choose(name, options) for name, options in self.table.questions]))[0]

    def looked_up(self, questions: Sequence[Question]) -> tuple[str, int | None]:
        """Fingerprint of the network that the answers give, and its row; None where the table has no such network."""
        return self._of(tuple([question.answer for question in questions]))[1:]

    def scores(self, shuffled: int | None = None) -> Callable[[Architecture], Mapping[str, float]]:
        """The table's zero-cost scores of what ``ask`` returned; with ``shuffled`` those of another row, drawn by that
        seed.
        """
        names = list(self.table.scores)
        columns = np.stack([self.table.scores[name] for name in names], axis=1)
        if shuffled is not None:
            columns = np.random.default_rng(shuffled).permutation(columns)

        def scores(architecture: Architecture) -> Mapping[str, float]:
            row = self._rows[id(architecture)]
            return dict(zip(names, [math.nan] * len(names) if row is None else columns[row].tolist(), strict=True))

        return scores

    def _of(self, answers: Answers) -> tuple[Architecture, str, int | None]:
        known = self._known.get(answers)
        if known is None:
            row = self.table.find(answers)
            architecture = self._architecture(answers, row)
            known = self._known[answers] = (architecture, architecture.fingerprint(), row)
            self._rows[id(architecture)] = row
        return known

    def _architecture(self, answers: Answers, row: int | None) -> Architecture:
        """The network of the table's space; where it has none, a node that carries the row's name or the answers."""
        decisions = {name: answer for (name, _), answer in zip(self.table.questions, answers, strict=True)}
        if self._ask is not None:
            return self._ask(replay(decisions))
        if row is None or self.table.network is None:
            return Architecture(TASK, (Node("decisions", (0,), decisions),))
        return Architecture(TASK, (Node("row", (0,), {"network": self.table.network[row]}),))


SPACES_OF_TABLES: dict[int, TableSpace] = {}


def space_of(table: Table) -> TableSpace:
    """The table's space; one a table, so that what it remembers serves every run."""
    return SPACES_OF_TABLES.setdefault(id(table), TableSpace(table))


@dataclass
class Run:
    """What one simulated search found. Lists have an entry for each network trained, in the order of results."""

    rows: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    """Validation accuracy as observed, 0 to 1."""
    ended: list[float] = field(default_factory=list)
    """Simulated seconds at which the result came."""
    best: list[int] = field(default_factory=list)
    """Row of the best observed so far: what is recommended."""
    regret: list[float] = field(default_factory=list)
    """Points that the true validation accuracy of the best observed lies below the optimum."""
    test: list[float] = field(default_factory=list)
    """Test accuracy of the best observed, in points; empty where the table has none."""
    proposals: int = 0
    asked_scores: bool = False
    """Whether the strategy looked at zero-cost scores."""
    overhead: list[float] = field(default_factory=list)
    """Seconds that the strategy took for each trial, to propose it and to observe its result."""


def simulate(
    table: Table,
    entry: StrategyEntry,
    config: StrategyConfig | None = None,
    seed: int = 0,
    evaluations: int = 150,
    *,
    noisy: bool = False,
    scores: Scores = "absent",
    workers: int = 1,
    epochs: int | None = None,
    seconds: float | None = None,
    space: TableSpace | None = None,
) -> Run:
    """One search of a strategy on a table, until ``evaluations`` networks were trained or ``seconds`` are over.

    Equal networks are trained once. A result is the mean of the table's trainings, or with ``noisy`` that of one of
    them, which the seed picks; with ``epochs`` what the table has after fewer than all. What still runs when the
    simulated seconds are over does not count.
    """
    space = space_of(table) if space is None else space
    run = Run()
    known = space.scores(seed if scores == "shuffled" else None) if scores != "absent" and table.scores else None

    def given(architecture: Architecture) -> Mapping[str, float]:
        assert known is not None
        run.asked_scores = True
        return known(architecture)

    trials = evaluations if seconds is None else None
    last = table.epochs if epochs is None else epochs
    problem = Problem(space.ask, (ACCURACY,), seed, trials, last, None if known is None else given, workers)
    strategy = entry.make(entry.config() if config is None else config, problem)
    oracle = partial(table.value, seed=seed if noisy else None, epochs=epochs)
    _Simulation(space, strategy, problem, oracle, run).go(evaluations, seconds)
    return run


class _Simulation:
    """The state of one simulated search."""

    def __init__(
        self, space: TableSpace, strategy: Strategy, problem: Problem, oracle: Callable[[int], float], run: Run
    ) -> None:
        self._space, self._table, self._strategy, self._problem = space, space.table, strategy, problem
        self._oracle, self._run = oracle, run
        self._ends: list[tuple[float, int]] = []
        """(simulated second, trial) of the trials that run, a heap."""
        self._trained: dict[str, int] = {}
        """fingerprint → the trial that trained the network, or is about to."""
        self._rows: dict[int, int] = {}
        self._values: dict[int, float] = {}
        self._proposed: dict[int, tuple[Question, ...]] = {}
        """Trials that have not ended: those that run, and those that wait for one of these."""
        self._waiting: dict[int, list[int]] = {}
        """trial → later trials of the same network, which take its result when it ends."""
        self._spent: dict[int, float] = {}
        self._now = 0.0
        self._number = self._free = 0

    def go(self, evaluations: int, seconds: float | None) -> None:
        found = self._run
        while len(found.rows) < evaluations:
            while (
                len(self._ends) < self._problem.parallel
                and len(self._trained) < evaluations
                and self._free < FREE_PROPOSALS * evaluations
            ):
                self._propose()
            if not self._ends or (seconds is not None and self._ends[0][0] > seconds):
                break
            self._end_next()
        found.proposals = self._number
        found.overhead = [self._spent[number] for number in sorted(self._spent)]

    def _propose(self) -> None:
        """One proposal through the chain: it runs, or it ends as a result that cost nothing."""
        number, self._number = self._number, self._number + 1
        started = time.perf_counter()
        recorder = Recorder(self._strategy.propose(number, self._proposed))
        self._space.ask(recorder)
        self._spent[number] = time.perf_counter() - started
        questions = tuple(recorder.questions)
        network, row = self._space.looked_up(questions)
        known = self._trained.get(network)
        if row is not None and known is None:
            self._trained[network] = number
            self._rows[number], self._proposed[number] = row, questions
            heapq.heappush(self._ends, (self._now + self._table.cost(row, self._problem.max_epochs), number))
            return
        self._free += 1
        if row is None:
            self._observe(ObservedTrial(number, questions, "infeasible", None, None, (1.0,)))
        elif known in self._proposed:
            self._proposed[number] = questions
            self._waiting.setdefault(known, []).append(number)
        else:
            assert known is not None
            self._completed(number, questions, known)

    def _end_next(self) -> None:
        """The trial that ends first, and those that waited for it."""
        self._now, number = heapq.heappop(self._ends)
        row, found, table = self._rows[number], self._run, self._table
        value = self._values[number] = self._oracle(row)
        for each in (number, *self._waiting.pop(number, [])):
            self._completed(each, self._proposed.pop(each), number)
        best = row if not found.best or value > max(found.values) else found.best[-1]
        found.rows.append(row)
        found.values.append(value)
        found.ended.append(self._now)
        found.best.append(best)
        found.regret.append(POINTS * (table.optimum - float(table.mean[best])))
        if table.test is not None:
            found.test.append(POINTS * float(table.test[best]))

    def _completed(self, number: int, questions: tuple[Question, ...], source: int) -> None:
        self._rows[number], self._values[number] = self._rows[source], self._values[source]
        reused, epoch = number != source, self._problem.max_epochs
        self._observe(ObservedTrial(number, questions, "completed", (self._values[number],), epoch, reused=reused))

    def _observe(self, trial: ObservedTrial) -> None:
        started = time.perf_counter()
        self._strategy.observe(trial)
        self._spent[trial.number] += time.perf_counter() - started
