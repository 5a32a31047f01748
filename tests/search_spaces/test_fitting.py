"""Published networks for other images and classes."""

from __future__ import annotations

import pytest

from search_spaces.architecture import Architecture, ArchitectureError, Node, Task
from search_spaces.build import build, walk
from search_spaces.catalogue import REFERENCES
from search_spaces.fitting import fitted, reference

DIGITS = Task((1, 8, 8), 10)


def strides(architecture: Architecture) -> list[object]:
    return [node.args["stride"] for node in walk(architecture).architecture.nodes if node.args.get("stride", 1) != 1]


def test_images_that_are_large_enough_change_classes_alone() -> None:
    published = walk(REFERENCES["resnet50"].build()).architecture
    found = fitted(published, Task((3, 224, 224), 7))
    assert found.nodes[:-1] == published.nodes[:-1]
    assert found.nodes[-1].args["classes"] == 7
    assert walk(found).shapes[-1] == (7,)


def test_small_images_lose_the_first_strides_until_two_pixels_are_left() -> None:
    found = reference("resnet-50", DIGITS)
    assert len(strides(reference("resnet-50"))) == 5
    assert strides(found) == [2, 2], "8 -> 4 -> 2: those of the last stages"
    assert [node.args["kernel"] for node in found.nodes if node.block == "pool"] == [1]
    assert walk(found).shapes[-2] == (2048, 2, 2)
    assert reference("lenet5", Task((1, 28, 28), 10)).nodes[0].args["padding"] == "valid", "28 pixels need no help"


def test_weights_of_convolutions_keep_their_shapes() -> None:
    published, small = (build(reference("alexnet", task)) for task in (None, Task((3, 32, 32), 1000)))
    ours = {name: p.shape for name, p in small.named_parameters() if p.ndim == 4}
    assert ours == {name: p.shape for name, p in published.named_parameters() if p.ndim == 4}
    assert len(ours) == 5


def test_references_fit_small_colour_images() -> None:
    """One in four, in the order of the catalogue."""
    for name, found in list(REFERENCES.items())[::4]:
        published = found.build()
        if published.task.kind == "classification" and "shifted" not in name:
            assert walk(fitted(published, Task((3, 32, 32), 5))).shapes[-1] == (5,), name


def test_another_kind_of_task_gets_another_head() -> None:
    found = reference("mobilenet_v2_0.35", Task((3, 32, 32), 4, "segmentation"))
    assert walk(found).shapes[-1] == (4, 32, 32)


def test_what_cannot_be_fitted_says_why() -> None:
    square = Architecture(Task((3, 8, 8), 2), (Node("classifier", (0,), {"classes": 2}),))
    grown = Architecture(
        Task((3, 64, 64), 2),
        (
            Node("conv_norm_act", (0,), {"out_channels": 8, "kernel": 64, "padding": "valid"}),
            Node("classifier", (1,), {"classes": 2}),
        ),
    )
    assert fitted(square, DIGITS).task == DIGITS
    assert walk(fitted(grown, DIGITS)).shapes[0][0] == 8, "padded, a window may be larger than the image"
    with pytest.raises(ArchitectureError, match="ends a network for segmentation"):
        fitted(REFERENCES["enet_camvid"].build(), DIGITS)
