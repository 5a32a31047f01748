"""The Gaussian process over decisions, and the strategies that stand on it."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm, spearmanr
from strategy_tables import ACCURACY, SOMETHING, conditional, problem

from nas_service.strategies import STRATEGIES, Objective, ObservedTrial, Problem, Strategy
from nas_service.strategies.auto import RECENT, Auto, AutoConfig, Pool
from nas_service.strategies.decisions import asked, signature
from nas_service.strategies.merit import front_ranks
from nas_service.strategies.predictor import Predictor
from nas_service.strategies.surrogate import (
    COUNT_LINE,
    Encoding,
    GaussianProcess,
    decisions_prior,
    log_expected_improvement,
    targets,
)
from search_spaces.architecture import Architecture, Node
from search_spaces.choose import Choose, Question, sample

LAYERS, WIDTHS = 8, (1, 2, 3, 4)
RNG = np.random.default_rng(5)
WORTH, PAIRS = RNG.normal(size=(LAYERS, 4)), RNG.normal(size=(LAYERS - 1, 4, 4))


def ask_chain(choose: Choose) -> Architecture:
    """65,536 samples; the answers are in the arguments of the architecture, for ``chain_score``."""
    widths = [choose(f"layer{i}", WIDTHS) for i in range(LAYERS)]
    return Architecture(SOMETHING.task, tuple(Node("linear", (i,), {"out": w}) for i, w in enumerate(widths)))


def value(widths: list[int]) -> float:
    """Worth of each layer, and of each pair of neighbours."""
    total = sum(WORTH[i, w - 1] for i, w in enumerate(widths))
    return float(total + 0.5 * sum(PAIRS[i, a - 1, b - 1] for i, (a, b) in enumerate(itertools.pairwise(widths))))


def best_value() -> float:
    """The largest ``value`` there is, by dynamic programming."""
    tail = WORTH[-1]
    for i in reversed(range(LAYERS - 1)):
        tail = WORTH[i] + (0.5 * PAIRS[i] + tail[None, :]).max(axis=1)
    return float(tail.max())


def widths_of(architecture: Architecture) -> list[int]:
    return [int(str(node.args["out"])) for node in architecture.nodes]


def good_scores(architecture: Architecture) -> Mapping[str, float]:
    """A score that tells most, and one that was not computed."""
    widths = widths_of(architecture)
    return {"worth": sum(WORTH[i, w - 1] for i, w in enumerate(widths)), "broken": float("nan")}


def perfect_scores(architecture: Architecture) -> Mapping[str, float]:
    """All that there is to know."""
    return {"worth": value(widths_of(architecture))}


def useless_scores(architecture: Architecture) -> Mapping[str, float]:
    rng = random.Random(repr(widths_of(architecture)))
    return {"one": rng.random(), "two": rng.random()}


def chain(seed: int, scores: object = None, parallel: int = 1) -> Problem:
    assert scores is None or callable(scores)
    return Problem(ask_chain, (ACCURACY,), seed, 60, 9, scores, parallel)


def search(strategy: Strategy, setting: Problem, evaluations: int) -> list[float]:
    found = []
    for number in range(evaluations):
        questions = asked(setting, strategy.propose(number))
        found.append(value([int(q.answer) for q in questions]))
        strategy.observe(ObservedTrial(number, questions, "completed", (found[-1],), 9))
    return found


def made(name: str, setting: Problem) -> Strategy:
    return STRATEGIES[name].make(STRATEGIES[name].config(), setting)


def samples(count: int, seed: int = 0) -> list[tuple[Question, ...]]:
    rng = random.Random(seed)
    return [asked(problem(conditional(), 0), sample(rng)) for _ in range(count)]


def test_columns_tell_decisions_apart_and_count_shared_options() -> None:
    some = samples(40)
    encoding = Encoding(some)
    rows = encoding.encode(some)
    one_hot = rows[:, : len(encoding.kinds)]
    names = {q.name for s in some for q in s}
    assert (one_hot.sum(axis=1) == len(names)).all()
    assert len(np.unique(one_hot, axis=0)) == len({signature(s) for s in some})
    deepest = next(i for i, s in enumerate(some) if s[0].answer == 4)
    shallow = next(i for i, s in enumerate(some) if s[0].answer == 1)
    kernels, widths = 3, 4
    assert encoding.counts == kernels + widths + 2  # "not asked" is counted like an option
    shares = rows[:, len(encoding.kinds) :].sum(axis=1)
    assert shares[deepest] == pytest.approx(2 * 3.0)
    assert shares[shallow] == pytest.approx(2 * 3.0)


@pytest.mark.parametrize("mixed", [False, True])
def test_posterior_is_that_of_a_direct_computation(mixed: bool) -> None:
    known, unknown, pending = samples(30), samples(9, seed=1), samples(4, seed=2)
    encoding = Encoding(known)
    rows, new, busy = encoding.encode(known), encoding.encode(unknown), encoding.encode(pending)
    goals = np.random.default_rng(3).normal(size=30)
    stopped = np.arange(30) % 3 == 0
    process = GaussianProcess(decisions_prior(encoding), rows, goals, stopped.astype(float) if mixed else None)
    columns = rows.shape[1]

    def kernel(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        square = ((one[:, None, :] - two[None, :, :]) ** 2 * process._weights[:columns]).sum(axis=2)
        line = COUNT_LINE * one[:, -encoding.counts :] @ two[:, -encoding.counts :].T
        if mixed:  # the first 30 rows of what is known were stopped or not; all others ask for whole trainings
            was, other = (
                np.isin(np.arange(len(some)), np.flatnonzero(stopped) if len(some) >= 30 else []) for some in (one, two)
            )
            differ = was[:, None] != other
            square, line = (
                square + differ * process._weights[columns],
                line * np.where(differ, np.exp(-process._weights[columns] / 2), 1),
            )
        return np.asarray(process._variance * np.exp(-square / 2) + process._slant * line)

    noise = process._noise + 1e-6
    inverse = np.linalg.inv(kernel(rows, rows) + noise * np.eye(30))
    mean, deviation = process.posterior(new)
    assert mean == pytest.approx(kernel(new, rows) @ inverse @ goals, abs=1e-6)
    left = np.diag(kernel(new, new) - kernel(new, rows) @ inverse @ kernel(rows, new))
    assert deviation == pytest.approx(np.sqrt(left), abs=1e-5)

    believed = np.concatenate([goals, process.posterior(busy)[0]])
    both = np.concatenate([rows, busy])
    inverse = np.linalg.inv(kernel(both, both) + noise * np.eye(34))
    same, smaller = process.posterior(new, busy)
    assert same == pytest.approx(kernel(new, both) @ inverse @ believed, abs=2e-2)
    assert same == pytest.approx(mean)
    assert smaller == pytest.approx(
        np.sqrt(np.diag(kernel(new, new) - kernel(new, both) @ inverse @ kernel(both, new))), abs=1e-5
    )
    assert (smaller <= deviation + 1e-9).all()


def test_kernel_is_where_the_slope_is_zero() -> None:
    """The slopes that L-BFGS is given are those of the loss: it ends where no small step helps."""
    known = samples(40)
    encoding = Encoding(known)
    goals = targets([ObservedTrial(i, s, "completed", (float(len(s)),), 9) for i, s in enumerate(known)], (ACCURACY,))
    short = GaussianProcess(decisions_prior(encoding), encoding.encode(known), goals, iterations=5)
    long = GaussianProcess(decisions_prior(encoding), encoding.encode(known), goals, iterations=400)
    assert long.evidence > short.evidence + 0.1
    assert np.corrcoef(long.posterior(encoding.encode(known))[0], goals)[0, 1] > 0.95


def test_expected_improvement_near_and_far() -> None:
    mean, deviation = np.array([0.0, 1.0, -2.0, 3.0]), np.array([1.0, 0.5, 0.3, 0.1])
    z = (mean - 0.5) / deviation
    assert np.exp(log_expected_improvement(mean, deviation, 0.5)) == pytest.approx(
        deviation * (z * norm.cdf(z) + norm.pdf(z)), rel=0.05
    )
    far = log_expected_improvement(np.array([-40.0, -20.0, -10.0, -5.1, -4.9]), np.ones(5), 0.0)
    assert np.isfinite(far).all()
    assert (np.diff(far) > 0).all()
    sure = log_expected_improvement(np.array([29.0, 31.0, 40.0, 900.0]), np.ones(4), 0.0)
    assert sure == pytest.approx(np.log([29.0, 31.0, 40.0, 900.0]))


@pytest.mark.parametrize("name", ["predictor", "auto"])
def test_finds_more_than_evolution_with_the_same_trials(name: str) -> None:
    gaps = {
        strategy: np.array([best_value() - max(search(made(strategy, chain(s)), chain(s), 60)) for s in range(4)])
        for strategy in (name, "evolution", "random")
    }
    assert (gaps[name] < gaps["random"]).all()
    assert gaps[name].mean() < 0.5 * gaps["evolution"].mean()


def test_scores_shorten_the_search() -> None:
    with_scores = [best_value() - max(search(made("auto", chain(s, good_scores)), chain(s), 25)) for s in range(4)]
    without = [best_value() - max(search(made("auto", chain(s)), chain(s), 25)) for s in range(4)]
    assert np.mean(with_scores) < 0.7 * np.mean(without)


def test_scores_that_tell_nothing_are_dropped() -> None:
    useful, useless = (Auto(AutoConfig(), chain(3, scores)) for scores in (perfect_scores, useless_scores))
    assert best_value() - max(search(useless, chain(3), 60)) < 2.0
    search(useful, chain(3), 15)
    assert useful._used is not None, "ranks tell the best apart that the search is among"
    assert useless._used is None
    good = Auto(AutoConfig(), chain(3, good_scores))
    search(good, chain(3), 30)
    assert good._used is not None


def test_correlation_of_scores_and_results_is_told() -> None:
    setting = chain(4, good_scores)
    tried = Auto(AutoConfig(initial=60), setting)
    for number in range(40):
        questions = asked(setting, tried.propose(number))
        worth = value([int(q.answer) for q in questions])
        figures = tried.observe(ObservedTrial(number, questions, "completed", (worth,), 9))
    assert figures is not None
    assert figures["score_correlation"] is not None
    assert figures["score_correlation"] > 0.4


def test_each_source_of_proposals_has_its_credit() -> None:
    setting = chain(4, good_scores)
    strategy = Auto(AutoConfig(pool=50, initial=5), setting)
    trials: list[ObservedTrial] = []

    def told(questions: tuple[Question, ...], worth: float) -> object:
        trials.append(ObservedTrial(len(trials), questions, "completed", (worth,), 9))
        return strategy.observe(trials[-1])

    pool = strategy._pool()
    pooled = [pool.samples[key] for key in pool.best]
    lone = asked(setting, lambda _, options: options[0])
    near = asked(setting, lambda name, options: options[name == "layer3"])
    far = asked(setting, lambda name, options: options[1 + (name < "layer4")])
    figures: dict[str, float] = {}
    for questions, worth in ((pooled[0], 1.0), (lone, 2.0), (near, 3.0), (far, 0.0), (lone, 2.0), (pooled[1], 4.0)):
        figures = told(questions, worth)  # type: ignore[assignment]
    credit = {name: value for name, value in figures.items() if name.startswith("credit_")}
    assert credit == {"credit_scores": 0.6, "credit_jump": 0.25, "credit_step": 0.8, "credit_repeat": 0.5}
    rebuilt = Auto(AutoConfig(pool=50, initial=5), setting)
    rebuilt.restore(json.loads(json.dumps(strategy.snapshot())))
    after = ObservedTrial(6, pooled[2], "completed", (5.0,), 9)
    assert rebuilt.observe(after) == strategy.observe(after)


@pytest.mark.parametrize("given", [0, 3, 6])
def test_networks_that_a_search_was_given_take_nothing_from_the_start(given: int) -> None:
    """They have numbers, but a strategy is not told of them: they are not its proposals."""
    setting = chain(4, good_scores)
    strategy = Auto(AutoConfig(), setting)
    pool, picked = strategy._pool(), []
    for number in range(given, given + 6):
        questions = asked(setting, strategy.propose(number))
        picked.append(signature(questions))
        strategy.observe(ObservedTrial(number, questions, "infeasible", None, None, (1.0,)))
    assert picked[::2] == pool.best[:3]
    assert not set(picked[1::2]) & set(pool.best)


def test_a_result_is_compared_with_the_latest_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """With several objectives all that are compared are sorted anew, with every result."""
    sorted_sizes: list[int] = []

    def counted(table: np.ndarray) -> np.ndarray:
        sorted_sizes.append(len(table))
        return front_ranks(table)

    monkeypatch.setattr("nas_service.strategies.merit.front_ranks", counted)
    setting = replace(chain(4), objectives=(ACCURACY, Objective("macs", "minimize")))
    strategy, rng = Auto(AutoConfig(), setting), random.Random(2)
    for number in range(RECENT + 50):
        questions, values = asked(setting, sample(rng)), (rng.random(), rng.random())
        figures = strategy.observe(ObservedTrial(number, questions, "completed", values, 9))
    assert figures is not None
    assert figures["credit_jump"] is not None
    assert max(sorted_sizes) == RECENT
    sorted_sizes.clear()
    Auto(AutoConfig(), setting).restore(strategy.snapshot())
    assert sorted_sizes == []


@pytest.mark.parametrize(("rung", "least"), [("luck", 0.35), ("upside down", 0.1), ("truth", 0.6)])
def test_what_a_rung_is_worth_is_learned(rung: str, least: float) -> None:
    """Stopped trials rank behind those that went on; where the rung was wrong about them, that must not mislead."""
    setting = chain(8)
    found = []
    for seed in range(6):
        strategy = made("predictor", setting)
        assert isinstance(strategy, Predictor)
        rng = random.Random(seed)
        drawn = [asked(setting, sample(rng)) for _ in range(60)]
        worth = [value([int(q.answer) for q in questions]) for questions in drawn]
        seen = {"luck": [rng.random() for _ in worth], "upside down": [-v for v in worth], "truth": worth}[rung]
        for number, (questions, told, whole) in enumerate(zip(drawn, seen, worth, strict=True)):
            went_on = told >= sorted(seen)[40]
            ended = ("completed", (whole,), 9) if went_on else ("pruned", (told,), 1)
            strategy.observe(ObservedTrial(number, questions, *ended))  # type: ignore[arg-type]
        unseen = [asked(setting, sample(rng)) for _ in range(200)]
        process, read, _ = strategy._model()
        truth = [value([int(q.answer) for q in questions]) for questions in unseen]
        found.append(spearmanr(process.posterior(read(unseen))[0], truth).statistic)
    assert np.mean(found) > least


def test_a_copied_result_does_not_count_twice() -> None:
    """Equal networks share one training, luck included: told as evidence of its own, the luck would look like merit."""
    setting = chain(8)
    strategy, plain = made("predictor", setting), made("predictor", setting)
    for number in range(20):
        questions = asked(setting, sample(random.Random(number)))
        worth = value([int(q.answer) for q in questions])
        trial = ObservedTrial(number, questions, "completed", (worth,), 9)
        strategy.observe(trial)
        plain.observe(trial)
    copied = asked(setting, sample(random.Random(77)))
    strategy.observe(ObservedTrial(20, copied, "completed", (worth,), 9, reused=True))
    assert isinstance(strategy, Predictor)
    assert isinstance(plain, Predictor)
    known, without = (s._model()[0]._rows for s in (strategy, plain))
    assert np.array_equal(known, without)
    strategy.observe(ObservedTrial(21, copied, "completed", (worth + 1,), 9))
    assert len(strategy._model()[0]._rows) == 21
    taken = asked(setting, sample(random.Random(78)))  # from a network that the search was given: it was never told
    strategy.observe(ObservedTrial(22, taken, "completed", (worth + 2,), 9, reused=True))
    assert len(strategy._model()[0]._rows) == 22


def test_first_trials_are_the_best_of_the_pool_and_random_ones_in_turn() -> None:
    setting = chain(5, good_scores)
    tried, rng = Auto(AutoConfig(pool=400), setting), random.Random(3)
    first: dict[int, tuple[Question, ...]] = {}
    for number in range(6):
        first[number] = asked(setting, tried.propose(number, first))
    pool = tried._pool()
    assert [signature(first[number]) for number in (0, 2, 4)] == pool.best[:3]
    assert not {signature(first[number]) for number in (1, 3, 5)} & set(pool.best)
    at = [float(pool.total(tried._ranks([pool.samples[key]]))[0]) for key in pool.best]
    assert at == sorted(at, reverse=True)
    longer = Auto(AutoConfig(pool=400, initial=7), setting)
    for number, questions in first.items():
        for strategy in (tried, longer):
            strategy.observe(ObservedTrial(number, questions, "completed", (rng.random(),), 9))
        modelled = [signature(asked(setting, s.propose(number + 1))) != pool.best[3] for s in (tried, longer)]
        assert modelled[0] or number != 5, "from the seventh on, the model proposes"
    assert modelled == [True, False]


def test_scores_that_no_network_has_are_none() -> None:
    setting = chain(5, lambda _: {"synflow": math.nan})
    strategy = Auto(AutoConfig(pool=20), setting)
    plain = Auto(AutoConfig(), chain(5))
    assert strategy._pool().names == []
    for number in range(10):
        assert asked(setting, strategy.propose(number)) == asked(setting, plain.propose(number))


def test_few_samples_are_scored_for_a_trial() -> None:
    calls: set[str] = set()

    def counted(architecture: Architecture) -> Mapping[str, float]:
        calls.add(repr(widths_of(architecture)))
        return good_scores(architecture)

    setting = chain(6, counted)
    search(Auto(AutoConfig(pool=300, scored=8), setting), setting, 30)
    assert 250 < len(calls) <= 300 + 30 * 8 + 10


@pytest.mark.parametrize("scores", [None, good_scores])
def test_sixteen_at_once_repeat_nothing_and_are_rebuilt(scores: object) -> None:
    setting = chain(7, scores, parallel=16)
    tried = made("auto", setting)
    running: dict[int, tuple[Question, ...]] = {}
    seen, trials = set(), []
    rng = random.Random(0)
    for number in range(60):
        running[number] = asked(setting, tried.propose(number, running))
        assert running[number] not in seen
        seen.add(running[number])
        if len(running) == 16:
            done = rng.choice(sorted(running))
            worth = value([int(q.answer) for q in running[done]])
            trials.append(ObservedTrial(done, running.pop(done), "completed", (worth,), 9))
            tried.observe(trials[-1])
            if number == 40:
                stored = json.dumps(tried.snapshot())
                kept = len(trials)
    expected = asked(setting, tried.propose(60, running))
    rebuilt, restored = made("auto", setting), made("auto", setting)
    restored.restore(json.loads(stored))
    for trial in trials:
        rebuilt.observe(trial)
    for trial in trials[kept:]:
        restored.observe(trial)
    assert asked(setting, rebuilt.propose(60, running)) == expected
    assert asked(setting, restored.propose(60, running)) == expected


def test_a_score_that_is_missing_is_the_worst() -> None:
    some = {str(i): s for i, s in enumerate(samples(4))}
    pool = Pool(some, [{"a": 1.0}, {"a": 2.0, "b": 5.0}, {}, {"a": 3.0, "b": float("inf")}])
    assert pool.names == ["a", "b"]
    assert pool.ranks[:, 0].tolist() == [0.375, 0.625, 0.125, 0.875]
    assert pool.ranks[1, 1] == 0.875
