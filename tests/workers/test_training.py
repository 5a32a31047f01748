"""Training: learns, repeats itself byte for byte, goes on as if never stopped; schedules; augmentation."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from worker_samples import small

from search_spaces.architecture import Architecture
from search_spaces.build import build
from workers import checkpoint, training
from workers.augmentation import Draws, augmented, cropped, cut_out, draw
from workers.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from workers.datasets import Dataset, DatasetSpec, load
from workers.recipe import AnySchedule, Recipe
from workers.training import EpochReport, NonFinite, evaluate_split, lr_factor, make_optimizer, prepare, train

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def few_digits() -> Dataset:
    return load(DatasetSpec(name="digits", max_train=200, max_validation=100), [])


def network(seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return build(Architecture.from_json(small()))


def recipe(**fields: Any) -> Recipe:
    return Recipe.model_validate(fields)


RECIPES = {
    "sgd": recipe(batch_size=64, augmentation="crop-flip-cutout", label_smoothing=0.1, gradient_clip=1.0),
    "adamw": recipe(batch_size=64, optimizer={"name": "adamw"}, schedule={"name": "plateau", "patience": 0}),
    "bf16": recipe(batch_size=64, precision="bf16", channels_last=False, schedule={"name": "step", "every_epochs": 2}),
}


def curve(reports: list[EpochReport]) -> str:
    return json.dumps([{k: v for k, v in report.flat().items() if k != "seconds"} for report in reports])


def test_floats_and_bytes_of_the_same_values_train_alike() -> None:
    data = few_digits()
    floats = replace(
        data,
        train=replace(data.train, images=data.train.images.float()),
        validation=replace(data.validation, images=data.validation.images.float()),
    )
    found = [curve(list(train(network(), each, RECIPES["sgd"], 3, 0, CPU))) for each in (data, floats)]
    assert found[0] == found[1]


def test_a_small_network_learns_digits() -> None:
    data = load(DatasetSpec(name="digits"), [])
    torch.manual_seed(0)
    net = build(Architecture.from_json(small(32)))
    reports = list(train(net, data, recipe(batch_size=64, schedule={"name": "cosine", "warmup_epochs": 1}), 10, 0, CPU))
    assert [report.epoch for report in reports] == list(range(1, 11))
    assert reports[-1].scores["val_accuracy"] > 0.95
    assert reports[-1].train_loss < reports[0].train_loss / 4
    found = reports[-1].val_loss, {"accuracy": reports[-1].scores["val_accuracy"]}
    assert evaluate_split(net, data.validation, recipe(), CPU) == found


@pytest.mark.parametrize("name", RECIPES)
def test_same_seed_same_bytes_and_a_resumed_run_is_the_same_run(tmp_path: Path, name: str) -> None:
    whole = list(train(network(), few_digits(), RECIPES[name], 5, 11, CPU))
    torch.rand(7)  # whatever else draws numbers must not matter
    net = network()
    assert curve(list(train(net, few_digits(), RECIPES[name], 5, 11, CPU))) == curve(whole)
    assert curve(list(train(network(), few_digits(), RECIPES[name], 5, 12, CPU))) != curve(whole)

    stopped = network()
    progress = prepare(stopped, RECIPES[name], CPU)
    for _ in islice(train(stopped, few_digits(), RECIPES[name], 5, 11, CPU, progress), 2):
        pass
    save_checkpoint(stopped, progress, tmp_path, "run")
    again = network(seed=99)
    resumed = prepare(again, RECIPES[name], CPU)
    assert load_checkpoint(again, resumed, tmp_path, "run") == 2
    rest = list(train(again, few_digits(), RECIPES[name], 5, 11, CPU, resumed))
    assert curve(whole[:2]) == curve(progress.history)
    assert curve(rest) == curve(whole[2:])
    for key, tensor in net.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key]), key


def test_a_checkpoint_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    net = network()
    progress = prepare(net, RECIPES["sgd"], CPU)
    for _ in islice(train(net, few_digits(), RECIPES["sgd"], 3, 0, CPU, progress), 1):
        pass
    assert load_checkpoint(net, progress, tmp_path, "run") == 0
    saved = save_checkpoint(net, progress, tmp_path, "run")
    good = Path(saved.path).read_bytes()
    with pytest.raises(CheckpointError, match="another run"):
        load_checkpoint(net, progress, tmp_path, "other")
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[:100], b""):
        Path(saved.path).write_bytes(bad)
        with pytest.raises(CheckpointError, match="SHA-256"):
            load_checkpoint(net, progress, tmp_path, "run")
    Path(saved.path).unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(net, progress, tmp_path, "run")
    for text in ("{", "[]", '{"file": "../x", "sha256": "0"}'):
        (tmp_path / checkpoint.POINTER).write_text(text)
        with pytest.raises(CheckpointError, match=r"broken|same folder"):
            load_checkpoint(net, progress, tmp_path, "run")


def test_the_newest_checkpoint_replaces_the_one_before(tmp_path: Path) -> None:
    net = network()
    progress = prepare(net, RECIPES["sgd"], CPU)
    for report in train(net, few_digits(), RECIPES["sgd"], 3, 0, CPU, progress):
        save_checkpoint(net, progress, tmp_path, "run")
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == [f"checkpoint-{report.epoch}.safetensors", "checkpoint.json"]
    checkpoint.remove_checkpoint(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_weights_must_fit_strictly(tmp_path: Path) -> None:
    net = network()
    saved = checkpoint.save_weights(checkpoint.cpu_state(net), tmp_path / "w.safetensors", {"epoch": "1"})
    other = network(seed=4)
    checkpoint.load_weights(other, Path(saved.path), saved.sha256)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))
    with pytest.raises(CheckpointError, match="does not fit"):
        checkpoint.load_weights(build(Architecture.from_json(small(8))), Path(saved.path), saved.sha256)
    with pytest.raises(CheckpointError, match="SHA-256"):
        checkpoint.load_weights(other, Path(saved.path), "0" * 64)


@pytest.mark.parametrize("start", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run(start: float) -> None:
    net = network()
    nn.init.constant_(list(net.parameters())[-1], start)
    with pytest.raises(NonFinite, match="epoch 1"):
        list(train(net, few_digits(), recipe(), 1, 0, CPU))


class NanInTraining(nn.Module):
    """A classifier whose training loss alone is NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits * math.nan if self.training else logits.detach().zero_()


def test_a_training_loss_that_is_not_finite_ends_the_run() -> None:
    with pytest.raises(NonFinite, match="training loss is nan in epoch 1"):
        list(train(NanInTraining(), few_digits(), recipe(), 1, 0, CPU))


def test_batches_are_of_nearly_equal_size_and_hold_every_image_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def noted(images: Tensor, targets: Tensor, draws: Draws, rows: Tensor, *more: object) -> tuple[Tensor, Tensor]:
        seen.append(rows)
        return images, targets

    monkeypatch.setattr(training, "augmented", noted)
    list(train(network(), few_digits(), recipe(batch_size=199), 2, 0, CPU))
    assert [len(rows) for rows in seen] == [100, 100] * 2
    first, second = torch.cat(seen[:2]).tolist(), torch.cat(seen[2:]).tolist()
    assert sorted(first) == sorted(second) == list(range(200))
    assert first != second


def test_norms_and_biases_are_not_decayed_unless_asked() -> None:
    net = network()
    for wanted, recipe_ in ((True, recipe()), (False, recipe(decay_norm_and_bias=True))):
        groups = make_optimizer(net, recipe_).param_groups
        spared = [p for group in groups if group["weight_decay"] == 0 for p in group["params"]]
        assert bool(spared) == wanted
        assert all(p.ndim == 1 for p in spared)
        assert sum(len(group["params"]) for group in groups) == len(list(net.parameters()))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"name": "constant"}, [1, 1, 1, 1]),
        ({"name": "cosine"}, [1, 0.75, 0.5, 0.0]),
        ({"name": "linear", "final_fraction": 0.1}, [1, 0.7, 0.55, 0.1]),
        ({"name": "step", "every_epochs": 2, "factor": 0.5}, [1, 0.5, 0.5, 0.25]),
    ],
)
def test_schedules_at_the_start_a_third_the_middle_and_the_end(schedule: dict[str, Any], expected: list[float]) -> None:
    parsed = TypeAdapter(AnySchedule).validate_python(schedule)
    got = [lr_factor(parsed, position, 6, []) for position in (1e-6, 2 + 1e-6, 3, 6)]
    assert got == pytest.approx(expected, abs=1e-4)


def test_plateau_counts_epochs_without_a_lower_loss() -> None:
    plateau = TypeAdapter(AnySchedule).validate_python({"name": "plateau", "patience": 1, "factor": 0.1})
    assert [lr_factor(plateau, 1, 9, losses) for losses in ([3, 2, 1], [3, 3], [3, 3, 3], [3, 4, 4, 2, 4, 4])] == (
        pytest.approx([1, 1, 0.1, 0.01])
    )


def test_warm_up_rises_linearly_to_the_highest_rate() -> None:
    reports = list(train(network(), few_digits(), recipe(schedule={"name": "constant", "warmup_epochs": 2}), 3, 0, CPU))
    assert [report.lr for report in reports] == pytest.approx([0.05, 0.1, 0.1])


def test_crop_flip_and_cutout_do_what_their_formulas_say() -> None:
    images = torch.arange(2 * 1 * 4 * 4, dtype=torch.float32).view(2, 1, 4, 4) + 1
    shifted = cropped(images, torch.tensor([[1, 1], [0, 2]]), pad=1)
    assert torch.equal(shifted[0], images[0])
    assert torch.equal(shifted[1, 0, 1:, :3], images[1, 0, :3, 1:])
    assert shifted[1, 0, 0].abs().sum() == 0
    cut = cut_out(images, torch.tensor([[0, 0], [2, 2]]), side=2)
    assert (cut[0] == 0).sum() == 1
    assert (cut[1, 0, 1:3, 1:3] == 0).all()
    assert (cut[1] == 0).sum() == 4
    draws = Draws(None, torch.tensor([True, False]), None)
    labels = torch.tensor([3, 4])
    flipped, kept = augmented(images, labels, draws, torch.tensor([1, 0]), recipe(augmentation="flip"))
    assert kept is labels
    assert torch.equal(flipped[0], images[0])
    assert torch.equal(flipped[1], images[1].flip(2))


def test_augmentation_is_drawn_from_the_generator_alone() -> None:
    wild = recipe(augmentation="crop-flip-cutout")
    one, two, other = (draw(wild, 50, (8, 8), torch.Generator().manual_seed(seed), CPU) for seed in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(two).values(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True))
    assert one.shift is not None
    assert one.shift.unique().tolist() == [0, 1, 2]


def test_images_are_resized_to_the_network() -> None:
    torch.manual_seed(0)
    net = build(Architecture.from_json(small(shape=(1, 12, 10))))
    data = few_digits()
    shapes = []
    net.register_forward_hook(lambda module, args, output: shapes.append(tuple(args[0].shape[2:])))
    list(train(net, data.resized((12, 10)), recipe(augmentation="crop"), 1, 0, CPU))
    assert set(shapes) == {(12, 10)}
    with pytest.raises(AttributeError, match="cannot assign"):
        data.train.size = (1, 1)  # type: ignore[misc]
    assert replace(data.train).size is None


@pytest.mark.parametrize(
    "bad",
    [
        {"batch_size": 1},
        {"batch_size": "128"},
        {"batch_size": True},
        {"optimizer": {"name": "adam"}},
        {"optimizer": {"name": "sgd", "lr": 0}},
        {"optimizer": {"name": "sgd", "lr": math.nan}},
        {"optimizer": {"name": "sgd", "beta1": 0.9}},
        {"schedule": {"name": "cosine", "warmup_epochs": -1}},
        {"augmentation": "mixup"},
        {"label_smoothing": 1.0},
        {"unknown": 1},
        {"optimizer": {"name": "sgd", "nesterov": True, "momentum": 0.0}},
    ],
)
def test_recipes_that_cannot_be(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate(bad)


def test_the_recipe_of_the_documentation_is_a_recipe() -> None:
    text = """{"batch_size": 128, "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0005},
               "schedule": {"name": "cosine"}, "augmentation": "crop-flip"}"""
    parsed = Recipe.model_validate_json(text)
    assert Recipe.model_validate_json(parsed.model_dump_json()) == parsed
    described = Recipe.model_json_schema()
    assert all("description" in field for field in described["properties"].values())
