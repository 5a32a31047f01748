"""Which strategy finds the better network, with real trainings: the same searches by each strategy, seed by seed.

``python examples/compare_strategies.py [--small]`` with a server started by ``nas serve`` in the same folder. The full
form takes Fashion-MNIST from Debian's package dataset-fashion-mnist and hours of two cores; the small one digits and
a minute. Started again, after a crash of whatever, it goes on with the searches that are there. The result
is Markdown on standard output, which ``> docs/compared.md`` keeps.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

from nas_service.client import Client

STRATEGIES = ("auto", "random", "rl")
AT_ONCE = 2
"""Searches that run at the same time; each trains one candidate at a time, so that its proposals can be repeated."""


@dataclass(frozen=True)
class Setting:
    """What all searches share, the spaces by name, and the seeds."""

    request: dict[str, Any]
    spaces: dict[str, dict[str, Any]]
    seeds: tuple[int, ...]

    def body(self, space: str, strategy: str, seed: int) -> dict[str, Any]:
        """The request of one search."""
        return {
            **self.request,
            "name": f"{space} by {strategy}, seed {seed}",
            "space": {"name": space, **self.spaces[space]},
            "strategy": {"name": strategy},
            "resources": {"max_parallel": 1, "trial_timeout_seconds": 7200},
            "reuse": "search",
            "seed": seed,
        }


FULL = Setting(
    {
        "dataset": {"name": "fashion-mnist", "max_train": 5_000, "max_validation": 2_000},
        "scheduler": {"name": "asha", "max_epochs": 4, "reduction_factor": 2},
        "recipe": {"batch_size": 64, "schedule": {"name": "cosine", "warmup_epochs": 1}},
        "budget": {"max_trials": 30},
        "finalists": {"top_k": 1, "epochs": 4, "seeds": [0, 1]},
    },
    {
        "mbconv": {"kernels": [3, 5], "depths": [1, 2], "widths": [8], "expansions": [1, 3]},
        "nasnet": {"nodes": 2, "cells": [1], "filters": [4]},
    },
    (0, 1, 2),
)
SMALL = Setting(
    {
        "dataset": {"name": "digits", "max_train": 300, "max_validation": 200},
        "scheduler": {"name": "asha", "min_epochs": 1, "max_epochs": 4, "reduction_factor": 2},
        "recipe": {"batch_size": 32},
        "budget": {"max_trials": 4},
        "finalists": {"top_k": 1, "epochs": 4, "seeds": [0]},
    },
    {"residual": {"depths": [1], "widths": [4, 8], "cardinalities": [1]}},
    (0, 1),
)


def compare(url: str | None, setting: Setting) -> list[dict[str, Any]]:
    """Run every search, or find it; a row for each: where it led, what it cost, what its report says."""

    def searched(what: tuple[str, int, str]) -> dict[str, Any]:
        space, seed, strategy = what
        with Client(url) as client:
            body = setting.body(space, strategy, seed)
            search = client.wait(client.submit(body, key=f"compare {body['name']}")["id"])
            if search["state"] != "succeeded":
                raise SystemExit(f"search {search['id']} ({body['name']}) is {search['state']}: {search['reason']}")
            return {
                "id": search["id"],
                "space": space,
                "strategy": strategy,
                "seed": seed,
                "search": search["best"]["values"][0],
                "full": search["winner"]["val_accuracy"]["mean"],
                "test": search["winner"]["test"]["test_accuracy"],
                "seconds": search["used_seconds"],
            }

    with ThreadPoolExecutor(AT_ONCE) as pool:
        rows = list(pool.map(searched, product(setting.spaces, setting.seeds, STRATEGIES)))
    with Client(url) as client:  # reports count the random trials of all searches: not before the last one has ended
        return [{**row, "told": client.request("GET", f"/v1/searches/{row['id']}/report.md")} for row in rows]


def markdown(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A row a search, the means of each strategy, what each report says."""
    yield "| space | seed | strategy | best of the search | winner, validation | winner, test | seconds |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in rows:
        yield (
            f"| {row['space']} | {row['seed']} | {row['strategy']} | {row['search']:.4f} | {row['full']:.4f} "
            f"| {row['test']:.4f} | {row['seconds']:,.0f} |"
        )
    yield "\n| space | strategy | n | winner, test: mean | standard deviation | seeds better than random |"
    yield "| --- | --- | --- | --- | --- | --- |"
    by_seed = {(row["space"], row["strategy"], row["seed"]): row["test"] for row in rows}
    for space, strategy in dict.fromkeys((row["space"], row["strategy"]) for row in rows):
        seeds = [seed for s, by, seed in by_seed if (s, by) == (space, strategy)]
        tests = [by_seed[space, strategy, seed] for seed in seeds]
        won = sum(by_seed[space, strategy, seed] > by_seed[space, "random", seed] for seed in seeds)
        spread = statistics.stdev(tests) if len(tests) > 1 else 0.0
        yield (
            f"| {space} | {strategy} | {len(tests)} | {statistics.fmean(tests):.4f} | {spread:.4f} "
            f"| {'' if strategy == 'random' else won} |"
        )
    for row in rows:
        findings = [line for line in row["told"].splitlines() if line.startswith("- ")]
        yield f"\n{row['space']} by {row['strategy']}, seed {row['seed']}:\n"
        yield from findings


def main() -> None:
    for line in markdown(compare(None, SMALL if "--small" in sys.argv else FULL)):
        print(line)


if __name__ == "__main__":
    main()
