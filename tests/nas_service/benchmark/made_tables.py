"""Small tables made from a seed: no network was trained for them."""

from __future__ import annotations

from itertools import product

import numpy as np

from workers.tables import Table

OPTIONS = ("a", "b", "c", "d")
DECISIONS = 6


def made_table(seed: int, interaction: float, noise: float = 0.005) -> Table:
    """4^6 networks: each answer is worth something, each pair of neighbours ``interaction`` times as much."""
    rng = np.random.default_rng(seed)
    answers = list(product(range(len(OPTIONS)), repeat=DECISIONS))
    codes = np.array(answers)
    worth = rng.normal(size=(DECISIONS, len(OPTIONS)))
    pairs = rng.normal(size=(DECISIONS - 1, len(OPTIONS), len(OPTIONS))) * interaction
    total = sum(worth[i, codes[:, i]] for i in range(DECISIONS))
    total = total + sum(pairs[i, codes[:, i], codes[:, i + 1]] for i in range(DECISIONS - 1))
    quality = 0.5 + 0.4 * (total - total.min()) / np.ptp(total)
    rows = {tuple(OPTIONS[digit] for digit in code): row for row, code in enumerate(answers)}
    return Table(
        f"made-{seed}-{interaction}",
        tuple((f"decision{i}", OPTIONS) for i in range(DECISIONS)),
        rows.get,
        np.clip(quality[:, None] + noise * rng.normal(size=(len(quality), 3)), 0, 1),
        epochs=10,
        early={2: quality - 0.2},
        test=quality,
        seconds=100 + 50 * quality,
        scores={"good": quality + 0.05 * rng.normal(size=len(quality)), "useless": rng.normal(size=len(quality))},
    )
