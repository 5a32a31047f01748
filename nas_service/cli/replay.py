"""``nas replay``: run a search again and name the first thing that differs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import click

from nas_service.cli.searches import connect, show

COMPARED = ("decisions", "state", "epoch", "values")
"""Of each trial, in the order in which a difference of one leads to the next."""


@click.command()
@click.argument("search_id")
@click.option("--against", metavar="ID", help="Compare with this search instead of running it again.")
@click.pass_context
def replay(context: click.Context, search_id: str, against: str | None) -> None:
    """Run a search again and compare: proposals, results, winner. Exit code 1 where they differ.

    A search with a seed and one worker replays exactly on the same machine and versions. With several workers what is
    proposed depends on which candidate ends first.
    """
    with connect(context) as client:
        original = client.search(search_id)
        if original["state"] not in ("succeeded", "failed"):
            raise click.UsageError(f"search {search_id} is {original['state']}; allowed: one that succeeded or failed")
        if against is None:
            changes = {"reuse": within(original["request"]["reuse"]), "replays": search_id}
            again = client.submit({**original["request"], **changes})["id"]
            click.echo(f"replaying search {search_id} as {again} …", err=True)
        else:
            again = against
        other = client.wait(again)
        found = divergence(
            list(client.trials(search_id)), list(client.trials(again)), original["winner"], other["winner"]
        )
    parallel = original["request"]["resources"]["max_parallel"]
    answer = {"search": search_id, "replay": again, "same": found is None, "divergence": found}
    show(context, answer, told(answer, int(parallel)))
    sys.exit(0 if found is None else 1)


def within(reuse: str) -> str:
    """The replay trains anew what the original trained, and takes from other searches what the original took."""
    return "search" if reuse == "all" else reuse


def divergence(
    one: Sequence[Mapping[str, Any]],
    two: Sequence[Mapping[str, Any]],
    winner_one: Mapping[str, Any] | None,
    winner_two: Mapping[str, Any] | None,
) -> dict[str, Any] | None:
    """The first trial, by number, and the first of its parts that differ, then the winners; None where all is equal."""
    trials = [sorted(trials, key=lambda trial: int(trial["number"])) for trials in (one, two)]
    for number, (mine, theirs) in enumerate(zip_longest(*trials)):
        if mine is None or theirs is None:
            return {"trial": number, "part": "number of trials", "original": len(one), "replay": len(two)}
        for part in COMPARED:
            if mine[part] != theirs[part]:
                return {"trial": number, "part": part, "original": mine[part], "replay": theirs[part]}
    ends = [winner and {"trial": winner["trial"], "seed": winner["seed"]} for winner in (winner_one, winner_two)]
    if ends[0] != ends[1]:
        return {"trial": None, "part": "winner", "original": ends[0], "replay": ends[1]}
    return None


def told(answer: Mapping[str, Any], parallel: int) -> str:
    """The answer for people."""
    found = answer["divergence"]
    if found is None:
        return f"search {answer['replay']} is the same as {answer['search']}: proposals, results and winner"
    place = "the winner" if found["trial"] is None else f"trial {found['trial']}, {found['part']}"
    note = f"\n(the original ran {parallel} candidates at once: the order of results decides)" if parallel > 1 else ""
    return f"first divergence at {place}:\n  original  {found['original']}\n  replay    {found['replay']}{note}"
