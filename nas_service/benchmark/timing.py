"""Seconds that a strategy needs for one proposal, as a search gets long."""

from __future__ import annotations

import itertools
import random
import statistics
import time

from nas_service.benchmark.simulation import ACCURACY, TASK
from nas_service.strategies.decisions import stream
from nas_service.strategies.protocol import ObservedTrial, Problem, StrategyEntry
from search_spaces.architecture import Architecture, Node
from search_spaces.choose import Choose, Recorder, sample

TRIALS = (100, 1_000, 10_000)
DECISIONS, OPTIONS = 20, tuple(range(5))
TIMED = 9
"""Proposals that the median is taken of, each with its result told."""
LIMIT = 120.0
"""Seconds after which the results before the timed proposals are too many to be told."""


def ask(choose: Choose) -> Architecture:
    """A made-up space of 5^20 samples; its network has the answers for a name."""
    answers = "".join(str(choose(f"decision{i}", OPTIONS)) for i in range(DECISIONS))
    return Architecture(TASK, (Node("sample", (0,), {"answers": answers}),))


def seconds_per_proposal(entry: StrategyEntry, trial: int, seed: int = 0) -> float | None:
    """Median seconds to propose trial ``trial`` and those after it, and to learn its result; None where the results of
    the trials before could not be told within LIMIT.

    The trials before are random samples of a space of 20 decisions with 5 options, each option worth something, each
    pair of neighbours too. There are zero-cost scores for those that look at them, one of which tells something.
    """
    rng = random.Random(seed)
    worth = [[rng.gauss(0, 1) for _ in OPTIONS] for _ in range(DECISIONS)]
    together = [[[rng.gauss(0, 0.7) for _ in OPTIONS] for _ in OPTIONS] for _ in range(DECISIONS - 1)]

    def scores(architecture: Architecture) -> dict[str, float]:
        answers = str(architecture.nodes[0].args["answers"])
        return {"synflow": sum(worth[i][int(a)] for i, a in enumerate(answers)), "params": float(int(answers) % 997)}

    strategy = entry.make(entry.config(), Problem(ask, (ACCURACY,), seed, trial + TIMED, 1, scores))

    def result(number: int, recorder: Recorder) -> ObservedTrial:
        answers = [OPTIONS.index(int(question.answer)) for question in recorder.questions]
        value = sum(worth[i][a] for i, a in enumerate(answers))
        value += sum(together[i][a][b] for i, (a, b) in enumerate(itertools.pairwise(answers)))
        return ObservedTrial(number, tuple(recorder.questions), "completed", (value / 100,), 1)

    until = time.monotonic() + LIMIT
    for number in range(trial):
        if time.monotonic() > until:
            return None
        recorder = Recorder(sample(stream(seed, number)))
        ask(recorder)
        strategy.observe(result(number, recorder))
    taken = []
    for number in range(trial, trial + TIMED):
        started = time.perf_counter()
        recorder = Recorder(strategy.propose(number))
        ask(recorder)
        told = time.perf_counter() - started
        ended = result(number, recorder)
        started = time.perf_counter()
        strategy.observe(ended)
        taken.append(told + time.perf_counter() - started)
    return statistics.median(taken)
