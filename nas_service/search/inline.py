"""Run a source's assignments inline: one after the other in this process, without Ray, for debugging and tests."""

from __future__ import annotations

from nas_service.search.schedulers import Scheduler
from nas_service.search.source import Nothing, Source, assignment_key
from workers.run import run


def run_inline(source: Source, scheduler: Scheduler) -> None:
    """Run a source one candidate after the other: the same training as on Ray's workers."""
    while not isinstance(assignment := source.next(), Nothing):
        key = assignment_key(assignment)
        pruned = False
        for report in run(assignment):
            if source.report(key, report) or report.get("done"):
                break
            if scheduler.stops(key, report):
                pruned = True
                break
        source.ended(key, pruned=pruned, death=None)
