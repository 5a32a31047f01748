"""The document of a benchmark: Markdown tables and SVG figures, made of nothing but recorded runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nas_service import markdown
from nas_service.benchmark.finish import AGAIN, COST, TOP
from nas_service.benchmark.plot import charts
from nas_service.benchmark.simulation import BUDGETS, POINTS
from nas_service.benchmark.statistics import capped_mean, curve, headline, paired, standard_error
from nas_service.benchmark.suite import MODES, Record
from nas_service.benchmark.timing import LIMIT, TIMED, TRIALS
from nas_service.strategies import STRATEGIES
from workers.tables import Floats, Table

BEGIN, END = "<!-- made by nas benchmark: begin -->", "<!-- made by nas benchmark: end -->"
MAIN = 100
"""Networks trained at which strategies are compared."""
WITH_FINALISTS = (25, 50, 100)
"""Trainings in all, those of the finalists among them, at which their winners are looked at."""
PARALLEL = ", parallel"
LOWEST = 0.001
"""Points below which a figure draws no difference."""

LUCK_SEEDS = 200
"""Draws of one training a network that the cost of luck is averaged over."""

PUBLISHED_12_EPOCHS = (
    ("random", "93.70 ± 0.36"),
    ("regularised evolution", "93.92 ± 0.30"),
    ("REINFORCE", "93.85 ± 0.37"),
    ("BOHB", "93.61 ± 0.52"),
    ("the optimum", "94.37"),
)
NAS_BENCH_201 = "Dong and Yang, NAS-Bench-201, ICLR 2020; CIFAR-10, mean ± deviation"
PUBLISHED_TO_OPTIMUM = (("random", "7,782"), ("regularised evolution", "563"), ("LaNAS", "247"), ("WeakNAS", "182"))
WEAK_NAS = "Wu et al., WeakNAS, NeurIPS 2021; CIFAR-10, mean, every cell counted; quoted at second hand"

OVERALL = (
    f"Headline: mean over tables and seeds of log10 of the normalised regret after {MAIN} networks, at least -3; "
    "normalised: a share of what lies between optimum and median. AUC: mean normalised regret over all networks "
    "trained. Less is better in both. Milliseconds: median over runs of the median time that the strategy took for a "
    "trial, with other processes beside it."
)
EACH = (
    "Regret in points: how far the true validation accuracy of the best observed network lies below the optimum, mean "
    "± standard error. To the optimum, to the top 0.1 %: networks trained until one was trained, a run that never did "
    "counts as its budget, and the share of runs that did. Test: accuracy of the best observed. Against: mean "
    "difference of regret over equal seeds, share of seeds that are better, ties half, and p of Wilcoxon's signed-rank "
    "test. Exact: a result is the mean of all trainings in the table; noisy: one of them. Scores: zero-cost scores of "
    "the table are given, shuffled: those of other networks; only strategies that look at them are run. Parallel: "
    "simulated workers, asynchronous; × serial: mean regret as a multiple of that with one worker. With finalists: "
    f"regret after as many trainings in all, of which the last {COST} are {AGAIN} new ones of each of the {TOP} best "
    "observed (one where the table has no more), whose best mean wins, as in a search that asks for two seeds; the "
    "table's truth is the mean of the same trainings, which flatters this. Seconds: 12-epoch trainings until so many "
    "simulated seconds are over."
)
TIMING = (
    f"Median of {TIMED} proposals, the result of each told, after so many trials on a made-up space of 20 decisions "
    "with 5 options, with zero-cost scores for those that look at them. Too slow: the results before could not be told "
    f"in {LIMIT:g} s."
)

Group = dict[tuple[str, str, str], list[Record]]
"""(table, mode, strategy) → runs, sorted by seed."""


def grouped(records: Sequence[Record]) -> Group:
    """The runs by table, mode and strategy, in the order of the catalogues."""
    modes, strategies = [mode.name for mode in MODES], list(STRATEGIES)
    found: Group = {}
    for record in sorted(
        records, key=lambda r: (r["table"], modes.index(r["mode"]), strategies.index(r["strategy"]), r["seed"])
    ):
        found.setdefault((record["table"], record["mode"], record["strategy"]), []).append(record)
    return found


def regrets(runs: Sequence[Record]) -> Floats:
    """[runs, evaluations] regret in points; a run that found no more networks keeps its last value."""
    length = max(run["evaluations"] for run in runs)
    return np.stack([curve(run["regret"], length) for run in runs])


def document(
    records: Sequence[Record],
    timings: Sequence[Record],
    tables: Mapping[str, Table],
    baseline: str,
    command: str,
) -> tuple[str, dict[str, str]]:
    """The Markdown between the marks, and figures by the end of their file names."""
    group = grouped(records)
    names = [name for name in STRATEGIES if any(record["strategy"] == name for record in records)]
    commits = sorted({record["commit"] for record in [*records, *timings] if record["commit"]})
    evaluations = max(record["evaluations"] for record in records)
    parts = [
        BEGIN,
        f"`{command}`",
        f"Commit {', '.join(commits) or 'unknown'}; n: seeds, from 0 on.",
        EACH,
    ]
    figures: dict[str, str] = {}
    if evaluations >= MAIN:
        parts += _overall(group, names, tables, evaluations)
    for table in tables.values():
        parts += [f"## {table.name}", _about(table)]
        panels = []
        for mode in dict.fromkeys(mode for name, mode, _ in group if name == table.name):
            chosen = {name: group[table.name, mode, name] for name in names if (table.name, mode, name) in group}
            if all(run["evaluations"] for runs in chosen.values() for run in runs):
                serial = {name: group.get((table.name, mode.removesuffix(PARALLEL), name), []) for name in chosen}
                alone = serial if mode.endswith(PARALLEL) else {}
                parts += [f"### {table.name}: {mode}", _regret_table(chosen, baseline, alone)]
                if table.space == "nasbench201" and mode == "exact":
                    parts.append(_published(PUBLISHED_TO_OPTIMUM, "networks trained to the optimum", WEAK_NAS))
                if mode == "noisy":
                    parts.append(_luck(table))
                panels.append((mode, {name: regrets(runs).mean(axis=0).tolist() for name, runs in chosen.items()}))
            else:
                parts += [f"### {table.name}: {mode}", _seconds_table(chosen)]
                if table.space == "nasbench201" and mode == "12,000 s":
                    parts.append(_published(PUBLISHED_12_EPOCHS, "test accuracy", NAS_BENCH_201))
        if panels:
            figures[table.name] = charts(panels[:2], "networks trained", "mean regret [points]", LOWEST)
            figure = f"![Regret on {table.name}](FIGURES-{table.name}.svg)"
            parts.insert(parts.index(f"## {table.name}") + 2, figure)
    if timings:
        parts += _timing_table(timings)
    return "\n\n".join([*parts, END]), figures


def luck(table: Table) -> float:
    """Mean regret in points of the best observed row, were every row trained once: what luck alone costs."""
    least, most = np.nanmin(table.validation, axis=1), np.nanmax(table.validation, axis=1)
    rows = np.flatnonzero(most >= least.max())  # no other row can be the best, whatever the draw
    found = []
    for seed in range(LUCK_SEEDS):
        best = rows[np.argmax([table.value(int(row), seed=seed) for row in rows])]
        found.append(POINTS * (table.optimum - float(table.mean[best])))
    return float(np.mean(found))


def _luck(table: Table) -> str:
    return (
        f"Were all rows of the table trained once, the best observed would lie {luck(table):.3f} points below the "
        f"optimum on average (n = {LUCK_SEEDS}): that much is the luck of a single training, not the search."
    )


def _about(table: Table) -> str:
    return (
        f"{len(table.mean):,} rows; best mean validation accuracy {100 * table.optimum:.2f}, median "
        f"{100 * table.median:.2f}, best 0.1 % from {100 * table.top:.2f}."
    )


def _overall(group: Group, names: Sequence[str], tables: Mapping[str, Table], evaluations: int) -> list[str]:
    """Headline and area under the curve, over all tables."""
    rows = []
    spreads = {name: 100 * (table.optimum - table.median) for name, table in tables.items()}
    spreads = {name: spread for name, spread in spreads.items() if spread > 0}  # else nothing to search for
    for mode in dict.fromkeys(mode for _, mode, _ in group):
        for name in names:
            runs = {table: group[table, mode, name] for table in spreads if (table, mode, name) in group}
            complete = runs and len(runs) == len({t for t, m, _ in group if m == mode and t in spreads})
            if not complete or not all(run["evaluations"] for found in runs.values() for run in found):
                continue
            logs, areas = [], []
            for table, found in runs.items():
                points = regrets(found)
                logs.append(headline(points[:, MAIN - 1], spreads[table]))
                areas.append(float((points / spreads[table]).mean()))
            milliseconds = np.median([run["overhead_ms"] for found in runs.values() for run in found])
            rows.append(
                [mode, name, f"{np.mean(logs):.2f}", f"{np.mean(areas):.3f}", str(len(runs)), f"{milliseconds:.1f}"]
            )
    heading = ["mode", "strategy", f"headline at {MAIN}", f"AUC 1–{evaluations}", "tables", "milliseconds"]
    return [
        "## All tables",
        OVERALL,
        markdown.table(heading, rows),
    ]


def _regret_table(chosen: Mapping[str, list[Record]], baseline: str, serial: Mapping[str, list[Record]]) -> str:
    """A row a strategy, of runs whose budget is networks trained; ``serial`` are the same with one worker."""
    length = max(run["evaluations"] for runs in chosen.values() for run in runs)
    budgets = [budget for budget in BUDGETS if budget <= length]
    main = min(MAIN, length)
    against = _at(chosen.get(baseline, []), main)
    rows = []
    for name, runs in chosen.items():
        points = regrets(runs)
        row = [name, str(len(runs))]
        row += [f"{points[:, b - 1].mean():.3f} ± {standard_error(points[:, b - 1]):.3f}" for b in budgets]
        for key in ("optimum_at", "top_at"):
            mean, share = capped_mean([run[key] for run in runs], length)
            row.append(f"{mean:.0f} ({share:.0%})")
        for budget in WITH_FINALISTS:
            known = [run["with_finalists"][str(budget)] for run in runs if str(budget) in run.get("with_finalists", ())]
            row.append(f"{np.mean(known):.3f} ± {standard_error(known):.3f}" if len(known) == len(runs) else "")
        tests = [run["test"][str(main)] for run in runs if str(main) in run["test"]]
        row.append(f"{np.mean(tests):.2f}" if tests else "")
        own = _at(runs, main)
        both = [seed for seed in own if seed in against and name != baseline]
        compared = paired([own[seed] for seed in both], [against[seed] for seed in both]) if both else None
        before = _at(serial.get(name, []), main)
        ratio = [(own[seed], before[seed]) for seed in own if seed in before]
        below = sum(one for _, one in ratio)
        row.append(f"{sum(many for many, _ in ratio) / below:.2f}" if below else "")
        row.append("" if compared is None else f"{compared.mean:+.3f}, {compared.share:.0%}, p {_p(compared.p)}")
        rows.append(row)
    heading = ["strategy", "n", *(f"regret at {budget}" for budget in budgets)]
    heading += ["to the optimum", "to the top 0.1 %", *(f"with finalists at {budget}" for budget in WITH_FINALISTS)]
    heading += [f"test at {main}", "× serial", f"against {baseline} at {main}"]
    return markdown.table(heading, rows)


def _at(runs: Sequence[Record], networks: int) -> dict[int, float]:
    """Regret by seed after so many networks."""
    return {run["seed"]: float(curve(run["regret"], run["evaluations"])[networks - 1]) for run in runs}


def _seconds_table(chosen: Mapping[str, list[Record]]) -> str:
    """A row a strategy, of runs whose budget is simulated seconds."""
    rows = []
    for name, runs in chosen.items():
        tests = [run["test"][str(run["trained"])] for run in runs if str(run["trained"]) in run["test"]]
        trained = np.mean([run["trained"] for run in runs])
        row = [name, str(len(runs)), f"{trained:.0f}"]
        row += [f"{np.mean(tests):.2f}"] if tests else [""]
        row += [f"{np.std(tests, ddof=1):.2f}", f"{standard_error(tests):.3f}"] if len(tests) > 1 else ["", ""]
        rows.append(row)
    return markdown.table(
        ["strategy", "n", "networks trained", "test accuracy", "deviation", "error of the mean"], rows
    )


def _timing_table(timings: Sequence[Record]) -> list[str]:
    rows = []
    for name in dict.fromkeys(record["strategy"] for record in timings):
        found = {record["trial"]: record["seconds"] for record in timings if record["strategy"] == name}
        told = ["" if t not in found else "too slow" if found[t] is None else f"{found[t]:.4f}" for t in TRIALS]
        rows.append([name, *told])
    return [
        "## Seconds a proposal",
        TIMING,
        markdown.table(["strategy", *(f"trial {trial:,}" for trial in TRIALS)], rows),
    ]


def _published(rows: Sequence[tuple[str, str]], figure: str, source: str) -> str:
    return f"Published ({source}):\n\n" + markdown.table(["strategy", figure], rows)


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def write(text: str, figures: Mapping[str, str], path: Path) -> None:
    """Put the text between the marks of a document, or make one of it; figures lie beside it, named after it."""
    text = text.replace("(FIGURES-", f"({path.stem}-")
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text() if path.exists() else f"# Search quality\n\n{BEGIN}\n{END}\n"
    if before.count(BEGIN) != 1 or before.count(END) != 1:
        raise ValueError(f"{path} has no place for results; allowed: one line {BEGIN!r} and one line {END!r}")
    head, rest = before.split(BEGIN)
    path.write_text(head + text + rest.split(END)[1])
    for name, figure in figures.items():
        path.with_name(f"{path.stem}-{name}.svg").write_text(figure)
