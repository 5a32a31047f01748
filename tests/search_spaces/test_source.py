"""``model.py``: reads well, checks itself, carries the weights."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from search_spaces.architecture import Architecture, Node, Task
from search_spaces.build import build
from search_spaces.catalogue import REFERENCES, SPACES
from search_spaces.choose import first, sample
from search_spaces.definitions import SourceError
from search_spaces.source import check_source, source

TASK = Task((3, 8, 8), 10)


def sampled(name: str, seed: int = 0) -> Architecture:
    return SPACES[name].bound(Task((1, 8, 8), 10))(sample(random.Random(seed)))


@pytest.mark.parametrize("name", sorted(SPACES))
def test_is_formatted_as_ruff_would(name: str, tmp_path: Path) -> None:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or "ruff"
    file = tmp_path / "model.py"
    file.write_text(source(sampled(name)), encoding="utf-8")
    rules = ["--isolated", "--line-length", "100"]
    done = subprocess.run([ruff, "format", "--diff", *rules, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    check = [ruff, "check", "--select", "E,F,W,I,B,UP", "--target-version", "py311", *rules, str(file)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "googlenet", "nasnet_a_mobile", "efficientnet_b0"])
def test_references_print_with_the_same_keys(name: str) -> None:
    architecture = REFERENCES[name].build()
    namespace: dict[str, type[torch.nn.Module]] = {"__name__": "model"}
    exec(compile(source(architecture), "model.py", "exec"), namespace)
    with torch.device("meta"):
        model, network = namespace["Model"](), build(architecture)
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in network.state_dict().items()}


def test_runs_alone_in_a_clean_process(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(source(sampled("nasnet")), encoding="utf-8")
    code = (
        "import sys, torch; from model import Model; y = Model()(torch.randn(2, 1, 8, 8)); "
        "assert y.shape == (2, 10); assert not any(m.startswith('search_spaces') for m in sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"], check=True
    )


def test_only_what_is_used_is_printed() -> None:
    text = source(Architecture(TASK, (Node("classifier", (0,), {"classes": 10}),)))
    assert re.findall(r"^(?:class|def) (\w+)", text, re.MULTILINE) == ["Classifier", "Model"]


def test_a_branching_network_keeps_the_image() -> None:
    nodes = (
        Node("conv_norm_act", (0,), {"out_channels": 4}),
        Node("concat", (0, 1)),
        Node("conv_norm_act", (2,), {"out_channels": 7}),
        Node("add", (2, 3)),
        Node("classifier", (4,), {"classes": 10}),
    )
    architecture = Architecture(TASK, nodes)
    text = source(architecture)
    assert "def forward(self, image: Tensor) -> Tensor:" in text
    namespace: dict[str, type[torch.nn.Module]] = {}
    exec(compile(text, "model.py", "exec"), namespace)
    model, network = namespace["Model"]().eval(), build(architecture).eval()
    model.load_state_dict(network.state_dict())
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(model(x), network(x))


def test_title_is_one_harmless_line() -> None:
    text = source(sampled("residual"), title='evil"""\nimport os\\ \x00 title')
    assert text.splitlines()[0] == '"""evil import os title'


def test_same_architecture_same_text() -> None:
    assert source(sampled("mbconv")) == source(sampled("mbconv"))


@pytest.mark.parametrize(
    "line",
    ["import os", "print('x')", "class Evil:\n    pass", "x = 1", "for i in []: pass"],
)
def test_the_check_refuses_what_does_not_belong(line: str) -> None:
    text = source(sampled("residual"))
    names = {"Model", *SPACES}
    with pytest.raises(SourceError):
        check_source(text + "\n" + line + "\n", names)


def test_the_check_refuses_calls_among_the_arguments() -> None:
    text = (
        '"""x."""\nclass Model:\n    def __init__(self):\n        super().__init__()\n        self.a = Block(evil())\n'
    )
    with pytest.raises(SourceError, match="no literal"):
        check_source(text, {"Model", "Block"})
    with pytest.raises(SourceError, match="not a known block"):
        check_source(text.replace("Block(evil())", "Other(1)"), {"Model", "Block"})


@pytest.mark.parametrize("name", sorted(SPACES))
def test_models_export_to_a_graph(name: str) -> None:
    """torch.export, which ONNX builds on, takes every family with a free batch."""
    architecture = SPACES[name].bound(Task((1, 8, 8), 10))(first)
    network = build(architecture).eval()
    shape = architecture.task.input_shape
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(network, (torch.randn(2, *shape),), dynamic_shapes=({0: batch},))
    x = torch.randn(3, *shape)
    assert torch.allclose(program.module()(x), network(x), atol=1e-5)
