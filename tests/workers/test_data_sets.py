"""Data sets: every format, whole and broken; splits, hashes, and the wall around the data folders."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import zipfile
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from workers import datasets
from workers.datasets import DataError, DatasetSource, DatasetSpec, describe, find, load, load_test
from workers.datasets.arrays import at_most, split

RANDOM = np.random.RandomState(0)


def labels_of(n: int, classes: int = 3) -> NDArray[np.uint8]:
    return (np.arange(n) % classes).astype(np.uint8)


def images_of(n: int, *shape: int) -> NDArray[np.uint8]:
    return RANDOM.randint(0, 256, (n, *shape)).astype(np.uint8)


def idx_bytes(array: NDArray[Any]) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, n: int = 30, end: str = ".gz") -> Path:
    folder.mkdir(exist_ok=True)
    for stem, count in (("train", n), ("t10k", 9)):
        for kind, array in (("images-idx3", images_of(count, 6, 5)), ("labels-idx1", labels_of(count))):
            data = idx_bytes(array)
            (folder / f"{stem}-{kind}-ubyte{end}").write_bytes(gzip.compress(data) if end else data)
    return folder


def write_cifar(folder: Path, fine: bool) -> Path:
    folder.mkdir(exist_ok=True)
    names = (
        {"train.bin": 30, "test.bin": 9}
        if fine
        else {f"data_batch_{i}.bin": 15 for i in (1, 2)} | {"test_batch.bin": 9}
    )
    for name, n in names.items():
        head = [labels_of(n)[:, None]] * (2 if fine else 1)
        (folder / name).write_bytes(np.concatenate([*head, images_of(n, 3072)], axis=1).tobytes())
    (folder / ("fine_label_names.txt" if fine else "batches.meta.txt")).write_text("cat\ndog\nfrog\n")
    return folder


def write_folder(folder: Path, mode: str = "RGB", size: tuple[int, int] = (5, 6)) -> Path:
    for part, n in (("train", 6), ("test", 2)):
        for name in ("cat", "dog"):
            (folder / part / name).mkdir(parents=True)
            for i in range(n):
                shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
                Image.fromarray(images_of(1, *shape)[0]).save(folder / part / name / f"{i}.png")
    return folder


def write_npz(path: Path, **changes: Any) -> Path:
    arrays: dict[str, Any] = {
        "x_train": images_of(30, 6, 5),
        "y_train": labels_of(30),
        "x_test": images_of(9, 6, 5),
        "y_test": labels_of(9),
    }
    np.savez(path, **{name: value for name, value in (arrays | changes).items() if value is not None})
    return path


def source(kind: str, path: Path) -> DatasetSource:
    return DatasetSource.model_validate({"name": "mine", "format": kind, "path": str(path)})


def read(kind: str, path: Path, root: Path) -> datasets.Dataset:
    return load(DatasetSpec(name="mine"), [root], source(kind, path))


@pytest.mark.parametrize(
    ("kind", "shape", "train", "test"),
    [
        ("idx", (1, 6, 5), 30, 9),
        ("cifar10", (3, 32, 32), 30, 9),
        ("cifar100", (3, 32, 32), 30, 9),
        ("folder", (3, 6, 5), 12, 4),
        ("npz", (1, 6, 5), 30, 9),
    ],
)
def test_every_format_is_read_split_and_described(
    tmp_path: Path, kind: str, shape: tuple[int, int, int], train: int, test: int
) -> None:
    writers = {
        "idx": write_idx,
        "cifar10": lambda folder: write_cifar(folder, fine=False),
        "cifar100": lambda folder: write_cifar(folder, fine=True),
        "folder": write_folder,
        "npz": lambda folder: write_npz(folder.with_suffix(".npz")),
    }
    path = writers[kind](tmp_path / "d")
    data = read(kind, path, tmp_path)
    assert data.input_shape == shape
    assert len(data.train.labels) + len(data.validation.labels) == train
    assert data.train.images.dtype == torch.uint8
    batch = data.train.batch(slice(None))
    assert batch.mean().abs() < 1e-3
    assert abs(float(batch.std()) - 1) < 0.05
    info = describe(source(kind, path), [tmp_path])
    assert (info.train, info.test, info.classes, info.input_shape) == (train, test, data.classes, shape)
    assert sum(info.class_counts) == train
    assert len(load_test(DatasetSpec(name="mine"), [tmp_path], source(kind, path)).labels) == test
    if kind in ("cifar10", "folder"):
        assert data.label_names[:2] == ("cat", "dog")


def test_pixels_and_labels_are_those_of_the_file(tmp_path: Path) -> None:
    x, y = images_of(30, 6, 5), labels_of(30)
    data = read("npz", write_npz(tmp_path / "d.npz", x_train=x, y_train=y), tmp_path)
    kept, held = split(y.astype(np.int64), 0.2, 0)
    assert np.array_equal(data.train.images[:, 0].numpy(), x[kept])
    assert np.array_equal(data.validation.images[:, 0].numpy(), x[held])
    assert np.array_equal(data.validation.labels.numpy(), y[held])


def test_channels_last_arrays_are_turned(tmp_path: Path) -> None:
    x = images_of(30, 6, 5, 3)
    data = read("npz", write_npz(tmp_path / "d.npz", x_train=x, x_test=x[:9]), tmp_path)
    assert data.input_shape == (3, 6, 5)
    kept, _ = split(labels_of(30).astype(np.int64), 0.2, 0)
    assert np.array_equal(data.train.images[0].numpy(), x[kept[0]].transpose(2, 0, 1))


@pytest.mark.parametrize("shape", [(13, 20, 16), (20, 16, 13), (2, 5, 6), (5, 2, 3)])
def test_channels_may_be_many(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Bands of a satellite: the axis that is shorter than the image's sides. 3 are channels wherever they are."""
    data = read(
        "npz", write_npz(tmp_path / "d.npz", x_train=images_of(30, *shape), x_test=images_of(9, *shape)), tmp_path
    )
    first = shape[0] < shape[2]
    assert data.input_shape == (shape if first else (shape[2], *shape[:2]))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_batches_leave_the_stored_pixels_as_they_are(tmp_path: Path, dtype: type[np.generic]) -> None:
    split = read("npz", write_npz(tmp_path / "d.npz", x_train=images_of(30, 5, 5).astype(dtype)), tmp_path).train
    stored = split.images.clone()
    for rows in (slice(0, 4), torch.arange(4), slice(None)):
        torch.testing.assert_close(split.batch(rows), (stored[rows].float() - split.mean) / split.std)
    assert split.images.equal(stored)


def test_digits_have_a_fixed_stratified_test_part() -> None:
    info = describe(find.builtin([])["digits"], [])
    assert (info.train, info.test, info.classes, info.input_shape) == (1438, 359, 10, (1, 8, 8))
    assert info.content_hash == "5bdb5da2a70b61632c99e46858ce95efe859356c567e8b4e6218ee98a510110f"
    test = load_test(DatasetSpec(name="digits"), [])
    assert min(np.bincount(test.labels.numpy())) >= 34


def test_fashion_mnist_where_debian_puts_it() -> None:
    if "fashion-mnist" not in find.builtin([]):
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    data = load(DatasetSpec(name="fashion-mnist", max_train=100, max_validation=50), [])
    assert (len(data.train.labels), len(data.validation.labels)) == (100, 50)
    assert data.label_names[9] == "Ankle boot"
    assert np.bincount(data.train.labels.numpy()).tolist() == [10] * 10


def test_split_is_stratified_disjoint_and_decided_by_the_seed() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 5]).astype(np.int64)
    kept, held = split(labels, 0.2, seed=7)
    assert np.bincount(labels[held]).tolist() == [10, 6, 1]
    assert sorted([*kept, *held]) == list(range(85))
    assert np.array_equal(held, split(labels, 0.2, seed=7)[1])
    assert not np.array_equal(held, split(labels, 0.2, seed=8)[1])


@pytest.mark.parametrize("limit", [3, 10, 17, 84])
def test_limits_keep_classes_in_proportion(limit: int) -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 5]).astype(np.int64)
    some = at_most(np.arange(85), labels, limit, seed=0)
    assert len(some) == limit == len(set(some.tolist()))
    counts = np.bincount(labels[some], minlength=3)
    assert counts.min() >= 1
    assert np.abs(counts - np.array([50, 30, 5]) * limit / 85).max() <= 1.7


def test_hash_depends_on_pixels_labels_and_split(tmp_path: Path) -> None:
    x = images_of(30, 6, 5)
    hashes = {read("npz", write_npz(tmp_path / "a.npz", x_train=x), tmp_path).content_hash}
    assert read("npz", write_npz(tmp_path / "same.npz", x_train=x), tmp_path).content_hash in hashes
    x[3, 2, 2] ^= 1
    hashes.add(read("npz", write_npz(tmp_path / "b.npz", x_train=x), tmp_path).content_hash)
    hashes.add(
        read("npz", write_npz(tmp_path / "c.npz", x_train=x, y_train=labels_of(30)[::-1]), tmp_path).content_hash
    )
    for changes in ({"seed": 1}, {"validation_fraction": 0.3}, {"max_train": 20}):
        spec = DatasetSpec.model_validate({"name": "mine", **changes})
        hashes.add(load(spec, [tmp_path], source("npz", tmp_path / "b.npz")).content_hash)
    assert len(hashes) == 6


def test_loaded_once_until_the_file_changes(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "d.npz")
    first = read("npz", path, tmp_path)
    assert read("npz", path, tmp_path) is first
    write_npz(path)
    os.utime(path, ns=(1, 1))
    assert read("npz", path, tmp_path) is not first


def test_load_never_opens_the_test_part(tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "d")
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(b"not even gzip")
    assert len(read("idx", folder, tmp_path).train.labels) == 24
    with pytest.raises(DataError, match="t10k-images"):
        load_test(DatasetSpec(name="mine"), [tmp_path], source("idx", folder))


def test_without_a_test_part_one_is_cut_off_and_stays_apart(tmp_path: Path) -> None:
    x = np.arange(60, dtype=np.float32).reshape(60, 1, 1, 1) * np.ones((60, 1, 5, 5), np.float32)
    path = tmp_path / "d.npz"
    np.savez(path, x=x, y=labels_of(60))
    data = read("npz", path, tmp_path)
    test = load_test(DatasetSpec(name="mine"), [tmp_path], source("npz", path))
    parts = [set(part.images[:, 0, 0, 0].tolist()) for part in (data.train, data.validation, test)]
    assert [len(part) for part in parts] == [39, 9, 12]
    assert set.union(*parts) == set(map(float, range(60)))


class Canary:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["NAS_TEST_CANARY"],)


def object_npz(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("x", "y"):
            header = (
                b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (3,), }".ljust(127) + b"\n"
            )
            archive.writestr(f"{name}.npy", header + pickle.dumps(Canary()))


def test_pickles_are_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_TEST_CANARY", str(tmp_path / "canary"))
    object_npz(tmp_path / "d.npz")
    with pytest.raises(DataError, match="Python objects"):
        read("npz", tmp_path / "d.npz", tmp_path)
    assert not (tmp_path / "canary").exists()


def bomb_npz(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("x", "y"):
            header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({10**9}, 1000, 1000), }}".encode()
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00v\x00" + header.ljust(117) + b"\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_train": np.zeros(30, np.uint8)}, "only one class"),
        ({"y_train": labels_of(30) + 1}, r"\[0\] never occur"),
        ({"y_train": labels_of(30) * 2}, r"\[1, 3\] never occur"),
        ({"y_train": np.arange(30) - 1}, "run from -1 to 28"),
        ({"y_train": np.r_[labels_of(29), [3]]}, "class 3 has 1 images; allowed: at least 2"),
        ({"y_train": labels_of(29)}, "one label an image"),
        ({"y_train": labels_of(30).astype(np.float32)}, "labels of type float32"),
        ({"y_train": np.full(30, 10**9)}, "at most 100000 classes"),
        ({"y_test": labels_of(9, 4)}, "label 3; allowed: 0 to 2"),
        ({"x_test": images_of(9, 7, 5)}, r"test images of shape \(1, 7, 5\)"),
        ({"x_test": images_of(9, 6, 5).astype(np.int16) * 2}, "test images as float32, those of training as uint8"),
        ({"x_test": None}, "both x_test and y_test, or neither"),
        ({"x_train": np.full((30, 6, 5), np.nan, np.float32)}, "not finite"),
        ({"x_train": images_of(30, 30)}, r"shape \(30, 30\)"),
        ({"x_train": images_of(30, 3, 5, 3)}, "which axis"),
        ({"x_train": images_of(30, 7, 7, 7)}, "which axis"),
        ({"x_train": images_of(0, 6, 5), "y_train": labels_of(0)}, "no images"),
        ({"x_train": np.array(["a"] * 30)}, "images of type <U1"),
        ({"x_train": None}, "allowed: x_train, y_train"),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write_npz(tmp_path / "d.npz", **changes)
    with pytest.raises(DataError, match=message):
        describe(source("npz", path), [tmp_path])


def test_broken_archives(tmp_path: Path) -> None:
    whole = write_npz(tmp_path / "d.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a readable"):
        read("npz", tmp_path / "cut.npz", tmp_path)
    bomb_npz(tmp_path / "bomb.npz")
    with pytest.raises(DataError, match="declares shape"):
        read("npz", tmp_path / "bomb.npz", tmp_path)


@pytest.mark.parametrize("end", ["", ".gz"])
def test_broken_idx_files(tmp_path: Path, end: str) -> None:
    folder = write_idx(tmp_path / "d", end=end)
    path = folder / f"train-images-idx3-ubyte{end}"
    pack = gzip.compress if end else bytes
    whole = idx_bytes(images_of(30, 6, 5))
    for data, message in [
        (whole[:-1], "899|915"),
        (whole + b"!", "more"),
        (b"\x89PNG" + whole, "allowed: 0, 0, 8"),
        (whole[:7], "truncated in its header"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 2**31, 2**31, 2**31), "allowed: 8589934592"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 60_000, 280, 280), "declares 4704000000"),
    ]:
        path.write_bytes(pack(data))
        with pytest.raises(DataError, match=message):
            read("idx", folder, tmp_path)
    path.unlink()
    with pytest.raises(DataError, match="no IDX file"):
        read("idx", folder, tmp_path)


def test_broken_cifar_files(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path / "d", fine=False)
    path = folder / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="not a multiple of 3073"):
        read("cifar10", folder, tmp_path)
    with pytest.raises(DataError, match=r"no train\.bin"):
        read("cifar100", folder, tmp_path)


def test_photos_of_any_size_are_brought_to_one(tmp_path: Path) -> None:
    """Scaled to fill the square and cut around the centre, turned as the camera says, whatever their mode."""
    folder = write_folder(tmp_path / "d")
    red, blue = (200, 0, 0), (0, 0, 200)
    wide = Image.new("RGB", (40, 20), red)
    wide.paste(blue, (0, 0, 4, 20))  # left of what is kept
    wide.save(folder / "train" / "cat" / "0.png")
    lying = Image.new("RGB", (20, 20), red)
    lying.paste(blue, (0, 0, 20, 10))  # the upper half of the file, the right one of the photo
    turned = Image.Exif()
    turned[0x0112] = 6
    lying.save(folder / "train" / "cat" / "1.jpg", exif=turned, quality=100, subsampling=0)
    (folder / "train" / "cat" / "1.png").unlink()
    Image.new("LA", (9, 30), (128, 10)).save(folder / "train" / "cat" / "2.png")
    sized = source("folder", folder).model_copy(update={"size": 8})
    found = find.read(sized, "train", [tmp_path]).images
    assert found.shape == (12, 3, 8, 8)
    assert (found[0] == np.array(red).reshape(3, 1, 1)).all()
    assert found[1, 2, :, :3].max() < 60
    assert found[1, 2, :, 5:].min() > 140
    assert (found[2] == 128).all()
    assert describe(sized, [tmp_path]).input_shape == (3, 8, 8)
    Image.new("RGB", (6000, 4000)).save(folder / "train" / "cat" / "0.png")  # of a camera
    assert find.read(sized, "train", [tmp_path]).images.shape == (12, 3, 8, 8)
    same = find.read(source("folder", write_folder(tmp_path / "e", size=(8, 8))), "train", [tmp_path]).images
    again = find.read(source("folder", tmp_path / "e").model_copy(update={"size": 8}), "train", [tmp_path]).images
    assert np.array_equal(same, again), "what has the size already stays as it is"
    with pytest.raises(ValidationError, match="size 8 with format 'npz'; allowed: size for format 'folder' alone"):
        DatasetSource.model_validate({"name": "mine", "format": "npz", "path": "x.npz", "size": 8})


def test_broken_image_folders(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "d")
    odd = folder / "train" / "dog" / "5.png"
    Image.fromarray(images_of(1, 9, 9, 3)[0]).save(odd)
    with pytest.raises(DataError, match="one size"):
        read("folder", folder, tmp_path)
    whole = images_of(1, 6, 5, 3)[0]
    Image.fromarray(whole).save(odd)
    odd.write_bytes(odd.read_bytes()[:-30])
    with pytest.raises(DataError, match="broken image"):
        read("folder", folder, tmp_path)
    odd.write_text("not an image")
    with pytest.raises(DataError, match="not an image"):
        read("folder", folder, tmp_path)
    odd.unlink()
    (folder / "test" / "bird").mkdir()
    with pytest.raises(DataError, match="bird"):
        describe(source("folder", folder), [tmp_path])
    with pytest.raises(DataError, match="no folder train"):
        read("folder", folder / "train", tmp_path)


def test_grey_folders_have_one_channel(tmp_path: Path) -> None:
    assert read("folder", write_folder(tmp_path / "d", mode="L", size=(3, 7)), tmp_path).input_shape == (1, 7, 3)


@pytest.mark.parametrize("size", [None, 4])
def test_grey_images_of_16_bits_keep_them(tmp_path: Path, size: int | None) -> None:
    """Pillow would make 255 of everything above."""
    values = np.arange(0, 64_000, 1000, dtype=np.uint16).reshape(8, 8)
    folder = tmp_path / "d" / "train"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(values + i).save(folder / name / f"{i}.png")
    mine = source("folder", tmp_path / "d").model_copy(update={"size": size})
    images = find.read(mine, "train", [tmp_path]).images
    assert (images.shape[1:], images.dtype) == ((1, size or 8, size or 8), np.float32)
    if size is None:
        assert (images.astype(np.uint16) % 1000 < 3).all()
        assert images.max() > 63_000
    assert describe(mine, [tmp_path]).mean[0] == pytest.approx(31_501, abs=2)
    Image.new("L", (8, 8)).save(folder / "dog" / "1.png")
    with pytest.raises(DataError, match=r"dog/1.png: 8 bits a pixel and channel \(mode L\), unlike .*cat/0.png"):
        find.read(mine, "train", [tmp_path])


def test_tiffs_are_read_and_hidden_files_are_none(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "d")
    before = find.read(source("folder", folder), "train", [tmp_path]).images
    for path in sorted(folder.glob("*/*/*.png")):
        Image.open(path).save(path.with_suffix(".TIF"))
        path.with_name(f"._{path.stem}.TIF").write_bytes(b"what a Mac keeps of an image")
        path.unlink()
    assert np.array_equal(find.read(source("folder", folder), "train", [tmp_path]).images, before)


def test_tiffs_of_several_pages_and_values_that_are_none_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "d", mode="L")
    path = folder / "train" / "cat" / "0.tif"
    Image.new("L", (5, 6)).save(path, save_all=True, append_images=[Image.new("L", (5, 6))])
    with pytest.raises(DataError, match=r"0\.tif: a TIFF of 2 pages; allowed: one page"):
        find.read(source("folder", folder), "train", [tmp_path])
    for file in folder.glob("*/*/*.*"):
        Image.fromarray(np.full((6, 5), 1.5, np.float32)).save(file.with_suffix(".tif"))
        if file.suffix != ".tif":
            file.unlink()
    assert find.read(source("folder", folder), "train", [tmp_path]).images.max() == 1.5
    Image.fromarray(np.full((6, 5), np.nan, np.float32)).save(path)
    with pytest.raises(DataError, match=r"0\.tif: values that are not finite"):
        find.read(source("folder", folder), "train", [tmp_path])


def test_a_test_part_of_another_depth_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "d", mode="L")
    for path in (folder / "test").glob("*/*.png"):
        Image.fromarray(np.zeros((6, 5), np.uint16)).save(path)
    with pytest.raises(DataError, match="test images as float32, those of training as uint8"):
        find.read(source("folder", folder), "test", [tmp_path])


def test_nothing_outside_the_roots_is_opened(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    path = write_npz(outside / "d.npz")
    (inside / "link.npz").symlink_to(path)
    (inside / "folder").symlink_to(outside)
    (inside / "loop").symlink_to(inside / "loop")
    pipe = inside / "pipe.npz"
    os.mkfifo(pipe)
    for bad in (path, inside / "link.npz", inside / "folder" / "d.npz", inside / ".." / "outside" / "d.npz"):
        with pytest.raises(DataError, match="outside the data folders"):
            read("npz", bad, inside)
    for bad, message in [
        (pipe, "ordinary file"),
        (inside, "ordinary file|readable"),
        (inside / "loop", "cannot be opened"),
    ]:
        with pytest.raises(DataError, match=message):
            read("npz", bad, inside)
    with pytest.raises(DataError, match="cannot be opened"):
        read("npz", Path("nul\0byte"), inside)
    folder = write_folder(inside / "images")
    (folder / "train" / "cat" / "9.png").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="outside the data folders"):
        read("folder", folder, inside)


def test_unknown_names_say_what_is_allowed() -> None:
    with pytest.raises(DataError, match=r"'nonesuch' is not here; allowed: \['digit-boxes', 'digit-scenes', 'digits'"):
        load(DatasetSpec(name="nonesuch"), [])
    with pytest.raises(DataError, match="cifar-100-binary"):
        load(DatasetSpec(name="cifar100"), [])


def stripes() -> dict[str, Any]:
    return {"x": images_of(30, 4, 4), "y": labels_of(30), "label_names": ["a", "b", "c"]}


def broken() -> dict[str, Any]:
    raise OSError("no disk")


def test_plugins_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints(EntryPoint(name, f"{__name__}:{name}", "nas.datasets") for name in ("stripes", "broken"))
    monkeypatch.setattr(find, "entry_points", lambda group: points.select(group=group))
    find.plugin_names.cache_clear()
    find._plugin.cache_clear()
    try:
        data = load(DatasetSpec(name="stripes"), [])
        assert data.label_names == ("a", "b", "c")
        assert len(data.train.labels) + len(data.validation.labels) == 24
        with pytest.raises(DataError, match="'broken' failed: OSError: no disk"):
            load(DatasetSpec(name="broken"), [])
    finally:
        find.plugin_names.cache_clear()
        find._plugin.cache_clear()
