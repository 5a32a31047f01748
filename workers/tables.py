"""Tables of trained networks: what training would have given, looked up in an instant. No torch.

A table answers for decisions: the validation accuracy of each training seed, after all epochs or fewer, what the
training cost, the test accuracy, costs and zero-cost scores. Accuracies are shares, 0 to 1. Four formats are read:

- NAS-Bench-201 (Dong and Yang 2020) as ``.npz``: row = six operations read as a number of base 5.
- NAS-Bench-Macro (Su et al. 2021) as ``.csv``: the code of eight layers, test accuracy of three seeds.
- NAS-Bench-Graph (Qin et al. 2022) as ``.csv.gz``: how four operations are linked, and which they are.
- Any other, ``.npz``, ``.csv`` or ``.csv.gz``, a network a row, in columns ``choice:<decision>``, ``val_<seed>`` and,
  as far as they are known, ``val@<epoch>`` after fewer epochs, ``epochs`` of a whole training, ``seconds`` of it,
  ``test``, ``cost:<name>``, ``zc_<name>`` (more is better), and ``network``, equal for rows that are one network. Cells
  of seeds, costs and scores may be empty.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from search_spaces.choose import Decisions, Options, Scalar

Floats = npt.NDArray[np.float64]
Answers = tuple[Scalar, ...]

EDGES = ("edge0_1", "edge0_2", "edge1_2", "edge0_3", "edge1_3", "edge2_3")
EDGE_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
LAYERS = ("identity", "mb3_k3", "mb6_k5")
LINKS = ("0000", "0001", "0011", "0012", "0013", "0111", "0112", "0122", "0123")
GRAPH_OPERATIONS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
SPARSEST = 20
"""A table with fewer networks than one in so many combinations of its decisions cannot be searched."""
FAILED_SCORE = -1e8
"""What the NAS-Bench-201 table has for a zero-cost score that could not be computed."""


class TableError(ValueError):
    """A table that cannot be read: says the file, the column, and what was allowed."""


@dataclass(frozen=True, eq=False)
class Table:
    """Networks by row; ``[n]`` and ``[n, seeds]`` arrays, NaN where something was not measured."""

    name: str
    questions: tuple[tuple[str, Options], ...]
    """Every decision with its options, in the order of asking."""
    find: Callable[[Answers], int | None]
    """Row of the answers to ``questions``; None where the table has no such network."""
    validation: Floats
    """[n, seeds] validation accuracy after a whole training."""
    epochs: int = 1
    """Epochs of a whole training."""
    early: Mapping[int, Floats] = field(default_factory=dict)
    """[n] validation accuracy after fewer epochs, by epochs."""
    test: Floats | None = None
    """[n] test accuracy after a whole training."""
    seconds: Floats | None = None
    """[n] seconds of a whole training; None: unknown, each counts as one."""
    costs: Mapping[str, Floats] = field(default_factory=dict)
    scores: Mapping[str, Floats] = field(default_factory=dict)
    """[n] zero-cost scores, more is better."""
    space: str | None = None
    """Space of the catalogue that these decisions belong to."""
    network: Sequence[str] | None = None
    """[n] a name for each row, equal for rows that are one network; None: the space tells, or all differ."""
    digest: str = ""
    """16 hexadecimal digits of the file that it was read from."""

    def row(self, decisions: Decisions) -> int | None:
        """Row of decisions by name; None where the table has no such network. ValueError for other decisions."""
        if set(decisions) != {name for name, _ in self.questions}:
            names = [name for name, _ in self.questions]
            raise ValueError(f"decisions {sorted(decisions)} on table {self.name!r}; allowed: {names}")
        return self.find(tuple(decisions[name] for name, _ in self.questions))

    @cached_property
    def mean(self) -> Floats:
        """[n] validation accuracy, mean over the seeds of training."""
        return np.asarray(np.nanmean(self.validation, axis=1), dtype=np.float64)

    @cached_property
    def optimum(self) -> float:
        return float(self.mean.max())

    @cached_property
    def median(self) -> float:
        return float(np.median(self.mean))

    @cached_property
    def top(self) -> float:
        """Mean validation accuracy from which on a network is among the best 0.1 % of the rows."""
        return float(np.sort(self.mean)[-max(1, len(self.mean) // 1000)])

    def value(self, row: int, *, seed: int | None = None, epochs: int | None = None) -> float:
        """Validation accuracy of a row: the mean over trainings, or with ``seed`` that of one of them, which
        hash(row, seed) picks. After ``epochs`` of ``self.epochs`` it is what the table has for the most epochs up to
        there, or for the fewest where it has none: one figure, whatever the seed.
        """
        if epochs is not None and epochs < self.epochs and self.early:
            known = max((e for e in self.early if e <= epochs), default=min(self.early))
            return float(self.early[known][row])
        if seed is None:
            return float(self.mean[row])
        trained = self.validation[row]
        trained = trained[np.isfinite(trained)]
        digest = hashlib.blake2b(f"{self.name}/{row}/{seed}".encode(), digest_size=8).digest()
        return float(trained[int.from_bytes(digest, "big") % len(trained)])

    def cost(self, row: int, epochs: int | None = None) -> float:
        """Seconds of a training of ``epochs``, of a whole one where left out."""
        share = 1.0 if epochs is None else epochs / self.epochs
        return share * (1.0 if self.seconds is None else float(self.seconds[row]))


@lru_cache(maxsize=8)
def load_table(path: Path) -> Table:
    """The table in a file; its format is told by its columns. Raises TableError."""
    if not path.is_file():
        raise TableError(f"{path}: no such file; allowed: a table as .npz, .csv or .csv.gz")
    try:
        columns = _columns(path)
    except (OSError, EOFError, BadZipFile, csv.Error, UnicodeError, ValueError) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(f"{path}: {error}; allowed: a table as .npz, .csv or .csv.gz that can be read") from error
    digest = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
    return replace(_table(path, path.name.split(".")[0], columns), digest=digest)


def _table(path: Path, name: str, columns: Mapping[str, Any]) -> Table:
    """The table of these columns, which tell its format."""
    for mark, rows, read in PUBLISHED:
        if mark in columns:
            if len(columns[mark]) != rows:
                raise TableError(f"{path}: {len(columns[mark])} rows; allowed: {rows}, for it has a column {mark!r}")
            try:
                return read(name, columns)
            except KeyError as error:
                raise TableError(f"{path}: no column {error}; allowed: all columns, for it has {mark!r}") from error
    return _own(path, name, columns)


def find_tables(path: Path) -> list[Path]:
    """The files of tables in a folder, sorted; the file itself where ``path`` is one. Raises TableError."""
    if path.is_file():
        return [path]
    found = sorted(file for file in path.glob("*") if file.name.endswith((".npz", ".csv", ".csv.gz")))
    if not found:
        raise TableError(f"{path}: no tables; allowed: a file or a folder of files .npz, .csv, .csv.gz")
    return found


def _columns(path: Path) -> dict[str, Any]:
    """Columns by name: arrays of an ``.npz``, lists of text of a ``.csv``."""
    if path.suffix == ".npz":
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as data:
            return dict(data)
    if not path.name.endswith((".csv", ".csv.gz")):
        raise TableError(f"{path}: not a table; allowed: .npz, .csv or .csv.gz")
    code = "utf-8-sig"
    with (
        gzip.open(path, "rt", encoding=code, newline="")
        if path.suffix == ".gz"
        else path.open(encoding=code, newline="") as file
    ):
        rows = [row for row in csv.reader(file) if row]
    if len(rows) < 2:
        raise TableError(f"{path}: {len(rows)} lines; allowed: a line of names and at least one network")
    names = rows[0]
    if len(set(names)) != len(names):
        raise TableError(f"{path}: columns {names}; allowed: each name once")
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(names):
            raise TableError(f"{path}: row {number} has {len(row)} cells; allowed: {len(names)}, one a column")
    return {name: list(column) for name, column in zip(names, zip(*rows[1:], strict=True), strict=True)}


def _floats(values: Any) -> Floats:
    return np.asarray([np.nan if v == "" else v for v in values] if isinstance(values, list) else values, np.float64)


def _nas_bench_201(name: str, columns: Mapping[str, Any]) -> Table:
    """15,625 cells. An epoch of fewer costs what one of all costs; the 12 epochs are a schedule of their own."""
    scores = {key[3:]: _floats(column) for key, column in columns.items() if key.startswith("zc_")}
    return Table(
        name,
        tuple((edge, EDGE_OPERATIONS) for edge in EDGES),
        _digits(EDGE_OPERATIONS),
        _floats(columns["cifar10_val_seeds"]) / 100,
        epochs=200,
        early={12: _floats(columns["cifar10_val_12ep"]) / 100},
        test=_floats(columns["cifar10_test"]) / 100,
        seconds=_floats(columns["cifar10_train_seconds"]),
        costs={
            "params": _floats(columns["cifar10_params_M"]) * 1e6,
            "edge_gpu_latency_ms": _floats(columns["hw_cifar10_edgegpu_latency"]),
            "raspberry_pi_latency_ms": _floats(columns["hw_cifar10_raspi4_latency"]),
        },
        scores={key: np.where(score == FAILED_SCORE, np.nan, score) for key, score in scores.items()},
        space="nasbench201",
    )


def _nas_bench_macro(name: str, columns: Mapping[str, Any]) -> Table:
    """6,561 codes of 3,969 networks; the table has no validation split, its test accuracy is what is searched for."""
    order = np.argsort(np.array([int(code, 3) for code in columns["arch"]]))
    costs = {key: _floats(columns[key])[order] for key in ("params", "flops")}
    accuracy = np.stack([_floats(columns[f"acc_s{seed}"])[order] for seed in range(3)], axis=1) / 100
    return Table(
        name,
        tuple((f"layer{layer}", LAYERS) for layer in range(1, 9)),
        _digits(LAYERS),
        accuracy,
        costs=costs,
        scores=costs,
        space="macro",
    )


def _digits(options: Sequence[Scalar]) -> Callable[[Answers], int]:
    """Row = the answers read as digits, the first the highest."""
    digit = {option: i for i, option in enumerate(options)}

    def find(answers: Answers) -> int:
        row = 0
        for answer in answers:
            row = row * len(digit) + digit[answer]
        return row

    return find


def _nas_bench_graph(name: str, columns: Mapping[str, Any]) -> Table:
    """26,206 networks of 9 links x 9^4 operations: the others are equal to one of these, but for four skips."""
    operations = list(zip(*(columns[f"op{i}"] for i in range(4)), strict=True))
    networks = [str(graph_network(link, ops)) for link, ops in zip(columns["link"], operations, strict=True)]
    rows = {network: row for row, network in enumerate(networks)}
    found: dict[Answers, int | None] = {}

    def find(answers: Answers) -> int | None:
        if answers not in found:
            found[answers] = rows.get(str(graph_network(str(answers[0]), tuple(map(str, answers[1:])))))
        return found[answers]

    params = _floats(columns["params"])
    return Table(
        name,
        (("link", LINKS), *((f"operation{i}", GRAPH_OPERATIONS) for i in range(1, 5))),
        find,
        _floats(columns["valid_perf"])[:, None],
        test=_floats(columns["test_perf"]),
        costs={"params": params, "latency": _floats(columns["latency"])},
        scores={"params": params},
        network=networks,
    )


PUBLISHED: tuple[tuple[str, int, Callable[[str, Mapping[str, Any]], Table]], ...] = (
    ("cifar10_val_seeds", len(EDGE_OPERATIONS) ** len(EDGES), _nas_bench_201),
    ("acc_s0", len(LAYERS) ** 8, _nas_bench_macro),
    ("valid_perf", 26_206, _nas_bench_graph),
)
"""A column that a format is known by, how many rows it has, and what reads it."""

Tree = tuple[tuple[str, "Tree"], ...]


def graph_network(link: str, operations: Sequence[str]) -> Tree:
    """Canonical form of a network of NAS-Bench-Graph: ``link[i]`` is what node i + 1 reads, 0 the input.

    The leaves together are the output. A skip whose result is read is no node, nor is one that is the only reader of
    its input, nor one that gives the input of the whole network.
    """

    def below(node: int) -> list[tuple[str, Tree]]:
        found: list[tuple[str, Tree]] = []
        for child in (i + 1 for i in range(len(link)) if int(link[i]) == node):
            inner = below(child)
            skips = operations[child - 1] == "skip"
            found += inner if skips and inner else [(operations[child - 1], tuple(sorted(inner)))]
        if len(found) == 1 and found[0] == ("skip", ()):
            return [] if node else found
        return found

    return tuple(sorted(part for part in below(0) if part != ("skip", ())))


def _own(path: Path, name: str, columns: Mapping[str, Any]) -> Table:
    """A table in the documented columns."""
    known = ("choice:", "val_", "val@", "cost:", "zc_")
    plain = ("epochs", "seconds", "test", "network")
    for column in columns:
        if not column.startswith(known) and column not in plain:
            raise TableError(
                f"{path}: column {column!r}; allowed: {', '.join(plain)}, and names that begin with {known}"
            )
    asked = [column for column in columns if column.startswith("choice:")]
    seeds = [column for column in columns if column.startswith("val_")]
    if not asked or not seeds:
        raise TableError(f"{path}: columns {sorted(columns)}; allowed: at least one choice:<decision>, one val_<seed>")
    shapes = {column: np.shape(columns[column]) for column in columns}
    if len(set(shapes.values())) != 1 or len(shapes[asked[0]]) != 1 or shapes[asked[0]] == (0,):
        raise TableError(f"{path}: columns of shapes {shapes}; allowed: one value a network, in one length")
    choices = {column: _scalars(path, column, columns[column]) for column in asked}
    rows: dict[Answers, int] = {}
    for row, answers in enumerate(zip(*choices.values(), strict=True)):
        if answers in rows:
            raise TableError(f"{path}: rows {rows[answers] + 1} and {row + 1} have the same decisions {answers}")
        rows[answers] = row
    options = {column: tuple(sorted(set(values))) for column, values in choices.items()}
    combinations = math.prod(map(len, options.values()))
    if len(rows) * SPARSEST < combinations:
        raise TableError(
            f"{path}: {len(rows)} networks of {combinations:,} combinations of their decisions; allowed: at least one "
            f"of {SPARSEST}, for a search ends where it finds no network"
        )
    numbers = {c: _numbers(path, c, columns[c]) for c in columns if c not in (*asked, "network")}
    validation = np.stack([numbers[column] for column in seeds], axis=1)
    early_columns = [column for column in columns if column.startswith("val@")]
    for column in numbers:
        if column in (*early_columns, "test", "seconds") and not np.isfinite(numbers[column]).all():
            raise TableError(f"{path}: column {column!r} has no number in some row; allowed: one in each row")
        if column in (*seeds, *early_columns, "test"):
            given = numbers[column][~np.isnan(numbers[column])]
            if not ((given >= 0) & (given <= 1)).all():
                raise TableError(f"{path}: column {column!r} has values outside 0 to 1; allowed: accuracies as shares")
    if "seconds" in numbers and numbers["seconds"].min() < 0:
        raise TableError(f"{path}: column 'seconds' has {numbers['seconds'].min():g}; allowed: at least 0")
    if not np.isfinite(validation).any(axis=1).all():
        raise TableError(f"{path}: a row without a number in {seeds}; allowed: at least one seed a row")
    early = {}
    for column in early_columns:
        if not column[4:].isdigit() or int(column[4:]) < 1:
            raise TableError(f"{path}: column {column!r}; allowed: val@<epoch>, such as val@12")
        early[int(column[4:])] = numbers[column]
    return Table(
        name,
        tuple((column[7:], values) for column, values in options.items()),
        rows.get,
        validation,
        epochs=_epochs(path, numbers.get("epochs"), early),
        early=early,
        test=numbers.get("test"),
        seconds=numbers.get("seconds"),
        costs={column[5:]: numbers[column] for column in columns if column.startswith("cost:")},
        scores={column[3:]: numbers[column] for column in columns if column.startswith("zc_")},
        network=None if "network" not in columns else [str(value) for value in columns["network"]],
    )


def _epochs(path: Path, column: Floats | None, early: Mapping[int, Floats]) -> int:
    """Epochs of a whole training: one number in all rows, above those of the columns val@<epoch>."""
    found = set() if column is None else set(column.tolist())
    if not found and not early:
        return 1
    if len(found) != 1 or not all(e.is_integer() and e > max(early, default=0) for e in found):
        raise TableError(
            f"{path}: column 'epochs' has {sorted(found)}; allowed: one whole number above {max(early, default=0)}"
        )
    return int(found.pop())


def _numbers(path: Path, column: str, values: Any) -> Floats:
    try:
        return _floats(values)
    except ValueError as error:
        raise TableError(f"{path}: column {column!r}: {error}; allowed: numbers, or nothing") from error


def _scalars(path: Path, column: str, values: Any) -> list[Scalar]:
    """Answers of a decision: numbers where all of a column are, else text."""
    found: list[Scalar] = values if isinstance(values, list) else values.tolist()
    if "" in found:
        raise TableError(f"{path}: column {column!r} has an empty cell; allowed: an answer in each row")
    if isinstance(values, list):
        for kind in (int, float):
            with suppress(ValueError):
                found = [kind(value) for value in values]
                break
    for answer in found:
        if isinstance(answer, float) and not math.isfinite(answer):
            raise TableError(f"{path}: column {column!r} has {answer}; allowed: text, and numbers that are finite")
    return found
