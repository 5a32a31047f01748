"""An LSTM controller trained by REINFORCE (Williams, 1992), as in Zoph and Le, ICLR 2017, arXiv 1611.01578, or by PPO
(Schulman et al., 2017, arXiv 1707.06347), as in Zoph et al., CVPR 2018, arXiv 1707.07012."""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from nas_service.strategies.controller import COMMON, Controller, Path
from nas_service.strategies.decisions import (
    answering,
    check_version,
    signature,
    stream,
    trials_from_json,
    trials_to_json,
    unseen,
)
from nas_service.strategies.merit import Ranking, has_result, losses
from nas_service.strategies.protocol import NONE_RUNNING, Figures, ObservedTrial, Problem, Proposed
from nas_service.strategies.rl_presets import RlConfig
from search_spaces.choose import Choose

CLIP = 0.2
"""PPO: a step gains nothing by changing the probability of a sample by more than this share."""
EPOCHS = 4
"""PPO: steps on one batch, at least, unless the policy moves too far."""
KL_STOP = 0.02
"""PPO: nats that the policy may have moved from that of the batch before another step is taken."""


class RlController:
    """Samples architectures answer by answer, and makes good answers likelier.

    An update is one or a few steps of Adam on

        loss = - mean over the window of advantage * log π(sample)
               - imitation * mean over the elite of log π(sample)
               - entropy * mean entropy of the window's decisions

    over the latest ``window`` results in the order they finished, however many trials run at once: after every result,
    or after every ``window`` as the papers have it. PPO takes up to ``EPOCHS`` steps, on advantage * ratio in place of
    the first term, where ratio = π(sample) / π(sample) before the first step, clipped to 1 ± ``CLIP``.

    The advantage is the reward less its moving average. The reward comes from the place of a trial among all n ("rank":
    needs no scale and serves several objectives): 1 - log(place) / log(n), so that the first places differ most, as in
    the weights of CMA-ES (Hansen and Ostermeier, 2001); or it is a power of the only objective. A trial without a
    result, and a repeat of a trial of this search, gets the lowest reward: 0, or the lowest seen. The elite are the
    best distinct trials (Abolafia et al., 2018, arXiv 1801.03526). A proposal is drawn anew, with more and more
    exploration, while it repeats a trial.
    """

    def __init__(self, config: RlConfig, problem: Problem) -> None:
        self._problem = problem
        self._constants = config.constants()
        self._clear()

    def _clear(self) -> None:
        self._controller = Controller(self._constants.shape, self._problem.seed)
        self._ranking = Ranking(self._problem.objectives)
        self._paths: list[Path] = []
        self._repeats: list[bool] = []
        self._bonuses: list[float] = []
        self._powers: list[float | None] = []
        self._seen: set[str] = set()
        self._baseline: float | None = None

    def propose(self, number: int, running: Proposed = NONE_RUNNING) -> Choose:
        rng = stream(self._problem.seed, number)
        explore, attempts = self._constants.explore, self._constants.attempts

        def draw(attempt: int) -> Choose:
            return self._controller.sampling(rng, explore + (1 - explore) * attempt / attempts)

        return answering(unseen(self._problem, draw, self._seen, attempts, running))

    def observe(self, trial: ObservedTrial) -> Figures | None:
        self._controller.learn_questions(trial.questions)
        self._ranking.add(trial)
        self._remember(trial, 0.0)
        if self._constants.rewarded_entropy > 0:
            with torch.no_grad():
                _, entropy = self._controller.judge(self._paths[-1:])
            self._bonuses[-1] = self._constants.rewarded_entropy * float(entropy[0])
        rewards = self._rewards()
        reward = rewards[-1]
        decay = self._constants.baseline_decay
        before = reward if self._baseline is None else self._baseline
        self._baseline = decay * before + (1 - decay) * reward
        return self._update(rewards, before)

    def _remember(self, trial: ObservedTrial, bonus: float) -> None:
        key, objectives = signature(trial.questions), self._problem.objectives
        loss = losses(trial, objectives) if has_result(trial, objectives) and key not in self._seen else None
        self._paths.append(self._controller.path(trial.questions))
        self._repeats.append(key in self._seen)
        self._powers.append(None if loss is None else signed_power(-loss[0], self._constants.power))
        self._bonuses.append(bonus)
        self._seen.add(key)

    def _rewards(self) -> list[float]:
        """Reward of every trial of the window. With ranks, a trial's reward changes as others come in."""
        latest = range(len(self._paths))[-self._constants.window :]
        if self._constants.reward == "rank" or len(self._problem.objectives) > 1:
            found = [0.0 if self._repeats[i] else self._by_place(self._ranking.merit(i)) for i in latest]
        else:
            lowest = min([power for power in self._powers if power is not None], default=0.0)
            found = [lowest if power is None else power for power in [self._powers[i] for i in latest]]
        return [reward + self._bonuses[i] for reward, i in zip(found, latest, strict=True)]

    def _by_place(self, merit: float) -> float:
        """Reward of a trial that beats a share ``merit`` of the others: 1 for the best, 0 for the worst."""
        count = max(len(self._paths), 2)
        return 1 - math.log(count - merit * (count - 1)) / math.log(count)

    def _update(self, rewards: list[float], baseline: float) -> Figures:
        constants = self._constants
        elite = self._elite()
        imitated = elite if constants.imitation > 0 else []
        window = self._paths[-constants.window :]
        advantages = torch.tensor(rewards) - baseline
        due = constants.sliding or len(self._paths) % constants.window == 0
        steps = max(constants.steps, EPOCHS) if constants.algorithm == "ppo" else constants.steps
        decisions = max(sum(map(len, window)), 1)
        before: Tensor | None = None
        for _ in range(steps if due else 1):
            log_policy, entropies = self._controller.judge([*window, *imitated])
            recent, entropy = log_policy[: len(window)], entropies[: len(window)].sum() / decisions
            before = recent.detach() if before is None else before
            if constants.algorithm == "ppo" and _distance(recent.detach() - before) > KL_STOP:
                break
            loss = -self._gain(recent, before, advantages) - constants.entropy * entropy
            if imitated:
                loss = loss - constants.imitation * log_policy[len(window) :].mean()
            if due:
                self._controller.descend(loss, self._learning_rate)
        return {
            "step": self._controller.step,
            "reward": rewards[-1],
            "baseline": self._baseline,
            "advantage": rewards[-1] - baseline,
            "entropy": float(entropy.detach()),
            "loss": float(loss.detach()),
            "learning_rate": constants.learning_rate,
            "probability_of_best": self._probability(elite[0]) if elite else None,
        }

    def _gain(self, log_policy: Tensor, before: Tensor, advantages: Tensor) -> Tensor:
        """What REINFORCE or PPO make larger, as one number; ``before`` is ``log_policy`` as the batch began."""
        if self._constants.algorithm == "reinforce":
            return (advantages * log_policy).mean()
        ratio = (log_policy - before).exp()
        return torch.minimum(ratio * advantages, ratio.clamp(1 - CLIP, 1 + CLIP) * advantages).mean()

    def _learning_rate(self, name: str) -> float:
        return self._constants.head_learning_rate if name in ("bias", COMMON) else self._constants.learning_rate

    def _elite(self) -> list[Path]:
        """The best distinct trials with a result, best first."""
        new = (index for index in self._ranking.best_first() if not self._repeats[index])
        return [self._paths[index] for index in islice(new, self._constants.elite)]

    def _probability(self, path: Path) -> float:
        with torch.no_grad():
            return math.exp(float(self._controller.judge([path])[0][0]))

    def snapshot(self) -> dict[str, Any]:
        return {
            "strategy": "rl",
            "version": 3,
            "baseline": self._baseline,
            "bonuses": self._bonuses,
            "controller": self._controller.state(),
            **trials_to_json(self._ranking.trials),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        check_version(snapshot, "rl", 3)
        trials = trials_from_json(snapshot)
        self._clear()
        self._controller.load(snapshot["controller"])
        self._ranking = Ranking(self._problem.objectives, trials)
        for trial, bonus in zip(trials, snapshot["bonuses"], strict=True):
            self._remember(trial, bonus)
        self._baseline = snapshot["baseline"]


def _distance(moved: Tensor) -> float:
    """An estimate of KL that is never negative; ``moved``: by how much the logarithms of probabilities have grown."""
    return float((moved.exp() - 1 - moved).mean())


def signed_power(value: float, power: float) -> float:
    """sign(value) * |value| ** power."""
    return math.copysign(abs(value) ** power, value)
