"""The take-home package of a small network that was really trained."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits

from nas_service.export import (
    DataDescription,
    ExportError,
    HeldOut,
    Latency,
    Manifest,
    PackageContent,
    package,
    write_package,
    write_zip,
)
from nas_service.export.card import reading_a_photo
from search_spaces.architecture import Architecture, Task
from search_spaces.build import build
from search_spaces.catalogue import SPACES
from search_spaces.choose import sample
from workers.datasets import DatasetSource, find

FILES = {
    "README.md", "architecture.json", "architecture.svg", "certificate.json", "check.py", "manifest.json",
    "model.fp16.safetensors", "model.onnx", "model.pt2", "model.py", "model.safetensors", "samples.safetensors",
}  # fmt: skip
LABELS = ('ze"ro', "o'ne", "t\\wo", "thrée", "four\n", "5", "six", "seven", "eight", "n{i}ne")
"""Names that would break a careless writer of Python."""


def trained(folder: Path, size: tuple[int, int] = (8, 8)) -> PackageContent:
    """A small residual network after a few steps on digits, as the service would hand it over."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    digits = load_digits()
    images = digits.images.astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    mean, std = float(images[:1200].mean()), float(images[:1200].std())
    architecture = small(size)
    network = build(architecture)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)

    def inputs(rows: slice) -> torch.Tensor:
        x = (torch.from_numpy(images[rows]).float() - mean) / std
        return x if size == (8, 8) else torch.nn.functional.interpolate(x, size=size, mode="bilinear", antialias=True)

    for step in range(12):
        rows = slice(100 * step, 100 * step + 100)
        loss = torch.nn.functional.cross_entropy(network(inputs(rows)), torch.from_numpy(labels[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    save_file(network.state_dict(), folder / "weights.safetensors")
    with torch.no_grad():
        right = network(inputs(slice(1200, 1797))).argmax(1).numpy() == labels[1200:]
    np.savez(folder / "held_out.npz", images=images[1200:], labels=labels[1200:])
    return PackageContent(
        architecture=architecture,
        weights=folder / "weights.safetensors",
        data=DataDescription("digits", LABELS, (mean,), (std,), (1, 8, 8), "ab" * 32),
        samples=images[1200:1240],
        sample_labels=labels[1200:1240],
        title="Digits, small",
        val_scores=(0.91, 0.93),
        test_score=float(right.mean()),
        costs={"params": 1234, "macs": 5678, "receptive_field": None},
        latency=(Latency("worker-cpu", 1, 0.5, 0.01), Latency("worker|cpu", 8, 2.5)),
        recipe={"epochs": 1, "optimizer": {"name": "sgd"}},
        search_id="search-1",
        search_name="digits <b>demo</b>",
        strategy="rl",
        decisions={"depth": 1},
        versions={"torch": torch.__version__},
        held_out=HeldOut(folder / "held_out.npz", float(right.mean())),
    )


def small(size: tuple[int, int]) -> Architecture:
    """The first sample of the residual space with the fewest nodes."""
    ask = SPACES["residual"].bound(Task((1, *size), 10))
    return min((ask(sample(random.Random(seed))) for seed in range(20)), key=lambda found: len(found.nodes))


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> PackageContent:
    return trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def written(content: PackageContent, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("packages") / "winner"
    return folder, write_package(folder, content)


@pytest.fixture
def copy(written: tuple[Path, Manifest], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written[0], tmp_path / "winner"))


def check(folder: Path, *flags: str) -> tuple[int, str]:
    """Exit code and output of ``check.py``, from another folder and without our packages on the path."""
    done = subprocess.run(
        [sys.executable, "-I", *flags, str(folder / "check.py")],
        cwd="/", capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_all_files_and_formats_are_there(written: tuple[Path, Manifest]) -> None:
    folder, manifest = written
    assert {path.name for path in folder.iterdir()} == FILES
    assert [(report.file, report.reason) for report in manifest.formats] == [
        ("model.py", None), ("model.fp16.safetensors", None), ("architecture.svg", None),
        ("model.onnx", None), ("model.pt2", None),
    ]  # fmt: skip
    for name, known in manifest.files.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == known["sha256"]
        assert (folder / name).stat().st_size == known["bytes"]
    assert set(manifest.files) == FILES - {"manifest.json", "certificate.json"}
    assert oct((folder / "model.safetensors").stat().st_mode & 0o777) == "0o644"
    assert [path.name for path in folder.parent.iterdir()] == ["winner"]


def test_certificate(written: tuple[Path, Manifest], content: PackageContent) -> None:
    folder, manifest = written
    certificate = json.loads((folder / "certificate.json").read_text())
    assert certificate == manifest.certificate
    assert certificate["passed"] is True
    assert certificate["measured"]["max_difference"] == 0.0
    assert certificate["held_out"] == {"images": 597, "accuracy": content.test_score}
    assert certificate["manifest_sha256"] == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    assert set(certificate["versions"]) == {"python", "torch", "numpy", "safetensors"}


def test_check_passes_and_leaves_no_trace(copy: Path) -> None:
    code, output = check(copy)
    assert (code, output.split(":")[0]) == (0, "PASS")
    assert {path.name for path in copy.iterdir()} == FILES


def test_check_notices_a_changed_file(copy: Path) -> None:
    with (copy / "README.md").open("a") as file:
        file.write(" ")
    code, output = check(copy)
    assert code == 1
    assert output.startswith("FAIL: README.md is not the file that was exported")
    (copy / "README.md").unlink()
    assert "README.md is missing" in check(copy)[1]


def test_check_notices_other_outputs(copy: Path) -> None:
    """Weights that were changed together with their digest in the manifest."""
    weights = load_file(copy / "model.safetensors")
    name = next(key for key in weights if key.endswith("linear.bias"))
    weights[name] = weights[name] + 0.5
    save_file(weights, copy / "model.safetensors")
    manifest = json.loads((copy / "manifest.json").read_text())
    digest = hashlib.sha256((copy / "model.safetensors").read_bytes()).hexdigest()
    manifest["files"]["model.safetensors"]["sha256"] = digest
    (copy / "manifest.json").write_text(json.dumps(manifest))
    code, output = check(copy)
    assert code == 1
    assert output.startswith("FAIL: outputs differ by 0.5")


def test_check_of_a_broken_folder_is_one_line(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    code, output = check(copy)
    assert code == 1
    assert output.startswith("FAIL: FileNotFoundError")
    assert output.count("\n") == 1


def clean_room(folder: Path, result: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-B", str(Path(package.__file__).parent / "clean_room.py"), str(folder), str(result)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("foreign", ["search_spaces", "nas_service.errors", "optuna", "sklearn"])
def test_clean_room_holds_no_other_package(copy: Path, tmp_path: Path, foreign: str) -> None:
    text = (copy / "model.py").read_text().replace("import torch\n", f"import torch\nimport {foreign}\n", 1)
    (copy / "model.py").write_text(text)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["model.py"]["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    done = clean_room(copy, tmp_path / "result.json")
    assert done.returncode != 0
    assert f"No module named '{foreign.partition('.')[0]}' in the clean room" in done.stderr
    assert not (tmp_path / "result.json").exists()


def test_model_classifies_as_the_readme_says(copy: Path, content: PackageContent) -> None:
    readme = (copy / "README.md").read_text()
    code = readme.split("```python\n")[1].split("```")[0]
    assert "from model import load, predict" in code
    code += f"""
import sys
from safetensors.torch import load_file
samples = load_file("samples.safetensors")
named = predict(model, samples["pixels"])
print(sum(a == b for a, b in zip(named, {LABELS!r} * 0 + tuple({LABELS!r}[i] for i in samples["labels"]))))
print({{name.partition(".")[0] for name in sys.modules}} & {{"nas_service", "search_spaces", "workers"}})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    right, foreign = done.stdout.split("\n")[-3:-1]
    assert int(right) > 20
    assert foreign == "set()"


@pytest.mark.parametrize("size", [12, None])
@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_readme_reads_photos_as_training_did(
    content: PackageContent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, size: int | None
) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    for label in ("cat", "dog"):
        (tmp_path / "data" / "train" / label).mkdir(parents=True)
        for i in range(3):
            pixels = (
                np.random.default_rng(i)
                .integers(0, 256, (170 + i if size else 12, 230 if size else 12, 3))
                .astype(np.uint8)
            )
            deep = mode == "I;16"
            photo = Image.fromarray(pixels[..., 0].astype(np.uint16) * 250 if deep else pixels)
            photo = photo if deep else photo.convert(mode)
            photo.save(tmp_path / "data" / "train" / label / f"{i}.{'png' if deep else 'jpg'}", exif=turned)
    data = DatasetSource(name="mine", format="folder", path=str(tmp_path / "data"), size=size)
    stored = np.concatenate([find.read(data, part, [tmp_path]).images for part in ("train", "test")])
    shape = (3 if mode == "RGB" else 1, 12, 12)
    described = replace(content.data, input_shape=shape, photos="fitted" if size else "as they are")
    told = reading_a_photo(described, deep=deep)
    code = told.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    for path in sorted((tmp_path / "data").glob("train/*/*.*")):
        (tmp_path / f"photo{path.suffix}").write_bytes(path.read_bytes())
        names: dict[str, Any] = {"torch": torch}
        exec(code, names)
        assert names["pixels"].shape == (1, *shape)
        assert names["pixels"].dtype == (torch.float32 if deep else torch.uint8)
        assert (names["pixels"].numpy() == stored).all(axis=(1, 2, 3)).any()
    assert reading_a_photo(content.data, deep=False) == "", "its images were no files"


def test_readme_says_what_matters(written: tuple[Path, Manifest]) -> None:
    readme = (written[0] / "README.md").read_text()
    for part in ("92.00 %", "1.41 points", "91.00 %, 93.00 %", "1,234", "0.500", "worker\\|cpu", "## Limits", "digits"):
        assert part in readme, part
    assert "<b>" not in readme.replace("\\<b\\>", "")


def test_onnx_and_pt2_take_any_batch(written: tuple[Path, Manifest]) -> None:
    import onnxruntime

    folder, _ = written
    samples = load_file(folder / "samples.safetensors")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    program = torch.export.load(folder / "model.pt2").module()
    text = (folder / "model.py").read_text()
    space: dict[str, object] = {}
    exec(compile(text, "model.py", "exec"), space)
    preprocess = space["preprocess"]
    assert callable(preprocess)
    for batch in (1, 3, 40):
        inputs = preprocess(samples["pixels"][:batch])
        (found,) = session.run(None, {"images": inputs.numpy()})
        assert np.abs(found - samples["outputs"][:batch].numpy()).max() < 1e-4
        assert (program(inputs) - samples["outputs"][:batch]).abs().max() < 1e-4


def test_same_content_gives_the_same_bytes(
    written: tuple[Path, Manifest], content: PackageContent, tmp_path: Path
) -> None:
    """Every conversion runs in a process of its own, so this compares two processes and two temporary folders."""
    again = tmp_path / "deep" / "winner"
    write_package(again, content)
    different = [path.name for path in written[0].iterdir() if path.read_bytes() != (again / path.name).read_bytes()]
    assert different == []
    write_zip(written[0], tmp_path / "one.zip")
    write_zip(again, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert {Path(name).name for name in archive.namelist()} == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "one.zip", "two.zip"]


def test_nothing_names_the_machine(written: tuple[Path, Manifest]) -> None:
    folder, _ = written
    for path in folder.iterdir():
        data = path.read_bytes()
        for word in (b"/tmp/", b"site-packages", str(Path.home()).encode(), str(Path(__file__).parents[3]).encode()):
            assert word not in data, (path.name, word)


def test_refused_content(content: PackageContent) -> None:
    cases: list[tuple[dict[str, object], str]] = [
        ({"samples": content.samples[:0], "sample_labels": content.sample_labels[:0]}, "samples have shape"),
        ({"samples": content.samples.astype(np.int64)}, "samples are int64; allowed: uint8, float32"),
        ({"sample_labels": content.sample_labels[:3]}, "sample_labels have shape"),
        ({"data": replace(content.data, std=(0.0,))}, "std is"),
        ({"data": replace(content.data, mean=(1.0, 2.0))}, "mean is"),
        ({"data": replace(content.data, label_names=("a",))}, "label_names has 1 names; allowed: 10"),
    ]
    for change, message in cases:
        with pytest.raises(ExportError, match=message):
            replace(content, **change)  # type: ignore[arg-type]


def test_weights_of_another_network_are_refused(content: PackageContent, tmp_path: Path) -> None:
    save_file({"other": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ExportError, match="the network cannot be exported"):
        write_package(tmp_path / "out" / "winner", replace(content, weights=tmp_path / "other.safetensors"))
    assert list((tmp_path / "out").iterdir()) == []


def test_an_accuracy_that_is_not_reached_again_is_refused(content: PackageContent, tmp_path: Path) -> None:
    assert content.held_out is not None
    claimed = replace(content.held_out, score=0.999)
    with pytest.raises(ExportError, match=r"accuracy on held-out data is 0\.\d+, and was 0\.9990"):
        write_package(tmp_path / "winner", replace(content, held_out=claimed), formats=())
    assert not (tmp_path / "winner").exists()


def test_a_format_that_fails_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here with a network whose input is larger than the stored images, so that ``model.py`` resizes them."""
    monkeypatch.setitem(package.FORMATS, "clay", "model.clay")
    manifest = write_package(tmp_path / "winner", trained(tmp_path, size=(12, 12)), formats=("clay",))
    assert manifest.certificate["passed"] is True
    assert "interpolate" in (tmp_path / "winner" / "model.py").read_text()
    failed = manifest.formats[-1]
    assert (failed.file, failed.ok) == ("model.clay", False)
    assert "step 'clay'; allowed" in str(failed.reason)
    assert "step 'clay'" in (tmp_path / "winner" / "README.md").read_text()
    assert json.loads((tmp_path / "winner" / "manifest.json").read_text())["formats"][-1]["ok"] is False
    assert check(tmp_path / "winner")[0] == 0


def test_unknown_formats_are_refused(content: PackageContent, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"formats \['tflite'\]; allowed: \['onnx', 'pt2'\]"):
        write_package(tmp_path / "winner", content, formats=("tflite",))


def test_an_existing_folder_is_left_alone(content: PackageContent, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(ExportError, match="exists already"):
        write_package(tmp_path, content)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
