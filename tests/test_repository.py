"""The repository keeps its word: generated pages are up to date, links lead somewhere, nothing names a machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def tracked(*patterns: str) -> list[Path]:
    """Files of the repository; the test is skipped in a folder that is no clone."""
    done = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git clone")
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).exists()]


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/docs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_links_of_the_documentation_lead_somewhere() -> None:
    dead = []
    for page in tracked("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if not target.startswith(("http://", "https://", "mailto:")) and not (page.parent / target).exists():
                dead.append(f"{page.relative_to(ROOT)}: {target}")
    assert not dead


def test_every_documented_command_exists() -> None:
    from nas_service.cli import nas

    used = set(re.findall(r"^nas ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert used
    assert used <= set(nas.commands)


def test_no_file_names_a_machine() -> None:
    words = ["/" + "work/", "/" + "root/", "/" + "opt/" + "pypi"]
    found = []
    for path in tracked():
        if path.suffix in (".png", ".svg"):
            continue
        text = path.read_text(errors="replace")
        found += [f"{path.relative_to(ROOT)}: {word}" for word in words if word in text]
    assert not found
