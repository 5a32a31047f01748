"""How many networks the strategy may have zero-cost scores of: as many as a share of the trainings' time pays for.

Scores are computed in the driver while nothing is proposed, so that a search of short trainings, or of many at once,
would wait for them most of the time.
"""

from __future__ import annotations

from typing import Any

from nas_service.search.request import SearchRequest
from nas_service.strategies.auto import LEAST_POOL, AutoConfig
from nas_service.strategies.protocol import StrategyConfig

SHARE = 0.25
"""Of the time of all trainings, at most, as far as one can tell before."""
IMAGES = 128
"""Images that a CPU trains a network on in the time that its scores take: 30 to 210 measured, the fewer the larger the
images."""
GPU = 30
"""How much faster a GPU is taken to train than the CPU that computes scores. On an H200: 12 times (mbconv, nasnet of 7
and 25 thousand weights at 28 pixels), 25 (ResNet-20), 33 (ResNet-56), 295 (WRN-28-4)."""
POOL_UNDER_CLOCK = 50
"""Networks in the pool of a search that has only so many seconds."""


def within_means(config: StrategyConfig, request: SearchRequest, train_images: int) -> tuple[StrategyConfig, bool]:
    """Options of a strategy with what was left empty, and whether it gets scores; ``train_images`` of one epoch.

    It follows from the request and the data alone, so a search is replayed with the same numbers.
    """
    if not isinstance(config, AutoConfig):
        return config, True
    trials, share = request.budget.max_trials, min(request.resources.gpus, 1.0)
    speed = max(GPU * share, 1.0)
    full = config.pool_for(trials)
    trained = train_images * request.scheduler.max_epochs / speed / request.resources.max_parallel
    part = min(1.0, SHARE * trained / IMAGES / (full / trials + config.scored))
    given: dict[str, Any] = config.model_dump(include=config.model_fields_set, exclude_none=True)
    pool = int(full * part) if request.budget.max_seconds is None else min(int(full * part), POOL_UNDER_CLOCK)
    found = {"pool": max(pool, LEAST_POOL), "scored": max(round(config.scored * part), 1)}
    return config.model_copy(update=found | given), pool >= LEAST_POOL or config.pool is not None
