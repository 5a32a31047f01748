"""What a network can learn, one entry a task: its loss, its scores, and which of them says that an epoch was good.

Targets are one tensor an image, as ``Split.labels`` holds them:
classification [n] int64, the class; segmentation [n, height, width] uint8, a class a pixel, 255 where nobody knows;
localisation [n, 5] float32, the class and the box: centre x, centre y, width, height, as shares of the image's sides.
Outputs are those of ``search_spaces.architecture.Task.output_shape``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.dataset_spec import UNKNOWN
from workers.scores import METRICS


@dataclass(frozen=True)
class LossOptions:
    """What a recipe says about the loss. ``class_weights`` [classes]; ``box_weight`` times the box's loss."""

    label_smoothing: float = 0.0
    class_weights: Tensor | None = None
    box_weight: float = 5.0


@dataclass(frozen=True)
class LearningTask:
    """A task. ``tally`` makes sums over a batch, ``scores`` figures of the sums over a split of so many images.

    ``loss(outputs, targets, options)`` is the mean over the batch; outputs are float32. ``metrics`` are the names of
    the scores, each 0 to 1 and the greater the better; the first one is the task's own: objectives, best epochs and
    winners go by it where nobody asks for another. ``mixes``: whether a mean of two images has a mean of two targets.
    """

    metrics: tuple[str, ...]
    loss: Callable[[Tensor, Tensor, LossOptions], Tensor]
    tally: Callable[[Tensor, Tensor], Tensor]
    scores: Callable[[Tensor, int], dict[str, float]]
    classes_of: Callable[[Tensor], Tensor]
    """Class of each target, [n] or more, int64: what weights are counted from and auxiliary heads are trained on."""
    mixes: bool = True


def _classification_loss(outputs: Tensor, targets: Tensor, options: LossOptions) -> Tensor:
    return F.cross_entropy(outputs, targets, weight=options.class_weights, label_smoothing=options.label_smoothing)


def _count_right(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).sum()


def _accuracy(tally: Tensor, images: int) -> dict[str, float]:
    return {"accuracy": tally.item() / images}


def _segmentation_loss(outputs: Tensor, targets: Tensor, options: LossOptions) -> Tensor:
    """Cross entropy of every pixel whose label is known, at the resolution of the labels.

    0 where there is none that counts: of a batch of crops every pixel may be unknown, or of a class without weight.
    """
    labels = targets.long()
    total = F.cross_entropy(
        as_large_as(outputs, targets),
        labels,
        weight=options.class_weights,
        ignore_index=UNKNOWN,
        reduction="sum",
        label_smoothing=options.label_smoothing,
    )
    known = labels != UNKNOWN
    if options.class_weights is None:
        return total / known.sum().clamp(min=1)
    counted = torch.where(known, options.class_weights[torch.where(known, labels, 0)], 0.0).sum()
    return total / torch.where(counted > 0, counted, 1.0)


def as_large_as(outputs: Tensor, targets: Tensor) -> Tensor:
    """Logits [b, classes, h', w'] enlarged to the labels' [b, h, w]: a network may work at another resolution."""
    if outputs.shape[2:] == targets.shape[1:]:
        return outputs
    return F.interpolate(outputs, size=targets.shape[1:], mode="bilinear", align_corners=False)


def _confusion(outputs: Tensor, targets: Tensor) -> Tensor:
    """[classes, classes] counts of pixels: label down, answer across."""
    classes = outputs.shape[1]
    labels, answers = targets.long().flatten(), as_large_as(outputs, targets).argmax(1).flatten()
    known = labels != UNKNOWN
    pairs = torch.where(known, labels * classes + answers, classes * classes)
    counts = torch.zeros(classes * classes + 1, dtype=torch.int64, device=outputs.device)
    counts.scatter_add_(0, pairs, torch.ones_like(pairs))  # bincount would wait for the device
    return counts[:-1].view(classes, classes)


def _mean_iou(tally: Tensor, images: int) -> dict[str, float]:
    """Mean over the classes of intersection / union, classes that neither occur nor are answered left out."""
    counts = tally.double()
    right = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - right
    there = union > 0
    total = counts.sum()
    return {
        "miou": (right[there] / union[there]).mean().item() if bool(there.any()) else 0.0,
        "pixel_accuracy": (right.sum() / total).item() if total > 0 else 0.0,
    }


def _localisation_loss(outputs: Tensor, targets: Tensor, options: LossOptions) -> Tensor:
    """Cross entropy of the class + box_weight · smooth L1 of the box (quadratic below 0.1 of the image's side)."""
    labels = _classification_loss(outputs[:, :-4], targets[:, 0].long(), options)
    return labels + options.box_weight * F.smooth_l1_loss(outputs[:, -4:], targets[:, 1:], beta=0.1)


def box_iou(one: Tensor, two: Tensor) -> Tensor:
    """Intersection over union of boxes [b, 4] given as centre x, centre y, width, height: [b]."""
    corners = [
        (box[:, :2] - box[:, 2:].clamp(min=0) / 2, box[:, :2] + box[:, 2:].clamp(min=0) / 2) for box in (one, two)
    ]
    low = torch.maximum(corners[0][0], corners[1][0])
    high = torch.minimum(corners[0][1], corners[1][1])
    shared = (high - low).clamp(min=0).prod(1)
    areas = [(high - low).prod(1) for low, high in corners]
    return shared / (areas[0] + areas[1] - shared).clamp(min=1e-9)


def _boxes(outputs: Tensor, targets: Tensor) -> Tensor:
    """[right classes, sum of IoU, right classes whose box has an IoU of at least 0.5]."""
    right = outputs[:, :-4].argmax(1) == targets[:, 0].long()
    iou = box_iou(outputs[:, -4:].float(), targets[:, 1:])
    return torch.stack([right.sum().double(), iou.sum().double(), (right & (iou >= 0.5)).sum().double()])


def _box_scores(tally: Tensor, images: int) -> dict[str, float]:
    accuracy, iou, both = (tally / images).tolist()
    return {"accuracy_at_iou50": both, "accuracy": accuracy, "iou": iou}


TASKS: dict[str, LearningTask] = {
    "classification": LearningTask(
        METRICS["classification"], _classification_loss, _count_right, _accuracy, lambda targets: targets.long()
    ),
    "segmentation": LearningTask(
        METRICS["segmentation"], _segmentation_loss, _confusion, _mean_iou, lambda targets: targets.long()
    ),
    "localisation": LearningTask(
        METRICS["localisation"],
        _localisation_loss,
        _boxes,
        _box_scores,
        lambda targets: targets[:, 0].long(),
        mixes=False,
    ),
}


def class_weights(kind: str, labels: Tensor, classes: int) -> Tensor | None:
    """Weight of each class in the loss, [classes] float32, from how often it occurs, p.

    none: None. inverse: 1 / (classes · p). enet: 1 / ln(1.02 + p) (Paszke et al. 2016, section 5). A class that never
    occurs has the weight 0 for inverse.
    """
    if kind == "none":
        return None
    counts = torch.bincount(labels.flatten(), minlength=max(classes, UNKNOWN + 1) if labels.ndim > 1 else classes)
    share = counts[:classes].double() / counts[:classes].sum()
    if kind == "inverse":
        return torch.where(share > 0, 1 / (classes * share), 0.0).float()
    return (1 / torch.log(1.02 + share)).float()


def comparable(task: str, outputs: Tensor) -> Tensor:
    """Outputs of which a mean makes sense: probabilities of classes, boxes as they are."""
    if task == "localisation":
        return torch.cat([outputs[:, :-4].softmax(1), outputs[:, -4:]], dim=1)
    return outputs.softmax(1)


def predictions(task: str, outputs: Tensor) -> Tensor:
    """What is shown to people: classes [b]; classes of pixels [b, h, w]; class and box [b, 5]."""
    if task == "localisation":
        return torch.cat([outputs[:, :-4].argmax(1, keepdim=True).float(), outputs[:, -4:].float()], dim=1)
    return outputs.argmax(1)
