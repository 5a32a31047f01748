"""An LSTM controller trained by REINFORCE (Williams, 1992), as in Zoph and Le, ICLR 2017, arXiv 1611.01578."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from pydantic import Field

from nas_service.strategies.controller import Controller, Shape
from nas_service.strategies.decisions import (
    answering,
    check_version,
    signature,
    stream,
    trials_from_json,
    trials_to_json,
    unseen,
)
from nas_service.strategies.merit import classes, has_result, losses, merits
from nas_service.strategies.protocol import NONE_RUNNING, Figures, ObservedTrial, Problem, Proposed, StrategyConfig
from search_spaces.choose import Choose


@dataclass(frozen=True)
class Constants:
    """What a preset fixes."""

    shape: Shape
    learning_rate: float
    head_learning_rate: float
    """Learning rate of the heads' biases, which alone are a policy that ignores earlier answers."""
    window: int
    """Results in the batch of an update: the latest ones."""
    entropy: float
    baseline_decay: float
    reward: Literal["rank", "power"]
    power: float = 1.0
    imitation: float = 0.0
    elite: int = 5
    explore: float = 0.0
    attempts: int = 1


PRESETS = {
    # Tuned by us on tables of finished trainings, for 25 to 300 trials.
    "service": Constants(
        Shape(hidden=32, layers=1, initial=0.1, tanh=None),
        learning_rate=5e-3,
        head_learning_rate=0.1,
        window=8,
        entropy=0.01,
        baseline_decay=0.9,
        reward="rank",
        imitation=0.5,
        explore=0.1,
        attempts=20,
    ),
    # Zoph and Le 2017: reward is the cube of the accuracy, 8 results an update.
    "zoph-le": Constants(Shape(35, 2, 0.08, None), 6e-4, 6e-4, 8, 0.0, 0.95, "power", 3.0),
    # Zoph et al. 2018, arXiv 1707.07012: 20 results an update. The paper updates by PPO.
    "nasnet": Constants(Shape(100, 1, 0.1, None), 3.5e-4, 3.5e-4, 20, 1e-5, 0.95, "power", 1.0),
    # Pham et al. 2018, arXiv 1802.03268, micro search: 10 results an update. The paper shares the children's weights.
    "enas": Constants(Shape(32, 2, 0.1, 1.10), 3.5e-3, 3.5e-3, 10, 1e-4, 0.99, "power", 1.0),
}


class RlConfig(StrategyConfig):
    """Options of the controller. What is left empty comes from the preset."""

    algorithm: Literal["reinforce"] = Field("reinforce", description="How the policy is updated.")
    preset: Literal["service", "zoph-le", "nasnet", "enas"] = Field(
        "service",
        description="Constants: service is tuned for tens to hundreds of trials; the papers' expect thousands.",
    )
    hidden: int | None = Field(None, ge=4, le=512, description="Units of the LSTM.")
    learning_rate: float | None = Field(None, gt=0, le=1, description="Adam's learning rate.")
    head_learning_rate: float | None = Field(
        None, gt=0, le=1, description="Adam's learning rate for the biases of the heads."
    )
    window: int | None = Field(None, ge=1, le=200, description="Latest results that an update learns from.")
    entropy: float | None = Field(None, ge=0, le=1, description="Weight of the entropy bonus.")
    explore: float | None = Field(None, ge=0, le=1, description="Share of answers drawn uniformly, against collapse.")
    imitation: float | None = Field(None, ge=0, le=10, description="Weight of imitating the five best trials.")

    def constants(self) -> Constants:
        """The preset with the options that are given."""
        known = PRESETS[self.preset]
        given = self.model_dump(exclude_none=True, exclude={"algorithm", "preset", "hidden"})
        shape = known.shape if self.hidden is None else replace(known.shape, hidden=self.hidden)
        return replace(known, shape=shape, **given)


class RlController:
    """Samples architectures answer by answer, and makes good answers likelier.

    Every result is one update: a step of Adam on

        loss = - mean over the window of advantage * log π(sample)
               - imitation * mean over the elite of log π(sample)
               - entropy * mean entropy of the window's decisions

    over the latest ``window`` results in the order they finished, however many trials run at once. The advantage is
    the reward less its moving average. The reward is the share of all results that a trial beats ("rank": needs no
    scale and serves several objectives), or a power of the only objective. A trial without a result, and a repeat of a
    trial of this search, gets the lowest reward: 0, or the lowest seen. The elite are the best distinct trials
    (Abolafia et al., 2018, arXiv 1801.03526). A proposal is drawn anew, with more and more exploration, while it
    repeats a trial.
    """

    def __init__(self, config: RlConfig, problem: Problem) -> None:
        self._problem = problem
        self._constants = config.constants()
        self._clear()

    def _clear(self) -> None:
        self._controller = Controller(self._constants.shape, self._problem.seed)
        self._trials: list[ObservedTrial] = []
        self._repeats: list[bool] = []
        self._seen: set[str] = set()
        self._baseline: float | None = None

    def propose(self, number: int, running: Proposed = NONE_RUNNING) -> Choose:
        rng = stream(self._problem.seed, number)
        explore, attempts = self._constants.explore, self._constants.attempts

        def draw(attempt: int) -> Choose:
            return self._controller.sampling(rng, explore + (1 - explore) * attempt / attempts)

        return answering(unseen(self._problem, draw, self._seen, attempts, running))

    def observe(self, trial: ObservedTrial) -> Figures | None:
        self._remember(trial)
        self._controller.learn_questions(trial.questions)
        rewards = self._rewards()
        reward = rewards[-1]
        decay = self._constants.baseline_decay
        before = reward if self._baseline is None else self._baseline
        self._baseline = decay * before + (1 - decay) * reward
        return self._update(rewards, before)

    def _remember(self, trial: ObservedTrial) -> None:
        key = signature(trial.questions)
        self._trials.append(trial)
        self._repeats.append(key in self._seen)
        self._seen.add(key)

    def _rewards(self) -> list[float]:
        """Reward of every trial: ``[trials]``. With ranks, a trial's reward changes as others come in."""
        objectives = self._problem.objectives
        if self._constants.reward == "rank" or len(objectives) > 1:
            shares = merits(self._trials, objectives).tolist()
            return [0.0 if repeat else share for share, repeat in zip(shares, self._repeats, strict=True)]
        raw: list[float | None] = []
        for trial, repeat in zip(self._trials, self._repeats, strict=True):
            loss = losses(trial, objectives) if has_result(trial, objectives) and not repeat else None
            raw.append(None if loss is None else signed_power(-loss[0], self._constants.power))
        known = [value for value in raw if value is not None]
        return [min(known, default=0.0) if value is None else value for value in raw]

    def _update(self, rewards: list[float], baseline: float) -> Figures:
        constants = self._constants
        window = self._trials[-constants.window :]
        advantages = torch.tensor(rewards[-constants.window :]) - baseline
        elite = self._elite() if constants.imitation > 0 else []
        log_policy, entropy = self._controller.judge([t.questions for t in [*window, *elite]])
        recent = len(window)
        loss = -(advantages * log_policy[:recent]).mean() - constants.entropy * entropy[:recent].mean()
        if elite:
            loss = loss - constants.imitation * log_policy[recent:].mean()
        if loss.requires_grad:
            self._controller.descend(loss, self._learning_rate)
        else:
            self._controller.step += 1
        return {
            "step": self._controller.step,
            "reward": rewards[-1],
            "baseline": self._baseline,
            "advantage": rewards[-1] - baseline,
            "entropy": float(entropy[:recent].detach().mean()),
            "loss": float(loss.detach()),
            "learning_rate": constants.learning_rate,
            "probability_of_best": self._probability_of_best(),
        }

    def _learning_rate(self, name: str) -> float:
        return self._constants.head_learning_rate if name == "bias" else self._constants.learning_rate

    def _elite(self) -> list[ObservedTrial]:
        """The best distinct trials with a result, best first."""
        keys = classes(self._trials, self._problem.objectives)
        order = sorted(range(len(keys)), key=lambda i: keys[i])
        found = [self._trials[i] for i in order if not self._repeats[i]]
        return [trial for trial in found if has_result(trial, self._problem.objectives)][: self._constants.elite]

    def _probability_of_best(self) -> float | None:
        """Probability that the policy samples the best trial so far; None where there is no result yet."""
        best = self._elite()[:1]
        if not best:
            return None
        with torch.no_grad():
            log_policy, _ = self._controller.judge([best[0].questions])
        return math.exp(float(log_policy[0]))

    def snapshot(self) -> dict[str, Any]:
        return {
            "strategy": "rl",
            "version": 1,
            "baseline": self._baseline,
            "controller": self._controller.state(),
            **trials_to_json(self._trials),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        check_version(snapshot, "rl", 1)
        trials = trials_from_json(snapshot)
        self._clear()
        for trial in trials:
            self._remember(trial)
        self._controller.load(snapshot["controller"])
        self._baseline = snapshot["baseline"]


def signed_power(value: float, power: float) -> float:
    """sign(value) * |value| ** power."""
    return math.copysign(abs(value) ** power, value)
