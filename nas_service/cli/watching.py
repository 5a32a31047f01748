"""Following a search: a live progress bar in a terminal, one line a result elsewhere."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from nas_service.cli.searches import best_of, duration, figure
from nas_service.client import Client

TOLD = ("trial_", "finalist_completed", "finalist_failed", "stage", "search_", "reason", "test_evaluated")


def follow(client: Client, search_id: str, *, plain: bool, as_json: bool = False) -> dict[str, Any]:
    """Print what happens until the search has ended; the search."""
    if plain:
        for event in client.events(search_id):
            if as_json:
                click.echo(json.dumps(event))
            elif event["event"].startswith(TOLD) and event["event"] not in ("trial_proposed", "trial_started"):
                click.echo(_line(event))
    else:
        _with_bar(client, search_id)
    return client.search(search_id)


def _with_bar(client: Client, search_id: str) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(30),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(search_id, total=1.0, note="")
        for event in client.events(search_id):
            if event["event"] == "epoch":
                continue
            search = client.search(search_id)
            progress = search["progress"]
            trials = f"{progress['counted']}/{progress['max_trials']} trials"
            note = f"{trials} · best {best_of(search)} · {duration(progress['eta_seconds'])} left"
            title = f"{search['name']} {search['state']}"
            bar.update(task, completed=progress["fraction"], description=title, note=note)


def _line(event: dict[str, Any]) -> str:
    """One event as a line: time, what, where, figures."""
    skip = {"id", "event", "at"}
    values = {key: value for key, value in event.items() if key not in skip and value is not None}
    shown = "  ".join(
        f"{key} {', '.join(map(figure, value)) if isinstance(value, list) else figure(value)}"
        for key, value in values.items()
    )
    return f"{str(event['at'])[11:19]}  {event['event'].replace('_', ' '):<20} {shown}"
