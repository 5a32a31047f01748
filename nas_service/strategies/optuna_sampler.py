"""Any sampler of Optuna as a strategy: an in-memory study is asked, ``suggest_categorical`` answers the questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas_service.strategies.decisions import (
    answering,
    asked,
    check_version,
    signature,
    signatures,
    stream,
    trials_from_json,
    trials_to_json,
    unseen,
)
from nas_service.strategies.merit import classes, has_result, losses
from nas_service.strategies.protocol import NONE_RUNNING, Figures, ObservedTrial, Problem, Proposed
from search_spaces.choose import Choose, Question, T, mutated, position

UNKNOWN_VIOLATION = 1e100
FAILED_VIOLATION = 1e101
"""Told for trials without a result, so that the sampler ranks failed behind infeasible behind everything else."""
MUTATIONS = 50
"""Neighbours of a proposal that repeats a trial, drawn in search of a new one."""


class OptunaStrategy:
    """Optuna's answer to trial ``number``, from the results in the order they were observed.

    - The sampler is made anew for each proposal, seeded from (search seed, number): rebuilt, it proposes the same.
    - Trials that run are RUNNING in the study, so a sampler with a constant liar keeps away from them.
    - Parameters are indices of options: True and 1 stay apart. Questions with one option never reach the sampler.
    - Where the sampler keeps repeating observed trials, its last answer is changed in one random decision, or more.
    - Results are added in the order of finishing. Infeasible trials carry their violations; failed ones count as
      infeasible by more than any other.
    """

    def __init__(
        self,
        kind: str,
        problem: Problem,
        sampler: Callable[[int], BaseSampler],
        attempts: int,
        memory: int | None = None,
    ) -> None:
        """``sampler(seed)`` makes the sampler; ``attempts`` bounds its draws for a proposal; 1 allows repeats.

        With ``memory`` the sampler is shown that many trials: the best half and the latest half.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._kind = kind
        self._problem = problem
        self._sampler = sampler
        self._attempts = attempts
        self._memory = memory
        self._clear()

    def _clear(self) -> None:
        self._study = self._empty()
        self._running: dict[int, int] = {}  # trial number -> number in the study
        self._observed: list[ObservedTrial] = []
        self._seen: set[str] = set()

    def _empty(self) -> optuna.Study:
        return optuna.create_study(directions=[goal.direction for goal in self._problem.objectives])

    def propose(self, number: int, running: Proposed = NONE_RUNNING) -> Choose:
        self._set_running(running)
        taken = self._seen | signatures(running)
        rng = stream(self._problem.seed, number)
        questions = self._asked(rng.getrandbits(32))
        for _ in range(1, self._attempts):
            if signature(questions) not in taken:
                break
            questions = self._asked(rng.getrandbits(32))
        if self._attempts > 1 and signature(questions) in taken:
            stuck = questions
            neighbours = unseen(self._problem, lambda i: mutated(stuck, rng, 1 + i // 10), taken, MUTATIONS)
            questions = neighbours or questions
        return answering(questions)

    def _set_running(self, running: Proposed) -> None:
        """Make the study's RUNNING trials those that run."""
        for number in [number for number in self._running if number not in running]:
            self._withdraw(number)
        for number, questions in running.items():
            if number not in self._running:
                params, distributions = parameters(questions)
                self._running[number] = len(self._study.get_trials(deepcopy=False))
                self._study.add_trial(
                    create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
                )

    def _asked(self, seed: int) -> tuple[Question, ...]:
        """One answer of the sampler, from what was observed and what runs. The trial it takes is ended as FAIL."""
        study = self._study if self._memory is None else self._excerpt(self._memory)
        study.sampler = self._sampler(seed)
        trial = study.ask()
        try:
            return asked(self._problem, suggesting(trial))
        finally:
            study.tell(trial, state=TrialState.FAIL)

    def _excerpt(self, memory: int) -> optuna.Study:
        """A study of ``memory`` of the trials that ended, and of all that run."""
        keys = classes(self._observed, self._problem.objectives)
        best = sorted(range(len(keys)), key=lambda i: keys[i])[: memory // 2]
        latest = [i for i in reversed(range(len(keys))) if i not in best][: memory - len(best)]
        study = self._empty()
        for i in sorted([*best, *latest]):
            study.add_trial(told(self._observed[i], self._problem))
        for number in self._running.values():
            study.add_trial(self._study.get_trials(deepcopy=False)[number])
        return study

    def _withdraw(self, number: int) -> None:
        """End the running trial ``number`` as FAIL, which samplers ignore."""
        running = self._running.pop(number, None)
        if running is not None:
            self._study.tell(running, state=TrialState.FAIL)

    def observe(self, trial: ObservedTrial) -> Figures | None:
        self._withdraw(trial.number)
        self._study.add_trial(told(trial, self._problem))
        self._observed.append(trial)
        self._seen.add(signature(trial.questions))
        return None

    def snapshot(self) -> dict[str, Any]:
        return {"strategy": self._kind, "version": 1, **trials_to_json(self._observed)}

    def restore(self, snapshot: dict[str, Any]) -> None:
        check_version(snapshot, self._kind, 1)
        trials = trials_from_json(snapshot)
        self._clear()
        for trial in trials:
            self.observe(trial)


def suggesting(trial: optuna.Trial) -> Choose:
    """Chooser that asks an Optuna trial."""

    def choose(name: str, options: Sequence[T], /) -> T:
        if len(options) == 1:
            return options[0]
        index = trial.suggest_categorical(name, range(len(options)))
        return options[int(index)]

    return choose


def parameters(questions: Sequence[Question]) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """Answers and options in Optuna's terms: indices."""
    wide = [q for q in questions if len(q.options) > 1]
    params = {q.name: position(q.options, q.answer) for q in wide}
    return params, {q.name: CategoricalDistribution(range(len(q.options))) for q in wide}


def told(trial: ObservedTrial, problem: Problem) -> FrozenTrial:
    """The trial as Optuna's samplers read it."""
    params, distributions = parameters(trial.questions)
    constraints = {str(i): violation for i, violation in enumerate(trial.violations) if violation == violation}
    usable = losses(trial, problem.objectives) is not None
    if trial.state == "completed" and usable:
        return create_trial(values=trial.values, params=params, distributions=distributions, constraints=constraints)
    intermediate: dict[int, float] = {}
    if has_result(trial, problem.objectives):
        # Optuna compares pruned trials by intermediate values, which exist for one objective only.
        if trial.values is not None and len(trial.values) == 1:
            intermediate[trial.epoch or 0] = trial.values[0]
    elif trial.state == "infeasible":
        if not any(violation > 0 for violation in constraints.values()):
            constraints["unknown"] = UNKNOWN_VIOLATION
    else:
        constraints["failed"] = FAILED_VIOLATION
    return create_trial(
        state=TrialState.PRUNED,
        params=params,
        distributions=distributions,
        intermediate_values=intermediate,
        constraints=constraints,
    )
