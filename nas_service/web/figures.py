"""The figures of a search, as data for plotly.js: best so far, learning curves, the bubble chart, the controller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from nas_service.database.tables import Finalist, Measurement, Search, StrategyUpdate, Trial
from nas_service.search.ranking import losses, pareto_front
from nas_service.search.status import objectives_of
from nas_service.strategies.protocol import Objective

INK, BLUE, GREEN, AMBER, RED, GREY = "#334155", "#2563eb", "#059669", "#d97706", "#dc2626", "#94a3b8"
COLOURS = {"completed": BLUE, "pruned": GREY, "failed": RED, "infeasible": AMBER, "running": GREEN}
CURVES = 60
"""Learning curves drawn: the best ones and the newest."""
NAMES = {
    "val_accuracy": "validation accuracy",
    "val_loss": "validation loss",
    "macs": "multiply-accumulates",
    "params": "parameters",
    "latency_ms": "latency [ms]",
    "memory_mb": "memory [MiB]",
    "train_seconds": "training time [s]",
}
LARGEST_BUBBLE = 46
"""Diameter in pixels of the network with most parameters."""

Figure = dict[str, Any]


def figures(session: Session, search: Search) -> dict[str, Figure]:
    """Every figure that there is data for."""
    trials = list(session.scalars(sa.select(Trial).where(Trial.search_id == search.id).order_by(Trial.number)))
    objectives = objectives_of(search)
    found = {
        "best": best_so_far(trials, objectives),
        "bubbles": bubbles(trials, objectives),
        "curves": curves(session, search, trials),
        "finalists": finalists(session, search),
        "controller": controller(session, search),
    }
    return {name: figure for name, figure in found.items() if figure["data"]}


def _title(metric: str) -> str:
    return NAMES.get(metric, metric.replace("_", " "))


def _figure(data: list[dict[str, Any]], x: str, y: str, **layout: Any) -> Figure:
    axes = {"xaxis": {"title": {"text": x}, "automargin": True}, "yaxis": {"title": {"text": y}, "automargin": True}}
    return {"data": data, "layout": {**axes, **layout}}


def best_so_far(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Figure:
    """Each result in the order of the results, and the best so far as a step line."""
    objective = objectives[0]
    done = sorted((t for t in trials if t.observed_as and t.values and t.state in ("completed", "pruned")), key=lambda t: t.observed_as or 0)
    points = [(t.observed_as or 0, t.values[0], t) for t in done if t.values]
    data: list[dict[str, Any]] = []
    for state in ("completed", "pruned"):
        chosen = [point for point in points if point[2].state == state]
        if chosen:
            data.append(
                {
                    "type": "scatter", "mode": "markers", "name": state,
                    "x": [p[0] for p in chosen], "y": [p[1] for p in chosen], "customdata": [p[2].number for p in chosen],
                    "hovertemplate": "trial %{customdata}<br>%{y:.4f}<extra></extra>",
                    "marker": {"color": COLOURS[state], "size": 7, "opacity": 0.75 if state == "completed" else 0.45},
                }
            )  # fmt: skip
    best, line = None, []
    for order, value, trial in points:
        better = best is None or (value > best if objective.direction == "maximize" else value < best)
        feasible = not any(violation > 0 for violation in trial.violations or ())
        if trial.state == "completed" and better and feasible:
            best = value
        if best is not None:
            line.append((order, best))
    if line:
        data.append(
            {
                "type": "scatter", "mode": "lines", "name": "best so far", "x": [p[0] for p in line], "y": [p[1] for p in line],
                "line": {"shape": "hv", "color": GREEN, "width": 2.5}, "hoverinfo": "skip",
            }
        )  # fmt: skip
    return _figure(data, "result", _title(objective.metric))


def bubbles(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Figure:
    """Accuracy over MACs (or latency, when it is an objective); the area of a bubble is proportional to the parameters.

    The figure of Canziani, Paszke and Culurciello, arXiv 1605.07678, with the Pareto front drawn.
    """
    across = "latency_ms" if any(o.metric == "latency_ms" for o in objectives) else "macs"
    shown = [t for t in trials if t.state == "completed" and "val_accuracy" in t.metrics and t.metrics.get(across) is not None]
    if not shown:
        return _figure([], "", "")
    most = max(t.metrics["params"] for t in shown)
    points = [(float(t.metrics[across]), -float(t.metrics["val_accuracy"])) for t in shown]
    front = sorted((points[i] for i in pareto_front(points)), key=lambda p: p[0])
    data: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "markers", "name": "completed trials",
            "x": [p[0] for p in points], "y": [-p[1] for p in points],
            "customdata": [[t.number, t.metrics["params"]] for t in shown],
            "hovertemplate": "trial %{customdata[0]}<br>accuracy %{y:.4f}<br>" + _title(across) + " %{x:.4s}"
            "<br>parameters %{customdata[1]:.4s}<extra></extra>",
            "marker": {
                "size": [t.metrics["params"] for t in shown], "sizemode": "area", "sizeref": 2 * most / LARGEST_BUBBLE**2, "sizemin": 3,
                "color": BLUE, "opacity": 0.45, "line": {"color": BLUE, "width": 1},
            },
        },
        {
            "type": "scatter", "mode": "lines", "name": "Pareto front", "x": [p[0] for p in front], "y": [-p[1] for p in front],
            "line": {"shape": "hv", "color": GREEN, "width": 2, "dash": "dot"}, "hoverinfo": "skip",
        },
    ]  # fmt: skip
    return _figure(data, _title(across), "validation accuracy")


def curves(session: Session, search: Search, trials: Sequence[Trial]) -> Figure:
    """Validation accuracy by epoch of the best and the newest trials."""
    objectives = objectives_of(search)
    ranked = sorted((t for t in trials if t.values and t.epoch), key=lambda t: losses(t.values or (), objectives))
    newest = [t for t in reversed(trials) if t.epoch][: CURVES // 2]
    chosen = {t.number: t for t in [*ranked[: CURVES // 2], *newest]}
    query = sa.select(Measurement).where(Measurement.search_id == search.id, Measurement.number.in_(chosen)).order_by(Measurement.epoch)
    points: dict[int, list[tuple[int, float]]] = {}
    for row in session.scalars(query):
        if "val_accuracy" in row.metrics:
            points.setdefault(row.number, []).append((row.epoch, row.metrics["val_accuracy"]))
    best = ranked[0].number if ranked else None
    data = [
        {
            "type": "scatter", "mode": "lines+markers", "name": f"trial {number}", "showlegend": False,
            "x": [p[0] for p in line], "y": [p[1] for p in line], "marker": {"size": 4},
            "line": {"color": GREEN if number == best else COLOURS.get(chosen[number].state, GREY), "width": 3 if number == best else 1},
            "opacity": 1 if number == best or chosen[number].state == "running" else 0.5,
            "hovertemplate": f"trial {number}<br>epoch %{{x}}<br>%{{y:.4f}}<extra></extra>",
        }
        for number, line in sorted(points.items())
    ]  # fmt: skip
    return _figure(data, "epoch", "validation accuracy")


def finalists(session: Session, search: Search) -> Figure:
    """Validation accuracy by epoch of the full trainings."""
    query = sa.select(Finalist).where(Finalist.search_id == search.id).order_by(Finalist.number, Finalist.seed)
    rows = [row for row in session.scalars(query) if row.curve]
    numbers = sorted({row.number for row in rows})
    palette = (BLUE, AMBER, GREEN, RED, "#7c3aed", "#0891b2")
    data = [
        {
            "type": "scatter", "mode": "lines", "name": f"trial {row.number}, seed {row.seed}",
            "x": [p["epoch"] for p in row.curve], "y": [p.get("val_accuracy") for p in row.curve],
            "line": {"color": palette[numbers.index(row.number) % len(palette)], "width": 1.8},
            "hovertemplate": f"trial {row.number}, seed {row.seed}<br>epoch %{{x}}<br>%{{y:.4f}}<extra></extra>",
        }
        for row in rows
    ]  # fmt: skip
    return _figure(data, "epoch", "validation accuracy")


def controller(session: Session, search: Search) -> Figure:
    """Reward, baseline and entropy of the controller by update."""
    query = sa.select(StrategyUpdate).where(StrategyUpdate.search_id == search.id).order_by(StrategyUpdate.observed_as)
    rows = list(session.scalars(query))
    series = (("reward", BLUE, "y"), ("baseline", INK, "y"), ("entropy", AMBER, "y2"))
    data = []
    for name, colour, axis in series:
        points = [(row.observed_as, row.figures[name]) for row in rows if row.figures.get(name) is not None]
        if points:
            mode = "markers" if name == "reward" else "lines"
            trace = {"type": "scatter", "mode": mode, "name": name, "x": [p[0] for p in points], "y": [p[1] for p in points], "yaxis": axis}
            data.append({**trace, "line": {"color": colour, "width": 2}, "marker": {"color": colour, "size": 5, "opacity": 0.6}})
    second = {"overlaying": "y", "side": "right", "title": {"text": "entropy [nats]"}, "showgrid": False, "automargin": True}
    return _figure(data, "update", "reward, baseline", yaxis2=second)
