"""``nas search``, ``nas trial``, ``nas arch``, ``nas export``: commands of whoever searches."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from nas_service.client import Client


def connect(context: click.Context) -> Client:
    """A client for the server that the options name."""
    from nas_service.client import Client

    return Client(context.obj["url"], context.obj["token"])


def show(context: click.Context, data: Any, text: str) -> None:
    """Print JSON or text, as -o says."""
    click.echo(json.dumps(data, indent=2) if context.obj["json"] else text)


def table(rows: list[list[Any]], header: list[str]) -> str:
    """Left-aligned columns."""
    cells = [header, *[["" if cell is None else str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([click.style(lines[0], bold=True), *lines[1:]])


def figure(value: Any) -> str:
    """A number as people read it: 1.23 M, 0.9861, 12."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    for size, name in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            return f"{value / (1e3 if name == ' k' else size):.3g}{name}"
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def duration(seconds: float | None) -> str:
    """Seconds as h, min, s."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def best_of(search: dict[str, Any]) -> str:
    """Best objective values so far."""
    if not search["best"]:
        return "–"
    names = [objective["metric"] for objective in search["request"]["objectives"]]
    return ", ".join(f"{name} {figure(value)}" for name, value in zip(names, search["best"]["values"], strict=True))


def summary(search: dict[str, Any]) -> str:
    """One search in a few lines."""
    progress, request = search["progress"], search["request"]
    states = ", ".join(f"{count} {state}" for state, count in sorted(progress["states"].items())) or "none yet"
    lines = [
        f"{click.style(search['name'], bold=True)}  {search['id']}  {search['state']}"
        + (f" ({search['stage']})" if search["state"] == "running" else ""),
        f"  {request['space']['name']} on {request['dataset']['name']} by {request['strategy']['name']}",
        f"  trials   {progress['counted']}/{progress['max_trials']}: {states}",
        f"  best     {best_of(search)}" + (f"  (trial {search['best']['number']})" if search["best"] else ""),
        f"  time     {duration(search['used_seconds'])} worked, {duration(progress['eta_seconds'])} left",
    ]
    if search["reason"]:
        lines.append(f"  reason   {search['reason']}")
    winner = search["winner"]
    if winner:
        score = winner.get("score") or {"metric": "val_accuracy", **winner["val_accuracy"]}
        name = score["metric"].replace("val_", "test_")
        tested = f", {name} {figure(winner['test'][name])}" if winner.get("test") else ""
        reached = f"{score['metric']} {figure(score.get('mean'))} over {len(winner['seeds'])} seeds"
        lines.append(f"  winner   trial {winner['trial']}, {reached}{tested}")
        together = winner.get("ensemble")
        if together:
            lines.append(f"  ensemble of {len(together['members'])}, {name} {figure(together[name])}")
    return "\n".join(lines)


@click.group()
def search() -> None:
    """Start, watch and steer searches."""


@search.command()
@click.argument("file", type=click.File())
@click.option("--dry-run", is_flag=True, help="Only say what would be searched.")
@click.option("--watch", "watching", is_flag=True, help="Follow it until it ends.")
@click.option("--key", help="Idempotency key: the same again starts nothing new.")
@click.pass_context
def submit(context: click.Context, file: Any, dry_run: bool, watching: bool, key: str | None) -> None:
    """Start the search that FILE (JSON, - for stdin) asks for."""
    try:
        request = json.load(file)
    except ValueError as error:
        raise click.BadParameter(f"{file.name} is not JSON: {error}") from error
    with connect(context) as client:
        if dry_run:
            found = client.dry_run(request)
            parts = (outlook(found["outlook"]), steps_of(found), scores_of(found))
            show(context, found, "\n\n".join(filter(None, parts)))
            return
        started = client.submit(request, key=key)
    if not (watching and context.obj["json"]):
        show(context, started, f"search {started['id']} {started['state']}")
    if watching:
        context.invoke(watch, search_id=started["id"])


def steps_of(found: dict[str, Any]) -> str:
    """How long a candidate would train, as text."""
    steps, batch = found["steps"], found["request"]["recipe"]["batch_size"]
    if steps is None:
        return ""
    few = f"; that may be too few to learn anything: ask for smaller batches than {batch}, or more epochs"
    return f"a candidate takes {steps:,} steps of its optimiser{few if found['few_steps'] else ''}"


def scores_of(found: dict[str, Any]) -> str:
    """What zero-cost scores the default strategy would have, in a dry run, as text."""
    options = found["strategy"]
    if options["name"] != "auto":
        return ""
    if not found["zero_cost_scores"]:
        return "auto would have no zero-cost scores: they are for classification, and for longer trainings"
    return (
        f"auto would have the zero-cost scores of a pool of {options['pool']} networks, and of {options['scored']} "
        "more for each trial"
    )


def outlook(found: dict[str, Any]) -> str:
    """Size of a space, what its networks cost, and how many keep constraints and rules, as text."""
    size = found["size"]
    held = (
        f"{size['estimate']:,.0f} sets of decisions"
        if size["exact"]
        else f"about {size['estimate']:.2g} sets of decisions (95 %: {size['low']:.2g} to {size['high']:.2g})"
    )
    rows = [[name, figure(r["least"]), figure(r["median"]), figure(r["most"])] for name, r in found["costs"].items()]
    share = f"{found['feasible_share']:.0%} of {found['samples']} samples meet the constraints"
    rules = "".join(f"\n{kept:.0%} keep the rule {name}" for name, kept in found["rules"].items())
    return f"{held}; {share}{rules}\n\n{table(rows, ['cost', 'least', 'median', 'most'])}"


@search.command("ls")
@click.option("-n", "limit", default=20, show_default=True, help="How many.")
@click.pass_context
def ls(context: click.Context, limit: int) -> None:
    """List searches, newest first."""
    with connect(context) as client:
        found = [item for item, _ in zip(client.searches(), range(limit), strict=False)]
    rows = [
        [
            s["id"],
            s["name"],
            s["state"],
            f"{s['progress']['counted']}/{s['progress']['max_trials']}",
            best_of(s),
            duration(s["progress"]["eta_seconds"]),
        ]
        for s in found
    ]
    show(context, found, table(rows, ["id", "name", "state", "trials", "best", "left"]) if rows else "no searches yet")


@search.command("get")
@click.argument("search_id")
@click.pass_context
def get(context: click.Context, search_id: str) -> None:
    """Show one search."""
    with connect(context) as client:
        found = client.search(search_id)
    show(context, found, summary(found))


@search.command()
@click.argument("search_id")
@click.pass_context
def watch(context: click.Context, search_id: str) -> None:
    """Follow a search until it ends; exit code 1 unless it succeeds."""
    from nas_service.cli.watching import follow

    with connect(context) as client:
        ended = follow(
            client, search_id, plain=context.obj["json"] or not sys.stdout.isatty(), as_json=context.obj["json"]
        )
    click.echo(json.dumps(ended) if context.obj["json"] else summary(ended))  # as the events: one object a line
    sys.exit(0 if ended["state"] == "succeeded" else 1)


def _steering(action: str, text: str) -> click.Command:
    @search.command(action, help=text)
    @click.argument("search_id")
    @click.pass_context
    def command(context: click.Context, search_id: str) -> None:
        with connect(context) as client:
            found = client.steer(search_id, action)
        show(context, found, f"search {search_id} is {found['state']}")

    return command


@search.command("report")
@click.argument("search_id")
@click.pass_context
def report(context: click.Context, search_id: str) -> None:
    """Tell how much to believe of a search: baseline, noise, correlations, importance of decisions, cost."""
    with connect(context) as client:
        found = client.request("GET", f"/v1/searches/{search_id}/report")
        text = "" if context.obj["json"] else client.request("GET", f"/v1/searches/{search_id}/report.md")
    show(context, found, text)


pause = _steering("pause", "Pause a search; running candidates stop at their next epoch, nothing is lost.")
resume = _steering("resume", "Go on with a paused search.")
cancel = _steering("cancel", "End a search; what was found stays.")


@search.command()
@click.argument("search_id")
@click.confirmation_option(prompt="Delete the search with its trials, weights and exports?")
@click.pass_context
def rm(context: click.Context, search_id: str) -> None:
    """Delete a search that has ended."""
    with connect(context) as client:
        client.delete(search_id)


@click.group()
def trial() -> None:
    """Look at trials."""


@trial.command("ls")
@click.argument("search_id")
@click.option("--state", help="Only trials in this state.")
@click.pass_context
def trial_ls(context: click.Context, search_id: str, state: str | None) -> None:
    """List the trials of a search."""
    with connect(context) as client:
        found = list(client.trials(search_id, state))
        objectives = client.search(search_id)["request"]["objectives"]
    named = [o["metric"] for o in objectives if o["metric"].startswith("val_") and o["metric"] != "val_loss"]
    score = (named or ["val_accuracy"])[0]
    rows = []
    for t in found:
        metrics = t["metrics"]
        row = [
            t["number"],
            t["state"],
            t["epoch"],
            figure(metrics.get(score)),
            figure(metrics.get("params")),
            figure(metrics.get("macs")),
        ]
        rows.append([*row, duration(t["train_seconds"]), _note(t, search_id)[:80]])
    header = ["trial", "state", "epoch", score, "params", "macs", "trained", "note"]
    show(context, found, table(rows, header) if rows else "no trials yet")


def _note(t: Mapping[str, Any], search_id: str) -> str:
    """Why a trial ended as it did, where that is not the usual way."""
    if t["failure"]:
        return f"{t['failure']['kind']}: {t['failure']['message']}"
    if t["reused_from"]:
        source, number = t["reused_from"]
        return f"as trial {number}" + (f" of search {source}" if source != search_id else "")
    return t["reason"] or ""


@trial.command("get")
@click.argument("search_id")
@click.argument("number", type=int)
@click.option("--log", is_flag=True, help="Print what the candidate printed.")
@click.pass_context
def trial_get(context: click.Context, search_id: str, number: int, log: bool) -> None:
    """Show one trial."""
    with connect(context) as client:
        if log:
            click.echo(client.request("GET", f"/v1/searches/{search_id}/trials/{number}/logs"))
            return
        found = client.trial(search_id, number)
        found["measurements"] = client.request("GET", f"/v1/searches/{search_id}/trials/{number}/measurements")
    lines = [f"trial {number}  {found['state']}  architecture {found['fingerprint']}"]
    lines += [f"  {name:<28} {value}" for name, value in found["decisions"].items()]
    lines += [f"  {name:<28} {figure(value)}" for name, value in found["metrics"].items()]
    if found["failure"]:
        lines += ["", f"{found['failure']['kind']}: {found['failure']['message']}", found["failure"]["traceback"] or ""]
    show(context, found, "\n".join(lines))


@click.group()
def arch() -> None:
    """Look at architectures: FINGERPRINT, SEARCH/TRIAL, or the name of a reference."""


FINGERPRINT = re.compile("[0-9a-f]{64}")


def _fingerprint(client: Client, name: str) -> str:
    if "/" not in name:
        return name
    search_id, _, number = name.partition("/")
    if not number.isdigit():
        raise click.BadParameter(f"{name!r} is neither a fingerprint nor SEARCH/TRIAL")
    return str(client.trial(search_id, int(number))["fingerprint"])


@arch.command("show")
@click.argument("name")
@click.pass_context
def arch_show(context: click.Context, name: str) -> None:
    """Print nodes and costs; NAME may be that of a published network, such as resnet-50."""
    stored = "/" in name or FINGERPRINT.fullmatch(name)
    with connect(context) as client:
        path = f"/v1/architectures/{_fingerprint(client, name)}" if stored else f"/v1/references/{name}"
        found = client.request("GET", path)
    rows = []
    for number, node in enumerate(found["architecture"]["nodes"], 1):
        args = ", ".join(f"{key}={value}" for key, value in node["args"].items())
        rows.append([number, node["block"], ", ".join(map(str, node["inputs"])), args])
    costs = "   ".join(f"{key} {figure(value)}" for key, value in found["costs"].items())
    show(context, found, f"{found['fingerprint']}\n{costs}\n\n{table(rows, ['node', 'block', 'reads', 'arguments'])}")


@arch.command("add")
@click.argument("name")
@click.pass_context
def arch_add(context: click.Context, name: str) -> None:
    """Keep a published network by its NAME, or an architecture from a JSON file."""
    path = Path(name)
    with connect(context) as client:
        if path.suffix == ".json":
            given = json.loads(path.read_text())
            found = client.keep(architecture=given.get("architecture", given))
        else:
            found = client.keep(reference=name)
    show(context, found, _kept(found))


@arch.command("scale")
@click.argument("name")
@click.option("--phi", type=float, help="Compound scaling: depth, width and side to the power of this.")
@click.option("--alpha", type=float, help="Of depth; default 1.2.")
@click.option("--beta", type=float, help="Of width; default 1.1.")
@click.option("--gamma", type=float, help="Of the image's side; default 1.15.")
@click.option("--depth", type=float, help="Times the blocks.")
@click.option("--width", type=float, help="Times the channels.")
@click.option("--cells", type=int, help="Cells in a stack, with --filters.")
@click.option("--filters", type=int, help="Filters of the first stack, with --cells.")
@click.option("--stem", type=int, help="Channels of the stem, with --cells.")
@click.option("--skip-reductions", is_flag=True, default=None, help="With --cells: as the large NASNet.")
@click.option("--input", "shape", help="Channels, height, width of the images.")
@click.option("--classes", type=int, help="Number of labels.")
@click.pass_context
def arch_scale(context: click.Context, /, name: str, shape: str | None, **how: Any) -> None:
    """Make a larger or smaller network of the same design: its fingerprint and costs."""
    body = {key: value for key, value in how.items() if value is not None}
    if shape is not None:
        try:
            body["input_shape"] = [int(side) for side in shape.split(",")]
        except ValueError as error:
            raise click.BadParameter(f"--input {shape!r}; allowed: three numbers, as in 3,224,224") from error
    with connect(context) as client:
        found = client.scale(_fingerprint(client, name), **body)
    show(context, found, _kept(found))


def _kept(found: dict[str, Any]) -> str:
    """Fingerprint and costs of an architecture that was stored."""
    shape = "×".join(map(str, found["architecture"]["task"]["input_shape"]))
    costs = "   ".join(f"{key} {figure(value)}" for key, value in found["costs"].items())
    return f"{found['fingerprint']}\nimages {shape}   {costs}"


@arch.command("draw")
@click.argument("name")
@click.option("--format", "kind", type=click.Choice(["svg", "dot"]), default="svg", show_default=True)
@click.option("--to", type=click.Path(path_type=Path), help="File to write; default: stdout.")
@click.pass_context
def arch_draw(context: click.Context, name: str, kind: str, to: Path | None) -> None:
    """Draw the graph."""
    with connect(context) as client:
        text = client.request("GET", f"/v1/architectures/{_fingerprint(client, name)}/graph", params={"format": kind})
    _write(text, to)


@arch.command("code")
@click.argument("name")
@click.option("--to", type=click.Path(path_type=Path), help="File to write; default: stdout.")
@click.pass_context
def arch_code(context: click.Context, name: str, to: Path | None) -> None:
    """Print the stand-alone model.py."""
    with connect(context) as client:
        text = client.request("GET", f"/v1/architectures/{_fingerprint(client, name)}/code")
    _write(text, to)


def _write(text: str, to: Path | None) -> None:
    if to is None:
        click.echo(text, nl=not text.endswith("\n"))
    else:
        to.write_text(text)
        click.echo(f"wrote {to}")


@click.command()
@click.argument("search_id")
@click.option("--trial", "number", type=int, help="A trial; default: the winner.")
@click.option("--to", type=click.Path(path_type=Path), help="Folder; default ./SEARCH_ID.")
@click.pass_context
def export(context: click.Context, search_id: str, number: int | None, to: Path | None) -> None:
    """Pack a network and download it: model.py, weights, ONNX, card, certificate."""
    folder = to or Path(search_id)
    with connect(context) as client:
        made = client.export(search_id, number)
        files = client.download(made["id"], folder)
    text = "\n".join(
        [*(f"  {path}  ({path.stat().st_size:,} bytes)" for path in files), f"check it: cd {folder} && python check.py"]
    )
    show(context, {**made, "folder": str(folder)}, text)


COMMANDS = (search, trial, arch, export)
