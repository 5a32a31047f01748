"""Every row of the published figures, to the last unit where it is exact."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import pytest

from search_spaces.architecture import Architecture, Task
from search_spaces.catalogue import reference
from search_spaces.cost import costs
from search_spaces.references.residual import senet154
from tests.search_spaces.oracle_tables import BUILT, OTHERWISE, PARTS, UNCOVERED, Key

Row = dict[str, str]


@cache
def rows(folder: Path) -> dict[Key, Row]:
    with (folder / "oracles" / "oracles.csv").open(newline="", encoding="utf-8") as file:
        return {(row["architecture"], row["variant"]): row for row in csv.DictReader(file)}


def agrees(count: int | None, printed: str, confidence: str) -> bool:
    """Equal, or, where the row is rounded, within one in its last digit that is not a trailing zero."""
    if not printed:
        return True
    if confidence != "published-rounded":
        return count == int(printed)
    unit = 10 ** (len(printed) - len(printed.rstrip("0")))
    return count is not None and abs(count - int(printed)) < 1.5 * unit


@pytest.mark.parametrize("key", list(BUILT), ids=list(BUILT.values()))
def test_a_reference_has_the_published_counts(key: Key, shared: Path) -> None:
    row, found = rows(shared)[key], reference(BUILT[key])
    price = costs(found.build())
    assert agrees(price.params, row["params"], row["confidence"]), (price.params, row["params"])
    assert agrees(price.macs, row["macs"], row["confidence"]), (price.macs, row["macs"])
    if row["confidence"] == "exact":
        counted = (price.params if row["params"] else found.params, price.macs if row["macs"] else found.macs)
        assert (found.params, found.macs) == counted, "the table beside the network says something else"


@pytest.mark.parametrize("key", list(PARTS), ids=[": ".join(key) for key in PARTS])
def test_a_part_has_the_published_counts(key: Key, shared: Path) -> None:
    row = rows(shared)[key]
    params, macs = PARTS[key]()
    assert row["confidence"] != "exact" or row["params"] or row["macs"]
    assert agrees(params, row["params"], row["confidence"]), (params, row["params"])
    assert macs is None or agrees(macs, row["macs"], row["confidence"]), (macs, row["macs"])


@pytest.mark.parametrize("key", list(OTHERWISE), ids=[": ".join(key) for key in OTHERWISE])
def test_a_figure_in_words_holds(key: Key, shared: Path) -> None:
    assert key in rows(shared)
    OTHERWISE[key]()


def test_every_row_is_met_or_told_why_not(shared: Path) -> None:
    known = set(BUILT) | set(PARTS) | set(OTHERWISE) | set(UNCOVERED)
    every = set(rows(shared))
    assert known <= every, "a table names a row that is not there"
    assert every <= known, f"in no table: {sorted(every - known)}"


def test_only_rows_that_cannot_be_met_are_left_out(shared: Path) -> None:
    assert all(rows(shared)[key]["confidence"] != "exact" for key in UNCOVERED)
    tables = [set(BUILT), set(PARTS), set(OTHERWISE), set(UNCOVERED)]
    assert sum(map(len, tables)) == len(set().union(*tables)), "a row stands in two tables"


def test_the_products_of_the_senet_of_the_challenge_are_those_of_senet154(shared: Path) -> None:
    row = rows(shared)["SENet", "SENet (ILSVRC17, 320px)"]
    assert agrees(costs(senet154(task=Task((3, 320, 320), 1000))).macs, row["macs"], row["confidence"])


def test_stochastic_depth_keeps_the_expected_number_of_blocks() -> None:
    """(3L - 1) / 4 blocks with p_L = 0.5: 40.25 of 54."""

    def expected(architecture: Architecture) -> float:
        rates = [node.args["drop_path"] for node in architecture.nodes if node.block == "basic_block"]
        return sum(1 - float(rate) for rate in rates if isinstance(rate, float))

    assert expected(reference("stochastic_depth110_cifar").build()) == pytest.approx(40.25, abs=1e-4)
    assert expected(reference("stochastic_depth1202_cifar").build()) == pytest.approx(449.75, abs=1e-3)
