"""docs/adding-a-block.md, word for word: its files, installed, are in the API, the docs and the contract tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "adding-a-block.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
SEEN = """
from nas_service.api import catalogue as api
from scripts.catalogue_pages import KINDS, index_page
from search_spaces import catalogue

assert not catalogue.PLUGIN_ERRORS, catalogue.PLUGIN_ERRORS
assert "gated_conv" in [b["name"] for b in api.list_blocks(None)], "API: block"
assert "gated_chain" in [s["name"] for s in api.list_spaces(None)], "API: space"
assert api.get_block("gated_conv", None)["arguments"]["required"] == ["out_channels"]
assert {decision.name for decision in api.get_space("gated_chain", None).decisions} >= {"width_0", "kernel_2"}
(blocks, block_page), (spaces, space_page) = KINDS["blocks"], KINDS["spaces"]
assert "gated_conv" in blocks and "gated_chain" in spaces, "docs"
text, graph = block_page("gated_conv")
assert "y = conv(x) * sigmoid(gate(x))." in text
assert "conv 1×1" in graph
assert "`width_2`" in space_page("gated_chain")[0]
assert "gated_conv.md" in index_page("blocks")
print("seen")
"""


def test_it_takes_less_than_sixty_lines() -> None:
    assert list(FILES) == ["pyproject.toml", "gated_blocks.py", "gated_spaces.py"]
    assert sum(len(FILES[name].splitlines()) for name in ("gated_blocks.py", "gated_spaces.py")) < 60


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """Environment of a process that finds the package as pip would install it."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items()) for group, points in groups
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}


def test_api_and_docs_have_them(installed: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SEEN], capture_output=True, text=True, check=False, cwd=ROOT, env=installed
    )
    assert (done.returncode, done.stdout) == (0, "seen\n"), done.stderr[-3000:]


def test_contract_tests_take_them_in(installed: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "gated_conv or gated_chain"]
    files = ["tests/search_spaces/test_contract.py", "tests/search_spaces/test_spaces.py"]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False, cwd=ROOT, env=installed)
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed.group(1)) >= 8, "every contract of a block and a space"
