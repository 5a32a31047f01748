"""What is kept on disk: read once, again when files change, and without a place to keep it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workers.dataset_spec import stamp
from workers.datasets import DatasetSource, DatasetSpec, describe, folders, kept, load


class Decoder:
    """Counts how often it was needed."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> np.ndarray:
        self.times += 1
        return np.full((2, 3), self.times, np.uint8)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setenv("NAS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "WORTH_BYTES", 10)
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path in paths:
        path.write_bytes(b"12345")
    return paths


def test_decoded_once_until_a_file_or_the_way_changes(photos: list[Path]) -> None:
    decode = Decoder()
    for _ in range(3):
        np.testing.assert_array_equal(kept.array(stamp(photos), 64, decode), np.full((2, 3), 1))
    assert (kept.array(stamp(photos), 32, decode)[0, 0], decode.times) == (2, 2)
    photos[0].write_bytes(b"123456")
    assert (kept.array(stamp(photos), 64, decode)[0, 0], decode.times) == (3, 3)
    assert (kept.array(stamp(photos[::-1]), 64, decode)[0, 0], decode.times) == (4, 4)
    assert [path.suffix for path in kept.folder().iterdir()] == [".npy"] * 4


def test_a_few_bytes_are_not_kept(photos: list[Path]) -> None:
    decode = Decoder()
    photos[0].write_bytes(b"1234")
    assert [kept.array(stamp(photos), 64, decode)[0, 0] for _ in range(2)] == [1, 2]
    assert not kept.folder().exists()


def test_what_is_broken_is_decoded_anew(photos: list[Path]) -> None:
    decode = Decoder()
    kept.array(stamp(photos), 64, decode)
    (place,) = kept.folder().iterdir()
    whole = place.read_bytes()
    for i, content in enumerate((whole[:-1], whole[:20], b"", b"PK\x03\x04")):
        place.write_bytes(content)
        assert kept.array(stamp(photos), 64, decode)[0, 0] == i + 2
        assert len(place.read_bytes()) == len(whole)


def test_without_a_place_it_works_all_the_same(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = Decoder()
    (tmp_path / "file").touch()
    monkeypatch.setenv("NAS_CACHE_DIR", str(tmp_path / "file" / "no folder"))
    assert [kept.array(stamp(photos), 64, decode)[0, 0] for _ in range(2)] == [1, 2]


def test_the_longest_unused_go(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "KEPT", 2)
    decode = Decoder()
    for use, size in enumerate((1, 2, 1, 3)):
        before = set(kept.folder().glob("*"))
        kept.array(stamp(photos), size, decode)
        for path in {*kept.folder().iterdir()} - before:
            os.utime(path, (use, use))
    kept.array(stamp(photos), 1, decode)
    assert decode.times == 3
    kept.array(stamp(photos), 2, decode)
    assert decode.times == 4


def test_what_a_killed_process_left_goes(photos: list[Path]) -> None:
    kept.folder().mkdir(parents=True)
    old, new = (kept.folder() / f"{name}.part" for name in ("old", "new"))
    for path in (old, new):
        path.touch()
    os.utime(old, (1, 1))
    kept.array(stamp(photos), 64, Decoder())
    assert (old.exists(), new.exists()) == (False, True)


def test_what_changed_while_it_was_read_is_not_kept(photos: list[Path]) -> None:
    def changing() -> np.ndarray:
        photos[1].write_bytes(b"54321 and more")
        return np.zeros(3)

    kept.array(stamp(photos), 64, changing)
    assert not kept.folder().exists()


def test_a_file_in_anothers_place_with_its_time_is_another(photos: list[Path]) -> None:
    decode, before = Decoder(), photos[0].stat()
    kept.array(stamp(photos), 64, decode)
    other = photos[0].with_suffix(".other")
    other.write_bytes(b"54321")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, photos[0])
    assert kept.array(stamp(photos), 64, decode)[0, 0] == 2


def test_bytes_are_bounded_and_a_full_disk_is_left_alone(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "KEPT_BYTES", 300)  # an array of 6 bytes takes 134
    for size in range(5):
        kept.array(stamp(photos), size, Decoder())
    assert len(list(kept.folder().iterdir())) == 2
    monkeypatch.setattr(kept, "FREE", 2**62)
    kept.array(stamp(photos), 5, Decoder())
    assert len(list(kept.folder().iterdir())) == 2


def test_errors_of_decoding_are_told_and_leave_nothing(photos: list[Path]) -> None:
    def broken() -> np.ndarray:
        raise ValueError("broken image")

    with pytest.raises(ValueError, match="broken image"):
        kept.array(stamp(photos), 64, broken)
    assert not kept.folder().exists()


def test_a_folder_of_images_is_described_once_a_machine(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    top = photos[0].parent / "d"
    for name, shade in (("cat", 10), ("dog", 90)):
        (top / "train" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("L", (5 + i, 6), shade).save(top / "train" / name / f"{i}.png")
    source = DatasetSource(name="mine", format="folder", path=str(top), size=8)
    first = describe(source, [top])
    assert (first.label_names, first.input_shape, len(first.mean)) == (("cat", "dog"), (1, 8, 8), 1)

    def opened(path: Path) -> Image.Image:
        raise AssertionError(f"{path} is read again")

    with monkeypatch.context() as patch:
        patch.setattr(folders, "opened", opened)
        assert describe(source, [top]) == first
        assert len(load(DatasetSpec(name="mine"), [top], source).train.labels) == 4
        with pytest.raises(AssertionError, match="is read again"):
            describe(source.model_copy(update={"size": 9}), [top])
    Image.new("L", (5, 6), 11).save(top / "train" / "cat" / "0.png")
    assert describe(source, [top]).content_hash != first.content_hash
