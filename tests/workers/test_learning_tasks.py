"""Losses and scores of every task, targets that move with their images, and small networks that learn."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from worker_samples import assignment

from search_spaces.architecture import TASKS as KINDS
from search_spaces.architecture import Task
from search_spaces.build import build
from search_spaces.catalogue import SPACES
from search_spaces.choose import first, replay
from workers.augmentation import Draws, augmented
from workers.dataset_spec import SceneSpec
from workers.datasets import DatasetSource, DatasetSpec, Split, load
from workers.pictures import FOUND, TRUE, palette
from workers.recipe import Recipe
from workers.run import PICTURE, run, scores_on_test
from workers.tasks import TASKS, LossOptions, box_iou, class_weights
from workers.training import evaluate_split, mean_scores

CPU = torch.device("cpu")
PLAIN = LossOptions()


def recipe(**fields: Any) -> Recipe:
    return Recipe.model_validate(fields)


def test_every_kind_of_architecture_can_be_learned() -> None:
    assert set(TASKS) == set(KINDS)
    for task in TASKS.values():
        tally = task.tally(*samples(task))
        assert list(task.scores(tally, 2)) == list(task.metrics)


def samples(task: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Two outputs for three classes, all right, and their targets."""
    if task is TASKS["classification"]:
        return torch.eye(3)[:2], torch.tensor([0, 1])
    if task is TASKS["segmentation"]:
        labels = torch.tensor([[[0, 1], [2, 0]], [[1, 1], [0, 2]]])
        return F.one_hot(labels, 3).permute(0, 3, 1, 2).float(), labels.to(torch.uint8)
    box = torch.tensor([[0.5, 0.5, 0.4, 0.2], [0.2, 0.3, 0.1, 0.1]])
    return torch.cat([torch.eye(3)[:2], box], 1), torch.cat([torch.tensor([[0.0], [1.0]]), box], 1)


@pytest.mark.parametrize("kind", KINDS)
def test_right_answers_score_one_and_wrong_ones_less(kind: str) -> None:
    task = TASKS[kind]
    outputs, targets = samples(task)
    assert set(task.scores(task.tally(outputs, targets), 2).values()) == {1.0}
    worse = outputs.roll(1, 0)
    assert all(score < 1 for score in task.scores(task.tally(worse, targets), 2).values())
    assert task.loss(10 * outputs, targets, LossOptions(box_weight=0)) < task.loss(10 * worse, targets, PLAIN)


def test_mean_iou_is_that_of_the_definition_and_leaves_unknown_pixels_out() -> None:
    task = TASKS["segmentation"]
    labels = torch.tensor([[[0, 0, 0, 1, 1, 255]]], dtype=torch.uint8)
    answers = F.one_hot(torch.tensor([[[0, 0, 1, 1, 0, 2]]]), 4).permute(0, 3, 1, 2).float()
    scores = task.scores(task.tally(answers, labels), 1)
    assert scores["miou"] == pytest.approx((2 / 4 + 1 / 3) / 2)  # classes 2 and 3 are nowhere
    assert scores["pixel_accuracy"] == pytest.approx(3 / 5)
    known = task.loss(answers[..., :5], labels[..., :5], PLAIN)
    assert task.loss(answers, labels, PLAIN) == pytest.approx(known)
    halves = task.tally(answers[..., :3], labels[..., :3]) + task.tally(answers[..., 3:], labels[..., 3:])
    assert torch.equal(halves, task.tally(answers, labels))


def test_a_segmenter_of_another_resolution_is_judged_at_that_of_the_labels() -> None:
    task = TASKS["segmentation"]
    labels = torch.zeros(1, 4, 4, dtype=torch.uint8)
    labels[:, :, 2:] = 1
    coarse = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]]])
    assert task.scores(task.tally(coarse, labels), 1) == {"miou": 1.0, "pixel_accuracy": 1.0}
    assert task.loss(coarse, labels, PLAIN).ndim == 0


def test_iou_of_boxes() -> None:
    one = torch.tensor([[0.5, 0.5, 0.4, 0.4]]).expand(4, 4)
    two = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.7, 0.5, 0.4, 0.4], [0.9, 0.9, 0.2, 0.2], [0.5, 0.5, -1, 0.4]])
    assert box_iou(one, two).tolist() == pytest.approx([1, 1 / 3, 0, 0])


def test_accuracy_at_iou50_wants_class_and_box() -> None:
    task = TASKS["localisation"]
    outputs, targets = samples(task)
    outputs = outputs.repeat(2, 1)
    targets = targets.repeat(2, 1)
    outputs[0, :3] = torch.tensor([0.0, 9.0, 0.0])  # wrong class, right box
    outputs[1, 3:5] += 0.5  # right class, wrong box
    scores = task.scores(task.tally(outputs, targets), 4)
    assert scores == pytest.approx({"accuracy_at_iou50": 0.5, "accuracy": 0.75, "iou": 0.75})


def test_the_loss_of_the_box_counts_as_the_recipe_says() -> None:
    outputs, targets = samples(TASKS["localisation"])
    outputs = outputs + torch.tensor([0, 0, 0, 0.05, -0.3, 0, 0.1])
    without, twice = (TASKS["localisation"].loss(outputs, targets, LossOptions(box_weight=w)) for w in (0, 2))
    box = (0.05**2 / 0.2 + (0.3 - 0.05) + (0.1 - 0.05)) / 4  # quadratic below 0.1
    assert (twice - without).item() == pytest.approx(2 * box, rel=1e-4)


def test_class_weights_follow_their_formulas_and_matter() -> None:
    labels = torch.tensor([[[0, 0, 0, 0, 0, 0, 1, 1, 1, 255]]], dtype=torch.uint8)
    assert class_weights("none", labels.long(), 3) is None
    inverse, enet = (class_weights(kind, labels.long(), 3) for kind in ("inverse", "enet"))
    assert inverse is not None
    assert enet is not None
    assert inverse.tolist() == pytest.approx([1 / (3 * 2 / 3), 1 / (3 * 1 / 3), 0])
    assert enet.tolist() == pytest.approx([1 / math.log(1.02 + 2 / 3), 1 / math.log(1.02 + 1 / 3), 1 / math.log(1.02)])
    outputs = torch.randn(1, 3, 1, 10, generator=torch.Generator().manual_seed(0))
    loss = TASKS["segmentation"].loss
    assert len({float(loss(outputs, labels, LossOptions(class_weights=w))) for w in (None, inverse, enet)}) == 3


@pytest.mark.parametrize("kind", ["none", "inverse", "enet"])
def test_a_batch_without_a_pixel_that_counts_has_no_loss_and_harms_no_weight(kind: str) -> None:
    """Sparse labels, cropped or cut out, may leave a batch without any."""
    loss = TASKS["segmentation"].loss
    torch.manual_seed(0)
    outputs = torch.randn(2, 3, 4, 4, requires_grad=True)
    labels = torch.randint(0, 2, (2, 4, 4)).to(torch.uint8)
    labels[0, :2] = 255
    options = LossOptions(0.1, class_weights(kind, labels.long(), 3))
    expected = F.cross_entropy(
        outputs, labels.long(), weight=options.class_weights, ignore_index=255, label_smoothing=0.1
    )
    assert loss(outputs, labels, options).item() == pytest.approx(expected.item())
    unseen = [torch.full_like(labels, 255)] + ([torch.full_like(labels, 2)] if kind == "inverse" else [])
    for targets in unseen:
        nothing = loss(outputs, targets, LossOptions(0.0, options.class_weights))
        assert nothing.item() == 0
        (gradient,) = torch.autograd.grad(nothing, outputs)
        assert not gradient.any()


def test_large_images_are_evaluated_a_few_at_a_time() -> None:
    """512 masks of 256 x 256 with 20 classes would be 2.7 gigabytes of logits alone."""
    seen = []

    class Watching(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(len(x))
            return x.new_zeros(len(x), 3, *x.shape[2:])

    labels = torch.zeros(70, 256, 256, dtype=torch.uint8)
    stats = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    split = Split(torch.zeros(70, 1, 256, 256, dtype=torch.uint8), labels, *stats, task="segmentation")
    _, scores = evaluate_split(Watching(), split, recipe(), CPU)
    assert seen == [32, 32, 6]
    assert scores == mean_scores([(Watching(), None)], split, recipe(), CPU) == {"miou": 1.0, "pixel_accuracy": 1.0}
    assert max(seen) == 32
    seen.clear()
    small = Split(torch.zeros(600, 1, 8, 8), torch.zeros(600, 8, 8, dtype=torch.uint8), *stats, task="segmentation")
    evaluate_split(Watching(), small, recipe(), CPU)
    evaluate_split(Watching(), replace(small, size=(128, 128)), recipe(), CPU)
    assert seen == [512, 88, 128, 128, 128, 128, 88]


def test_masks_move_with_their_images() -> None:
    images = torch.arange(1, 17).float().view(1, 1, 4, 4)
    masks = images[:, 0].to(torch.uint8)
    draws = Draws(torch.tensor([[0, 2]]), torch.tensor([True]), torch.tensor([[3, 0]]))
    wild = recipe(augmentation="crop-flip-cutout", crop_padding=1, cutout_size=2)
    x, y = augmented(images, masks, draws, torch.tensor([0]), wild, "segmentation")
    known = y != 255
    assert torch.equal(x[:, 0][known].to(torch.uint8), y[known])
    assert (x[:, 0][~known] == 0).all()
    assert 0 < int(known.sum()) < 16


def test_boxes_move_with_their_images() -> None:
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 2:6, 1:4] = 1
    target = torch.tensor([[7, 2.5 / 8, 4 / 8, 3 / 8, 4 / 8]])
    for shift in ([1, 1], [0, 2], [2, 0], [4, 4]):
        for flip in (False, True):
            draws = Draws(torch.tensor([shift]), torch.tensor([flip]), None)
            wild = recipe(augmentation="crop-flip", crop_padding=3 if shift[0] == 4 else 1)
            x, y = augmented(image, target, draws, torch.tensor([0]), wild, "localisation")
            rows, columns = x[0, 0].any(1).nonzero().flatten(), x[0, 0].any(0).nonzero().flatten()
            edges = [float(edge) for edge in (columns[0], columns[-1] + 1, rows[0], rows[-1] + 1)]
            _, cx, cy, w, h = (8 * y[0]).tolist()
            assert [cx - w / 2, cx + w / 2, cy - h / 2, cy + h / 2] == pytest.approx(edges, abs=1e-4)
            assert y[0, 0] == 7


SCENE = {"train": 400, "test": 60, "size": 24, "most": 1, "smallest": 0.5, "largest": 0.8}


def scene_assignment(folder: Path, kind: str, **changes: Any) -> Any:
    source = DatasetSource(name="mine", format="scenes", scenes=SceneSpec(**{**SCENE, "task": kind}))  # type: ignore[arg-type]
    data = load(DatasetSpec(name="mine"), [], source)
    task = Task(data.input_shape, data.classes, kind)
    if kind == "segmentation":
        answers = {"stem": "halving", "downsamplings": 1, "decoder": "bilinear"}
        architecture = SPACES["segmentation"].bound(task)(replay(answers, first))
    else:
        architecture = SPACES["residual"].bound(task)(replay({"block": "preact_basic"}, first))
    body = {
        "architecture": architecture.to_json(),
        "dataset": {"name": "mine"},
        "source": source.model_dump(),
        "recipe": {"batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.004}},
        "epochs": 6 if kind == "segmentation" else 3,
        "final": True,
    }
    return assignment(folder, **{**body, **changes})


@pytest.mark.parametrize(("kind", "least"), [("segmentation", 0.15), ("localisation", 0.1)])
def test_a_small_network_learns_scenes_and_is_tested(tmp_path: Path, kind: str, least: float) -> None:
    task = scene_assignment(tmp_path, kind)
    reports = list(run(task))
    score = f"val_{TASKS[kind].metrics[0]}"
    assert "failure" not in reports[-1], reports[-1].get("failure")
    assert {f"{part}_{name}" for part in ("train", "val") for name in TASKS[kind].metrics} < set(reports[-1])
    assert reports[-1][score] > least
    assert reports[-1]["train_loss"] < 0.8 * reports[0]["train_loss"]
    best = max(reports, key=lambda report: (report[score], -report["val_loss"]))
    assert reports[-1]["weights_epoch"] == best["epoch"]
    tested = scores_on_test(task, reports[-1]["weights_path"], reports[-1]["weights_sha256"])
    assert {f"test_{name}" for name in TASKS[kind].metrics} < set(tested)
    assert tested["test_images"] == 60
    with Image.open(tmp_path / PICTURE) as shown:  # eight columns of 24 x 24 pixels, six times as large
        assert shown.size == (8 * 148 - 4, (3 if kind == "segmentation" else 2) * 148 - 4)
        colours = {colour for _, colour in shown.getcolors(10_000) or ()}
    assert ({TRUE, FOUND} <= colours) if kind == "localisation" else (tuple(palette(11)[1]) in colours)


def test_a_network_for_another_task_is_refused(tmp_path: Path) -> None:
    boxes = scene_assignment(tmp_path, "localisation").source
    body = scene_assignment(tmp_path, "segmentation").model_copy(update={"source": boxes})
    failure = next(iter(run(body)))["failure"]
    assert failure["kind"] == "build"
    assert "mine is for localisation; the architecture is for segmentation" in failure["message"]


def test_outputs_of_the_networks_are_what_the_losses_read() -> None:
    for kind in KINDS:
        task = Task((1, 16, 16), 3, kind)
        network = build(SPACES["segmentation" if kind == "segmentation" else "residual"].bound(task)(first))
        outputs = network(torch.randn(2, 1, 16, 16))
        targets = {
            "classification": torch.tensor([0, 2]),
            "segmentation": torch.randint(0, 3, (2, 16, 16), dtype=torch.uint8),
            "localisation": torch.rand(2, 5),
        }[kind]
        loss = TASKS[kind].loss(outputs, targets, PLAIN)
        loss.backward()
        assert torch.isfinite(loss)
