"""A user's own data, and a block and a space of an installed package, in a real search whose winner is exported."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from examples.own_data import own_data
from nas_service.client import ApiError, Client
from tests.end_to_end.conftest import Service

BLOCK = '''
from torch import Tensor, nn


class Gate(nn.Module):
    """y = conv(x) * sigmoid(gate(x))."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.gate = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.gate(x).sigmoid()
'''
SPACE = '''
from search_spaces.architecture import Architecture, Node
from search_spaces.space import Space, SpaceConfig


class GatesConfig(SpaceConfig):
    """Options of the gates space."""

    layers: int = 2


def gates(choose, task, config):
    nodes = [
        Node("gate", (i,), {"out_channels": choose(f"width {i}", (4, 8)), "kernel_size": choose(f"kernel {i}", (1, 3))})
        for i in range(config.layers)
    ]
    return Architecture(task, (*nodes, Node("classifier", (config.layers,), {"classes": task.classes})))


SPACE = Space("gates", "Gated convolutions.", "a test", GatesConfig, gates)
'''
SEARCH = {
    "dataset": {"name": "my-digits"},
    "space": {"name": "gates", "layers": 2},
    "strategy": {"name": "random"},
    "scheduler": {"name": "none", "max_epochs": 1},
    "budget": {"max_trials": 3},
    "finalists": {"top_k": 1, "epochs": 1},
    "resources": {"max_parallel": 1},
    "seed": 1,
}


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with the package gates_plugin, installed as pip would do it."""
    site = tmp_path / "site"
    for name, files in {
        "gates_plugin": {"__init__.py": "", "block.py": BLOCK, "space.py": SPACE},
        "gates_plugin-1.0.dist-info": {
            "METADATA": "Metadata-Version: 2.1\nName: gates-plugin\nVersion: 1.0\n",
            "entry_points.txt": "[nas.blocks]\ngate = gates_plugin.block:Gate\n\n"
            "[nas.spaces]\ngates = gates_plugin.space:SPACE\n",
        },
    }.items():
        (site / name).mkdir(parents=True)
        for file, text in files.items():
            (site / name / file).write_text(text)
    return site


@pytest.fixture
def client(tmp_path: Path, installed: Path) -> Iterator[Client]:
    """A server that trains in its driver's process and sees the package."""
    service = Service(tmp_path / "data", PYTHONPATH=str(installed))
    yield service.start("--executor", "inline")
    service.stop()


def test_own_data_and_an_installed_space_reach_the_export(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ApiError) as unknown:
        client.submit(SEARCH)
    assert unknown.value.errors[0]["pointer"] == "/dataset/name"
    package = own_data(client, tmp_path / "data", tmp_path / "package", SEARCH)

    assert package["certificate"]["passed"], package["certificate"]
    trials = list(client.trials(package["search"]))
    assert len([t for t in trials if t["counted"]]) == 3
    assert all(t["decisions"].keys() == {"width 0", "kernel 0", "width 1", "kernel 1"} for t in trials)
    code = (tmp_path / "package" / "model.py").read_text()
    assert "class Gate(nn.Module)" in code
    assert "gates_plugin" not in code, "the package runs where the plug-in is not installed"
    architecture = json.loads((tmp_path / "package" / "architecture.json").read_text())
    assert {node["block"] for node in architecture["nodes"]} == {"gate", "classifier"}
    info = client.request("GET", "/v1/datasets/my-digits")["info"]
    assert (info["train"], info["test"], info["classes"], info["input_shape"]) == (1400, 397, 10, [1, 8, 8])
    assert client.request("GET", "/v1/blocks/gate")["name"] == "gate"
    client.request("DELETE", "/v1/datasets/my-digits")
    assert (tmp_path / "data" / "datasets" / "my-digits.npz").exists(), "a user's files are never deleted"


def test_the_example_of_the_readme_finds_what_is_in_the_data(client: Client, tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    parts = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    search, use = (next(part for part in parts if word in part) for word in ("mine.npz", "from model import"))
    code = f"{search}\nimport os, sys\nos.chdir('my-network')\nsys.path.insert(0, '')\n{use}"
    (tmp_path / "nas-data").symlink_to(tmp_path / "data")
    environment = {**os.environ, "NAS_URL": client.url}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=250
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    (found,) = client.searches()
    assert (found["state"], found["reason"]) == ("succeeded", "")
    assert found["winner"]["test"]["test_accuracy"] == 1.0
    assert ran.stdout.strip() == str([str(i % 4) for i in range(400)]), "what it says of its images"


def test_data_outside_the_servers_folders_and_broken_files_are_refused(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "datasets"
    np.savez(tmp_path / "outside.npz", x=np.zeros((4, 1, 8, 8), "uint8"), y=np.arange(4))
    (folder / "link.npz").symlink_to(tmp_path / "outside.npz")
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 but no more")
    np.savez(folder / "pickled.npz", x=np.array([{"a": 1}], dtype=object), y=np.arange(1))
    for path in (
        str(tmp_path / "outside.npz"),
        "../../outside.npz",
        "link.npz",
        "broken.npz",
        "pickled.npz",
        "none",
        "x" * 300,
    ):
        with pytest.raises(ApiError) as refused:
            client.request("POST", "/v1/datasets", body={"name": "mine", "format": "npz", "path": path})
        assert refused.value.status == 422, path
        assert refused.value.errors[0]["pointer"] == "/path"
    with pytest.raises(ApiError) as taken:
        client.request("POST", "/v1/datasets", body={"name": "digits", "format": "npz", "path": "x"})
    assert taken.value.status == 409
