"""The controller: its gradient, its updates, its presets."""

from __future__ import annotations

import json
import math
import random

import pytest
import torch
from strategy_tables import ACCURACY, SOMETHING, conditional, problem

from nas_service.strategies.controller import Controller, Path, Shape
from nas_service.strategies.decisions import asked
from nas_service.strategies.protocol import Figures, ObservedTrial, Problem
from nas_service.strategies.rl import EPOCHS, RlController
from nas_service.strategies.rl_presets import PRESETS, RlConfig
from search_spaces.architecture import Architecture
from search_spaces.choose import Choose, Question, every

TOY = conditional()
SMALL = Shape(hidden=8, layers=2, initial=0.5, tanh=None, common=True)


def ask_pairs(choose: Choose) -> Architecture:
    if choose("deep", (False, True)):
        choose("width", (8, 16, 32))
    choose("only", (1,))
    choose("kernel", (3, 5))
    return SOMETHING


def samples() -> list[tuple[Question, ...]]:
    return [questions for questions, _ in every(ask_pairs)]


def paths(controller: Controller) -> list[Path]:
    return [controller.path(sample) for sample in samples()]


def test_probabilities_of_all_samples_add_up_to_one() -> None:
    controller = Controller(SMALL, seed=0)
    for sample in samples():
        controller.learn_questions(sample)
    log_policy, entropy = controller.judge(paths(controller))
    assert float(log_policy.detach().exp().sum()) == pytest.approx(1.0, abs=1e-6)
    assert ((entropy > 0) & (entropy < math.log(2 * 3 * 2))).all()


def test_sampling_follows_the_judged_probabilities() -> None:
    controller = Controller(SMALL, seed=0)
    for sample in samples():
        controller.learn_questions(sample)
    setting = Problem(ask_pairs, (ACCURACY,), 0, None, 1)
    rng = random.Random(0)
    drawn = [asked(setting, controller.sampling(rng, explore=0.0)) for _ in range(2000)]
    log_policy, _ = controller.judge(paths(controller))
    for sample, expected in zip(samples(), log_policy.detach().exp().tolist(), strict=True):
        assert drawn.count(sample) / 2000 == pytest.approx(expected, abs=4 * math.sqrt(expected / 2000))


def test_rows_do_not_depend_on_the_order_of_questions() -> None:
    one, two = Controller(SMALL, seed=3), Controller(SMALL, seed=3)
    for sample in samples():
        one.learn_questions(sample)
    for sample in reversed(samples()):
        two.learn_questions(sample)
    assert torch.equal(one.judge(paths(one))[0], two.judge(paths(two))[0])


def test_update_raises_the_probability_of_a_good_sample() -> None:
    controller = Controller(SMALL, seed=0)
    for sample in samples():
        controller.learn_questions(sample)
    chances = []
    for _ in range(50):
        log_policy, _ = controller.judge(paths(controller)[:1])
        chances.append(math.exp(float(log_policy.detach()[0])))
        controller.descend(-log_policy.mean(), lambda _: 0.05)
    assert chances[-1] > 0.95 > chances[0]


@pytest.mark.parametrize("common", [True, False])
def test_questions_with_equal_options_learn_from_each_other(common: bool) -> None:
    def ask(choose: Choose) -> Architecture:
        for name in ("first", "second"):
            choose(name, ("conv", "pool", "skip"))
        choose("width", (8, 16, 32))
        return SOMETHING

    controller = Controller(Shape(hidden=8, layers=1, initial=0.01, tanh=None, common=common), seed=0)
    setting = Problem(ask, (ACCURACY,), 0, None, 1)
    known = asked(setting, lambda _, options: options[0])
    controller.learn_questions(known[:1])
    for _ in range(20):
        controller.descend(-controller.judge([controller.path(known[:1])])[0].mean(), lambda _: 0.1)
    rng = random.Random(0)
    drawn = [asked(setting, controller.sampling(rng, explore=0.0)) for _ in range(400)]
    first, second, width = (sum(sample[i].answer == known[i].answer for sample in drawn) / 400 for i in range(3))
    assert first > 0.6
    assert (second > 0.6) is common, "it is new, and its options are not"
    assert width == pytest.approx(1 / 3, abs=0.1)
    controller.learn_questions(known)
    chance = float(controller.judge([controller.path(known)])[0].detach().exp()[0])
    assert chance == pytest.approx(sum(sample == known for sample in drawn) / 400, abs=0.1)


def test_adam_is_that_of_torch() -> None:
    controller = Controller(SMALL, seed=0)
    for sample in samples():
        controller.learn_questions(sample)
    weights = controller._weights()
    twins = {name: weight.detach().clone().requires_grad_(True) for name, weight in weights.items()}
    reference = torch.optim.Adam(list(twins.values()), lr=0.01)
    for step in range(5):
        loss = -controller.judge(paths(controller))[0][step]
        slopes = torch.autograd.grad(loss, list(weights.values()), retain_graph=True)
        for twin, slope in zip(twins.values(), slopes, strict=True):
            twin.grad = slope
        reference.step()
        controller.descend(loss, lambda _: 0.01)
    for name, weight in weights.items():
        assert torch.allclose(weight, twins[name], atol=1e-6), name


def test_one_update_for_each_result() -> None:
    setting = problem(TOY, seed=1)
    controller = RlController(RlConfig(), setting)
    best = -math.inf
    for number in range(20):
        questions = asked(setting, controller.propose(number))
        value = TOY.score({q.name: q.answer for q in questions})
        state = ("completed", "failed", "pruned", "infeasible")[number % 4]
        values = (value,) if state in ("completed", "pruned") else None
        figures = controller.observe(ObservedTrial(number, questions, state, values, 9))  # type: ignore[arg-type]
        assert figures is not None
        assert figures["step"] == PRESETS["service"].steps * (number + 1)
        assert set(figures) == {
            "step", "reward", "baseline", "advantage", "entropy", "loss", "learning_rate", "probability_of_best",
        }  # fmt: skip
        assert all(value is not None and math.isfinite(value) for value in figures.values())
        if values is None:
            assert figures["reward"] == 0.0
        elif state == "completed" and value > best:
            assert figures["reward"] == (1.0 if number else pytest.approx(1 - math.log2(1.5)))
        best = max(best, value if state == "completed" else best)


def test_the_reward_of_a_place_among_all_falls_fastest_at_the_top() -> None:
    setting = problem(TOY, seed=1)
    controller = RlController(RlConfig(), setting)
    rewards = []
    worths = (5.0, 4.0, 3.0, 2.0, 1.0, 3.5)
    for number, (worth, (questions, _)) in enumerate(zip(worths, every(setting.ask), strict=False)):
        figures = controller.observe(ObservedTrial(number, questions, "completed", (worth,), 9))
        assert figures is not None
        rewards.append(figures["reward"])
    assert rewards[1:5] == [0.0] * 4, "each was the worst so far"
    assert rewards[5] == pytest.approx(1 - math.log(3) / math.log(6)), "third of six"


def test_no_result_yet_has_no_best() -> None:
    setting = problem(TOY, seed=1)
    controller = RlController(RlConfig(), setting)
    figures = controller.observe(ObservedTrial(0, asked(setting, controller.propose(0)), "failed", None, None))
    assert figures is not None
    assert figures["probability_of_best"] is None


def test_a_repeat_counts_as_a_loss() -> None:
    setting = problem(TOY, seed=1)
    controller = RlController(RlConfig(), setting)
    for number in range(6):
        questions = asked(setting, controller.propose(number))
        controller.observe(ObservedTrial(number, questions, "completed", (float(number),), 9))
    figures = controller.observe(ObservedTrial(6, questions, "completed", (5.0,), 9, reused=True))
    assert figures is not None
    assert figures["reward"] == 0.0


def test_snapshot_of_another_shape_is_refused() -> None:
    setting = problem(TOY, seed=1)
    snapshot = json.loads(json.dumps(RlController(RlConfig(), setting).snapshot()))
    with pytest.raises(ValueError, match="allowed"):
        RlController(RlConfig(hidden=12), setting).restore(snapshot)


def test_options_override_the_preset() -> None:
    constants = RlConfig(preset="enas", hidden=7, window=3).constants()
    assert (constants.shape.hidden, constants.window) == (7, 3)
    assert (constants.shape.layers, constants.shape.tanh, constants.learning_rate) == (2, 1.10, 3.5e-3)


@pytest.mark.parametrize("algorithm", ["reinforce", "ppo"])
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_learn(preset: str, algorithm: str) -> None:
    """Told that one answer is always right, the controller comes to give it, at any learning rate above the papers'."""
    setting = problem(TOY, seed=2)
    own = {} if preset == "service" else {"learning_rate": 0.1, "head_learning_rate": 0.1}
    config = RlConfig.model_validate({"preset": preset, "algorithm": algorithm, **own})
    controller = RlController(config, setting)

    def chance() -> float:
        drawn = [asked(setting, controller.propose(number)) for number in range(1000, 1060)]
        return sum(q.answer == 3 for sample in drawn for q in sample if q.name == "depth") / 60

    before = chance()
    for number in range(80):
        questions = asked(setting, controller.propose(number))
        value = 1.0 if questions[0].answer == 3 else 0.1
        controller.observe(ObservedTrial(number, questions, "completed", (value,), 9))
    assert chance() > before + 0.2


def fed(config: RlConfig, trials: int) -> tuple[RlController, list[Figures]]:
    setting = problem(TOY, seed=4)
    controller = RlController(config, setting)
    figures = []
    for number in range(trials):
        questions = asked(setting, controller.propose(number))
        value = 0.5 + TOY.score({q.name: q.answer for q in questions}) / 100
        found = controller.observe(ObservedTrial(number, questions, "completed", (value,), 9))
        assert found is not None
        figures.append(found)
    return controller, figures


def test_papers_wait_for_a_full_batch() -> None:
    _, figures = fed(RlConfig(preset="zoph-le"), 17)
    assert [figure["step"] for figure in figures] == [0] * 7 + [1] * 8 + [2] * 2


def test_ppo_takes_several_steps_until_the_policy_has_moved() -> None:
    def steps(**options: float) -> float | int | None:
        _, figures = fed(RlConfig.model_validate({"preset": "nasnet", "window": 5, **options}), 5)
        return figures[-1]["step"]

    assert steps() == EPOCHS
    assert steps(learning_rate=0.05, head_learning_rate=0.05) == 1


def test_ppo_gains_nothing_beyond_the_clip() -> None:
    controller = RlController(RlConfig(algorithm="ppo"), problem(TOY, seed=4))
    before, advantages = torch.zeros(4), torch.tensor([1.0, 1.0, -1.0, -1.0])
    after = torch.tensor([0.1, 0.5, -0.1, -0.5], requires_grad=True)
    gain = controller._gain(after, before, advantages)
    slopes = torch.autograd.grad(gain, after)[0]
    assert slopes[[1, 3]].tolist() == [0.0, 0.0]
    assert slopes[0] > 0 > slopes[2]


def test_entropy_is_part_of_the_reward_of_enas() -> None:
    setting = problem(TOY, seed=4)
    controller = RlController(RlConfig(preset="enas"), setting)
    questions = asked(setting, controller.propose(0))
    figures = controller.observe(ObservedTrial(0, questions, "completed", (0.5,), 9))
    assert figures is not None
    uniform = sum(math.log(len(q.options)) for q in questions)
    assert figures["reward"] == pytest.approx(0.5 + 1e-4 * uniform, abs=2e-6)
