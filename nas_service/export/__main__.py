"""One step of an export in a process of its own: ``python -m nas_service.export JOB.json RESULT.json``.

The job: ``{"step": "network" | "onnx" | "pt2", "folder": …, "weights": …, "samples": …}``. The result: the largest
difference of the outputs, or the reason why there is no file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_service.export import conversion
from search_spaces.architecture import Architecture


def step(job: Mapping[str, Any]) -> Mapping[str, float | None]:
    folder = Path(job["folder"])
    match job["step"]:
        case "network":
            architecture = Architecture.from_json(json.loads((folder / "architecture.json").read_text()))
            return conversion.write_network(folder, Path(job["weights"]), Path(job["samples"]), architecture)
        case "onnx":
            return {"max_difference": conversion.write_onnx(folder)}
        case "pt2":
            return {"max_difference": conversion.write_pt2(folder)}
        case other:
            raise ValueError(f"step {other!r}; allowed: 'network', 'onnx', 'pt2'")


def main(job_file: Path, result_file: Path) -> None:
    conversion.quiet()
    try:
        result: dict[str, Any] = {**step(json.loads(job_file.read_text()))}
    except Exception as error:  # an exporter may raise anything; the parent reports it
        result = {"reason": f"{type(error).__name__}: {error}"[:2000]}
    result_file.write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
