"""The benchmark: its runs are kept and not done again, its figures are right, its document can be made twice."""

from __future__ import annotations

import inspect
import json
import xml.etree.ElementTree
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from nas_service.benchmark import suite as suites
from nas_service.benchmark.finish import regret_with_finalists, winner
from nas_service.benchmark.plot import charts
from nas_service.benchmark.report import BEGIN, END, document, luck, write
from nas_service.benchmark.simulation import Run, simulate
from nas_service.benchmark.statistics import capped_mean, curve, headline, paired, wilcoxon
from nas_service.benchmark.suite import MODES, RUNS, Mode, Suite, figures_of, run_suite, stored, suite
from nas_service.benchmark.timing import seconds_per_proposal
from nas_service.cli import nas
from nas_service.strategies import STRATEGIES
from tests.nas_service.benchmark.made_tables import DECISIONS, made_table
from workers.tables import Table, load_table

TABLE = made_table(1, 0.3)


def stored_table(folder: Path, table: Table = TABLE) -> Path:
    """A made table as a file."""
    answers = np.array([None] * len(table.mean), dtype=object)
    names = [name for name, _ in table.questions]
    for answer in product(*(options for _, options in table.questions)):
        answers[table.find(answer)] = answer
    columns = {f"choice:{name}": np.array([a[i] for a in answers]) for i, name in enumerate(names)}
    assert table.seconds is not None
    path = folder / "made.npz"
    np.savez(
        path,
        **columns,
        **{f"val_{seed}": table.validation[:, seed] for seed in range(3)},
        **{f"zc_{name}": score for name, score in table.scores.items()},
        seconds=table.seconds,
    )
    return path


def small(path: Path, *strategies: str, seeds: int = 2, modes: tuple[Mode, ...] = MODES[:2]) -> Suite:
    return Suite((path,), strategies, modes, seeds, evaluations=30)


def quiet(line: str) -> None:
    assert line


def test_runs_are_kept_and_extended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, done = stored_table(tmp_path), []
    do = suites.do

    def counting(job: suites.Job) -> list[suites.Record]:
        done.extend(job.seeds)
        return do(job)

    monkeypatch.setattr(suites, "do", counting)
    records = run_suite(small(path, "random"), tmp_path, 1, quiet)
    assert (len(records), sorted(done)) == (4, [0, 0, 1, 1])
    done.clear()
    more = run_suite(small(path, "random", "evolution", seeds=3), tmp_path, 1, quiet)
    assert (len(more), sorted(done)) == (12, [0, 0, 1, 1, 2, 2, 2, 2])
    assert [record for record in more if record["strategy"] == "random" and record["seed"] < 2] == records
    with (tmp_path / RUNS).open("a") as file:
        file.write('{"strategy": "ran')
    done.clear()
    assert len(run_suite(small(path, "random"), tmp_path, 1, quiet)) == 6
    assert done == []


def test_runs_of_other_code_are_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored_table(tmp_path)
    assert suites.code_of(STRATEGIES["random"]) != suites.code_of(STRATEGIES["evolution"])
    run_suite(small(path, "random"), tmp_path, 1, quiet)
    monkeypatch.setattr(suites, "code_of", lambda entry: "changed")
    again = run_suite(small(path, "random"), tmp_path, 1, quiet)
    assert {record["code"] for record in again} == {"changed"}
    assert len(list(stored(tmp_path))) == 8


def test_runs_on_another_table_of_that_name_are_done_again(tmp_path: Path) -> None:
    before = run_suite(small(stored_table(tmp_path), "random"), tmp_path, 1, quiet)
    (tmp_path / "new").mkdir()
    path = stored_table(tmp_path / "new", made_table(2, 0.3))
    after = run_suite(small(path, "random"), tmp_path, 1, quiet)
    assert len(before) == len(after) == 4
    assert [r["regret"] for r in after] != [r["regret"] for r in before]
    assert {r["data"] for r in after} == {load_table(path).digest}


@pytest.mark.parametrize("changed", ["search_spaces.choose", "workers.scores", "nas_service.strategies.merit"])
def test_whatever_decides_a_proposal_is_its_code(monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    entry, source = STRATEGIES["evolution"], inspect.getsource
    before = suites.code_of.__wrapped__(entry)
    monkeypatch.setattr(inspect, "getsource", lambda module: source(module) + "#" * (module.__name__ == changed))
    assert suites.code_of.__wrapped__(entry) != before


def test_processes_do_the_same(tmp_path: Path) -> None:
    path = stored_table(tmp_path)
    asked = small(path, "evolution", seeds=12, modes=MODES[:1])
    alone = run_suite(asked, tmp_path / "one", 1, quiet)
    together = run_suite(asked, tmp_path / "two", 2, quiet)
    for record in (*alone, *together):
        del record["overhead_ms"]
    assert sorted(together, key=lambda record: record["seed"]) == alone


def test_modes_are_for_tables_that_have_what_they_need(shared: Path) -> None:
    folder = shared / "benchmarks"

    def names(file: str) -> set[str]:
        return {mode.name for mode in MODES if mode.fits(load_table(folder / file))}

    assert names("nasbench201_cifar10.npz") == {mode.name for mode in MODES}
    assert "12,000 s" not in names("nasbench_macro.csv")
    assert "noisy" in names("nasbench_macro.csv")
    assert "noisy" not in names("nas_bench_graph_cora.csv.gz")


def test_figures_of_a_run() -> None:
    run = simulate(TABLE, STRATEGIES["evolution"], seed=1, evaluations=120)
    found = figures_of(run, TABLE, MODES[0])
    assert curve(found["regret"], 120).tolist() == pytest.approx(run.regret, abs=1e-5)
    first = next((i for i, row in enumerate(run.rows, 1) if TABLE.mean[row] >= TABLE.top), None)
    assert found["top_at"] == first
    assert set(found["test"]) == {"25", "50", "100", "120"}
    assert not found["with_finalists"], "nothing is noisy there"
    json.dumps(found, allow_nan=False)


def test_finalists_are_paid_from_the_budget_and_the_best_mean_of_their_new_trainings_wins() -> None:
    validation = np.full((16, 4), 0.1)
    validation[:3] = [[0.9, 0.2, 0.3, 1.0], [0.8, 0.6, 0.4, 0.9], [0.7, 0.7, np.nan, np.nan]]
    validation[3] = 0.95
    table = replace(TABLE, validation=validation, test=None)
    run = Run(rows=[5, 0, 6, 1, 2, *range(7, 13), 3], values=[0.1, 0.9, 0.1, 0.8, 0.7, *[0.1] * 6, 0.95])
    assert winner(run, table, 11) == 2, "0: .25 on average, 1: .5, 2: .7 of its one other training"
    assert winner(run, table, 10) == 1, "the last six trainings are those of the finalists"
    assert winner(run, table, 12) == winner(run, table, 11), "the twelfth network is not trained then"
    assert regret_with_finalists(run, table, 11) == pytest.approx(25.0)


def test_noisy_runs_that_were_kept_without_finalists_are_done_again(tmp_path: Path) -> None:
    path = stored_table(tmp_path)
    asked = small(path, "random", modes=tuple(mode for mode in MODES if mode.name in ("exact", "noisy")))
    before = run_suite(asked, tmp_path, 1, quiet)
    for record in before:
        del record["with_finalists"]
    (tmp_path / RUNS).write_text("".join(json.dumps(record) + "\n" for record in before))
    told: list[str] = []
    after = run_suite(asked, tmp_path, 1, told.append)
    assert told[0].startswith("4 runs, 2 of them there already"), "the exact ones"
    assert [r.get("with_finalists") is not None for r in after if r["mode"] == "noisy"] == [True] * 2


def test_runs_that_ended_before_the_budget_have_finalists_where_they_could_be_paid() -> None:
    noisy = next(mode for mode in MODES if mode.name == "noisy")
    run = simulate(TABLE, STRATEGIES["random"], evaluations=94, noisy=True)
    assert set(figures_of(run, TABLE, noisy)["with_finalists"]) == {"25", "50", "100"}
    run = simulate(TABLE, STRATEGIES["random"], evaluations=93, noisy=True)
    assert set(figures_of(run, TABLE, noisy)["with_finalists"]) == {"25", "50"}


def test_noisy_runs_tell_the_regret_after_the_finalists(tmp_path: Path) -> None:
    path = stored_table(tmp_path, made_table(1, 0.3, noise=0.05))
    modes = tuple(mode for mode in MODES if mode.name in ("exact", "noisy"))
    records = run_suite(Suite((path,), ("evolution",), modes, 20, evaluations=100), tmp_path, 1, quiet)
    table = load_table(path)
    noisy = [record for record in records if record["mode"] == "noisy"]
    assert {tuple(record["with_finalists"]) for record in noisy} == {("25", "50", "100")}
    mean = np.mean([record["with_finalists"]["100"] for record in noisy])
    text, _ = document(records, [], {table.name: table}, "random", "")
    exact, after = text.split("made: noisy")
    assert f"| {mean:.3f} ± " in after
    assert "with finalists at 100 |" in after
    assert "with finalists at" not in exact


def test_suites() -> None:
    quick, full = (suite(name, [Path("t")], ["random"], [], None, 16) for name in ("quick", "full"))
    assert (quick.seeds, full.seeds, full.evaluations) == (10, 100, 150)
    assert {"noisy, parallel", "noisy, scores, parallel"} < {mode.name for mode in full.modes}
    assert {mode.name for mode in quick.modes} < {mode.name for mode in full.modes} == {mode.name for mode in MODES}
    assert [m.name for m in suite("full", [], [], ["noisy"], 3, 4).modes] == ["noisy"]


def test_wilcoxon_against_published_values() -> None:
    """p of scipy 1.16, method 'approx' with correction; and of no difference at all."""
    rng = np.random.default_rng(0)
    expected = [0.1674213718028198, 0.18657075070335083, 0.00016131504789543334]
    for n, p in zip((10, 30, 100), expected, strict=True):
        assert wilcoxon(np.round(rng.normal(0.3, 1, n), 1)) == pytest.approx(p, rel=1e-9)
    assert wilcoxon(np.zeros(5)) == 1.0


def test_statistics() -> None:
    compared = paired([1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 5.0, 3.0])
    assert (compared.mean, compared.share) == (-0.5, 0.625)
    assert capped_mean([10, None, 30], 150) == (pytest.approx(190 / 3), pytest.approx(2 / 3))
    assert headline(np.array([0.0, 1.0]), 10.0) == pytest.approx(-2.0)


def test_document_is_made_in_place_and_again(tmp_path: Path) -> None:
    path = stored_table(tmp_path)
    asked = Suite((path,), ("random", "evolution"), MODES[:2], 5, evaluations=100)
    records = run_suite(asked, tmp_path, 1, quiet)
    table = load_table(path)
    made = document(records, [], {table.name: table}, "random", "nas benchmark")
    target = tmp_path / "docs" / "quality.md"
    write(*made, target)
    assert "| evolution | 5 |" in target.read_text()
    assert "(quality-made.svg)" in target.read_text()
    xml.etree.ElementTree.parse(target.with_name("quality-made.svg"))
    target.write_text("# Before\n" + target.read_text() + "After\n")
    before = target.read_text()
    write(*made, target)
    assert target.read_text() == before
    target.write_text("nothing")
    with pytest.raises(ValueError, match="no place for results"):
        write(*made, target)
    assert (BEGIN in before, END in before) == (True, True)


def test_a_table_of_equal_networks_has_a_document(tmp_path: Path) -> None:
    """Nothing can be searched for there: it does not count in the headline. It may lack test accuracies too."""
    flat = replace(TABLE, validation=np.full_like(TABLE.validation, 0.5), early={2: TABLE.mean}, epochs=10)
    assert flat.optimum == flat.median
    modes = (MODES[0], Mode("12,000 s", epochs=2, seconds=500.0))
    runs = [
        {**suites._heading("random", flat, mode, seed, 100, 1), "commit": "", **figures_of(run, flat, mode)}
        for mode in modes
        for seed in range(2)
        for run in [simulate(replace(flat, test=None), STRATEGIES["random"], seed=seed, evaluations=100)]
    ]
    text, _ = document(runs, [], {flat.name: flat}, "random", "")
    assert "| random | 2 | 0.000 ± 0.000 |" in text
    assert "nan" not in text


def test_parallel_runs_stand_beside_serial_ones(tmp_path: Path) -> None:
    path = stored_table(tmp_path)
    modes = tuple(mode for mode in MODES if mode.name in ("exact", "exact, parallel"))
    records = run_suite(Suite((path,), ("evolution",), modes, 4, evaluations=60), tmp_path, 1, quiet)
    table = load_table(path)
    text, _ = document(records, [], {table.name: table}, "random", "")
    last = {mode.name: [curve(r["regret"], 60)[-1] for r in records if r["mode"] == mode.name] for mode in modes}
    assert f"| {sum(last['exact, parallel']) / sum(last['exact']):.2f} |" in text.split("exact, parallel")[1]
    assert "× serial |" not in text.split("exact, parallel")[0]


def test_luck_is_what_noise_costs_when_all_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert luck(made_table(1, 0.3, noise=0.0)) == 0.0
    assert 0.0 < luck(made_table(1, 0.3, noise=0.005)) < luck(made_table(1, 0.3, noise=0.05))
    monkeypatch.setattr("nas_service.benchmark.report.LUCK_SEEDS", 10)
    noisy, best = made_table(1, 0.3, noise=0.02), []
    for seed in range(10):
        observed = [noisy.value(row, seed=seed) for row in range(len(noisy.mean))]
        best.append(noisy.mean[int(np.argmax(observed))])
    assert luck(noisy) == pytest.approx(100 * (noisy.optimum - np.mean(best)))


def test_charts_are_drawn_to_scale() -> None:
    drawn = charts([("one <table>", {"a": [1.0, 0.1], "b": [10.0, 0.0]})], "x", "y", floor=0.1)
    lines = [line for line in drawn.splitlines() if line.startswith("<polyline")]
    heights = [[float(point.split(",")[1]) for point in line.split('"')[1].split()] for line in lines]
    assert heights[0][0] - heights[1][0] == pytest.approx((heights[0][1] - heights[1][0]) / 2, abs=0.2)
    assert heights[0][1] == heights[1][1]
    assert "one &lt;table&gt;" in drawn


def test_seconds_per_proposal() -> None:
    found = seconds_per_proposal(STRATEGIES["random"], 50)
    assert found is not None
    assert 0 < found < 0.1


def test_time_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_service.benchmark.timing.LIMIT", 0.0)
    assert seconds_per_proposal(STRATEGIES["random"], 50) is None


@pytest.fixture
def call(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(nas, ["benchmark", "--jobs", "1", "--out", str(tmp_path / "out"), *words])
        return done.exit_code, done.output

    return run


def test_command(call: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    table = stored_table(tmp_path)
    code, out = call("--tables", str(table), "--strategies", "random,evolution", "--seeds", "2", "--modes", "exact")
    assert (code, "search-quality.md" in out) == (0, True)
    text = (tmp_path / "out" / "search-quality.md").read_text()
    assert "## made" in text
    assert str(tmp_path) not in text
    assert f"4,096 rows; best mean validation accuracy {100 * TABLE.optimum:.2f}" in text
    assert len(TABLE.questions) == DECISIONS


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--strategies", "magic"], "--strategies: 'magic'; allowed: auto, random"),
        (["--baseline", "magic"], "--baseline: 'magic'; allowed: auto, random"),
        (["--modes", "quietly"], "--modes: 'quietly'; allowed: exact"),
        (["--tables", "/nowhere"], "no tables; allowed"),
        (["--tables", "TWINS"], "files ['made.csv', 'made.npz']; allowed: names that differ"),
    ],
)
def test_command_says_what_is_wrong(
    call: Callable[..., tuple[int, str]], tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "twins").mkdir()
    stored_table(tmp_path / "twins")
    (tmp_path / "twins" / "made.csv").write_text("choice:a,val_0\n1,0.5\n2,0.6\n")
    words = [str(tmp_path / "twins") if word == "TWINS" else word for word in words]
    code, out = call("--tables", str(stored_table(tmp_path)), *words)
    assert code == 2
    assert message in " ".join(out.split())
