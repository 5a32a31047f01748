"""What every strategy must do, whatever is in ``STRATEGIES``."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest
from pydantic import ValidationError
from strategy_tables import ACCURACY, SOMETHING, conditional, problem

from nas_service.strategies import (
    PLUGIN_ERRORS,
    STRATEGIES,
    ObservedTrial,
    Problem,
    Strategy,
    StrategyEntry,
    strategy,
    with_plugins,
)
from nas_service.strategies.decisions import asked, trials_from_json, trials_to_json
from nas_service.strategies.protocol import Objective
from search_spaces.architecture import Architecture, Task
from search_spaces.catalogue import SPACES
from search_spaces.choose import Choose, Question

TOY = conditional()
TWO = (ACCURACY, Objective("latency_ms", "minimize"))


@pytest.fixture(params=sorted(STRATEGIES))
def entry(request: pytest.FixtureRequest) -> StrategyEntry:
    return STRATEGIES[request.param]


def made(entry: StrategyEntry, setting: Problem) -> Strategy:
    return entry.make(entry.config(), setting)


def scored(number: int, questions: tuple[Question, ...]) -> ObservedTrial:
    value = TOY.score({q.name: q.answer for q in questions})
    return ObservedTrial(number, questions, "completed", (value,), 9)


def mixed(number: int, questions: tuple[Question, ...]) -> ObservedTrial:
    """Trials that end in every way, in turn."""
    value = TOY.score({q.name: q.answer for q in questions})
    state = ("completed", "pruned", "completed", "infeasible", "completed", "failed")[number % 6]
    if state == "infeasible":
        return ObservedTrial(number, questions, "infeasible", None, None, (0.5, -1.0))
    if state == "failed":
        return ObservedTrial(number, questions, "failed", None, None)
    epoch = 9 if state == "completed" else 1 + number % 3
    return ObservedTrial(number, questions, state, (value,), epoch)


Ending = Callable[[int, tuple[Question, ...]], ObservedTrial]


def serial(strategy: Strategy, setting: Problem, numbers: range, ending: Ending) -> list[ObservedTrial]:
    trials = []
    for number in numbers:
        trials.append(ending(number, asked(setting, strategy.propose(number))))
        strategy.observe(trials[-1])
    return trials


def proposals(strategy: Strategy, setting: Problem, numbers: range) -> list[tuple[Question, ...]]:
    return [asked(setting, strategy.propose(number)) for number in numbers]


@pytest.mark.parametrize("space", sorted(SPACES))
def test_samples_every_space(entry: StrategyEntry, space: str) -> None:
    setting = Problem(SPACES[space].bound(Task((3, 32, 32), 10)), (ACCURACY,), seed=1, max_trials=20, max_epochs=3)
    tried = made(entry, setting)
    distinct = set()
    for number in range(14):
        questions = asked(setting, tried.propose(number))
        distinct.add(questions)
        tried.observe(ObservedTrial(number, questions, "completed", (random.Random(number).random(),), 3))
    assert len(distinct) > 10


@pytest.mark.parametrize("ending", [scored, mixed])
def test_rebuilt_from_trials_proposes_the_same(entry: StrategyEntry, ending: Ending) -> None:
    setting = problem(TOY, seed=3)
    lived = made(entry, setting)
    trials = serial(lived, setting, range(36), ending)
    rebuilt = made(entry, setting)
    for trial in trials:
        rebuilt.observe(trial)
    assert asked(setting, rebuilt.propose(36)) == asked(setting, lived.propose(36))
    assert rebuilt.snapshot() == lived.snapshot()


@pytest.mark.parametrize("ending", [scored, mixed])
def test_snapshot_and_the_trials_since_are_the_same_strategy(entry: StrategyEntry, ending: Ending) -> None:
    setting = problem(TOY, seed=4)
    lived = made(entry, setting)
    serial(lived, setting, range(25), ending)
    stored = json.dumps(lived.snapshot(), allow_nan=False)
    later = serial(lived, setting, range(25, 40), ending)
    restored = made(entry, setting)
    serial(restored, setting, range(3), scored)  # what it knew before must be forgotten
    restored.restore(json.loads(stored))
    figures = [restored.observe(trial) for trial in later]
    assert json.dumps(restored.snapshot()) == json.dumps(lived.snapshot())
    assert asked(setting, restored.propose(40)) == asked(setting, lived.propose(40))
    assert all(figure is None or all(value is not None for value in figure.values()) for figure in figures)


@pytest.mark.parametrize("ending", [scored, mixed])
def test_killed_and_resumed_is_as_if_nothing_happened(entry: StrategyEntry, ending: Ending) -> None:
    """Thrown away at several points and made anew, of all trials or of a snapshot and those since: every trial, and so
    the winner, is that of the uninterrupted search."""
    setting = problem(TOY, seed=16, max_trials=40)
    whole = serial(made(entry, setting), setting, range(40), ending)
    for every_so_many, snapshots in ((7, False), (13, True)):
        living, stored, at = made(entry, setting), json.dumps(made(entry, setting).snapshot()), 0
        trials: list[ObservedTrial] = []
        for number in range(40):
            if number % every_so_many == every_so_many - 1:
                known = trials_from_json(json.loads(json.dumps(trials_to_json(trials))))
                living = made(entry, setting)
                if snapshots:
                    living.restore(json.loads(stored))
                for trial in known[at if snapshots else 0 :]:
                    living.observe(trial)
            trials += serial(living, setting, range(number, number + 1), ending)
            if number % 5 == 0:
                stored, at = json.dumps(living.snapshot(), allow_nan=False), len(trials)
        assert trials == whole


def test_what_is_called_random_does_not_depend_on_results(entry: StrategyEntry) -> None:
    """What reports take for a random baseline; what comes after it does depend on results, where a strategy learns."""
    random_first = entry.config().at_random(40, scored=False)
    setting = problem(TOY, seed=17, max_trials=40)

    def reversed_score(number: int, questions: tuple[Question, ...]) -> ObservedTrial:
        return replace(scored(number, questions), values=(-TOY.score({q.name: q.answer for q in questions}),))

    one, two = (serial(made(entry, setting), setting, range(40), ending) for ending in (scored, reversed_score))
    same = [a.questions == b.questions for a, b in zip(one, two, strict=True)]
    assert all(same[:random_first])
    assert all(same) == (random_first >= 40)


def test_scores_of_networks_are_asked_for_only_after_the_random_trials(entry: StrategyEntry) -> None:
    setting = problem(TOY, seed=18, max_trials=40)
    asked_for: list[Architecture] = []
    setting = replace(setting, scores=lambda network: asked_for.append(network) or {"nwot": len(asked_for) % 7})
    tried = made(entry, setting)
    proposals(tried, setting, range(min(entry.config().at_random(40, scored=True), 40)))
    assert not asked_for


def test_propose_changes_nothing(entry: StrategyEntry) -> None:
    setting = problem(TOY, seed=5)
    tried = made(entry, setting)
    serial(tried, setting, range(30), scored)
    before = json.dumps(tried.snapshot())
    first = asked(setting, tried.propose(30))
    assert asked(setting, tried.propose(30)) == first
    assert json.dumps(tried.snapshot()) == before


def test_seed_and_number_decide(entry: StrategyEntry) -> None:
    one, same, other = (made(entry, problem(TOY, seed)) for seed in (6, 6, 7))
    setting = problem(TOY, 6)
    assert proposals(one, setting, range(8)) == proposals(same, setting, range(8))
    assert proposals(other, setting, range(8)) != proposals(one, setting, range(8))
    assert len(set(proposals(one, setting, range(8)))) > 4


@pytest.mark.parametrize("state", ["failed", "infeasible", "not finite"])
def test_goes_on_without_a_single_result(entry: StrategyEntry, state: str) -> None:
    setting = problem(TOY, seed=8)
    tried = made(entry, setting)

    def ending(number: int, questions: tuple[Question, ...]) -> ObservedTrial:
        if state == "not finite":
            return ObservedTrial(number, questions, "completed", (float("nan"),), 1)
        violations = (float(number), -1.0) if state == "infeasible" and number % 2 else ()
        return ObservedTrial(number, questions, "failed" if state == "failed" else "infeasible", None, None, violations)

    trials = serial(tried, setting, range(40), ending)
    assert len({trial.questions for trial in trials}) > 30


def test_several_objectives(entry: StrategyEntry) -> None:
    setting = Problem(TOY.ask, TWO, seed=9, max_trials=None, max_epochs=9)
    tried = made(entry, setting)

    def ending(number: int, questions: tuple[Question, ...]) -> ObservedTrial:
        trial = mixed(number, questions)
        values = None if trial.values is None else (trial.values[0], float(len(questions)))
        return ObservedTrial(number, questions, trial.state, values, trial.epoch, trial.violations)

    serial(tried, setting, range(40), ending)
    restored = made(entry, setting)
    restored.restore(json.loads(json.dumps(tried.snapshot())))
    assert asked(setting, restored.propose(40)) == asked(setting, tried.propose(40))


def test_results_out_of_order_while_others_run(entry: StrategyEntry) -> None:
    setting = problem(TOY, seed=10)
    tried = made(entry, setting)
    running: dict[int, tuple[Question, ...]] = {}
    rng = random.Random(0)
    order = []
    for number in range(60):
        proposed = asked(setting, tried.propose(number, running))
        assert proposed not in running.values()
        assert asked(setting, tried.propose(number, running)) == proposed
        running[number] = proposed
        while len(running) > 5:
            done = rng.choice(sorted(running))
            order.append(done)
            tried.observe(mixed(done, running.pop(done)))
    assert order != sorted(order)
    restored = made(entry, setting)
    restored.restore(json.loads(json.dumps(tried.snapshot())))
    assert restored.snapshot() == tried.snapshot()


def test_repeated_decisions_and_reused_results(entry: StrategyEntry) -> None:
    setting = problem(TOY, seed=11)
    tried = made(entry, setting)
    questions = asked(setting, tried.propose(0))
    for number in range(30):
        tried.observe(ObservedTrial(number, questions, "completed", (1.0,), 9, reused=number > 0))
    assert asked(setting, tried.propose(30)) != questions


def ask_nothing(choose: Choose) -> Architecture:
    return SOMETHING


def ask_one_option(choose: Choose) -> Architecture:
    choose("width", (16,))
    choose("kernel", (3,))
    return SOMETHING


def ask_two(choose: Choose) -> Architecture:
    choose("flag", (False, True))
    choose("width", (1,))
    return SOMETHING


def ask_lookalikes(choose: Choose) -> Architecture:
    choose("mixed", (True, 1, 1.0, "1", "True"))
    return SOMETHING


@pytest.mark.parametrize(("ask", "samples"), [(ask_nothing, 1), (ask_one_option, 1), (ask_two, 2), (ask_lookalikes, 5)])
def test_tiny_spaces(entry: StrategyEntry, ask: Callable[[Choose], Architecture], samples: int) -> None:
    setting = Problem(ask, (ACCURACY,), seed=12, max_trials=30, max_epochs=3)
    tried = made(entry, setting)
    seen = set()
    for number in range(30):
        questions = asked(setting, tried.propose(number))
        seen.add(tuple((type(q.answer), q.answer) for q in questions))
        tried.observe(ObservedTrial(number, questions, "completed", (float(len(seen)),), 3))
    assert len(seen) == samples


def test_300_trials_are_quick(entry: StrategyEntry) -> None:
    """Seconds of this process. Optuna's Gaussian process is slow, and says so in its summary: 100 for it."""
    setting = problem(TOY, seed=13, max_trials=300)
    tried = made(entry, setting)
    started = time.process_time()
    serial(tried, setting, range(100 if entry.name == "gp" else 300), mixed)
    assert time.process_time() - started < 30


def test_a_space_that_raises_leaves_the_strategy_usable(entry: StrategyEntry) -> None:
    broken = True

    def ask(choose: Choose) -> Architecture:
        choose("a", (1, 2, 3))
        if broken:
            raise RuntimeError("the space is broken")
        return SOMETHING

    setting = Problem(ask, (ACCURACY,), seed=14, max_trials=None, max_epochs=1)
    tried = made(entry, setting)
    with pytest.raises(RuntimeError, match="the space is broken"):
        tried.propose(0)
    broken = False
    assert len(asked(setting, tried.propose(0))) == 1


def test_foreign_snapshot_is_refused(entry: StrategyEntry) -> None:
    setting = problem(TOY, seed=15)
    snapshot = made(entry, setting).snapshot()
    with pytest.raises(ValueError, match="allowed"):
        made(entry, setting).restore({**snapshot, "strategy": "another"})
    with pytest.raises(ValueError, match="allowed"):
        made(entry, setting).restore({**snapshot, "version": 99})


def test_options_can_be_shown_in_a_form(entry: StrategyEntry) -> None:
    entry.config()  # every option has a default
    with pytest.raises(ValidationError):
        entry.config.model_validate({"unknown": 1})
    for name, schema in entry.config.model_json_schema()["properties"].items():
        assert schema.get("description"), name
        kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
        for kind in kinds:
            bounded = {"minimum", "exclusiveMinimum"} & set(kind) and {"maximum", "exclusiveMaximum"} & set(kind)
            assert bounded or "enum" in kind or "const" in kind or kind["type"] == "boolean", name


def test_unknown_strategy_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"strategy 'magic'; allowed: \['auto', 'evolution', 'gp', 'grid', 'local',"):
        strategy("magic")


def test_trials_survive_json() -> None:
    questions = (Question("a", (True, 1, 1.0, "x"), 1.0), Question("b", (1, 2), 2))
    other = (Question("a", (True, 1, 1.0, "x"), True),)
    trials = [
        ObservedTrial(3, questions, "pruned", (0.25, 2.0), 4),
        ObservedTrial(1, other, "infeasible", None, None, (1.5,), reused=True),
    ]
    back = trials_from_json(json.loads(json.dumps(trials_to_json(trials))))
    assert repr(back) == repr(trials)
    with pytest.raises(ValueError, match="cannot be read"):
        trials_from_json({"questions": [], "trials": [[1]]} | {"questions": None})


GREEDY = replace(STRATEGIES["random"], name="greedy")
TAKEN = STRATEGIES["random"]


def test_plugins_join_and_bad_ones_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_service.strategies.PLUGIN_ERRORS", PLUGIN_ERRORS.copy())
    names = ("GREEDY", "TAKEN", "asked", "absent")
    points = [EntryPoint(name, f"{__name__}:{name}", "nas.strategies") for name in names]
    found = with_plugins(STRATEGIES.values(), points)
    assert set(found) == {*STRATEGIES, "greedy"}
    assert found["random"] is TAKEN


def test_only_a_search_with_a_model_loads_scipy() -> None:
    """0.5 s of imports; the model's are there before its first proposal, which else took all threads there are."""
    heavy = ("scipy.linalg", "scipy.optimize", "scipy.special", "scipy.stats")
    script = f"""
import sys, nas_service.search.stages
from nas_service.strategies import STRATEGIES
from nas_service.strategies.protocol import Objective, Problem
print([name for name in {heavy} if name in sys.modules])
STRATEGIES["auto"].make(STRATEGIES["auto"].config(), Problem(print, (Objective("x", "maximize"),), 0, 9, 1))
print("scipy.linalg" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\nTrue\n"
