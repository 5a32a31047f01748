"""How much to believe of a search: baseline, noise, rank correlation, importance of decisions, what it cost.

Everything is worked out from recorded rows, with a fixed seed: asked twice, it answers the same. Seconds for 10,000
trials.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import optuna
import scipy
import sqlalchemy as sa
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy.orm import Session

from nas_service.database.tables import Event, Finalist, Measurement, Search, Trial
from nas_service.search.guessing import stored
from nas_service.search.ranking import hypervolume, knee, pareto_front, scaled
from nas_service.search.request import ObjectiveSpec
from nas_service.search.status import objectives_of, score_of
from nas_service.strategies import STRATEGIES
from nas_service.strategies.merit import feasible, turned
from nas_service.strategies.optuna_sampler import parameters
from nas_service.strategies.predictor import PredictorConfig
from nas_service.strategies.protocol import Objective
from search_spaces.choose import Question
from workers.scores import PREFIX

Floats = npt.NDArray[np.float64]

RESAMPLES = 2000
"""Of a bootstrap; fewer where there are more than 1,000 values (see ``resamples``)."""
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
    """Best value of the first objective after so many results, as observed, of the trials that completed."""

    results: int
    value: float
    likely: Interval | None = Field(
        None,
        description="what the trial with that value is likely worth: luck and selection taken off; null where how much "
        "a seed changes is not known, or the objective is not the score itself",
    )


class Baseline(BaseModel):
    """What random search would have reached with as many results."""

    source: str
    sample: int = Field(description="random trials that it is estimated from")
    results: int = Field(description="results that both are given")
    expected_best: Interval
    reached: float = Field(description="best value of this search, as observed")
    chance: Interval = Field(
        description="share of random searches that reach at least as much, 0 to 1, with Jeffreys' interval: as far as "
        "so many random trials can tell"
    )


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
    guessing: float | None = Field(
        None, description="validation accuracy of always naming the most frequent class; null for other scores"
    )
    no_better_than_guessing: bool = Field(
        False, description="whether the best value is at most two standard errors above that"
    )
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
    wanted = ObjectiveSpec.model_validate(search.request["objectives"][0])
    notes: list[str] = []
    results = [trial for trial in trials if _has_result(trial)]
    on_cpu = sum(trial.metrics.get("device") == "cpu" for trial in results)
    if on_cpu and search.request["resources"].get("gpus"):
        notes.append(f"{on_cpu} candidates trained on a CPU, though each was to have a GPU: torch saw none there")
    values = _values(results, wanted)
    costs = {trial.number: trial.metrics for trial in trials}
    groups = _groups(finals, lambda row: row.metrics.get(score))
    merits = _groups(finals, lambda row: wanted.value({**costs.get(row.number, {}), **row.metrics}))
    sd = pooled_deviation(groups) if any(len(v) > 1 for v in groups.values()) else None
    best = _best_so_far(values, objective, sd if objective.metric == score and not wanted.soft else None)
    noise = _noise(sd, best, merits, objective, notes)
    guess = stored(search.data) if wanted.metric == "val_accuracy" and not wanted.soft else None
    spreads = [
        FinalistSpread(trial=n, seeds=len(v), mean=statistics.fmean(v), sd=statistics.stdev(v) if len(v) > 1 else None)
        for n, v in sorted(groups.items())
    ]
    return Report(
        search=search.id,
        metric=objective.metric,
        direction=objective.direction,
        best_so_far=best,
        guessing=guess.accuracy if guess else None,
        no_better_than_guessing=bool(guess and best and guess.explains(best[-1].value)),
        baseline=_baseline(_random_values(session, search, results, wanted), values, objective, notes),
        finalists=spreads,
        finalists_metric=score,
        noise=noise,
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
    """Whether a trial gave a result of its own: what was taken from an earlier search counts, a repeat does not."""
    kept = trial.state in ("completed", "pruned") and bool(trial.values) and feasible(trial.violations)
    return kept and (not trial.reused_from or trial.reused_from[0] != trial.search_id)


def _values(results: Sequence[Trial], wanted: ObjectiveSpec) -> Floats:
    """Value of each trial, NaN for one that did not complete: it is a result, but cannot be the best."""
    found = [wanted.value(trial.metrics) if trial.state == "completed" else None for trial in results]
    return np.array([math.nan if value is None else value for value in found])


def _groups(finals: Sequence[Finalist], figure: Callable[[Finalist], float | None]) -> dict[int, list[float]]:
    """A figure of the full trainings that completed and have it, by trial."""
    groups: dict[int, list[float]] = {}
    for row in finals:
        if row.state == "completed" and (value := figure(row)) is not None:
            groups.setdefault(row.number, []).append(float(value))
    return groups


def _best(values: Floats, objective: Objective) -> float:
    """NaN where none is known."""
    known = values[np.isfinite(values)]
    if not len(known):
        return math.nan
    return float(known.max() if objective.direction == "maximize" else known.min())


def _best_so_far(values: Floats, objective: Objective, sd: float | None) -> list[Best]:
    """``sd``: standard deviation of a training over seeds."""
    sign = 1.0 if objective.direction == "maximize" else -1.0
    found = []
    for n in sorted({n for n in (*BUDGETS, len(values)) if 0 < n <= len(values)}):
        value = _best(values[:n], objective)
        if math.isnan(value):
            continue
        likely = None
        if sd is not None:
            gains = luck(sign * values[:n], sd)
            ends = sorted(value - sign * float(gain) for gain in np.quantile(gains, [0.025, 0.975]))
            likely = Interval(value=value - sign * float(gains.mean()), low=ends[0], high=ends[1])
        found.append(Best(results=n, value=value, likely=likely))
    return found


def luck(values: Floats, sd: float) -> Floats:
    """How much of the best of ``values`` (more is better; NaN: none) is luck, in so many repetitions with new noise."""
    known = values[np.isfinite(values)]
    rng = np.random.default_rng(0)
    noise = (sd * rng.standard_normal(len(known)) for _ in range(resamples(len(known)) // 2))
    return np.array([each[np.argmax(known + each)] for half in noise for each in (half, -half)])


def resamples(values: int) -> int:
    """Resamples of so many values."""
    return min(RESAMPLES, max(RESAMPLES // 10, RESAMPLES * 1000 // max(values, 1)))


def _baseline(
    random_trials: tuple[Floats, str], values: Floats, objective: Objective, notes: list[str]
) -> Baseline | None:
    """Best of as many draws from random trials, whose values and source are given.

    Draws that did not complete count as the worst of those that did.
    """
    sample, source = random_trials
    completed = sample[np.isfinite(sample)]
    if len(sample) < FEWEST_RANDOM or not len(completed) or not np.isfinite(values).any():
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
    ordered = np.sort(np.nan_to_num(sign * sample, nan=float((sign * completed).min())))
    rng = np.random.default_rng(0)
    again = (np.sort(rng.choice(ordered, len(ordered))) for _ in range(resamples(len(ordered))))
    draws = [expected_best(drawn, len(values)) for drawn in again]
    low, high = np.quantile(draws, [0.025, 0.975])
    expected, reached = expected_best(ordered, len(values)), sign * _best(values, objective)
    low, high = sorted((sign * float(low), sign * float(high)))
    return Baseline(
        source=source,
        sample=len(sample),
        results=len(values),
        expected_best=Interval(value=sign * expected, low=low, high=high),
        reached=sign * reached,
        chance=_chance(int(np.sum(ordered < reached)), len(ordered), len(values)),
    )


def _chance(below: int, sample: int, draws: int) -> Interval:
    """Chance that one of ``draws`` is not below what ``below`` of a ``sample`` are; by Jeffreys' interval of the share
    that is (Brown, Cai, DasGupta 2001, which sets the ends where all or none are)."""
    least, most = scipy.special.betaincinv(below + 0.5, sample - below + 0.5, [0.025, 0.975])
    least, most = 0.0 if below == 0 else float(least), 1.0 if below == sample else float(most)
    return Interval(value=1 - (below / sample) ** draws, low=1 - most**draws, high=1 - least**draws)


def expected_best(ordered: Floats, draws: int) -> float:
    """Expected largest of ``draws`` from the ascending sample, with replacement (Dodge et al. 2019, arXiv
    1909.03004)."""
    n = len(ordered)
    steps = (np.arange(n + 1) / n) ** draws
    return float(np.sum(ordered * np.diff(steps)))


def _random_values(session: Session, search: Search, results: list[Trial], wanted: ObjectiveSpec) -> tuple[Floats, str]:
    """Values of random trials with such trainings, each training once, and where they come from: random searches, or
    this search where they have too few. First trials of other searches are left out: they were stopped less often.
    """
    alike = ("dataset", "space", "recipe", "scheduler", "evaluator", "constraints", "rules")
    drawn: dict[str, Trial] = {}
    for other in session.scalars(sa.select(Search).where(Search.id != search.id)):
        if other.request["strategy"].get("name") != "random" or any(
            (other.request.get(part) or None) != (search.request.get(part) or None) for part in alike
        ):
            continue
        query = sa.select(Trial).where(Trial.search_id == other.id).order_by(Trial.number)
        found = [trial for trial in session.scalars(query) if _has_result(trial) and _measured(trial, wanted, results)]
        for trial in _at_random(other, found):
            if trial.state == "completed" or _training(trial) not in drawn:
                drawn[_training(trial)] = trial
    if len(drawn) >= FEWEST_RANDOM and any(trial.state == "completed" for trial in drawn.values()):
        count = len({trial.search_id for trial in drawn.values()})
        told = f"{count} random {'search' if count == 1 else 'searches'} with the same data, space and training"
        return _values(list(drawn.values()), wanted), told
    return _values(_at_random(search, results), wanted), "the random trials of this search"


def _measured(trial: Trial, wanted: ObjectiveSpec, results: list[Trial]) -> bool:
    """Whether a trial of another search has what this one looks at, latency on a device of this one's."""
    if "latency_ms" in (wanted.metric, *(wish.metric for wish in wanted.soft)):
        devices = {result.metrics.get("device") for result in results}
        if trial.metrics.get("device") not in devices:
            return False
    return trial.state == "pruned" or wanted.value(trial.metrics) is not None


def _training(trial: Trial) -> str:
    """Equal for results of the same network, trained alike with the same seed."""
    return trial.evaluation_key or str(trial.reused_from or [trial.search_id, trial.number])


def _at_random(search: Search, results: list[Trial]) -> list[Trial]:
    """Those of a search's results that were drawn at random."""
    scored = any(name.startswith(PREFIX) for trial in results for name in trial.metrics)
    first, last = _random_numbers(search, scored)
    return [trial for trial in results if first <= trial.number < last]


def _random_numbers(search: Search, scored: bool) -> tuple[int, int]:
    """Numbers, from the first to before the last, of the trials that a search draws at random: after the networks that
    it was given, none where a screen picks among several."""
    strategy, first = search.request["strategy"], len(search.request.get("first") or ())
    entry = STRATEGIES.get(str(strategy.get("name")))
    if entry is None or search.request.get("screen"):
        return 0, 0
    try:
        config = entry.config.model_validate({k: v for k, v in strategy.items() if k != "name"})
    except ValidationError:  # stored by a version with other options
        return 0, 0
    drawn = config.at_random(int(search.request["budget"]["max_trials"]), scored)
    return first, drawn + first if isinstance(config, PredictorConfig) else drawn  # the others count given networks


def _noise(
    sd: float | None,
    best: Sequence[Best],
    merits: Mapping[int, list[float]],
    objective: Objective,
    notes: list[str],
) -> Noise | None:
    """``sd`` of a full training over seeds, ``best`` so far; ``merits`` are what decides who wins."""
    if sd is None:
        notes.append("how much a seed changes is not known: no finalist was trained with more than one seed")
        return None
    rng = np.random.default_rng(0)
    sign = 1.0 if objective.direction == "maximize" else -1.0
    changes = None
    if len(merits) > 1:
        means = sign * np.array([statistics.fmean(v) for v in merits.values()])
        errors = pooled_deviation(merits) / np.sqrt([len(v) for v in merits.values()])
        again = means + errors * rng.standard_normal((RESAMPLES, len(means)))
        changes = float(np.mean(np.argmax(again, axis=1) != np.argmax(means)))
    optimism = sign * (best[-1].value - best[-1].likely.value) if best and best[-1].likely else None
    return Noise(sd=sd, winner_changes=changes, optimism=optimism)


def pooled_deviation(groups: Mapping[int, list[float]]) -> float:
    """Standard deviation within the groups; 0 where none has two members."""
    several = [v for v in groups.values() if len(v) > 1]
    freedom = sum(len(v) - 1 for v in several)
    return math.sqrt(sum(statistics.variance(v) * (len(v) - 1) for v in several) / freedom) if freedom else 0.0


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
    for _ in range(resamples(len(table)) // 4):
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
    points = [turned(trial.values or (), objectives) for trial in done]
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
    mine = (Event.search_id == search.id,)
    read, reading = session.execute(
        sa.select(sa.func.count(), sa.func.min(Event.number)).where(*mine, Event.kind == "test_evaluated")
    ).one()
    training = sa.or_(Event.kind.startswith("trial_"), Event.kind.startswith("finalist_"))
    last = session.scalar(sa.select(sa.func.max(Event.number)).where(*mine, training))
    return TestReading(
        readings=read,
        event=reading,
        last_training_event=last,
        after_all_training=None if reading is None else reading > (last or 0),
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
