"""How much to believe of a search: baseline, noise, rank correlation, importance of decisions, what it cost.

Everything is worked out from recorded rows, in milliseconds, with a fixed seed: asked twice, it answers the same.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import sqlalchemy as sa
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from nas_service.database.tables import Event, Finalist, Measurement, Search, Trial
from nas_service.search.ranking import hypervolume, knee, losses, pareto_front, scaled
from nas_service.search.request import ObjectiveSpec
from nas_service.search.status import objectives_of, score_of
from nas_service.strategies import STRATEGIES
from nas_service.strategies.merit import feasible
from nas_service.strategies.optuna_sampler import parameters
from nas_service.strategies.protocol import Objective
from search_spaces.choose import Question

Floats = npt.NDArray[np.float64]

RESAMPLES = 2000
FEWEST_RANDOM = 5
"""Random trials below which there is no baseline."""
FEWEST_FOR_IMPORTANCE = 10
BUDGETS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)


class Interval(BaseModel):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


class Best(BaseModel):
    """Best value of the first objective after so many results, as observed."""

    results: int
    value: float


class Baseline(BaseModel):
    """What random search would have reached with as many results."""

    source: str
    sample: int = Field(description="random trials that it is estimated from")
    results: int = Field(description="results that both are given")
    expected_best: Interval
    reached: float = Field(description="best value of this search, as observed")
    chance: float = Field(description="share of random searches that reach at least as much, 0 to 1")


class FinalistSpread(BaseModel):
    """One architecture trained fully, with several seeds."""

    trial: int
    seeds: int
    mean: float
    sd: float | None


class Noise(BaseModel):
    """What another seed changes."""

    sd: float = Field(description="pooled standard deviation of a full training over seeds")
    winner_changes: float | None = Field(
        description="share of repetitions with new seeds in which another finalist wins"
    )
    optimism: float | None = Field(
        description="how much the best observed value of the search likely overstates, by selection; null where the "
        "objective is not the score itself"
    )


class Correlation(BaseModel):
    """Kendall's rank correlation."""

    tau: Interval
    pairs: int


class Tradeoff(BaseModel):
    """Several objectives at once."""

    front: list[int] = Field(description="trials that no other beats in every objective")
    knee: int = Field(description="trial of the front that is farthest from the plane through its ends")
    hypervolume: list[Best] = Field(
        description="share of the box between the best and the worst value of every objective that is dominated, after "
        "so many results"
    )


class TestReading(BaseModel):
    """When the test split was read, proved from the events."""

    readings: int
    event: int | None
    last_training_event: int | None
    after_all_training: bool | None


class Report(BaseModel):
    """The honesty report of one search. What could not be worked out is null, and ``notes`` says why."""

    search: str
    metric: str = Field(description="first objective; the values below are of it unless they say otherwise")
    direction: str
    best_so_far: list[Best]
    baseline: Baseline | None
    finalists: list[FinalistSpread]
    finalists_metric: str
    noise: Noise | None
    search_against_full_training: Correlation | None
    early_against_late: Correlation | None = Field(
        description="first rung against the last epoch, of the trials that completed"
    )
    tradeoff: Tradeoff | None = Field(description="null with one objective")
    shares: dict[str, float] = Field(description="of all proposals: completed, pruned, failed, infeasible, reused, …")
    importance: dict[str, float] = Field(
        description="share of each decision in being among the best (PED-ANOVA), most important first"
    )
    test: TestReading
    cost: dict[str, float | None] = Field(description="trials, epochs, hours of work and of training, kWh")
    notes: list[str]


def report(session: Session, search: Search) -> Report:
    """The report of a search as it stands."""
    trials = list(session.scalars(sa.select(Trial).where(Trial.search_id == search.id).order_by(Trial.observed_as)))
    finals = list(session.scalars(sa.select(Finalist).where(Finalist.search_id == search.id)))
    objective, score = objectives_of(search)[0], score_of(search, trials)
    wishes = search.request["objectives"][0].get("soft")
    notes: list[str] = []
    results = [trial for trial in trials if _has_result(trial)]
    values = np.array([(trial.values or [math.nan])[0] for trial in results])
    groups = _groups(finals, score)
    spreads = [
        FinalistSpread(trial=n, seeds=len(v), mean=statistics.fmean(v), sd=statistics.stdev(v) if len(v) > 1 else None)
        for n, v in sorted(groups.items())
    ]
    return Report(
        search=search.id,
        metric=objective.metric,
        direction=objective.direction,
        best_so_far=_best_so_far(values, objective),
        baseline=_baseline(session, search, results, values, objective, notes),
        finalists=spreads,
        finalists_metric=score,
        noise=_noise(values if objective.metric == score and not wishes else None, score, groups, notes),
        search_against_full_training=_fidelity(trials, groups, score, notes),
        early_against_late=_early(session, search, results, score),
        tradeoff=_tradeoff(results, objectives_of(search)),
        shares=_shares(trials),
        importance=_importance(results, objective, notes),
        test=_test(session, search),
        cost=_cost(session, search, trials, finals),
        notes=notes,
    )


def _has_result(trial: Trial) -> bool:
    kept = trial.state in ("completed", "pruned") and bool(trial.values) and feasible(trial.violations)
    return kept and not trial.reused_from


def _groups(finals: Sequence[Finalist], score: str) -> dict[int, list[float]]:
    """Scores of the full trainings by trial."""
    groups: dict[int, list[float]] = {}
    for row in finals:
        if row.state == "completed" and row.metrics.get(score) is not None:
            groups.setdefault(row.number, []).append(float(row.metrics[score]))
    return groups


def _best(values: Floats, objective: Objective) -> float:
    return float(values.max() if objective.direction == "maximize" else values.min())


def _best_so_far(values: Floats, objective: Objective) -> list[Best]:
    budgets = sorted({n for n in (*BUDGETS, len(values)) if 0 < n <= len(values)})
    return [Best(results=n, value=_best(values[:n], objective)) for n in budgets]


def _baseline(
    session: Session, search: Search, results: list[Trial], values: Floats, objective: Objective, notes: list[str]
) -> Baseline | None:
    """Best of as many draws from random trials: those of this search's start, or of random searches like it."""
    sample, source = _random_values(session, search, results)
    if len(sample) < FEWEST_RANDOM or not len(values):
        notes.append(
            f"no random baseline: {len(sample)} random trials of such trainings are known, {FEWEST_RANDOM} are needed; "
            "run the same request with the strategy random to have them"
        )
        return None
    if len(sample) < len(values):
        notes.append(
            f"the random baseline is estimated from {len(sample)} trials for {len(values)} results: it can be too low"
        )
    sign = 1.0 if objective.direction == "maximize" else -1.0
    ordered = np.sort(sign * sample)
    rng = np.random.default_rng(0)
    draws = np.array([expected_best(np.sort(rng.choice(ordered, len(ordered))), len(values)) for _ in range(RESAMPLES)])
    low, high = np.quantile(draws, [0.025, 0.975])
    expected, reached = expected_best(ordered, len(values)), sign * _best(values, objective)
    chance = 1 - float(np.mean(ordered < reached)) ** len(values)
    low, high = sorted((sign * float(low), sign * float(high)))
    return Baseline(
        source=source,
        sample=len(sample),
        results=len(values),
        expected_best=Interval(value=sign * expected, low=low, high=high),
        reached=sign * reached,
        chance=chance,
    )


def expected_best(ordered: Floats, draws: int) -> float:
    """Expected largest of ``draws`` from the ascending sample, with replacement (Dodge et al. 2019, arXiv
    1909.03004)."""
    n = len(ordered)
    steps = (np.arange(n + 1) / n) ** draws
    return float(np.sum(ordered * np.diff(steps)))


def _random_values(session: Session, search: Search, results: list[Trial]) -> tuple[Floats, str]:
    """Values of random trials with such trainings, and where they come from."""
    request = search.request
    alike = ("dataset", "space", "recipe", "scheduler", "evaluator")
    known: list[float] = []
    others = sa.select(Search).where(Search.id != search.id)
    searches = [
        other
        for other in session.scalars(others)
        if other.request["strategy"].get("name") == "random"
        and all(other.request.get(part) == request.get(part) for part in alike)
    ]
    for other in searches:
        rows = session.scalars(sa.select(Trial).where(Trial.search_id == other.id))
        wanted = ObjectiveSpec.model_validate(request["objectives"][0])
        known += [v for trial in rows if _has_result(trial) and (v := wanted.value(trial.metrics)) is not None]
    if known:
        return np.array(known), f"{len(searches)} random searches with the same data, space and training"
    first = _random_first(request["strategy"], len(results))
    own = [float((t.values or [math.nan])[0]) for t in results if t.number < first]
    return np.array(own), "the random trials of this search"


def _random_first(strategy: dict[str, Any], count: int) -> int:
    """Trials that a strategy proposes at random before it has learnt anything."""
    name = str(strategy.get("name"))
    if name == "random":
        return count + 10**9
    entry = STRATEGIES.get(name)
    if entry is None:
        return 0
    config = entry.config.model_validate({k: v for k, v in strategy.items() if k != "name"})
    fields = ("startup_trials", "population", "initial", "window")
    return next((int(value) for field in fields if isinstance(value := getattr(config, field, None), int)), 0)


def _noise(values: Floats | None, score: str, groups: dict[int, list[float]], notes: list[str]) -> Noise | None:
    several = [v for v in groups.values() if len(v) > 1]
    if not several:
        notes.append("how much a seed changes is not known: no finalist was trained with more than one seed")
        return None
    freedom = sum(len(v) - 1 for v in several)
    sd = math.sqrt(sum(statistics.variance(v) * (len(v) - 1) for v in several) / freedom)
    rng = np.random.default_rng(0)
    changes = None
    if len(groups) > 1:
        means = np.array([statistics.fmean(v) for v in groups.values()])
        errors = np.array([sd / math.sqrt(len(v)) for v in groups.values()])
        again = means + errors * rng.standard_normal((RESAMPLES, len(means)))
        sign = -1.0 if score.endswith("loss") else 1.0
        changes = float(np.mean(np.argmax(sign * again, axis=1) != np.argmax(sign * means)))
    optimism = None
    if values is not None and len(values):
        noisy = values + sd * rng.standard_normal((RESAMPLES, len(values)))
        picked = np.argmax(noisy, axis=1)
        optimism = float(np.mean(noisy.max(axis=1) - values[picked]))
    return Noise(sd=sd, winner_changes=changes, optimism=optimism)


def _fidelity(trials: list[Trial], groups: dict[int, list[float]], score: str, notes: list[str]) -> Correlation | None:
    by_number = {trial.number: trial for trial in trials}
    pairs = [
        (float(by_number[n].metrics[score]), statistics.fmean(v))
        for n, v in groups.items()
        if n in by_number and by_number[n].metrics.get(score) is not None
    ]
    if len(pairs) < 3:
        notes.append("search and full training cannot be compared: fewer than 3 finalists were trained fully")
        return None
    return correlation(pairs)


def _early(session: Session, search: Search, results: list[Trial], score: str) -> Correlation | None:
    """Rank correlation between the first epoch at which trials may be stopped and the last, of completed trials."""
    first = int(search.request["scheduler"]["min_epochs"])
    done = {trial.number: trial.metrics.get(score) for trial in results if trial.state == "completed"}
    query = sa.select(Measurement).where(Measurement.search_id == search.id, Measurement.epoch == first)
    early = {row.number: row.metrics.get(score) for row in session.scalars(query)}
    pairs = [
        (float(then), float(late))
        for n, late in done.items()
        if late is not None and (then := early.get(n)) is not None
    ]
    longer = first < int(search.request["scheduler"]["max_epochs"])
    return correlation(pairs) if longer and len(pairs) >= 3 else None


def correlation(pairs: Sequence[tuple[float, float]]) -> Correlation | None:
    """Kendall's tau-b with a bootstrap interval; None where one side does not vary."""
    from scipy.stats import kendalltau  # half a second, which a server does not pay to start

    table = np.array(pairs)
    value = float(kendalltau(table[:, 0], table[:, 1]).statistic)
    if math.isnan(value):
        return None
    rng = np.random.default_rng(0)
    again = []
    for _ in range(RESAMPLES // 4):
        drawn = table[rng.integers(0, len(table), len(table))]
        tau = float(kendalltau(drawn[:, 0], drawn[:, 1]).statistic)
        if not math.isnan(tau):
            again.append(tau)
    low, high = np.quantile(again, [0.025, 0.975])
    return Correlation(tau=Interval(value=value, low=float(low), high=float(high)), pairs=len(table))


def _tradeoff(results: list[Trial], objectives: Sequence[Objective]) -> Tradeoff | None:
    done = [trial for trial in results if trial.state == "completed"]
    if len(objectives) < 2 or not done:
        return None
    points = [losses(trial.values or (), objectives) for trial in done]
    places = scaled(points)
    budgets = sorted({n for n in (*BUDGETS, len(done)) if n <= len(done)})
    return Tradeoff(
        front=[done[i].number for i in pareto_front(points)],
        knee=done[knee(points)].number,
        hypervolume=[Best(results=n, value=hypervolume(places[:n])) for n in budgets],
    )


def _shares(trials: list[Trial]) -> dict[str, float]:
    if not trials:
        return {}
    counts: dict[str, int] = {}
    for trial in trials:
        counts[trial.state] = counts.get(trial.state, 0) + 1
    counts["reused"] = sum(trial.reused_from is not None for trial in trials)
    return {name: count / len(trials) for name, count in sorted(counts.items())}


def _importance(results: list[Trial], objective: Objective, notes: list[str]) -> dict[str, float]:
    """PED-ANOVA over the completed trials, by Optuna: shares that sum to 1, most important first."""
    done = [trial for trial in results if trial.state == "completed"]
    if len(done) < FEWEST_FOR_IMPORTANCE:
        notes.append(f"importance of decisions needs {FEWEST_FOR_IMPORTANCE} completed trials; there are {len(done)}")
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=objective.direction)
    for trial in done:
        questions = [Question(name, tuple(options), answer) for name, options, answer in trial.questions]
        params, distributions = parameters(questions)
        study.add_trial(
            optuna.trial.create_trial(
                value=float((trial.values or [0.0])[0]), params=params, distributions=distributions
            )
        )
    quantile = max(0.1, min(0.5, 5 / len(done)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Optuna: an experimental class, few trials
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=quantile))
    return {name: float(value) for name, value in found.items()}


def _test(session: Session, search: Search) -> TestReading:
    events = list(session.scalars(sa.select(Event).where(Event.search_id == search.id).order_by(Event.number)))
    readings = [event.number for event in events if event.kind == "test_evaluated"]
    training = [event.number for event in events if event.kind.startswith(("trial_", "finalist_"))]
    return TestReading(
        readings=len(readings),
        event=readings[0] if readings else None,
        last_training_event=max(training, default=None),
        after_all_training=readings[0] > max(training, default=0) if readings else None,
    )


def _cost(session: Session, search: Search, trials: list[Trial], finals: list[Finalist]) -> dict[str, float | None]:
    epochs = session.scalar(
        sa.select(sa.func.count()).select_from(Measurement).where(Measurement.search_id == search.id)
    )
    trained = sum(trial.train_seconds for trial in trials if not trial.reused_from)
    final = sum(float(point.get("seconds") or 0.0) for row in finals for point in row.curve)
    return {
        "trials": float(sum(trial.counted for trial in trials)),
        "full_trainings": float(sum(row.state == "completed" for row in finals)),
        "epochs": float((epochs or 0) + sum(len(row.curve) for row in finals)),
        "hours": search.used_seconds / 3600,
        "training_hours": (trained + final) / 3600,
        "energy_kwh": None,
    }
