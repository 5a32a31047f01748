"""Tables of trained networks: the formats that are read, and what is said about files that are not."""

from __future__ import annotations

import gzip
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from workers.tables import GRAPH_OPERATIONS, LINKS, TableError, find_tables, graph_network, load_table

COLUMNS = {
    "choice:kernel": "3 5 3 5",
    "choice:kind": "plain plain dense dense",
    "val_0": "0.5 0.6 0.7 0.8",
    "val_1": "0.7 0.6  0.9",
    "val@4": "0.3 0.2 0.4 0.1",
    "val@2": "0.1 0.2 0.3 0.4",
    "epochs": "8 8 8 8",
    "seconds": "10 20 30 40",
    "test": "0.4 0.5 0.6 0.7",
    "cost:params": "100 200 300 400",
    "zc_params": "1 2 3 4",
    "network": "a b c c",
}


def written(folder: Path, **changes: str | None) -> Path:
    """A table in the documented columns, as ``.csv``; a column that is None is left out."""
    columns = {name: cells.split(" ") for name, cells in ({**COLUMNS, **changes}).items() if cells is not None}
    path = folder / "own.csv"
    path.write_text("\n".join([",".join(columns), *(",".join(row) for row in zip(*columns.values(), strict=True))]))
    return path


def test_own_table(tmp_path: Path) -> None:
    table = load_table(written(tmp_path))
    assert table.questions == (("kernel", (3, 5)), ("kind", ("dense", "plain")))
    assert [table.row({"kernel": k, "kind": kind}) for kind in ("plain", "dense") for k in (3, 5)] == [0, 1, 2, 3]
    np.testing.assert_allclose(table.mean, [0.6, 0.6, 0.7, 0.85])
    assert (table.optimum, table.median, table.top) == (pytest.approx(0.85), pytest.approx(0.65), pytest.approx(0.85))
    assert table.value(2, seed=7) == 0.7, "the seed that was not trained is not drawn"
    assert {table.value(0, seed=seed) for seed in range(20)} == {0.5, 0.7}
    assert [table.value(0, epochs=epochs) for epochs in (1, 2, 3, 4, 7, 8, None)] == [
        *([0.1] * 3), *([0.3] * 2), *([pytest.approx(0.6)] * 2),
    ]  # fmt: skip
    assert (table.cost(1), table.cost(1, 2)) == (20, 5)
    assert table.costs["params"].tolist() == [100, 200, 300, 400]
    assert table.scores["params"].tolist() == [1, 2, 3, 4]
    assert table.network == ["a", "b", "c", "c"]
    with pytest.raises(ValueError, match=r"\['kernel'\] on table 'own'; allowed: \['kernel', 'kind'\]"):
        table.row({"kernel": 3})


def test_npz_and_compressed_text_say_the_same(tmp_path: Path) -> None:
    text = load_table(written(tmp_path))
    packed = tmp_path / "own.csv.gz"
    packed.write_bytes(gzip.compress(written(tmp_path).read_bytes()))
    arrays = {
        name: np.array([float(v or "nan") for v in cells.split(" ")])
        for name, cells in COLUMNS.items()
        if name not in ("choice:kind", "choice:kernel", "network")
    }
    kinds = {"choice:kernel": np.array([3, 5, 3, 5]), "choice:kind": np.array(COLUMNS["choice:kind"].split(" "))}
    np.savez(tmp_path / "own.npz", **arrays, **kinds, network=np.array(["a", "b", "c", "c"]))
    for other in (load_table(packed), load_table(tmp_path / "own.npz")):
        assert (other.questions, other.epochs, other.network) == (text.questions, text.epochs, text.network)
        np.testing.assert_array_equal(other.validation, text.validation)
        assert other.row({"kernel": 5, "kind": "dense"}) == 3
    assert find_tables(tmp_path) == [tmp_path / "own.csv", packed, tmp_path / "own.npz"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "1 2 3 4"}, "column 'colour'; allowed: epochs, seconds, test, network, and names that begin"),
        ({"choice:kernel": None, "choice:kind": None}, "at least one choice:<decision>"),
        ({"choice:kernel": "3 3 3 5"}, "rows 1 and 2 have the same decisions"),
        ({"choice:kernel": "3  3 5"}, "column 'choice:kernel' has an empty cell"),
        ({"val_0": "50 60 70 80"}, "column 'val_0' has values outside 0 to 1"),
        ({"val_0": "0.5 0.6  0.8"}, "a row without a number"),
        ({"val_0": "0.5 0.6 good 0.8"}, "column 'val_0': could not convert"),
        ({"epochs": None}, "column 'epochs' has \\[\\]; allowed: one whole number above 4"),
        ({"epochs": "8 8 8 9"}, "allowed: one whole number above 4"),
        ({"val@soon": "0.1 0.1 0.1 0.1"}, "column 'val@soon'; allowed: val@<epoch>"),
        ({"val@4": "0.1 0.1  0.1"}, "column 'val@4' has no number in some row; allowed: one in each row"),
        ({"test": "0.1 0.1 nan 0.1"}, "column 'test' has no number in some row"),
        ({"seconds": "1 2 inf 3"}, "column 'seconds' has no number in some row"),
        ({"seconds": "1 2 -3 3"}, "column 'seconds' has -3; allowed: at least 0"),
        ({"val_0": "0.1 0.2 inf 0.1"}, "column 'val_0' has values outside 0 to 1"),
        ({"choice:kernel": "3 nan 3 5"}, "column 'choice:kernel' has nan; allowed: text, and numbers that are finite"),
        (
            {f"choice:{i}": "0 1 2 3" for i in range(4)},
            r"4 networks of 1,024 combinations .*; allowed: at least one of 20",
        ),
        ({"cifar10_val_seeds": "1 2 3 4"}, "4 rows; allowed: 15625, for it has a column 'cifar10_val_seeds'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, changes: dict[str, str | None], message: str) -> None:
    with pytest.raises(TableError, match=message):
        load_table(written(tmp_path, **changes))


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such file"):
        load_table(tmp_path / "absent.csv")
    with pytest.raises(TableError, match=r"no tables; allowed: a file or a folder of files .npz, .csv, .csv.gz"):
        find_tables(tmp_path)
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(TableError, match=r"not a table; allowed: .npz, .csv or .csv.gz"):
        load_table(tmp_path / "notes.txt")
    (tmp_path / "empty.csv").write_text("val_0")
    with pytest.raises(TableError, match="1 lines"):
        load_table(tmp_path / "empty.csv")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.npz", b"PK\x03\x04 and no more", "cut.npz: .*; allowed: a table as .npz, .csv or .csv.gz"),
        ("plain.csv.gz", b"val_0\n1\n", "plain.csv.gz: Not a gzipped file"),
        ("latin.csv", b"val_0\n\xff\xfe\n", "latin.csv: 'utf-8' codec can't decode"),
        ("ragged.csv", b"choice:a,val_0\n1,0.5\n2\n", "row 2 has 1 cells; allowed: 2, one a column"),
        ("twice.csv", b"choice:a,val_0,val_0\n1,0.5,0.5\n", "allowed: each name once"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=message):
        load_table(tmp_path / name)


def test_arrays_that_are_no_columns(tmp_path: Path) -> None:
    column = {"choice:a": np.array([1, 2]), "val_0": np.array([0.5, 0.6])}
    for name, odd in (("number", {"epochs": 9}), ("empty", {"choice:a": np.array([]), "val_0": np.array([])})):
        np.savez(tmp_path / f"{name}.npz", **{**column, **odd})
        with pytest.raises(TableError, match="allowed: one value a network, in one length"):
            load_table(tmp_path / f"{name}.npz")
    np.savez(tmp_path / "objects.npz", **{**column, "choice:a": np.array([1, "x"], dtype=object)})
    with pytest.raises(TableError, match="Object arrays cannot be loaded"):
        load_table(tmp_path / "objects.npz")
    np.savez(tmp_path / "part.npz", cifar10_val_seeds=np.zeros((15_625, 3)))
    with pytest.raises(TableError, match="no column 'cifar10_val_12ep'; allowed: all columns"):
        load_table(tmp_path / "part.npz")


def test_blank_lines_and_byte_order_marks_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(b"\xef\xbb\xbfchoice:a,val_0\r\n1,0.5\r\n\r\n2,0.25\r\n\r\n")
    table = load_table(path)
    assert (table.questions, table.mean.tolist()) == ((("a", (1, 2)),), [0.5, 0.25])
    again = tmp_path / "again.csv"
    again.write_bytes(path.read_bytes() + b"3,0.1")
    assert len({table.digest, load_table(again).digest, ""}) == 3


def test_nas_bench_201(shared: Path) -> None:
    """The best cell of the literature: validation 91.61, test 94.37."""
    table = load_table(shared / "benchmarks" / "nasbench201_cifar10.npz")
    best = ("nor_conv_3x3", "nor_conv_3x3", "nor_conv_3x3", "skip_connect", "nor_conv_3x3", "nor_conv_1x1")
    row = table.row(dict(zip([name for name, _ in table.questions], best, strict=True)))
    assert row is not None
    assert table.test is not None
    assert (table.optimum, table.mean[row]) == (pytest.approx(0.916067, abs=1e-6),) * 2
    assert table.test[row] == pytest.approx(0.943733, abs=1e-6)
    assert table.cost(row, 12) == pytest.approx(table.cost(row) * 12 / 200)
    assert math.isnan(table.scores["nwot"][0]), "a score that could not be computed"
    assert table.value(row, epochs=12) < 0.9 < table.value(row, epochs=200)


def test_nas_bench_macro(shared: Path) -> None:
    table = load_table(shared / "benchmarks" / "nasbench_macro.csv")
    row = table.row({f"layer{i}": "mb3_k3" if i == 8 else "identity" for i in range(1, 9)})
    assert row is not None
    np.testing.assert_allclose(table.validation[row], [0.6434, 0.6421, 0.6412])
    assert table.costs["params"][row] == 791_594
    assert len(table.mean) == 6_561


@pytest.mark.parametrize("data", ["cora", "citeseer"])
def test_nas_bench_graph(shared: Path, data: str) -> None:
    """Each of the 59,049 sets of decisions is one of its 26,206 rows, but for those of nothing but skips."""
    table = load_table(shared / "benchmarks" / f"nas_bench_graph_{data}.csv.gz")
    found = [table.find(answers) for answers in product(LINKS, *[GRAPH_OPERATIONS] * 4)]
    assert found.count(None) == len(LINKS)
    assert set(found) - {None} == set(range(26_206))


def test_graph_networks_fold() -> None:
    assert graph_network("0123", ("gcn", "skip", "gat", "gin")) == graph_network("0123", ("skip", "gcn", "gat", "gin"))
    assert graph_network("0000", ("gcn", "gat", "skip", "skip")) == graph_network(
        "0000", ("skip", "skip", "gat", "gcn")
    )
    assert graph_network("0011", ("gcn", "gat", "fc", "fc")) != graph_network("0011", ("gat", "gcn", "fc", "fc"))
    assert graph_network("0012", ("gcn", "gat", "fc", "gin")) == graph_network("0012", ("gat", "gcn", "gin", "fc"))
