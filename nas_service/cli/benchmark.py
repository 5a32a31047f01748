"""``nas benchmark``: how well the strategies search, on tables of trained networks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


def _names(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str]:
    return [name for name in (value or "").split(",") if name]


@click.command()
@click.option("--suite", type=click.Choice(["quick", "full"]), default="quick", show_default=True, help="How much.")
@click.option("--tables", type=click.Path(path_type=Path), required=True, help="A table, or a folder of tables.")
@click.option("--strategies", callback=_names, help="Names, comma-separated; default: all.")
@click.option("--modes", callback=lambda c, p, value: [m for m in (value or "").split(";") if m],
              help="Names of modes, separated by semicolons; default: all of the suite.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(2), help="Seeds of each run; default: 10 quick, 100 full.")
@click.option("--workers", type=click.IntRange(2), default=16, show_default=True, help="Workers of parallel modes.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmark"), show_default=True,
              help="Folder of the recorded runs, which are not done again.")  # fmt: skip
@click.option("--document", type=click.Path(path_type=Path), help="Document to write; default: in the folder.")
@click.option("--baseline", default="random", show_default=True, help="Strategy that the others are compared with.")
@click.option("--jobs", type=click.IntRange(1), help="Processes; default: one a CPU.")
@click.option("--timing", is_flag=True, help="Measure seconds a proposal too; minutes, one after the other.")
def benchmark(**options: Any) -> None:
    """Measure strategies on tables of trained networks, and write a document with tables and figures."""
    from nas_service.benchmark.report import document, write
    from nas_service.benchmark.suite import MODES, run_suite, run_timing, suite
    from nas_service.strategies import STRATEGIES
    from workers.tables import TableError, find_tables, load_table

    strategies = options["strategies"] or list(STRATEGIES)
    _known("strategies", strategies, list(STRATEGIES))
    _known("baseline", [options["baseline"]], list(STRATEGIES))
    _known("modes", options["modes"], [mode.name for mode in MODES])
    try:
        paths = find_tables(options["tables"])
        tables = {load_table(path).name: load_table(path) for path in paths}
    except TableError as error:
        raise click.UsageError(str(error)) from error
    if len(tables) != len(paths):
        raise click.UsageError(f"--tables: files {[path.name for path in paths]}; allowed: names that differ")
    out = options["out"]
    asked = suite(options["suite"], paths, strategies, options["modes"], options["seeds"], options["workers"])
    jobs = options["jobs"] or os.cpu_count() or 1
    records = run_suite(asked, out, jobs, lambda line: click.echo(line, err=True))
    timings = run_timing(strategies, out, lambda line: click.echo(line, err=True)) if options["timing"] else []
    words = ["nas benchmark", f"--suite {options['suite']}", "--tables TABLES", f"--strategies {','.join(strategies)}"]
    words += [f"--seeds {asked.seeds}", f"--workers {asked.workers}", *(["--timing"] if timings else [])]
    path = options["document"] or out / "search-quality.md"
    write(*document(records, timings, tables, options["baseline"], " ".join(words)), path)
    click.echo(str(path))


def _known(option: str, given: list[str], allowed: list[str]) -> None:
    for name in given:
        if name not in allowed:
            raise click.UsageError(f"--{option}: {name!r}; allowed: {', '.join(allowed)}")


COMMANDS = (benchmark,)
