"""A step in a child process: results, exceptions, crashes and hangs; the weights that are packed."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from nas_service.export import job
from nas_service.export.child import run_child
from search_spaces.architecture import Task
from search_spaces.auxiliary import without_auxiliary
from search_spaces.build import build
from search_spaces.catalogue import SPACES
from search_spaces.choose import first
from workers.checkpoint import cpu_state, save_weights

WRITE = "import pathlib; pathlib.Path('result.json').write_text('{\"max_difference\": 0.5}')"


def run(code: str, folder: Path, deadline_seconds: float = 60) -> dict[str, object]:
    return run_child(["-c", code], folder / "result.json", deadline_seconds, folder)


def test_result(tmp_path: Path) -> None:
    assert run(WRITE, tmp_path) == {"max_difference": 0.5}


def test_exception(tmp_path: Path) -> None:
    reason = str(run("raise RuntimeError('no such operator')", tmp_path)["reason"])
    assert reason.startswith("the process ended with 1")
    assert "no such operator" in reason


def test_crash(tmp_path: Path) -> None:
    assert str(run("import os; os.abort()", tmp_path)["reason"]).startswith("the process was killed by SIGABRT")


def test_crash_after_the_result_was_written(tmp_path: Path) -> None:
    assert "SIGABRT" in str(run(WRITE + "; import os; os.abort()", tmp_path)["reason"])


def test_no_result(tmp_path: Path) -> None:
    assert str(run("pass", tmp_path)["reason"]).startswith("the process ended with 0")


def test_hang_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    code = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pathlib.Path('pid').write_text(str(child.pid))\n"
        "time.sleep(600)"
    )
    started = time.monotonic()
    assert run(code, tmp_path, deadline_seconds=3) == {"reason": "not done after 3 s"}
    assert time.monotonic() - started < 30
    status = Path("/proc") / (tmp_path / "pid").read_text() / "stat"
    deadline = time.monotonic() + 10
    while status.exists() and status.read_text().split(")")[1].split()[0] != "Z":
        assert time.monotonic() < deadline, "the grandchild lives on"


def test_weights_leave_without_auxiliary_heads(tmp_path: Path) -> None:
    """What is packed gives the outputs of what was trained."""
    space = SPACES["inception"]
    trained = space.bound(Task((1, 8, 8), 10), space.config.model_validate({"auxiliary": True}))(first)
    torch.manual_seed(0)
    network = build(trained)
    saved = save_weights(cpu_state(network), tmp_path / "weights.safetensors")
    bare = without_auxiliary(trained)
    stripped = build(bare)
    stripped.load_state_dict(load_file(job._without_heads(bare, Path(saved.path), saved.sha256, tmp_path / "bare")))
    images = torch.randn(3, 1, 8, 8)
    assert torch.equal(stripped.eval()(images), network.eval()(images))
    assert len(stripped.state_dict()) < len(network.state_dict())
