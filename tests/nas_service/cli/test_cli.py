"""The command line: light to start, exit codes for scripts, JSON for programs."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from nas_service import cli
from nas_service.search.events import append_event, finish
from nas_service.search.request import SearchRequest
from nas_service.search.status import create
from tests.conftest import drill, free_port
from tests.nas_service.conftest import LocalServer

HEAVY = ("torch", "ray", "sqlalchemy", "fastapi", "pydantic", "optuna", "numpy", "httpx")
Nas = Callable[..., tuple[int, str, str]]


@pytest.fixture
def nas(server: LocalServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Nas:
    """Run a command in this process: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NAS_DATA_DIR", raising=False)
    monkeypatch.setenv("NAS_URL", server.url)
    monkeypatch.setenv("NAS_TOKEN", server.token)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nas", *words])
        capfd.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return run


def stored(server: LocalServer) -> str:
    request = SearchRequest.model_validate(drill(3))
    return server.state.database.write(lambda session: create(session, request, "from a test").id)


def test_help_imports_nothing_heavy_and_is_quick() -> None:
    program = (
        "import sys; sys.argv = ['nas', '--help']\n"
        "from nas_service.cli import main\n"
        "try: main()\n"
        f"finally: print('HEAVY', [name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr.strip() == "HEAVY []"
    assert "take the winner home" in done.stdout
    assert time.monotonic() - started < 5, "half a second on a machine with nothing else to do"


def test_help_of_every_command(nas: Nas) -> None:
    for words in (["search", "submit"], ["search", "watch"], ["trial", "ls"], ["arch", "draw"], ["export"], ["serve"]):
        code, out, _ = nas(*words, "--help")
        assert code == 0
        assert "Usage:" in out


def test_wrong_usage_is_2(nas: Nas, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    for words in (
        ["nowhere"], ["search", "submit"], ["search", "submit", "missing.json"], ["search", "submit", "broken.json"],
        ["trial", "get", "x", "one"], ["-o", "yaml", "space", "ls"], ["arch", "show", "x/y"],
        ["space", "sample", "residual", "--options", "{"],
    ):  # fmt: skip
        code, out, err = nas(*words)
        assert (code, out) == (2, ""), words
        assert "Usage:" in err or "Error" in err


def test_no_server_is_3(nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_URL", f"http://127.0.0.1:{free_port()}")
    code, out, err = nas("search", "ls")
    assert (code, out) == (3, "")
    assert "no server answers at http://127.0.0.1" in err
    assert "Traceback" not in err


def test_a_refusal_is_4_and_tells_everything(nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.json").write_text(json.dumps(drill(3) | {"seed": -1, "typo": 2}))
    code, out, err = nas("search", "submit", "bad.json")
    assert (code, out) == (4, "")
    assert "/seed" in err
    assert "/typo" in err
    assert nas("search", "get", "nowhere")[0] == 4
    monkeypatch.setenv("NAS_TOKEN", "nas_wrong")
    code, _, err = nas("search", "ls")
    assert code == 4
    assert "token" in err


def test_a_published_network_is_shown_by_its_name(nas: Nas) -> None:
    code, out, _ = nas("arch", "show", "resnet-50")
    assert code == 0
    assert "params 25.6 M   macs 4.09 G" in out
    assert out.count("bottleneck_block") == 16


def test_a_space_is_shown_and_sampled_for_every_task(nas: Nas) -> None:
    shape = ["--input", "1,32,32", "--classes", "11"]
    for task in ("segmentation", "localisation"):
        code, out, err = nas("-o", "json", "space", "sample", "segmentation", "-n", "1", "--task", task, *shape)
        assert (code, err) == (0, "")
        assert json.loads(out)["samples"][0]["architecture"]["task"]["kind"] == task
    asked = {
        task: {
            d["name"]
            for d in json.loads(nas("-o", "json", "space", "show", "segmentation", "--task", task)[1])["decisions"]
        }
        for task in ("classification", "segmentation")
    }
    assert asked["segmentation"] - asked["classification"] == {"decoder", "decoder_depth"}
    assert nas("space", "sample", "segmentation", "--task", "detection")[0] == 2


def test_a_dry_run_tells_and_stores_nothing(nas: Nas, tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text(json.dumps(drill(3)))
    before = nas("-o", "json", "search", "ls")[1]
    code, out, _ = nas("search", "submit", "search.json", "--dry-run")
    assert code == 0
    assert "100% of 24 samples meet the constraints" in out
    assert "params" in out
    assert json.loads(nas("-o", "json", "search", "submit", "search.json", "--dry-run")[1])["outlook"]["samples"] == 24
    assert "zero-cost" not in out, "rl has no use for them"
    for epochs, said in ((100, "auto would have the zero-cost scores of a pool of"), (1, "no zero-cost scores")):
        plain = {"dataset": {"name": "digits", "max_train": 100}, "space": {"name": "residual"}}
        (tmp_path / "auto.json").write_text(json.dumps({**plain, "scheduler": {"max_epochs": epochs}}))
        assert said in nas("search", "submit", "auto.json", "--dry-run")[1]
    assert nas("-o", "json", "search", "ls")[1] == before


def test_a_search_is_submitted_once_with_a_key_and_steered(nas: Nas, tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text(json.dumps(drill(3)))
    ids = [json.loads(nas("-o", "json", "search", "submit", "search.json", "--key", "cli")[1])["id"] for _ in range(2)]
    assert ids[0] == ids[1]
    assert nas("search", "pause", ids[0])[1].strip() == f"search {ids[0]} is paused"
    assert nas("search", "resume", ids[0])[1].strip() == f"search {ids[0]} is queued"
    assert nas("search", "cancel", ids[0])[1].strip() == f"search {ids[0]} is cancelled"
    assert "cancelled" in nas("search", "get", ids[0])[1]
    assert nas("search", "pause", ids[0])[0] == 4
    assert nas("search", "rm", ids[0], "--yes")[0] == 0
    assert nas("search", "get", ids[0])[0] == 4


@pytest.mark.parametrize(
    "words",
    [
        ["search", "ls"], ["space", "ls"], ["space", "show", "mbconv"], ["space", "sample", "mbconv", "-n", "1"],
        ["strategy", "ls"], ["strategy", "show", "rl"], ["recipe", "ls"], ["recipe", "show", "resnet"],
        ["dataset", "ls"], ["token", "ls"], ["rule", "ls"],
    ],
)  # fmt: skip
def test_everything_prints_text_and_json(nas: Nas, words: list[str]) -> None:
    code, out, err = nas(*words)
    assert (code, err) == (0, "")
    assert out.strip()
    code, out, _ = nas("-o", "json", *words)
    assert code == 0
    assert isinstance(json.loads(out), list | dict)


def play(server: LocalServer, search_id: str, end: str) -> None:
    """What a driver would tell."""

    def work(session: Session) -> None:
        append_event(session, search_id, "trial_started", {"trial": 0, "attempt": 1})
        append_event(session, search_id, "epoch", {"trial": 0, "epoch": 1, "val_accuracy": 0.5})
        append_event(session, search_id, "trial_completed", {"trial": 0, "values": [0.875], "failure": None})
        finish(session, search_id, end, "a test says so")

    server.state.database.write(work)


@pytest.mark.parametrize(("end", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 1)])
def test_watching_prints_a_line_a_result_and_ends_as_the_search_does(
    nas: Nas, server: LocalServer, end: str, code: int
) -> None:
    search_id = stored(server)
    player = threading.Timer(0.3, play, [server, search_id, end])
    player.start()
    found, out, _ = nas("search", "watch", search_id)
    player.join()
    assert found == code
    lines = out.splitlines()
    results = [line for line in lines if "trial completed" in line]
    assert len(results) == 1
    assert "0.875" in results[0]
    assert not any("epoch" in line.split("  ")[1:2] for line in lines)
    assert f"search {end}" in out


def test_watching_as_json_is_one_object_a_line(nas: Nas, server: LocalServer) -> None:
    search_id = stored(server)
    play(server, search_id, "succeeded")
    code, out, _ = nas("-o", "json", "search", "watch", search_id)
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["event"] for line in lines[:-1]] == [
        "search_created", "trial_started", "epoch", "trial_completed", "search_succeeded",
    ]  # fmt: skip
    assert (lines[-1]["id"], lines[-1]["state"]) == (search_id, "succeeded")


def test_the_doctor_looks_at_machine_and_server(nas: Nas, server: LocalServer) -> None:
    code, out, _ = nas("-o", "json", "doctor")
    found = json.loads(out)
    assert code == (0 if found["ok"] else 1)
    told = {finding["what"] for finding in found["findings"]}
    assert told >= {"python", "packages", "disk", "server", "data set", "cluster"}
    assert any("digits: 1437 + 360" in f["found"] for f in found["findings"]) or "digits" in out
    server.state.not_ready = "Ray is starting"
    code, out, _ = nas("doctor")
    server.state.not_ready = ""
    assert code == 1
    assert "Ray is starting" in out


def test_migrate_makes_a_database_and_a_token(nas: Nas, tmp_path: Path) -> None:
    code, out, _ = nas("migrate", "--data", str(tmp_path / "fresh"))
    assert code == 0
    assert "schema none -> " in out
    assert (tmp_path / "fresh" / "admin.token").stat().st_mode & 0o777 == 0o600


def test_a_setting_that_does_not_fit_is_1_and_one_line(nas: Nas, tmp_path: Path) -> None:
    code, _, err = nas("migrate", "--data", str(tmp_path / "x"), "--database", "mysql://nas@localhost/nas")
    assert code == 1
    assert "allowed: sqlite, postgresql" in err
    assert "Traceback" not in err


def test_an_architecture_is_kept_and_scaled(nas: Nas, tmp_path: Path) -> None:
    code, out, _ = nas("-o", "json", "arch", "add", "efficientnet_b0")
    assert code == 0
    base = json.loads(out)
    (tmp_path / "base.json").write_text(out)
    assert json.loads(nas("-o", "json", "arch", "add", "base.json")[1]) == base
    code, out, _ = nas("arch", "scale", base["fingerprint"], "--depth", "1.1", "--width", "1", "--input", "3,240,240")
    assert code == 0
    assert "images 3×240×240" in out
    assert "params 7.79 M" in out
    code, _, err = nas("arch", "scale", base["fingerprint"], "--phi", "1", "--cells", "2", "--filters", "8")
    assert code == 4
    assert "phi, cells and filters together" in err
    assert nas("arch", "scale", base["fingerprint"], "--input", "3,a,b")[0] == 2


def test_a_space_is_shown_with_its_decisions_size_and_costs(nas: Nas) -> None:
    code, out, _ = nas("space", "show", "nasbench201", "--input", "3,8,8", "--classes", "5")
    assert code == 0
    assert "15,625 sets of decisions" in out
    assert "edge1_3" in out
    assert "none, skip_connect, nor_conv_1x1" in out
    for cost in ("params", "macs", "depth"):
        assert cost in out
    code, out, _ = nas("rule", "ls")
    assert code == 0
    assert "two_layers_per_shortcut" in out
