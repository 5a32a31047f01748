"""The training recipes of the papers, by name: what a request's ``{"recipe": {"name": "resnet"}}`` starts from.

Schedules that count epochs of ImageNet are given as the kind that adapts to the epochs of a search where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PublishedRecipe:
    """A recipe: the options that it sets, all others are Recipe's own; what cannot be said by options is in notes."""

    name: str
    summary: str
    source: str
    options: Mapping[str, Any]
    notes: str = ""


def _sgd(lr: float, weight_decay: float, nesterov: bool = False) -> dict[str, Any]:
    return {"name": "sgd", "lr": lr, "momentum": 0.9, "weight_decay": weight_decay, "nesterov": nesterov}


def _rmsprop(lr: float, epsilon: float, weight_decay: float) -> dict[str, Any]:
    shares = {"decay": 0.9, "momentum": 0.9}
    return {"name": "rmsprop", "lr": lr, **shares, "epsilon": epsilon, "weight_decay": weight_decay}


PLATEAU = {"name": "plateau", "patience": 3, "factor": 0.1, "final_fraction": 0.0001}

_ALL = (
    PublishedRecipe(
        "alexnet",
        "SGD with momentum, weight decay 5e-4, lr 0.01 divided by 10 at plateaus, crops and flips, ten-crop test.",
        "Krizhevsky et al. 2012, sections 4 and 5",
        {
            "batch_size": 128,
            "optimizer": _sgd(0.01, 0.0005),
            "schedule": PLATEAU,
            "augmentation": "crop-flip",
            "init": "normal",
            "decay_norm_and_bias": True,
            "test_views": "ten-crop",
        },
        "Dropout 0.5 belongs to the network. The seven networks of 2012 are finalists.ensemble of a search.",
    ),
    PublishedRecipe(
        "vgg",
        "AlexNet's with batch 256; averaged over the image and its mirror image.",
        "Simonyan and Zisserman 2015, sections 3.1 and 3.2",
        {
            "batch_size": 256,
            "lr_batch": 256,
            "optimizer": _sgd(0.01, 0.0005),
            "schedule": PLATEAU,
            "augmentation": "crop-flip",
            "init": "xavier",
            "decay_norm_and_bias": True,
            "test_views": "flip",
        },
        "Glorot's init is what the authors found to make growing from a smaller net unnecessary.",
    ),
    PublishedRecipe(
        "googlenet",
        "SGD with momentum, lr times 0.96 every 8 epochs, auxiliary losses weighted 0.3.",
        "Szegedy et al. 2015, sections 5 and 6",
        {
            "batch_size": 256,
            "optimizer": _sgd(0.01, 0.0002),
            "schedule": {"name": "step", "every_epochs": 8, "factor": 0.96},
            "augmentation": "crop-flip",
            "init": "xavier",
            "auxiliary_weight": 0.3,
            "test_views": "ten-crop",
        },
        "lr and weight decay are those of BVLC's training; the paper names none. 144 crops there, ten here.",
    ),
    PublishedRecipe(
        "resnet",
        "SGD with momentum, lr 0.1 for a batch of 256 divided by 10 at plateaus, weight decay 1e-4, He init.",
        "He et al. 2016 (1512.03385), section 3.4",
        {
            "batch_size": 256,
            "lr_batch": 256,
            "optimizer": _sgd(0.1, 0.0001),
            "schedule": PLATEAU,
            "augmentation": "crop-flip",
            "init": "he",
            "decay_norm_and_bias": True,
            "test_views": "ten-crop",
        },
        "No dropout. For CIFAR the paper uses batch 128.",
    ),
    PublishedRecipe(
        "wide_resnet",
        "SGD with Nesterov momentum, batch 128, weight decay 5e-4, lr 0.1 times 0.2 in steps, He init.",
        "Zagoruyko and Komodakis 2016 (1605.07146), section 3",
        {
            "batch_size": 128,
            "optimizer": _sgd(0.1, 0.0005, nesterov=True),
            "schedule": {"name": "step", "every_epochs": 60, "factor": 0.2},
            "augmentation": "crop-flip",
            "init": "he",
            "decay_norm_and_bias": True,
        },
        "The paper steps at 60, 120 and 160 of 200 epochs. Dropout belongs to the blocks.",
    ),
    PublishedRecipe(
        "densenet",
        "SGD with Nesterov momentum, batch 64, weight decay 1e-4, lr 0.1 divided by 10, He init.",
        "Huang et al. 2017 (1608.06993), section 4.2",
        {
            "batch_size": 64,
            "optimizer": _sgd(0.1, 0.0001, nesterov=True),
            "schedule": {"name": "step", "every_epochs": 100, "factor": 0.1},
            "augmentation": "crop-flip",
            "init": "he",
            "decay_norm_and_bias": True,
        },
        "The paper steps at a half and at three quarters of 300 epochs (40 for SVHN).",
    ),
    PublishedRecipe(
        "nasnet",
        "SGD with Nesterov momentum, cosine, scheduled drop path 0.4, auxiliary loss 0.4, cutout, clipped gradients.",
        "Zoph et al. 2018 (1707.07012), appendix A, CIFAR-10",
        {
            "batch_size": 32,
            "optimizer": _sgd(0.025, 0.0005, nesterov=True),
            "schedule": {"name": "cosine"},
            "augmentation": "crop-flip-cutout",
            "gradient_clip": 5.0,
            "drop_path": 0.4,
            "drop_path_over": "depth-epochs",
            "auxiliary_weight": 0.4,
        },
    ),
    PublishedRecipe(
        "mobilenet",
        "RMSprop with decay and momentum 0.9, lr 0.045 times 0.98 an epoch, weight decay 4e-5, averaged weights.",
        "Sandler et al. 2018 (1801.04381), section 6.1",
        {
            "batch_size": 96,
            "lr_batch": 96,
            "optimizer": _rmsprop(0.045, 1.0, 0.00004),
            "schedule": {"name": "step", "every_epochs": 1, "factor": 0.98},
            "augmentation": "crop-flip",
            "ema_decay": 0.9999,
        },
        "epsilon 1.0 as in TensorFlow's training script, without which lr 0.045 is too high.",
    ),
    PublishedRecipe(
        "efficientnet",
        "RMSprop, lr 0.256 for a batch of 4096 after a warm-up, times 0.97 every 2.4 epochs, label smoothing 0.1, "
        "stochastic depth 0.2, averaged weights.",
        "Tan and Le 2019 (1905.11946), section 5.2",
        {
            "batch_size": 256,
            "lr_batch": 4096,
            "optimizer": _rmsprop(0.256, 0.001, 0.00001),
            "schedule": {"name": "step", "every_epochs": 2.4, "factor": 0.97, "warmup_epochs": 5},
            "augmentation": "crop-flip",
            "label_smoothing": 0.1,
            "drop_path": 0.2,
            "drop_path_over": "depth",
            "ema_decay": 0.9999,
        },
        "AutoAugment is not among the augmentations here.",
    ),
)
RECIPES = {recipe.name: recipe for recipe in _ALL}


def completed(given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` laid over the recipe that it names. An optimiser or schedule of the same name keeps what is not given.

    Raises ValueError for an unknown name.
    """
    name = given["name"]
    if name not in RECIPES:
        raise ValueError(f"no recipe is called {name!r}; allowed: {', '.join(RECIPES)}")
    whole = {key: dict(value) if isinstance(value, Mapping) else value for key, value in RECIPES[name].options.items()}
    for key, value in given.items():
        base = whole.get(key)
        if isinstance(value, Mapping) and isinstance(base, dict) and value.get("name", base["name"]) == base["name"]:
            whole[key] = {**base, **value}
        else:
            whole[key] = value
    return whole
