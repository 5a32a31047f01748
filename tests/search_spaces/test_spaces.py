"""The contract of a space, checked for every entry of SPACES: a new space is tested by being listed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.architecture import Architecture, Task
from search_spaces.build import build, fingerprint, shapes, walk
from search_spaces.catalogue import SPACES, configured
from search_spaces.choose import Choose, Options, Recorder, every, first, mutated, replay, sample
from search_spaces.cost import costs
from search_spaces.source import source
from search_spaces.spaces.efficientnet import grid

DIGITS, GARMENTS, CIFAR, IMAGENET = (
    Task((1, 8, 8), 10),
    Task((1, 28, 28), 10),
    Task((3, 32, 32), 10),
    Task((3, 224, 224), 7),
)
SAMPLES = 40


def last(name: str, options: Options) -> object:
    """Chooser that always takes the last option: the largest sample of most spaces."""
    return options[-1]


@pytest.fixture(params=sorted(SPACES))
def ask(request: pytest.FixtureRequest) -> Callable[[Choose], Architecture]:
    return SPACES[request.param].bound(DIGITS)


def model_of(text: str) -> nn.Module:
    """Model of the text of a model.py, run in a namespace of its own."""
    namespace: dict[str, type[nn.Module]] = {"__name__": "model"}
    exec(compile(text, "model.py", "exec"), namespace)
    return namespace["Model"]()


def test_questions_keep_the_rules(ask: Callable[[Choose], Architecture]) -> None:
    """Names once (Recorder), the same options each time, numbers ascending, no randomness of its own."""
    known: dict[str, Options] = {}
    for seed in range(SAMPLES):
        recorder = Recorder(sample(random.Random(seed)))
        architecture = ask(recorder)
        for question in recorder.questions:
            assert known.setdefault(question.name, question.options) == question.options
            numbers = [o for o in question.options if isinstance(o, (int, float))]
            assert numbers == sorted(numbers)
            assert len(question.options) > 1
        decisions = json.loads(json.dumps(recorder.decisions, allow_nan=False))
        assert ask(replay(decisions)) == architecture
        assert Architecture.from_json(json.loads(json.dumps(architecture.to_json()))) == architecture


def test_an_answer_changes_the_result(ask: Callable[[Choose], Architecture]) -> None:
    """Most changes of one decision are another network; rounding (efficientnet) and swapped halves (nasnet) are not."""
    rng = random.Random(0)
    different = 0
    for seed in range(SAMPLES):
        recorder = Recorder(sample(random.Random(seed)))
        before = ask(recorder)
        different += fingerprint(ask(mutated(recorder.questions, rng))) != fingerprint(before)
    assert different >= 0.8 * SAMPLES


@pytest.mark.parametrize("task", [DIGITS, GARMENTS, CIFAR, IMAGENET], ids=["digits", "garments", "cifar", "imagenet"])
@pytest.mark.parametrize("name", sorted(SPACES))
def test_smallest_and_largest_samples_build(name: str, task: Task) -> None:
    for choose in (first, last):
        architecture = SPACES[name].bound(task)(choose)  # type: ignore[arg-type]
        assert shapes(architecture)[-1] == (task.classes,)
        assert all(min(shape) >= 1 for shape in shapes(architecture))


def test_samples_build_and_their_costs_are_those_of_torch(ask: Callable[[Choose], Architecture]) -> None:
    for seed in range(SAMPLES):
        architecture = ask(sample(random.Random(seed)))
        price = costs(architecture)
        if seed % 10:
            continue
        with torch.device("meta"):
            network = build(architecture).eval()
            image = torch.empty(1, *architecture.task.input_shape)
        with FlopCounterMode(display=False) as counter:
            network(image)
        assert price.macs == counter.get_total_flops() // 2
        assert price.params == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sample_trains_and_leaves_as_model_py(ask: Callable[[Choose], Architecture], seed: int) -> None:
    torch.manual_seed(seed)
    architecture = ask(sample(random.Random(seed)))
    network = build(architecture)
    images = torch.randn(2, *architecture.task.input_shape)
    nn.functional.cross_entropy(network(images), torch.tensor([0, 1])).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())

    model = model_of(source(architecture))
    assert list(model.state_dict()) == list(network.state_dict())
    model.load_state_dict(network.state_dict(), strict=True)
    assert torch.equal(model.eval()(images), network.eval()(images))


def test_config_is_a_form(ask: Callable[[Choose], Architecture]) -> None:
    for space in SPACES.values():
        schema = space.config.model_json_schema()
        for name, field in schema["properties"].items():
            assert "default" in field, (space.name, name)
            assert "description" in field or name == "name", (space.name, name)
        assert space.config.model_validate(json.loads(space.config().model_dump_json())) == space.config()


def test_the_config_of_the_design_works() -> None:
    space, config = configured({"name": "mbconv", "stages": 4, "kernels": [3, 5], "expansions": [3, 6]})
    recorder = Recorder(sample(random.Random(0)))
    space.bound(DIGITS, config)(recorder)
    assert {q.options for q in recorder.questions if q.name.endswith("kernel")} == {(3, 5)}
    assert any(q.name.startswith("stage4_") for q in recorder.questions)


@pytest.mark.parametrize(
    "data",
    [
        {"name": "mbconv", "kernels": [4]},
        {"name": "mbconv", "kernels": [3, 3]},
        {"name": "mbconv", "kernels": []},
        {"name": "mbconv", "kernels": [3.0]},
        {"name": "mbconv", "stages": True},
        {"name": "mbconv", "stages": 10**9},
        {"name": "mbconv", "growth": float("nan")},
        {"name": "mbconv", "unknown": 1},
        {"name": "residual", "widths": [10]},
        {"name": "residual", "depths": [10**6]},
        {"name": "residual", "blocks": ["basic", "basic"]},
        {"name": "nasnet", "operations": ["magic"]},
        {"name": "nasnet", "nodes": 10**6},
        {"name": "efficientnet", "alphas": [3.0]},
        {"name": "efficientnet", "phi": -1.0},
        {"name": "inception", "depths": [1000]},
    ],
)
def test_bad_configs_are_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        configured(data)


def test_efficientnet_keeps_to_its_grid_and_scales_the_resolution() -> None:
    space = SPACES["efficientnet"]
    found = set()
    for _, architecture in every(space.bound(IMAGENET, space.config(phi=2.0))):
        found.add(architecture.task.input_shape[1])
    combinations = grid(space.config())
    assert found == {round(224 * gamma**2) for _, _, gamma in combinations}
    assert all(abs(alpha * beta**2 * gamma**2 - 2) <= 0.1 + 1e-9 for alpha, beta, gamma in combinations)
    assert len(list(every(space.bound(DIGITS)))) == len(combinations)
    assert (1.2, 1.1, 1.15) in combinations


def test_the_base_of_efficientnet_is_b0() -> None:
    space = SPACES["efficientnet"]
    b0 = space.bound(Task((3, 224, 224), 1000), space.config(phi=0.0))(first)
    assert costs(b0).params == 5_288_548


def test_large_samples_stay_within_reason() -> None:
    for space in SPACES.values():
        for task in (DIGITS, GARMENTS):
            assert costs(space.bound(task)(last)).params < 20_000_000  # type: ignore[arg-type]


def test_walk_knows_a_block_again() -> None:
    """The second look at a network costs a fraction of the first, or a search would spend its time on counting."""
    architecture = SPACES["mbconv"].bound(GARMENTS)(first)
    profiles = walk(architecture).profiles
    assert all(a is b for a, b in zip(profiles, walk(architecture).profiles, strict=True))


def test_narrow_residual_networks_ask_only_for_cardinalities_that_fit() -> None:
    space, config = configured({"name": "residual", "widths": [8, 16], "blocks": ["bottleneck"]})
    asked = set()
    for questions, _ in every(lambda choose: space.ask(choose, Task((1, 8, 8), 10), config)):
        width = next(q.answer for q in questions if q.name == "width")
        asked |= {(width, q.options) for q in questions if q.name.startswith("cardinality")}
    assert asked == {(8, (1, 2)), (16, (1, 2, 4))}
