"""``nas space``, ``nas strategy``, ``nas recipe``, ``nas dataset``, ``nas token``: what there is."""

from __future__ import annotations

import json
from typing import Any

import click

from nas_service.cli.searches import connect, figure, outlook, show, table
from workers.scores import METRICS

task_option = click.option(
    "--task",
    type=click.Choice(list(METRICS)),
    default="classification",
    show_default=True,
    help="What the networks are for.",
)


@click.group()
def space() -> None:
    """Look at search spaces."""


@space.command("ls")
@click.pass_context
def space_ls(context: click.Context) -> None:
    """List search spaces."""
    with connect(context) as client:
        found = client.request("GET", "/v1/spaces")
    show(context, found, table([[s["name"], s["summary"]] for s in found], ["space", "what it holds"]))


@space.command("show")
@click.argument("name")
@click.option("--input", "shape", default="1,28,28", show_default=True, help="Channels, height, width.")
@click.option("--classes", default=10, show_default=True)
@task_option
@click.pass_context
def space_show(context: click.Context, name: str, shape: str, classes: int, task: str) -> None:
    """Show the options of a space; with their defaults its decisions, its size and what its networks cost."""
    with connect(context) as client:
        params = {"input_shape": shape, "classes": classes, "task": task}
        found = client.request("GET", f"/v1/spaces/{name}", params=params)
    decisions = table(
        [[d["name"], ", ".join(map(str, d["options"])), f"{d['asked']:.0%}"] for d in found["decisions"]],
        ["decision", "options", "asked"],
    )
    parts = [f"{found['summary']}\n{found['source']}", _options(found["options"]), decisions]
    show(context, found, "\n\n".join([*parts, outlook(found["outlook"])]))


def _options(schema: dict[str, Any]) -> str:
    rows = [
        [key, json.dumps(field.get("default")) if "default" in field else "required", field.get("description", "")]
        for key, field in schema.get("properties", {}).items()
    ]
    return table(rows, ["option", "default", "meaning"]) if rows else "no options"


@space.command("sample")
@click.argument("name")
@click.option("-n", "count", default=3, show_default=True, help="How many.")
@click.option("--seed", default=0, show_default=True)
@click.option("--input", "shape", default="1,28,28", show_default=True, help="Channels, height, width.")
@click.option("--classes", default=10, show_default=True)
@task_option
@click.option("--options", default="{}", help="Options of the space, as JSON.")
@click.pass_context
def space_sample(
    context: click.Context, name: str, count: int, seed: int, shape: str, classes: int, task: str, options: str
) -> None:
    """Draw architectures of a space at random."""
    try:
        body = {
            "count": count,
            "seed": seed,
            "classes": classes,
            "task": task,
            "input_shape": [int(n) for n in shape.split(",")],
            "options": json.loads(options),
        }
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    with connect(context) as client:
        found = client.request("POST", f"/v1/spaces/{name}/samples", body=body)
    parts = []
    for drawn in found["samples"]:
        costs = "  ".join(f"{key} {figure(value)}" for key, value in drawn["costs"].items())
        decisions = "\n".join(f"  {key:<28} {value}" for key, value in drawn["decisions"].items())
        parts.append(f"{drawn['fingerprint'][:12]}  {costs}\n{decisions}")
    show(context, found, "\n\n".join(parts))


@click.group()
def rule() -> None:
    """Look at design rules."""


@rule.command("ls")
@click.pass_context
def rule_ls(context: click.Context) -> None:
    """List the design rules that a search can keep to."""
    with connect(context) as client:
        found = client.request("GET", "/v1/rules")
    rows = [[r["name"], r["summary"], r["source"]] for r in found]
    show(context, found, table(rows, ["rule", "what it asks", "source"]))


@click.group()
def strategy() -> None:
    """Look at search strategies."""


@strategy.command("ls")
@click.pass_context
def strategy_ls(context: click.Context) -> None:
    """List strategies."""
    with connect(context) as client:
        found = client.request("GET", "/v1/strategies")
    show(context, found, table([[s["name"], s["summary"]] for s in found], ["strategy", "how it searches"]))


@strategy.command("show")
@click.argument("name")
@click.pass_context
def strategy_show(context: click.Context, name: str) -> None:
    """Show the options of a strategy."""
    with connect(context) as client:
        found = client.request("GET", f"/v1/strategies/{name}")
    show(context, found, f"{found['summary']}\n{found['source']}\n\n{_options(found['options'])}")


@click.group()
def recipe() -> None:
    """Look at published training recipes."""


@recipe.command("ls")
@click.pass_context
def recipe_ls(context: click.Context) -> None:
    """List recipes."""
    with connect(context) as client:
        found = client.request("GET", "/v1/recipes")
    show(context, found, table([[r["name"], r["summary"]] for r in found], ["recipe", "how it trains"]))


@recipe.command("show")
@click.argument("name")
@click.pass_context
def recipe_show(context: click.Context, name: str) -> None:
    """Show what a recipe sets; a request's {"recipe": {"name": NAME}} starts from it."""
    with connect(context) as client:
        found = client.request("GET", f"/v1/recipes/{name}")
    options = table([[key, json.dumps(value)] for key, value in found["options"].items()], ["option", "value"])
    text = f"{found['summary']}\n{found['source']}\n\n{options}"
    show(context, found, f"{text}\n\n{found['notes']}" if found["notes"] else text)


READ_SECONDS = 3600.0
"""How long the server may take to read data sets: ten thousand photos of a camera take minutes."""


@click.group()
def dataset() -> None:
    """Look at data sets, register your own."""


@dataset.command("ls")
@click.pass_context
def dataset_ls(context: click.Context) -> None:
    """List data sets."""
    with connect(context) as client:
        found = client.request("GET", "/v1/datasets", timeout_seconds=READ_SECONDS)
    rows = []
    for d in found:
        info = d["info"] or {}
        shape = "×".join(map(str, info.get("input_shape", [])))
        rows.append(
            [
                d["name"],
                info.get("task"),
                shape,
                info.get("classes"),
                info.get("train"),
                info.get("test"),
                d["problem"] or d["source"]["path"],
            ]
        )
    show(context, found, table(rows, ["data set", "task", "image", "classes", "train", "test", "where"]))


@dataset.command("add")
@click.argument("name")
@click.argument("kind", type=click.Choice(["npz", "folder", "idx", "cifar10", "cifar100", "masks", "scenes"]))
@click.argument("path")
@click.option("--size", type=int, help="For a folder of photos of any size: bring them to so many pixels a side.")
@click.pass_context
def dataset_add(context: click.Context, name: str, kind: str, path: str, size: int | None) -> None:
    """Register files that lie inside the server's data folders; for scenes PATH is what to draw, as JSON."""
    try:
        place: dict[str, Any] = {"scenes": json.loads(path)} if kind == "scenes" else {"path": path}
    except ValueError as error:
        raise click.BadParameter(f"{path!r} is no JSON: {error}", param_hint="PATH") from error
    if size is not None:
        place["size"] = size
    with connect(context) as client:
        found = client.request(
            "POST", "/v1/datasets", body={"name": name, "format": kind, **place}, timeout_seconds=READ_SECONDS
        )
    info = found["info"]
    shape = "×".join(map(str, info["input_shape"]))
    text = f"data set {name}: {info['train']} + {info['test']} images of {shape}, {info['classes']} classes"
    text += f", for {info['task']}"
    show(context, found, text)


@dataset.command("rm")
@click.argument("name")
@click.pass_context
def dataset_rm(context: click.Context, name: str) -> None:
    """Forget a registered data set; its files stay."""
    with connect(context) as client:
        client.request("DELETE", f"/v1/datasets/{name}")


@click.group()
def token() -> None:
    """Manage access tokens."""


@token.command("ls")
@click.pass_context
def token_ls(context: click.Context) -> None:
    """List tokens; their texts are never stored."""
    with connect(context) as client:
        found = client.request("GET", "/v1/tokens")
    rows = [[t["id"], t["name"], t["role"], t["created_at"], t["revoked_at"]] for t in found]
    show(context, found, table(rows, ["id", "name", "role", "made", "revoked"]))


@token.command("add")
@click.argument("name")
@click.argument("role", type=click.Choice(["viewer", "runner", "admin"]))
@click.pass_context
def token_add(context: click.Context, name: str, role: str) -> None:
    """Make a token; its text is shown this once."""
    with connect(context) as client:
        found = client.request("POST", "/v1/tokens", body={"name": name, "role": role})
    show(context, found, found["token"])


@token.command("rm")
@click.argument("token_id")
@click.pass_context
def token_rm(context: click.Context, token_id: str) -> None:
    """Refuse a token from now on."""
    with connect(context) as client:
        client.request("DELETE", f"/v1/tokens/{token_id}")


COMMANDS = (space, rule, strategy, recipe, dataset, token)
