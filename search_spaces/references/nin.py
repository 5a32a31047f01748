"""Network in Network. Source: Lin et al. 2014 (1312.4400); the ImageNet variant as in Caffe's model zoo."""

from __future__ import annotations

from search_spaces.architecture import Architecture, Task
from search_spaces.references.reference import CIFAR10, IMAGENET, Row, references
from search_spaces.spaces.chain import Chain


def nin_cifar(task: Task = CIFAR10) -> Architecture:
    """Three mlpconv layers, a pool and dropout behind the first two, the mean of the last maps as logits."""
    chain = Chain()
    chain.append("mlpconv", widths=(192, 160, 96), kernel=5)
    chain.append("pool")
    chain.append("dropout")
    chain.append("mlpconv", widths=(192, 192, 192), kernel=5)
    chain.append("pool", kind="average")
    chain.append("dropout")
    chain.append("mlpconv", widths=(192, 192))
    chain.append("convolutional_classifier", classes=task.classes, last="relu")
    return chain.architecture(task)


def nin_imagenet(task: Task = IMAGENET) -> Architecture:
    """Four mlpconv layers; the first has AlexNet's 11x11 with stride 4."""
    chain = Chain()
    chain.append("mlpconv", widths=(96, 96, 96), kernel=11, stride=4, padding="valid")
    chain.append("pool", padding="ceil")
    chain.append("mlpconv", widths=(256, 256, 256), kernel=5)
    chain.append("pool", padding="ceil")
    chain.append("mlpconv", widths=(384, 384, 384))
    chain.append("pool", padding="ceil")
    chain.append("dropout")
    chain.append("mlpconv", widths=(1024, 1024))
    chain.append("convolutional_classifier", classes=task.classes, last="relu")
    return chain.architecture(task)


ROWS: tuple[Row, ...] = (
    ("nin_cifar", "Network in Network for CIFAR-10", "1312.4400", 966_986, 222_486_528, nin_cifar),
    ("nin_imagenet", "Network in Network for ImageNet", "Caffe model zoo", 7_595_176, 1_100_188_800, nin_imagenet),
)
REFERENCES = references("nin", ROWS)
