"""Scenes of digits, and the user's own masks and boxes: what is drawn, how it is split, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from workers.dataset_spec import SceneSpec
from workers.datasets import DataError, Dataset, DatasetSource, DatasetSpec, builtin, describe, load, load_test
from workers.datasets.arrays import Arrays
from workers.datasets.find import read
from workers.datasets.scenes import draw, enlarged

SMALL = {"train": 60, "test": 10, "size": 24}


def scenes(**fields: Any) -> DatasetSource:
    return DatasetSource(name="mine", format="scenes", scenes=SceneSpec(**{**SMALL, **fields}))


def test_a_scene_is_its_digits_with_a_label_a_pixel() -> None:
    found = read(scenes(noise=0, most=1), "train", [])
    assert found.images.shape == (60, 1, 24, 24)
    assert found.labels.dtype == np.uint8
    assert found.label_names == ("background", *"0123456789")
    for image, mask in zip(found.images[:, 0], found.labels, strict=True):
        assert len(np.unique(mask)) == 2  # background and one digit
        assert (image[mask > 0] >= 0.4 * 255 - 1).all()
        assert (image[mask == 0] == 0).all()
    several = read(scenes(most=3), "train", [])
    assert max(len(np.unique(mask)) for mask in several.labels) == 4


def test_a_box_is_tight_around_its_digit() -> None:
    found = read(scenes(task="localisation", noise=0), "train", [])
    assert found.labels.shape == (60, 5)
    for image, (_, x, y, width, height) in zip(found.images[:, 0], found.labels, strict=True):
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        edges = [x - width / 2, x + width / 2, y - height / 2, y + height / 2]
        assert np.array(edges) * 24 == pytest.approx([columns[0], columns[-1] + 1, rows[0], rows[-1] + 1], abs=1e-4)
    assert set(found.labels[:, 0]) == set(range(10))


@pytest.mark.parametrize("task", ["segmentation", "localisation"])
def test_no_source_image_is_on_two_sides_of_a_split(task: Any) -> None:
    """Each source image has a label of its own here, so that a scene tells what it is made of."""
    objects = Arrays(np.full((80, 1, 8, 8), 9, np.uint8), np.arange(80), tuple(map(str, range(80))))
    whole = draw(SceneSpec(task=task, train=100, test=5, size=24), objects, "train")
    kept, held = whole.divided(0.2, seed=3)
    other, _ = whole.divided(0.2, seed=4)
    assert (len(kept), len(held)) == (80, 20)
    assert not np.array_equal(kept, other)
    sides = []
    for rows in (kept, held):
        labels = whole.labels[rows] if task == "segmentation" else whole.labels[rows, 0] + 1
        sides.append(set(np.unique(labels)) - {0})
    assert sides[0].isdisjoint(sides[1])
    assert len(sides[1]) > 4


def test_training_and_test_have_source_images_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[bytes]] = {}

    def noted(spec: SceneSpec, objects: Arrays, part: Any) -> Arrays:
        seen[part] = {image.tobytes() for image in objects.images}
        return draw(spec, objects, part)

    monkeypatch.setattr("workers.datasets.scenes.draw", noted)
    describe(scenes(), [])
    assert len(seen["train"]) > 1400
    assert seen["train"].isdisjoint(seen["test"])


def test_equal_specs_draw_equal_scenes_and_others_do_not() -> None:
    def content(**fields: Any) -> str:
        return describe(scenes(**fields), []).content_hash

    assert content() == content()
    assert len({content(), content(seed=1), content(most=1), content(size=25), content(noise=0)}) == 5
    # frozen: the pixels of a seed are the same on every machine and in every version
    assert read(scenes(), "train", []).labels.sum(dtype=np.int64) == 25_055


def test_scenes_are_data_sets_like_others() -> None:
    known = builtin([])
    assert {"digit-scenes", "digit-boxes"} <= set(known)
    info = describe(scenes(), [])
    assert (info.task, info.classes, info.input_shape) == ("segmentation", 11, (1, 24, 24))
    assert (info.train, info.test) == (60, 10)
    assert sum(info.class_counts) == 60 * 24 * 24
    data = load(DatasetSpec(name="mine", max_train=20, max_validation=8), [], scenes(task="localisation"))
    assert (data.task, data.train.task, len(data.train.labels), len(data.validation.labels)) == (
        "localisation", "localisation", 20, 8,
    )  # fmt: skip
    test = load_test(DatasetSpec(name="mine"), [], scenes(task="localisation"))
    assert test.labels.shape == (10, 5)
    assert test.labels.dtype == torch.float32


def test_enlarging_keeps_corners_and_means() -> None:
    tile = np.array([[0, 8], [16, 24]])
    assert enlarged(tile, 2).tolist() == tile.tolist()
    large = enlarged(tile, 8)
    assert (large[0, 0], large[-1, -1]) == (0, 24)
    assert large.mean() == pytest.approx(12)
    assert (np.diff(large, axis=1) >= 0).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"smallest": 0.9, "largest": 0.5}, "smallest is 0.9, above largest 0.5"),
        ({"size": 8}, "size"),
        ({"objects": "cats"}, "objects"),
    ],
)
def test_scenes_that_cannot_be(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        scenes(**fields)
    with pytest.raises(ValidationError, match="allowed: scenes for format 'scenes' alone"):
        DatasetSource(name="mine", format="npz", path="x.npz", scenes=SceneSpec())


def test_garments_need_their_files(tmp_path: Path) -> None:
    if "fashion-mnist" in builtin([]):
        assert describe(builtin([])["garment-boxes"], []).input_shape == (1, 64, 64)
    else:
        with pytest.raises(DataError, match="'fashion-mnist' is not here"):
            describe(scenes(objects="garments"), [tmp_path])


# -- the user's own ------------------------------------------------------------------------------------------------

RANDOM = np.random.RandomState(0)


def images(n: int, height: int = 6, width: int = 5) -> NDArray[np.uint8]:
    return RANDOM.randint(0, 256, (n, height, width)).astype(np.uint8)


def masks(n: int) -> NDArray[np.uint8]:
    return RANDOM.randint(0, 3, (n, 6, 5)).astype(np.uint8)


def boxes(n: int) -> NDArray[np.float64]:
    sides = RANDOM.uniform(0.1, 0.5, (n, 2))
    return np.concatenate([RANDOM.uniform(sides / 2, 1 - sides / 2), sides], axis=1)


def own(kind: str, path: Path) -> DatasetSource:
    return DatasetSource.model_validate({"name": "mine", "format": kind, "path": str(path)})


def loaded(kind: str, path: Path) -> Dataset:
    return load(DatasetSpec(name="mine"), [path.parent], own(kind, path))


def write_masks(folder: Path, parts: dict[str, int]) -> Path:
    for part, n in parts.items():
        (folder / part / "images").mkdir(parents=True)
        (folder / part / "masks").mkdir()
        for i, (image, mask) in enumerate(zip(images(n), masks(n), strict=True)):
            Image.fromarray(image).save(folder / part / "images" / f"{i}.jpg")
            Image.fromarray(mask).save(folder / part / "masks" / f"{i}.png")
    return folder


def test_masks_and_boxes_from_npz(tmp_path: Path) -> None:
    wanted = masks(20)
    np.savez(tmp_path / "s.npz", x=images(20), masks=wanted)
    data = loaded("npz", tmp_path / "s.npz")
    assert (data.task, data.classes, data.train.labels.dtype) == ("segmentation", 3, torch.uint8)
    assert len(data.train.labels) + len(data.validation.labels) == 16  # a fifth is the test part
    np.savez(tmp_path / "l.npz", x_train=images(20), y_train=np.arange(20) % 4, boxes_train=boxes(20),
             x_test=images(6), y_test=np.arange(6) % 4, boxes_test=boxes(6))  # fmt: skip
    data = loaded("npz", tmp_path / "l.npz")
    assert (data.task, data.classes) == ("localisation", 4)
    test = load_test(DatasetSpec(name="mine"), [tmp_path], own("npz", tmp_path / "l.npz"))
    assert test.labels[:, 0].tolist() == [0, 1, 2, 3, 0, 1]


def test_masks_from_folders(tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "mine", {"train": 12, "test": 4})
    data = loaded("masks", folder)
    assert (data.task, data.classes, data.input_shape, data.label_names) == ("segmentation", 3, (1, 6, 5), tuple("012"))
    (folder / "labels.txt").write_text("sky\nroad\ncar\nbicycle\n")
    data = loaded("masks", folder)
    assert data.label_names == ("sky", "road", "car", "bicycle")  # a class that never occurs counts as well
    info = describe(own("masks", folder), [tmp_path])
    assert (info.train, info.test, len(info.class_counts)) == (12, 4, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": np.full((20, 6, 5), 255)}, "mask 0 has no pixel whose label is known"),
        ({"masks": np.zeros((20, 6, 5), int)}, "only one class of pixels"),
        ({"masks": np.full((20, 6, 5), 256)}, "masks hold 256 to 256; allowed: 0 to 254, and 255"),
        ({"masks": np.zeros((20, 5, 6), int)}, r"shape \(20, 5, 6\); allowed: integers of \(20, 6, 5\)"),
        (
            {"masks": None, "y": np.arange(20) % 2, "boxes": np.zeros((20, 4))},
            r"box 0 is \[0.0, 0.0, 0.0, 0.0\]; allowed",
        ),
        ({"masks": None, "y": np.arange(20) % 2, "boxes": np.full((20, 4), 0.9)}, "inside it, sides above 0"),
        ({"masks": None, "y": np.arange(20) % 2, "boxes": np.ones((20, 5))}, r"allowed: numbers of \(20, 4\)"),
        ({"masks": None, "boxes": boxes(20)}, "masks for y in a segmentation"),
        ({"y": np.arange(20) % 2}, "masks for y in a segmentation"),
    ],
)
def test_arrays_that_cannot_be(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    body = {"x": images(20), "masks": masks(20), **changes}
    np.savez(tmp_path / "bad.npz", **{name: value for name, value in body.items() if value is not None})
    with pytest.raises(DataError, match=message):
        loaded("npz", tmp_path / "bad.npz")


def test_folders_that_cannot_be(tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "mine", {"train": 4})
    (folder / "labels.txt").write_text("sky\nroad\n")
    with pytest.raises(DataError, match=r"a pixel has label 2; allowed: 0 to 1, and 255"):
        loaded("masks", folder)
    (folder / "labels.txt").unlink()
    Image.fromarray(images(1, 4, 4)[0]).save(folder / "train" / "masks" / "1.png")
    with pytest.raises(DataError, match=r"1\.png: \(4, 4\) pixels, its image 1\.jpg has \(6, 5\)"):
        loaded("masks", folder)
    Image.fromarray(np.zeros((6, 5, 3), np.uint8)).save(folder / "train" / "masks" / "1.png")
    with pytest.raises(DataError, match=r"1\.png: a mask in mode RGB; allowed: 1, L, P"):
        loaded("masks", folder)
    (folder / "train" / "masks" / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.jpg: no mask"):
        loaded("masks", folder)
    with pytest.raises(DataError, match="no folders images and masks"):
        loaded("masks", write_masks(tmp_path / "other", {"test": 2}))
