"""Constants of the controller: tuned for this service, or as the papers have them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field

from nas_service.strategies.controller import Shape
from nas_service.strategies.protocol import StrategyConfig


@dataclass(frozen=True)
class Constants:
    """What a preset fixes."""

    shape: Shape
    learning_rate: float
    head_learning_rate: float
    """Learning rate of the heads' biases, which alone are a policy that ignores earlier answers."""
    window: int
    """Results in the batch of an update: the latest ones."""
    baseline_decay: float
    reward: Literal["rank", "power"]
    algorithm: Literal["reinforce", "ppo"] = "reinforce"
    sliding: bool = False
    """Whether every result is an update, on the latest ``window``; else an update waits for ``window`` new ones."""
    steps: int = 1
    """Steps of Adam an update."""
    entropy: float = 0.0
    """Weight of the bonus for the mean entropy of a decision."""
    rewarded_entropy: float = 0.0
    """Weight of the entropy of a sample in its reward, as it was when its result came."""
    power: float = 1.0
    imitation: float = 0.0
    elite: int = 5
    explore: float = 0.0
    attempts: int = 1


PRESETS = {
    # Tuned on tables of trained networks, for 25 to 300 trials.
    "service": Constants(
        Shape(hidden=32, layers=1, initial=0.1, tanh=None, common=True),
        learning_rate=5e-3,
        head_learning_rate=0.1,
        window=8,
        baseline_decay=0.9,
        reward="rank",
        sliding=True,
        steps=3,
        entropy=0.01,
        imitation=0.5,
        explore=0.05,
        attempts=20,
    ),
    # Zoph and Le 2017, arXiv 1611.01578: the reward is the cube of the accuracy, 8 children an update.
    "zoph-le": Constants(Shape(35, 2, 0.08, None), 6e-4, 6e-4, 8, 0.95, "power", power=3.0),
    # Zoph et al. 2018, arXiv 1707.07012: PPO on 20 children.
    "nasnet": Constants(Shape(100, 1, 0.1, None), 3.5e-4, 3.5e-4, 20, 0.95, "power", "ppo", entropy=1e-5),
    # Pham et al. 2018, arXiv 1802.03268, the micro search of its code: 10 children an update, entropy in the reward.
    # Its children share weights, and its first two operations start with a bias of 10: neither is done here.
    "enas": Constants(Shape(32, 2, 0.1, 1.10), 3.5e-3, 3.5e-3, 10, 0.99, "power", rewarded_entropy=1e-4),
}


class RlConfig(StrategyConfig):
    """Options of the controller. What is left empty comes from the preset."""

    algorithm: Literal["reinforce", "ppo"] | None = Field(
        None, description="How the policy is updated: ppo takes several clipped steps a batch, reinforce one."
    )
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
        given = self.model_dump(exclude_none=True, exclude={"preset", "hidden"})
        shape = known.shape if self.hidden is None else replace(known.shape, hidden=self.hidden)
        return replace(known, shape=shape, **given)
