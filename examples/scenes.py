"""A segmentation search and a localisation search on scenes of digits or garments, each to its checked package.

``python examples/scenes.py [--small] [--garments]`` with a server started by ``nas serve`` in the same folder. The
small form takes a minute or two and shows that it works; the figures in docs/tasks.md are those of the full form.
Garments want the files of Fashion-MNIST and have four times the pixels: fewer scenes, fewer epochs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from nas_service.client import Client

SEARCHES: dict[str, dict[str, Any]] = {
    "segmentation": {
        "dataset": {"name": "digit-scenes"},
        "space": {"name": "segmentation", "decoders": ["unpool", "upsample", "bilinear"]},
        "recipe": {
            "batch_size": 32,
            "optimizer": {"name": "adamw", "lr": 0.004},
            "schedule": {"name": "cosine", "warmup_epochs": 0.5},
        },
    },
    "localisation": {
        "dataset": {"name": "digit-boxes"},
        "space": {"name": "residual", "widths": [8, 16], "depths": [1, 2]},
        "recipe": {
            "batch_size": 32,
            "optimizer": {"name": "adamw", "lr": 0.004},
            "schedule": {"name": "cosine", "warmup_epochs": 0.5},
        },
    },
}
FULL = {
    "strategy": {"name": "evolution", "population": 4, "sample": 2},
    "scheduler": {"name": "asha", "min_epochs": 1, "max_epochs": 4, "reduction_factor": 2},
    "budget": {"max_trials": 8},
    "finalists": {"top_k": 2, "epochs": 24, "seeds": [0], "ensemble": 2},
    "resources": {"max_parallel": 2, "trial_timeout_seconds": 3600},
}
GARMENTS = {
    **FULL,
    "budget": {"max_trials": 6},
    "finalists": {"top_k": 2, "epochs": 10, "seeds": [0], "ensemble": 2},
}
SMALL = {
    "strategy": {"name": "random"},
    "scheduler": {"name": "none", "max_epochs": 1},
    "budget": {"max_trials": 2},
    "finalists": {"top_k": 1, "epochs": 2, "seeds": [0]},
    "resources": {"max_parallel": 2, "trial_timeout_seconds": 600},
}


def searched(client: Client, task: str, small: bool, folder: Path, garments: bool = False) -> dict[str, Any]:
    """Run the search of a task and take its winner home to ``folder``; its winner, and what check.py said."""
    form = SMALL if small else GARMENTS if garments else FULL
    request = {**SEARCHES[task], **form, "name": folder.name}
    if garments:
        name = request["dataset"]["name"].replace("digit", "garment")
        request["dataset"] = {"name": name, "max_train": 800, "max_validation": 200}
    if small:
        request["dataset"] = {**request["dataset"], "max_train": 200, "max_validation": 100}
    search = client.wait(client.submit(request)["id"])
    if search["state"] != "succeeded":
        raise SystemExit(f"search {search['id']} {search['state']}: {search['reason']}")
    client.download(client.export(search["id"])["id"], folder)
    checked = subprocess.run([sys.executable, str(folder / "check.py")], capture_output=True, text=True, check=False)
    certificate = json.loads((folder / "certificate.json").read_text())
    return {"search": search, "check": checked.stdout.strip(), "held_out": certificate["held_out"]}


def main() -> None:
    small, garments = "--small" in sys.argv, "--garments" in sys.argv
    what = "garments" if garments else "scenes"
    with Client() as client:
        for task in SEARCHES:
            found = searched(client, task, small, Path(f"{what}-{task}"), garments)
            search, winner = found["search"], found["search"]["winner"]
            print(f"{task}: trial {winner['trial']} of {search['progress']['counted']}, {search['used_seconds']:.0f} s")
            for name in ("score", "test", "ensemble"):
                print(f"  {name}: {json.dumps(winner.get(name))}")
            print(f"  {found['check']}; held out: {json.dumps(found['held_out'])}")


if __name__ == "__main__":
    main()
