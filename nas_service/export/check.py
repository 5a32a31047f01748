"""Checks this folder: every file is what it was, and the network gives the outputs that it gave when it was exported.

    python check.py

Needs torch, numpy and safetensors. Prints one line, PASS or FAIL, and ends with 0 or 1.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).resolve().parent


def changed_files(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """What is wrong with the files that the manifest lists."""
    problems = []
    for name, known in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != known["sha256"]:
            problems.append(f"{name} is not the file that was exported: its SHA-256 differs")
    return problems


def load_module(folder: Path) -> ModuleType:
    """``model.py`` of the folder, whatever else is called "model" on this machine."""
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder / 'model.py'} cannot be imported")
    sys.dont_write_bytecode = True  # leave the folder as it is
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def largest_difference(folder: Path) -> float:
    """Largest difference between the outputs for the sample inputs, now and when they were exported."""
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    model_py = load_module(folder)
    model = model_py.load(str(folder / "model.safetensors"))
    samples = load_file(str(folder / "samples.safetensors"))
    with torch.no_grad():
        outputs = model(model_py.preprocess(samples["pixels"]))
    if outputs.shape != samples["outputs"].shape or not torch.isfinite(outputs).all():
        return float("inf")
    return float((outputs - samples["outputs"]).abs().max())


def problems_of(folder: Path) -> tuple[list[str], dict[str, Any]]:
    """What is wrong with the package, and what was measured. The network runs only when its files are unharmed."""
    manifest = json.loads((folder / "manifest.json").read_text())
    problems = changed_files(folder, manifest)
    measured: dict[str, Any] = {"files": len(manifest["files"]), "tolerance": manifest["tolerance"]}
    if not problems:
        measured["max_difference"] = largest_difference(folder)
        if not measured["max_difference"] <= manifest["tolerance"]:
            problems.append(
                f"outputs differ by {measured['max_difference']:.3g}, more than {manifest['tolerance']:.3g}"
            )
    return problems, measured


def main() -> int:
    try:
        problems, measured = problems_of(FOLDER)
    except Exception as error:  # whatever goes wrong, the verdict is one line
        print(f"FAIL: {type(error).__name__}: {error}")
        return 1
    if problems:
        print("FAIL: " + "; ".join(problems))
        return 1
    print(f"PASS: {measured['files']} files unharmed, outputs differ by at most {measured['max_difference']:.3g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
