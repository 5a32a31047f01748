"""Does evolution find better networks when children start from their parents' weights?

``python -m benchmarks.inheritance [SEEDS] [TRIALS]``: the same searches on digits with and without, by seed, without
Ray. One row a search: best validation accuracy among trials of one epoch, test accuracy of the winner after a full
training from fresh weights, mean share of the parameters that children inherited, seconds.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import torch

from nas_service.database.schema import migrate
from nas_service.database.session import Database
from nas_service.database.tables import Search, Trial
from nas_service.search.driver import Driver
from nas_service.search.request import SearchRequest
from nas_service.search.status import create
from nas_service.settings import Settings


def request(seed: int, trials: int, inherit: bool) -> SearchRequest:
    """A search of residual networks that train for one epoch each."""
    body: dict[str, Any] = {
        "dataset": {"name": "digits"},
        "space": {"name": "residual", "widths": [8, 16, 24], "depths": [1, 2], "cardinalities": [1, 2]},
        "strategy": {"name": "evolution", "population": 6, "sample": 3, "inherit_weights": inherit},
        "scheduler": {"name": "none", "max_epochs": 1},
        "recipe": {"batch_size": 32, "optimizer": {"name": "sgd", "lr": 0.05}, "schedule": {"name": "constant"}},
        "budget": {"max_trials": trials},
        "finalists": {"top_k": 1, "epochs": 8},
        "resources": {"max_parallel": 1},
        "reuse": "search",
        "seed": seed,
    }
    return SearchRequest.model_validate(body)


def measured(settings: Settings, seed: int, trials: int, inherit: bool) -> dict[str, float]:
    """Run one search to its end in this process."""
    database = Database(settings.url)
    search_id = database.write(lambda session: create(session, request(seed, trials, inherit), "inheritance").id)
    started = time.perf_counter()
    Driver(settings, search_id).run()
    seconds = time.perf_counter() - started
    with database.read() as session:
        search = session.get_one(Search, search_id)
        done = [
            trial.metrics
            for trial in session.scalars(sa.select(Trial).where(Trial.search_id == search_id))
            if trial.state == "completed"
        ]
        winner = dict(search.winner or {})
    database.close()
    shares = [metrics["inherited_share"] for metrics in done if "inherited_share" in metrics]
    return {
        "val_accuracy": max(metrics["val_accuracy"] for metrics in done),
        "test_accuracy": winner["test"]["test_accuracy"],
        "share": statistics.fmean(shares) if shares else 0.0,
        "seconds": seconds,
    }


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    trials = int(sys.argv[2]) if len(sys.argv) > 2 else 24
    torch.set_num_threads(1)
    rows: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), executor="inline")
        settings.searches_dir.mkdir(parents=True)
        database = Database(settings.url)
        migrate(database)
        database.close()
        print("| inherit | seed | best val_accuracy of 1 epoch | test_accuracy of the winner | share | seconds |")
        print("| --- | --- | --- | --- | --- | --- |")
        for seed in range(seeds):
            for inherit in (False, True):
                row = measured(settings, seed, trials, inherit)
                rows[inherit].append(row)
                print(
                    f"| {'yes' if inherit else 'no'} | {seed} | {row['val_accuracy']:.4f} | {row['test_accuracy']:.4f} "
                    f"| {row['share']:.2f} | {row['seconds']:.0f} |",
                    flush=True,
                )
    for inherit, found in rows.items():
        means = {name: statistics.fmean(row[name] for row in found) for name in found[0]}
        print(
            f"| {'yes' if inherit else 'no'} | mean of {seeds} | {means['val_accuracy']:.4f} "
            f"| {means['test_accuracy']:.4f} | {means['share']:.2f} | {means['seconds']:.0f} |"
        )


if __name__ == "__main__":
    main()
