"""The figures of a search and of a trial, as data for plotly.js."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from nas_service.database.tables import Finalist, Measurement, Search, StrategyUpdate, Trial
from nas_service.search.ranking import pareto_front
from nas_service.search.request import SCORES
from nas_service.search.status import objectives_of, score_of
from nas_service.strategies.merit import feasible, turned
from nas_service.strategies.protocol import Objective

BLUE, GREEN, AMBER, RED, GREY = "#3b82f6", "#059669", "#d97706", "#dc2626", "#94a3b8"
PALETTE = (BLUE, AMBER, GREEN, RED, "#7c3aed", "#0891b2")
COLOURS = {"completed": BLUE, "pruned": GREY, "failed": RED, "infeasible": AMBER, "running": GREEN}
SHOWN = ("completed", "pruned")
"""States of trials that have a value."""
FEW = 12
"""Completed trials below which none is too bad to be drawn to scale."""
CURVES = 60
"""Learning curves drawn: the best ones and the newest."""
NAMES = {
    "train_accuracy": "training accuracy",
    "train_loss": "training loss",
    "lr": "learning rate",
    "seconds": "time of the last epoch [s]",
    "depth": "depth [layers]",
    "val_accuracy": "validation accuracy",
    "val_miou": "validation mean IoU",
    "val_pixel_accuracy": "validation pixel accuracy",
    "val_accuracy_at_iou50": "validation accuracy at IoU 0.5",
    "val_iou": "validation IoU of boxes",
    "train_miou": "training mean IoU",
    "train_pixel_accuracy": "training pixel accuracy",
    "train_accuracy_at_iou50": "training accuracy at IoU 0.5",
    "train_iou": "training IoU of boxes",
    "test_miou": "test mean IoU",
    "test_accuracy_at_iou50": "test accuracy at IoU 0.5",
    "test_iou": "test IoU of boxes",
    "val_loss": "validation loss",
    "macs": "MACs",
    "params": "parameters",
    "latency_ms": "latency [ms]",
    "memory_mb": "memory [MB]",
    "train_seconds": "training time [s]",
}
MAX_LEGEND = 6
"""Full trainings that a legend lists."""
LARGEST_BUBBLE = 46
"""Diameter in pixels of the network with most parameters."""

BARS = 20
"""Networks in a bar chart: those with the longest bars."""

Trace = dict[str, Any]
Figure = dict[str, Any]


def figures(session: Session, search: Search) -> dict[str, Figure]:
    """Every figure that there is data for."""
    trials = list(session.scalars(sa.select(Trial).where(Trial.search_id == search.id).order_by(Trial.number)))
    objectives, score = objectives_of(search), score_of(search, trials)
    found = {
        "best": best_so_far(trials, objectives),
        "bubbles": bubbles(trials, objectives, score),
        "memory": bubbles(trials, objectives, score, area="memory_mb"),
        "networks": bars(trials, score),
        "density": bars(trials, score, per_million_parameters=True),
        "curves": curves(session, search, trials, score),
        "finalists": finalists(session, search, score),
        "learned": learned(session, search),
    }
    return {name: figure for name, figure in found.items() if figure["data"]}


def metric_title(metric: str) -> str:
    """What people call a metric, with its unit."""
    return NAMES.get(metric, metric.replace("_", " "))


def chart(data: list[Trace], x: str, y: str, **layout: Any) -> Figure:
    """Traces with titled axes; ``layout`` adds to plotly's layout, and to its axes where it names them."""
    for trace in data:
        trace.setdefault("cliponaxis", False)  # a marker at accuracy 1 is drawn whole, though the axis ends there
    axes = {"xaxis": {"title": {"text": x}, "automargin": True}, "yaxis": {"title": {"text": y}, "automargin": True}}
    for name in axes:
        axes[name].update(layout.pop(name, {}))
    return {"data": data, "layout": {**axes, **layout}}


def _scatter(mode: str, name: str, points: Iterable[tuple[float, float]], **more: Any) -> Trace:
    """A trace through (x, y) points."""
    across, up = [], []
    for x, y in points:
        across.append(x)
        up.append(y)
    return {"type": "scatter", "mode": mode, "name": name, "x": across, "y": up, **more}


def _counted(last: float) -> dict[str, Any]:
    """An axis of whole numbers from 1 to ``last``: no tick between two epochs, nor between two results."""
    room = 0.04 * max(last - 1, 5)
    return {"range": [1 - room, last + room], **({"dtick": 1} if last <= 10 else {})}


def _measured(metric: str, values: Sequence[float]) -> dict[str, Any]:
    """An axis around ``values``; a score's stays within [0, 1]."""
    if not values:
        return {}
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    if metric in SCORES or metric.endswith("accuracy"):
        return {"range": [max(0.0, low - room), min(1.0, high + room)]}
    return {"range": [low - room, high + room]}


def best_so_far(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Figure:
    """Each result in the order of the results, and the best so far as a step line.

    The axis is about the better results: what is far worse than three quarters of the completed trials
    lies on its edge as a triangle, with its value in the label.
    """
    objective = objectives[0]
    points = sorted(
        ((t.observed_as, t.values[0], t) for t in trials if t.observed_as and t.values and t.state in SHOWN),
        key=lambda point: point[0],
    )
    if not points:
        return chart([], "", "")
    sign = 1 if objective.direction == "maximize" else -1
    completed = [value for _, value, trial in points if trial.state == "completed"]
    edge = sign * _edge([sign * value for value in completed or [value for _, value, _ in points]])
    data = []
    for state in SHOWN:
        chosen = [point for point in points if point[2].state == state]
        inside = [point for point in chosen if sign * point[1] >= sign * edge]
        beyond = [point for point in chosen if sign * point[1] < sign * edge]
        data += [_results(state, inside), _results(state, beyond, edge, "triangle-down" if sign > 0 else "triangle-up")]
    data = [trace for trace in data if trace["x"]]
    line = _best_line(points, sign)
    if line:
        style = {"shape": "hv", "color": GREEN, "width": 2.5}
        data.append(_scatter("lines", "best so far", line, line=style, hoverinfo="skip"))
    up = _measured(objective.metric, [value for trace in data if trace["mode"] == "markers" for value in trace["y"]])
    return chart(data, "result", metric_title(objective.metric), xaxis=_counted(points[-1][0]), yaxis=up)


def _results(
    state: str, points: Sequence[tuple[int, float, Trial]], at: float | None = None, symbol: str = ""
) -> Trace:
    """Results as markers, all of them at the height ``at`` where it is given."""
    look = {"color": COLOURS[state], "size": 7, "opacity": 0.75 if state == "completed" else 0.5}
    return _scatter(
        "markers",
        state,
        [(order, value if at is None else at) for order, value, _ in points],
        marker={**look, "symbol": symbol or "circle"},
        showlegend=at is None,
        customdata=[[trial.number, value] for _, value, trial in points],
        hovertemplate="trial %{customdata[0]}<br>%{customdata[1]:.4f}<extra></extra>",
    )


def _edge(values: Sequence[float]) -> float:
    """Least value that is drawn to scale, greater being better: a quarter of the span below the lower quartile."""
    ordered = sorted(values)
    quartile, best = ordered[len(ordered) // 4 if len(ordered) >= FEW else 0], ordered[-1]
    return quartile - max(0.25 * (best - quartile), 0.05 * abs(best))


def _best_line(points: Sequence[tuple[int, float, Trial]], sign: int) -> list[tuple[float, float]]:
    """(result, best value of a feasible completed trial up to it); ``sign`` is -1 where less is better."""
    best: float | None = None
    line: list[tuple[float, float]] = []
    for order, value, trial in points:
        if trial.state == "completed" and feasible(trial.violations) and (best is None or sign * value > sign * best):
            best = value
        if best is not None:
            line.append((order, best))
    return line


def bubbles(
    trials: Sequence[Trial], objectives: Sequence[Objective], score: str = "val_accuracy", area: str = "params"
) -> Figure:
    """The score over MACs (or latency, when it is an objective); a bubble's area is proportional to a cost.

    The figure of Canziani, Paszke and Culurciello, arXiv 1605.07678, with the Pareto front drawn.
    """
    across = "latency_ms" if any(o.metric == "latency_ms" for o in objectives) else "macs"
    needed = (across, score, area)
    shown = [t for t in trials if t.state == "completed" and all(t.metrics.get(name) is not None for name in needed)]
    if not shown:
        return chart([], "", "")
    sizes = [t.metrics[area] for t in shown]
    points = [(float(t.metrics[across]), float(t.metrics[score])) for t in shown]
    front = sorted(points[i] for i in pareto_front([(cost, -accuracy) for cost, accuracy in points]))
    bubble = {
        "size": sizes,
        "sizemode": "area",
        "sizeref": 2 * max(sizes) / LARGEST_BUBBLE**2,
        "sizemin": 3,
        "color": BLUE,
        "opacity": 0.45,
        "line": {"color": BLUE, "width": 1},
    }
    label = (
        f"trial %{{customdata[0]}}<br>{metric_title(score)} %{{y:.4f}}<br>{metric_title(across)} %{{x:.4s}}"
        f"<br>{metric_title(area)} %{{customdata[1]:.4s}}<extra></extra>"
    )
    told = [[t.number, t.metrics[area]] for t in shown]
    dotted = {"shape": "hv", "color": GREEN, "width": 2, "dash": "dot"}
    data = [
        _scatter("markers", "completed trials", points, marker=bubble, customdata=told, hovertemplate=label),
        _scatter("lines+markers", "Pareto front", front, marker={"size": 5}, line=dotted, hoverinfo="skip"),
    ]
    up = _measured(score, [value for _, value in points])
    return chart(data, metric_title(across), metric_title(score), yaxis=up)


def bars(trials: Sequence[Trial], score: str = "val_accuracy", per_million_parameters: bool = False) -> Figure:
    """The score of the best networks, or their density: the score for each million parameters, the greatest first.

    Density is the information density of Canziani, Paszke and Culurciello, arXiv 1605.07678: how well a network uses
    its parameters. Small networks lead; what they score stands in the label.
    """
    found = []
    for trial in trials:
        value, params = trial.metrics.get(score), trial.metrics.get("params")
        if trial.state == "completed" and value is not None and params:
            found.append((value / (params / 1e6) if per_million_parameters else value, trial.number, value, params))
    found = sorted(found, key=lambda row: (-row[0], row[1]))[:BARS]
    if not found:
        return chart([], "", "")
    title = metric_title(score)
    trace = {
        "type": "bar",
        "name": title,
        "x": [str(number) for _, number, _, _ in found],
        "y": [height for height, _, _, _ in found],
        "marker": {"color": BLUE, "opacity": 0.75},
        "customdata": [[value, params] for _, _, value, params in found],
        "hovertemplate": f"trial %{{x}}<br>%{{y:.4f}}<br>{title} %{{customdata[0]:.4f}}"
        "<br>parameters %{customdata[1]:.4s}<extra></extra>",
    }
    up = f"{title} / M parameters" if per_million_parameters else title
    return chart([trace], "trial", up, xaxis={"type": "category"}, yaxis={"rangemode": "tozero"})


def curves(session: Session, search: Search, trials: Sequence[Trial], score: str = "val_accuracy") -> Figure:
    """The score by epoch of the best and the newest trials."""
    objectives = objectives_of(search)
    ranked = sorted((t for t in trials if t.values and t.epoch), key=lambda t: turned(t.values or (), objectives))
    newest = [t for t in reversed(trials) if t.epoch][: CURVES // 2]
    chosen = {t.number: t for t in [*ranked[: CURVES // 2], *newest]}
    query = sa.select(Measurement).where(Measurement.search_id == search.id, Measurement.number.in_(chosen))
    points: dict[int, list[tuple[float, float]]] = {}
    for row in session.scalars(query.order_by(Measurement.epoch)):
        if row.metrics.get(score) is not None:
            points.setdefault(row.number, []).append((row.epoch, row.metrics[score]))
    best = ranked[0].number if ranked else None
    data = []
    for number, line in sorted(points.items()):
        colour = GREEN if number == best else COLOURS.get(chosen[number].state, GREY)
        data.append(
            _scatter(
                "lines+markers",
                f"trial {number}",
                line,
                showlegend=False,
                marker={"size": 4},
                line={"color": colour, "width": 3 if number == best else 1},
                opacity=1 if number == best or chosen[number].state == "running" else 0.5,
                hovertemplate=f"trial {number}<br>epoch %{{x}}<br>%{{y:.4f}}<extra></extra>",
            )
        )
    return _by_epoch(data, metric_title(score))


def trial_curve(points: Sequence[Measurement], score: str = "val_accuracy") -> Figure:
    """The score of one trial in training and validation by epoch; ``points`` in the order of their epochs."""
    data = []
    for name, label, colour in ((score.replace("val_", "train_"), "training", GREY), (score, "validation", BLUE)):
        line = [(point.epoch, point.metrics[name]) for point in points if point.metrics.get(name) is not None]
        if line:
            style = {"color": colour, "width": 2}
            data.append(_scatter("lines+markers", label, line, line=style, showlegend=True))
    return _by_epoch(data, metric_title(score).removeprefix("validation "))


def finalists(session: Session, search: Search, score: str = "val_accuracy") -> Figure:
    """The score by epoch of the full trainings."""
    query = sa.select(Finalist).where(Finalist.search_id == search.id).order_by(Finalist.number, Finalist.seed)
    rows = [row for row in session.scalars(query) if row.curve]
    numbers = sorted({row.number for row in rows})
    data = []
    for row in rows:
        name = f"trial {row.number}, seed {row.seed}"
        data.append(
            _scatter(
                "lines+markers",
                name,
                [(point["epoch"], point[score]) for point in row.curve if point.get(score) is not None],
                showlegend=len(rows) <= MAX_LEGEND,
                marker={"size": 4},
                line={"color": PALETTE[numbers.index(row.number) % len(PALETTE)], "width": 1.8},
                hovertemplate=f"{name}<br>epoch %{{x}}<br>%{{y:.4f}}<extra></extra>",
            )
        )
    return _by_epoch(data, metric_title(score))


def _by_epoch(data: list[Trace], y: str) -> Figure:
    """Scores over epochs."""
    values = [value for trace in data for value in trace["y"]]
    last = max((epoch for trace in data for epoch in trace["x"]), default=1)
    return chart(data, "epoch", y, xaxis=_counted(last), yaxis=_measured("val_accuracy", values))


LEARNED = {
    "reward": ("reward", "markers", BLUE, "y"),
    "baseline": ("baseline", "lines", GREY, "y"),
    "entropy": ("entropy", "lines", AMBER, "y2"),
    "credit_step": ("steps from earlier trials", "lines", BLUE, "y"),
    "credit_scores": ("best by zero-cost scores", "lines", GREEN, "y"),
    "credit_jump": ("random and far ones", "lines", GREY, "y"),
    "credit_repeat": ("repeats", "markers", GREY, "y"),
    "score_correlation": ("rank correlation of scores and results", "lines", AMBER, "y2"),
}
"""Figures of a strategy's updates: name, marks, colour, axis."""


def learned(session: Session, search: Search) -> Figure:
    """What the strategy learned by update: the controller's reward, or how well each source of proposals did."""
    query = sa.select(StrategyUpdate).where(StrategyUpdate.search_id == search.id).order_by(StrategyUpdate.observed_as)
    rows = list(session.scalars(query))
    data: list[Trace] = []
    drawn: set[str] = set()
    for figure, (name, mode, colour, axis) in LEARNED.items():
        points = [(row.observed_as, row.figures[figure]) for row in rows if row.figures.get(figure) is not None]
        if points:
            look = {"marker": {"color": colour, "size": 5, "opacity": 0.6}, "line": {"color": colour, "width": 2}}
            data.append(_scatter(mode, name, points, yaxis=axis, **look))
            drawn |= {figure, axis}
    right = "entropy [nats]" if "entropy" in drawn else "rank correlation"
    second = {"overlaying": "y", "side": "right", "title": {"text": right}, "showgrid": False, "automargin": True}
    left = "reward, baseline" if "reward" in drawn else "share of results beaten"
    return chart(data, "update", left, **({"yaxis2": second} if "y2" in drawn else {}))
