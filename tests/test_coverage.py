"""docs/coverage.md: every row of the inventory is there, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.coverage import FIGURES, ROWS, parts
from tests.conftest import ROOT


def test_every_row_of_the_inventory_is_told(shared: Path) -> None:
    text = (shared / "seeds" / "INVENTORY.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([A-H]\d+) \|", text, re.MULTILINE)
    assert len(rows) == 202
    assert [row[0] for row in ROWS] == rows


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_what_a_row_names_exists(row: tuple[str, str, str]) -> None:
    from nas_service.strategies import STRATEGIES
    from search_spaces.catalogue import BLOCKS, REFERENCES, SPACES
    from search_spaces.rules import RULES
    from workers.recipes import RECIPES

    named = {"block": BLOCKS, "reference": REFERENCES, "space": SPACES, "strategy": STRATEGIES, "rule": RULES}
    named["recipe"] = RECIPES
    assert parts(row) or len(row[2]) > 4, "a row that nothing implements tells why"
    for kind, name in parts(row):
        if kind == "file":
            assert (ROOT / name).exists(), name
        elif kind == "test":
            path, _, function = name.rpartition("::")
            assert f"def {function}(" in (ROOT / (path or FIGURES)).read_text(encoding="utf-8"), name
        else:
            assert name in named[kind], f"no {kind} {name}"
