"""``nas serve``, ``nas migrate``, ``nas doctor``: commands of whoever runs the server."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import click


@click.command()
@click.option("--host", help="Address to listen on; default 127.0.0.1.")
@click.option("--port", type=int, help="Port of API and pages; default 8000, 0: any free one.")
@click.option("--optuna-port", type=int, help="Port of Optuna's dashboard; default 8001, 0: any free one.")
@click.option("--data", "data_dir", type=click.Path(path_type=Path), help="Data folder; default ./nas-data.")
@click.option("--database", "database_url", help="SQLAlchemy URL; default: SQLite in the data folder.")
@click.option("--executor", type=click.Choice(["ray", "inline"]), help="inline trains without Ray, for debugging.")
@click.option("--insecure-loopback", is_flag=True, default=None, help="Ask for no token; only on a loopback address.")
@click.option("--allow-drill", is_flag=True, default=None, help="Allow the drill evaluator, which rehearses failures.")
def serve(**options: Any) -> None:
    """Run the server, a Ray head of its own, and both dashboards."""
    from nas_service.app import serve as run
    from nas_service.settings import load_settings

    run(load_settings(**options))


@click.command()
@click.option("--data", "data_dir", type=click.Path(path_type=Path), help="Data folder.")
@click.option("--database", "database_url", help="SQLAlchemy URL.")
def migrate(**options: Any) -> None:
    """Bring the database to this version's schema, and make the first token. The server does it too when it starts."""
    from nas_service.api.auth import first_token
    from nas_service.database.schema import migrate as run
    from nas_service.database.session import Database
    from nas_service.settings import load_settings

    settings = load_settings(**options)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.url)
    before, after = run(database)
    database.check()
    click.echo(f"schema {before or 'none'} -> {after}; token in {first_token(database, settings)}")


@click.command()
@click.pass_context
def doctor(context: click.Context) -> None:
    """Check this machine and the server: versions, GPUs, disk, data sets, Ray. Exits with 1 when something is wrong."""
    findings = [*_machine(), *_server(context.obj)]
    wrong = [finding for finding in findings if finding["state"] == "wrong"]
    if context.obj["json"]:
        click.echo(json.dumps({"findings": findings, "ok": not wrong}, indent=2))
    else:
        marks = {
            "fine": click.style("✓", fg="green"),
            "note": click.style("·", fg="yellow"),
            "wrong": click.style("✗", fg="red"),
        }
        for finding in findings:
            click.echo(f" {marks[finding['state']]} {finding['what']:<16} {finding['found']}")
    sys.exit(1 if wrong else 0)


def _finding(state: str, what: str, found: str) -> dict[str, str]:
    return {"state": state, "what": what, "found": found}


def _machine() -> list[dict[str, str]]:
    import os
    import platform
    from importlib.metadata import version

    import torch

    free = shutil.disk_usage(Path.cwd()).free / 2**30
    shm = shutil.disk_usage("/dev/shm").total / 2**20 if Path("/dev/shm").exists() else 0
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "ray", "optuna", "fastapi", "sqlalchemy"))
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [
        _finding("fine", "python", f"{platform.python_version()} on {platform.platform()}"),
        _finding("fine", "packages", packages),
        _finding("fine", "processors", f"{os.cpu_count()} CPUs"),
        _finding("fine" if gpus else "note", "GPUs", ", ".join(gpus) or "none: candidates train on CPUs"),
        _finding("fine" if free > 2 else "wrong", "disk", f"{free:.1f} GiB free here"),
        _finding("fine" if shm >= 256 else "wrong", "/dev/shm", f"{shm:.0f} MiB; Ray needs at least 256"),
        _finding("fine" if shutil.which("dot") else "note", "graphviz", shutil.which("dot") or "not installed"),
    ]


def _server(options: dict[str, Any]) -> list[dict[str, str]]:
    from nas_service.client import ApiError, Client, Unreachable

    with Client(options["url"], options["token"]) as client:
        try:
            version = client.request("GET", "/healthz")["version"]
        except Unreachable as error:
            return [_finding("note", "server", f"{error}; start one with: nas serve")]
        found = [_finding("fine", "server", f"{client.url}, version {version}")]
        try:
            client.request("GET", "/readyz")
        except ApiError as error:
            found.append(_finding("wrong", "ready", error.detail))
        try:
            datasets = client.request("GET", "/v1/datasets")
            cluster = client.request("GET", "/v1/cluster")
        except ApiError as error:
            return [*found, _finding("wrong", "token", error.detail)]
    for dataset in datasets:
        state = "wrong" if dataset["problem"] else "fine"
        size = (
            f"{dataset['info']['train']} + {dataset['info']['test']} images" if dataset["info"] else dataset["problem"]
        )
        found.append(_finding(state, "data set", f"{dataset['name']}: {size}"))
    found.append(
        _finding(
            "wrong" if cluster.get("problem") else "fine",
            "cluster",
            cluster.get("problem") or f"{cluster['executor']}, {len(cluster['nodes'])} nodes",
        )
    )
    return found


COMMANDS = (serve, migrate, doctor)
