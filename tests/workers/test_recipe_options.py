"""Every option of a recipe does something, and published recipes are what their papers say."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn
from worker_samples import assignment, small

from search_spaces.architecture import Architecture, Node, Task
from search_spaces.auxiliary import with_auxiliary, without_auxiliary
from search_spaces.blocks.auxiliary import AuxiliaryClassifier
from search_spaces.blocks.drop_path import DropPath
from search_spaces.build import build
from search_spaces.fitting import reference
from workers import training
from workers.assignment import Member
from workers.augmentation import views
from workers.checkpoint import load_checkpoint, save_checkpoint
from workers.datasets import Dataset, DatasetSpec, load
from workers.recipe import ADDED, Recipe
from workers.recipes import RECIPES
from workers.run import run, scores_on_test
from workers.training import (
    EpochReport,
    auxiliary_heads,
    derived,
    evaluate_split,
    initialise,
    make_optimizer,
    mean_scores,
    mixing,
    prepare,
    probabilities,
    set_drop_paths,
    set_lr,
    train,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def recipe(**fields: Any) -> Recipe:
    return Recipe.model_validate({"batch_size": 64, **fields})


def digits() -> Dataset:
    return load(DatasetSpec(name="digits", max_train=200, max_validation=100), [])


def network(seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return build(Architecture.from_json(small()))


def figures(reports: list[EpochReport]) -> str:
    return json.dumps([{k: v for k, v in report.flat().items() if k != "seconds"} for report in reports])


class Residual(nn.Module):
    """Two residual branches with drop paths."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(64, 32)
        self.branches = nn.ModuleList(nn.Linear(32, 32) for _ in range(2))
        self.paths = nn.ModuleList(DropPath() for _ in range(2))
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x.flatten(1))
        for branch, path in zip(self.branches, self.paths, strict=True):
            x = x + path(torch.relu(branch(x)))
        return self.head(x)  # type: ignore[no-any-return]  # nn.Module is untyped


def residual(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return Residual()


OPTIONS = {
    "init": {"init": "he"},
    "lr_batch": {"lr_batch": 256},
    "class_weights": {"class_weights": "enet"},
    "mixup": {"mixup": 0.4},
    "ema_decay": {"ema_decay": 0.9},
    "drop_path": {"drop_path": 0.5},
    "label_smoothing": {"label_smoothing": 0.1},
    "rmsprop": {"optimizer": {"name": "rmsprop", "lr": 0.001}},
    "nesterov": {"optimizer": {"name": "sgd", "nesterov": True}},
}


@pytest.fixture(scope="module")
def plain_run() -> str:
    torch.manual_seed(0)
    return figures(list(train(residual(), digits(), recipe(), 2, 5, CPU)))


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_changes_the_training(name: str, plain_run: str) -> None:
    chosen = recipe(**OPTIONS[name])
    once = figures(list(train(residual(), digits(), chosen, 2, 5, CPU)))
    assert once != plain_run
    assert figures(list(train(residual(), digits(), chosen, 2, 5, CPU))) == once


@pytest.mark.parametrize("name", ["mixup", "ema_decay", "drop_path", "rmsprop"])
def test_a_resumed_run_is_the_run_that_was_never_stopped(tmp_path: Path, name: str) -> None:
    chosen = recipe(**OPTIONS[name], drop_path_over="depth-epochs")
    whole = residual()
    average = prepare(whole, chosen, CPU)
    reports = list(train(whole, digits(), chosen, 4, 7, CPU, average))
    stopped = residual()
    progress = prepare(stopped, chosen, CPU)
    list(islice(train(stopped, digits(), chosen, 4, 7, CPU, progress), 2))
    save_checkpoint(stopped, progress, tmp_path, "run")
    again = residual(seed=9)
    resumed = prepare(again, chosen, CPU)
    assert load_checkpoint(again, resumed, tmp_path, "run") == 2
    rest = list(train(again, digits(), chosen, 4, 7, CPU, resumed))
    assert figures(rest) == figures(reports[2:])
    for one, two in ((whole, again), (average.evaluated(whole), resumed.evaluated(again))):
        assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_the_average_is_what_is_evaluated_and_kept(tmp_path: Path) -> None:
    chosen = recipe(ema_decay=0.95)
    net = network()
    progress = prepare(net, chosen, CPU)
    reports = list(train(net, digits(), chosen, 2, 5, CPU, progress))
    assert progress.average is not None
    assert not torch.equal(next(net.parameters()), next(progress.average.parameters()))
    assert evaluate_split(progress.average, digits().validation, chosen, CPU)[0] == reports[-1].val_loss
    assert evaluate_split(net, digits().validation, chosen, CPU)[0] != reports[-1].val_loss
    task = assignment(tmp_path, epochs=2, final=True, recipe=chosen.model_dump())
    last = list(run(task))[-1]
    tested = scores_on_test(task, last["weights_path"], last["weights_sha256"])
    assert tested["test_images"] == 359


def test_averaged_weights_follow_their_formula() -> None:
    chosen = recipe(
        ema_decay=0.5, batch_size=100, optimizer={"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    )
    net = residual()
    progress = prepare(net, chosen, CPU)
    first = net.state_dict()["head.bias"].clone()
    seen = []
    hook = net.register_forward_pre_hook(lambda module, args: seen.append(module.state_dict()["head.bias"].clone()))
    list(train(net, digits(), chosen, 1, 0, CPU, progress))  # two steps
    hook.remove()
    steps = [*seen[1:2], net.state_dict()["head.bias"]]
    mean = first
    for step, new in enumerate(steps):
        decay = min(0.5, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * new
    assert progress.average is not None
    assert torch.allclose(progress.average.state_dict()["head.bias"], mean, atol=1e-6)


def test_drop_paths_rise_with_depth_and_with_the_epochs() -> None:
    net = residual()
    rates = {}
    for over in ("constant", "depth", "epochs", "depth-epochs"):
        set_drop_paths(net, recipe(drop_path=0.4, drop_path_over=over), 0.5)
        rates[over] = [module.rate for module in net.modules() if isinstance(module, DropPath)]
    assert rates == {
        "constant": [0.4, 0.4], "depth": [0.2, 0.4], "epochs": [0.2, 0.2], "depth-epochs": [0.1, 0.2],
    }  # fmt: skip
    set_drop_paths(net, recipe(), 1.0)
    assert rates["depth-epochs"] == [module.rate for module in net.modules() if isinstance(module, DropPath)]


def test_the_learning_rate_is_in_proportion_to_the_batch() -> None:
    for batch, expected in ((64, 0.025), (256, 0.1), (512, 0.2)):
        chosen = recipe(batch_size=batch, lr_batch=256, schedule={"name": "constant"})
        assert set_lr(make_optimizer(residual(), chosen), chosen, 1.0, 2, []) == pytest.approx(expected)


def test_fresh_weights_have_the_variance_of_their_rule() -> None:
    layers = nn.Sequential(
        nn.Conv2d(64, 128, 3), nn.Linear(400, 200), nn.Conv2d(2048, 2048, 3, groups=2048), nn.ConvTranspose2d(96, 48, 2)
    )
    conv = layers[0].weight
    before = conv.clone()
    initialise(layers, "torch")
    assert torch.equal(conv, before)
    for kind, variances in {
        "he": (2 / (64 * 9), 2 / 400, 2 / 9, 2 / (96 * 4)),
        "xavier": (2 / (9 * (64 + 128)), 2 / 600, 2 / 18, 2 / (4 * (96 + 48))),
        "normal": (1e-4,) * 4,
    }.items():
        torch.manual_seed(0)
        initialise(layers, kind)
        assert [layer.weight.var().item() for layer in layers] == pytest.approx(list(variances), rel=0.05)
        assert not any(layer.bias.any() for layer in layers)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet_1.1"])
def test_a_fresh_network_does_not_begin_far_worse_than_guessing(name: str) -> None:
    """Weights of a classifier by its few outputs would be so large that the first loss is 17, not ln 10."""
    torch.manual_seed(0)
    network = build(reference(name, Task((3, 32, 32), 10)))
    initialise(network, "he")
    with torch.no_grad():
        logits = network.train()(torch.randn(32, 3, 32, 32))
    assert F.cross_entropy(logits, torch.arange(32) % 10).item() < 2 * math.log(10)


def test_mixup_draws_from_its_beta_distribution() -> None:
    assert mixing(recipe(), 5, 0) == [1.0] * 5
    shares = mixing(recipe(mixup=1.0), 4000, 0)
    assert min(shares) >= 0.5
    assert sum(shares) / len(shares) == pytest.approx(0.75, abs=0.01)  # Beta(1, 1) is uniform
    assert sum(mixing(recipe(mixup=0.1), 4000, 0)) / 4000 > 0.9
    assert mixing(recipe(mixup=1.0), 9, 1) != mixing(recipe(mixup=1.0), 9, 2)


def test_mixup_mixes_images_and_losses_of_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "mixing", lambda recipe, steps, seed: [0.7] * steps)
    data, chosen = digits(), recipe(mixup=1.0, batch_size=512)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    order = torch.randperm(200, generator=torch.Generator().manual_seed(derived(3, 0, "batches")))
    x, y = data.train.batch(order), data.train.labels[order]
    with torch.no_grad():
        outputs = net(0.7 * x + 0.3 * x.flip(0))
        expected = 0.7 * F.cross_entropy(outputs, y) + 0.3 * F.cross_entropy(outputs, y.flip(0))
    (report,) = train(net, data, chosen, 1, 3, CPU)
    assert report.train_loss == pytest.approx(expected.item(), rel=1e-5)


# -- auxiliary heads -----------------------------------------------------------------------------------------------


def headed(form: str = "nasnet") -> Architecture:
    nodes = (
        Node("conv_norm_act", (0,), {"out_channels": 8}),
        Node("basic_block", (1,), {"out_channels": 8}),
        Node("basic_block", (2,), {"out_channels": 8}),
        Node("classifier", (3,), {"classes": 10}),
    )
    return with_auxiliary(Architecture(Task((1, 8, 8), 10), nodes), (2,), form)


def same_start() -> tuple[nn.Module, nn.Module]:
    """A network with an auxiliary head and one without, of equal weights."""
    torch.manual_seed(0)
    with_head, bare = build(headed()), build(without_auxiliary(headed()))
    bare.load_state_dict({name: with_head.state_dict()[name] for name in bare.state_dict()})
    return with_head, bare


def test_an_auxiliary_head_of_weight_0_is_no_head() -> None:
    with_head, bare = same_start()
    one = list(train(with_head, digits(), recipe(auxiliary_weight=0.0), 2, 5, CPU))
    assert figures(list(train(bare, digits(), recipe(auxiliary_weight=0.0), 2, 5, CPU))) == figures(one)
    assert all(torch.equal(value, with_head.state_dict()[name]) for name, value in bare.state_dict().items())


def test_an_auxiliary_head_adds_its_loss_and_learns() -> None:
    with_head, bare = same_start()
    found = list(train(with_head, digits(), recipe(auxiliary_weight=0.4), 2, 5, CPU))
    without = next(train(bare, digits(), recipe(), 2, 5, CPU))
    assert found[0].train_loss > without.train_loss + 0.4
    head = next(module for module in with_head.modules() if isinstance(module, AuxiliaryClassifier))
    assert head.logits is None  # evaluation came last
    before = build(headed()).state_dict()
    assert any("auxiliary" in name for name in before)
    with_head.train()
    with_head(torch.zeros(2, 1, 8, 8))
    assert head.logits is not None
    assert head.logits.shape == (2, 10)
    assert auxiliary_heads(with_head, 0.0) == []
    with_head(torch.zeros(2, 1, 8, 8))
    assert head.logits is None


@pytest.mark.parametrize("form", ["googlenet", "nasnet"])
def test_outputs_are_the_same_without_auxiliary_heads(form: str) -> None:
    torch.manual_seed(0)
    with_head, bare = build(headed(form)).eval(), build(without_auxiliary(headed(form))).eval()
    bare.load_state_dict({name: with_head.state_dict()[name] for name in bare.state_dict()})
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(with_head(x), bare(x))
    assert len(with_head.state_dict()) > len(bare.state_dict())


# -- several views, ensembles --------------------------------------------------------------------------------------


def test_views_are_the_image_its_mirror_image_and_ten_crops() -> None:
    images = torch.arange(32).float().view(2, 1, 4, 4)
    assert views(images, "one", recipe()) == [images]
    assert torch.equal(views(images, "flip", recipe())[1], images.flip(3))
    crops = views(images, "ten-crop", recipe(crop_padding=1))
    assert len(crops) == 10
    assert torch.equal(crops[1][:, :, 1:, 1:], images[:, :, :3, :3])
    assert torch.equal(crops[4][:, :, :3, :3], images[:, :, 1:, 1:])
    assert torch.equal(crops[9], crops[4].flip(3))


def test_views_are_reported_beside_the_ordinary_figures(tmp_path: Path) -> None:
    for view in ("one", "flip", "ten-crop"):
        task = assignment(tmp_path / view, final=True, recipe={"test_views": view})
        last = list(run(task))[-1]
        tested = scores_on_test(task, last["weights_path"], last["weights_sha256"])
        assert ("val_accuracy_views" in last) == ("test_accuracy_views" in tested) == (view != "one")
        if view == "flip":
            net = network()
            data = digits()
            net.load_state_dict(torch_weights(last["weights_path"]))
            with torch.no_grad():
                x = data.validation.batch(slice(None))
                mean = (net.eval()(x).softmax(1) + net(x.flip(3)).softmax(1)) / 2
            right = (mean.argmax(1) == data.validation.labels).float().mean().item()
            assert last["val_accuracy_views"] == pytest.approx(right)


def torch_weights(path: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def test_an_ensemble_is_the_mean_of_its_members_probabilities(tmp_path: Path) -> None:
    members = []
    for seed, width in ((0, 8), (1, 16)):
        task = assignment(tmp_path / str(seed), final=True, seed=seed, architecture=small(width))
        last = list(run(task))[-1]
        members.append(
            Member(architecture=small(width), weights_path=last["weights_path"], sha256=last["weights_sha256"])
        )
    tested = scores_on_test(task, members[1].weights_path, members[1].sha256, members)
    networks: list[tuple[nn.Module, tuple[int, int] | None]] = []
    for member in members:
        net = build(Architecture.from_json(member.architecture))
        net.load_state_dict(torch_weights(member.weights_path))
        networks.append((net, None))
    data = digits()
    both = probabilities(networks, data.validation, Recipe(), CPU)
    assert torch.allclose(both.sum(1), torch.ones(100))
    right = (both.argmax(1) == data.validation.labels).float().mean().item()
    assert mean_scores(networks, data.validation, Recipe(), CPU)["accuracy"] == pytest.approx(right)
    assert pytest.approx(right) == tested["ensemble_val_accuracy"]
    assert 0 < tested["ensemble_test_accuracy"] <= 1
    assert "ensemble_test_accuracy" not in scores_on_test(task, members[1].weights_path, members[1].sha256, [])


# -- published recipes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_a_published_recipe_is_complete_and_trains(name: str) -> None:
    chosen = Recipe.model_validate({"name": name})
    assert chosen.name == name
    assert Recipe.model_validate(json.loads(chosen.model_dump_json())) == chosen
    for field, value in RECIPES[name].options.items():
        assert json.loads(chosen.model_dump_json())[field] == pytest.approx(value) or isinstance(value, dict)
    [report] = train(residual(), digits(), chosen, 1, 0, CPU)
    assert report.train_loss > 0


def test_fields_override_a_published_recipe() -> None:
    chosen = Recipe.model_validate({"name": "resnet", "batch_size": 64, "optimizer": {"lr": 0.2}})
    base = Recipe.model_validate({"name": "resnet"})
    assert chosen.optimizer == base.optimizer.model_copy(update={"lr": 0.2})
    assert (chosen.batch_size, chosen.highest_lr) == (64, pytest.approx(0.05))
    other = Recipe.model_validate({"name": "resnet", "optimizer": {"name": "adamw"}})
    assert other.optimizer.name == "adamw"
    assert other.init == "he"
    with pytest.raises(ValidationError, match="no recipe is called 'resnest'; allowed: alexnet, vgg"):
        Recipe.model_validate({"name": "resnest"})


def test_a_recipe_is_its_options_whatever_it_is_called() -> None:
    named = Recipe.model_validate({"name": "densenet"})
    same = named.model_copy(update={"name": ""})
    assert named.identity() == same.identity()
    assert set(ADDED) < set(Recipe.model_fields)
    assert not set(Recipe().identity()) & set(ADDED)
    assert Recipe(mixup=0.1).identity()["mixup"] == 0.1


def test_every_recipe_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    for name, published in RECIPES.items():
        assert f"| `{name}` | {published.summary} | {published.source} | {published.notes} |" in text
    assert all(f"`{field}`" in text for field in ADDED if field != "box_weight")
