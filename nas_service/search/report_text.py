"""The honesty report of a search for people: Markdown, the same on the page, in the terminal and in a file."""

from __future__ import annotations

from nas_service.markdown import table
from nas_service.search.report import Correlation, Interval, Report


def markdown(found: Report, name: str) -> str:
    """The report as Markdown."""
    parts = [
        f"# How much to believe: {name}",
        "\n".join(f"- {sentence}" for sentence in sentences(found)),
        "## Best so far\n\n" + _best_so_far(found),
    ]
    if found.finalists:
        rows = [
            [str(f.trial), str(f.seeds), f"{f.mean:.4f}", "–" if f.sd is None else f"{f.sd:.4f}"]
            for f in sorted(found.finalists, key=lambda f: -f.mean)
        ]
        head = ["trial", "seeds", f"mean {found.finalists_metric}", "standard deviation"]
        parts.append("## Full trainings\n\n" + table(head, rows))
    if found.tradeoff:
        rows = [[str(b.results), f"{b.value:.4f}"] for b in found.tradeoff.hypervolume]
        front = ", ".join(map(str, found.tradeoff.front))
        told = f"Trials {front} are the front; its knee is trial {found.tradeoff.knee}."
        if len(found.tradeoff.front) == 1:
            told = f"Trial {front} is the front."
        parts.append(f"## Several objectives\n\n{told}\n\n" + table(["results", "hypervolume"], rows))
    if found.importance:
        rows = [[f"`{decision}`", f"{share:.0%}"] for decision, share in list(found.importance.items())[:20]]
        parts.append("## Decisions that matter\n\n" + table(["decision", "importance (PED-ANOVA)"], rows))
    if found.shares:
        rows = [[state, f"{share:.1%}"] for state, share in found.shares.items()]
        parts.append("## What became of the proposals\n\n" + table(["", "share"], rows))
    rows = [
        [title.replace("_", " ").replace("kwh", "[kWh]"), "not measured" if v is None else f"{v:,.4g}"]
        for title, v in found.cost.items()
    ]
    parts.append("## What it cost\n\n" + table(["", ""], rows))
    if found.notes:
        parts.append("## What is not known\n\n" + "\n".join(f"- {note}" for note in found.notes))
    return "\n\n".join(parts) + "\n"


def _best_so_far(found: Report) -> str:
    if not any(best.likely for best in found.best_so_far):
        return table(["results", found.metric], [[str(b.results), f"{b.value:.4f}"] for b in found.best_so_far])
    rows = [[str(b.results), f"{b.value:.4f}", interval(b.likely) if b.likely else "–"] for b in found.best_so_far]
    return table(["results", f"best {found.metric} as observed", "likely worth (95 %)"], rows)


def sentences(found: Report) -> list[str]:
    """The findings in plain words, the most important first."""
    told = []
    if found.guessing is not None:
        end = "; no candidate is clearly better." if found.no_better_than_guessing else "."
        told.append(f"Naming the most frequent class always would have {found.guessing:.4f}{end}")
    base = found.baseline
    if base:
        told.append(
            f"Random search with as many results ({base.results}) would expect {interval(base.expected_best)}; this "
            f"search reached {base.reached:.4f}. {percent(base.chance)} of random searches would reach that (from "
            f"{base.sample} values: {base.source})."
        )
    if found.noise:
        told.append(
            f"Another seed changes a full training by {found.noise.sd:.4f} (standard deviation)."
            + (
                f" With new seeds another finalist would win in {found.noise.winner_changes:.0%} of the cases."
                if found.noise.winner_changes is not None
                else ""
            )
        )
        if found.noise.optimism:
            told.append(
                f"The best value of the search is the luckiest of many: expect about {found.noise.optimism:.4f} less."
            )
    if found.search_against_full_training:
        told.append(
            "Between the search and full training the finalists' ranks agree by "
            f"{correlation(found.search_against_full_training)}."
        )
    if found.early_against_late:
        told.append(f"First rung against last epoch: ranks agree by {correlation(found.early_against_late)}.")
    test = found.test
    if test.readings:
        when = "after all training" if test.after_all_training else "BEFORE training ended"
        told.append(
            f"The test split was read {'once' if test.readings == 1 else f'{test.readings} times'}, {when} (event "
            f"{test.event}; last training event {test.last_training_event})."
        )
    else:
        told.append("The test split was not read.")
    return told


def interval(found: Interval) -> str:
    return f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"


def percent(found: Interval) -> str:
    return f"{found.value:.0%} ({found.low:.0%} to {found.high:.0%})"


def correlation(found: Correlation) -> str:
    return f"Kendall's τ = {found.tau.value:.2f} ({found.tau.low:.2f} to {found.tau.high:.2f}; {found.pairs} pairs)"
