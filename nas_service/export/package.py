"""The take-home package: a folder that runs without this service, checked before it is handed out.

Equal content gives equal bytes. The folder appears at once and complete, or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from nas_service.export.card import card
from nas_service.export.child import run_child
from nas_service.export.content import CHECKED_SAMPLES, ExportError, FormatReport, Manifest, PackageContent
from nas_service.export.loading import with_loading
from search_spaces.build import fingerprint
from search_spaces.drawing import DrawingError, svg
from search_spaces.source import source
from workers.tasks import TASKS

HERE = Path(__file__).parent
TOLERANCE = 1e-4
"""Outputs may differ by this much times their largest magnitude (at least 1): float32 in another order of sums."""
SCORE_TOLERANCE = 0.005
"""The score on held-out data may differ by this much: it was measured in the recipe's precision, perhaps on a GPU."""
STEP_SECONDS = 300.0
FORMATS = {"onnx": "model.onnx", "pt2": "model.pt2"}
EXPORTERS = ("torch", "numpy", "safetensors", "onnx", "onnxscript")


def write_package(
    folder: Path,
    content: PackageContent,
    formats: Sequence[str] = tuple(FORMATS),
    step_seconds: float = STEP_SECONDS,
) -> Manifest:
    """Write the package to ``folder``, which must not exist.

    ``formats``: what to convert the network to, of "onnx" and "pt2". ``step_seconds``: deadline of each child process.
    A format that cannot be converted is reported in the manifest. Raises ExportError where the network itself cannot be
    exported, or does not pass its check in a clean process.
    """
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown:
        raise ExportError(f"formats {unknown}; allowed: {sorted(FORMATS)}")
    if folder.exists():
        raise ExportError(f"{folder} exists already")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="export-") as work,
        tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as shell,
    ):
        draft = Path(shell) / "package"
        draft.mkdir()
        manifest = _write_files(draft, content, formats, Path(work), step_seconds)
        certificate = _certificate(draft, content, Path(work), step_seconds)
        (draft / "certificate.json").write_text(_json(certificate))
        _settle(draft)
        draft.rename(folder)
        _sync(folder.parent)
    return Manifest(**{**asdict(manifest), "formats": manifest.formats, "certificate": certificate})


def write_zip(folder: Path, target: Path) -> None:
    """The package as one zip file: the same bytes for the same package."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in sorted(folder.iterdir()):
                    info = zipfile.ZipInfo(f"{folder.name}/{path.name}", (1980, 1, 1, 0, 0, 0))
                    info.external_attr = 0o100644 << 16
                    info.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(info, path.read_bytes(), compresslevel=6)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
    _sync(target.parent)


def _write_files(
    draft: Path, content: PackageContent, formats: Sequence[str], work: Path, step_seconds: float
) -> Manifest:
    known = fingerprint(content.architecture)
    pixels = "uint8, 0 to 255" if content.samples.dtype == np.uint8 else "float32"
    text = source(content.architecture, content.title or content.search_name)
    (draft / "model.py").write_text(with_loading(text, content.data, content.architecture.task, pixels))
    (draft / "architecture.json").write_text(_json(content.architecture.to_json()))
    shutil.copyfile(HERE / "check.py", draft / "check.py")
    np.savez(
        work / "samples.npz", pixels=content.samples[:CHECKED_SAMPLES], labels=content.sample_labels[:CHECKED_SAMPLES]
    )
    inputs = {"weights": str(content.weights.resolve()), "samples": str(work / "samples.npz")}
    network = _step("network", draft, work, step_seconds, inputs)
    if "reason" in network:
        raise ExportError(f"the network cannot be exported: {network['reason']}")
    tolerance = TOLERANCE * max(1.0, float(network["largest_output"]))
    if not network["max_difference"] <= tolerance:
        raise ExportError(f"model.py differs from the trained network by {network['max_difference']:.3g}")
    reports = [FormatReport("model.py", True, network["max_difference"], None), _half(draft, network)]
    reports.append(_drawing(draft, content))
    with ThreadPoolExecutor() as pool:  # the children do the work, side by side
        reports += pool.map(lambda name: _converted(name, draft, work / name, step_seconds, tolerance), formats)
    (draft / "README.md").write_text(card(content, known, reports))
    versions = {name: metadata.version(name) for name in EXPORTERS}
    manifest = Manifest(known, tolerance, _digests(draft), tuple(reports), versions)
    about = {key: value for key, value in asdict(manifest).items() if key != "certificate"}
    (draft / "manifest.json").write_text(_json({"version": 1, **about, "search": _search(content)}))
    return manifest


def _step(name: str, draft: Path, work: Path, step_seconds: float, inputs: Mapping[str, str]) -> dict[str, Any]:
    work.mkdir(exist_ok=True)
    job, result = work / f"{name}.job.json", work / f"{name}.result.json"
    job.write_text(json.dumps({"step": name, "folder": str(draft), **inputs}))
    return run_child(["-m", "nas_service.export", str(job), str(result)], result, step_seconds, work)


def _half(draft: Path, network: Mapping[str, Any]) -> FormatReport:
    """What the weights in half precision do; weights that do not fit into it are left out."""
    file, found = "model.fp16.safetensors", network["half_difference"]
    if found is None:
        (draft / file).unlink(missing_ok=True)
        return FormatReport(file, False, None, "outputs with weights in half precision are not finite")
    return FormatReport(file, True, found, None)


def _drawing(draft: Path, content: PackageContent) -> FormatReport:
    try:
        (draft / "architecture.svg").write_text(svg(content.architecture))
    except DrawingError as error:
        return FormatReport("architecture.svg", False, None, str(error))
    return FormatReport("architecture.svg", True, None, None)


def _converted(name: str, draft: Path, work: Path, step_seconds: float, tolerance: float) -> FormatReport:
    file = FORMATS[name]
    done = _step(name, draft, work, step_seconds, {})
    found, reason = done.get("max_difference"), done.get("reason")
    if found is not None and not found <= tolerance:
        reason = f"outputs differ by {found:.3g}, more than {tolerance:.3g}"
    if reason is not None:
        (draft / file).unlink(missing_ok=True)
        return FormatReport(file, False, found, reason)
    return FormatReport(file, True, found, None)


def _certificate(draft: Path, content: PackageContent, work: Path, step_seconds: float) -> dict[str, Any]:
    """The package's check, run where nothing of ours can be imported. Raises ExportError where it fails."""
    result = work / "clean_room.json"
    arguments = ["-I", "-B", str(HERE / "clean_room.py"), str(draft), str(result)]
    if content.held_out is not None:
        arguments.append(str(content.held_out.path.resolve()))
    report = run_child(arguments, result, step_seconds, work)
    if "reason" in report:
        raise ExportError(f"the package does not run by itself: {report['reason']}")
    problems = [*report["problems"]]
    if report["foreign_modules"]:
        problems.append(f"it imported {report['foreign_modules']}")
    expected = None if content.held_out is None else content.held_out.score
    metric = TASKS[content.architecture.task.kind].metrics[0]
    if expected is not None and not problems:
        found, images = report["held_out"][metric], report["held_out"]["images"]
        if abs(found - expected) > SCORE_TOLERANCE + 1 / images:
            problems.append(f"{metric} on held-out data is {found:.4f}, and was {expected:.4f}")
    if problems:
        raise ExportError("the package does not pass its check: " + "; ".join(problems))
    return {
        "version": 1,
        "passed": True,
        "statement": "Imported and run in a process that could import only Python, torch, numpy and safetensors.",
        "manifest_sha256": _sha256(draft / "manifest.json"),
        "measured": report["measured"],
        "held_out": report["held_out"],
        f"expected_{metric}": expected,
        "versions": report["versions"],
    }


def _search(content: PackageContent) -> dict[str, Any]:
    return {
        "id": content.search_id,
        "name": content.search_name,
        "strategy": content.strategy,
        "decisions": dict(content.decisions),
        "recipe": dict(content.recipe),
        "trained_with": dict(content.versions),
        "dataset": {"name": content.data.name, "content_hash": content.data.content_hash},
        f"val_{content.metric}": list(content.val_scores),
        f"test_{content.metric}": content.test_score,
        "costs": dict(content.costs),
        "latency": [asdict(entry) for entry in content.latency],
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digests(draft: Path) -> dict[str, dict[str, str | int]]:
    return {p.name: {"sha256": _sha256(p), "bytes": p.stat().st_size} for p in sorted(draft.iterdir())}


def _settle(draft: Path) -> None:
    """Bring every file to the disk, readable by all."""
    for path in draft.iterdir():
        path.chmod(0o644)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    draft.chmod(0o755)
    _sync(draft)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
