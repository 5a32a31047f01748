"""Tables in Markdown, for reports, model cards and documents."""

from __future__ import annotations

from collections.abc import Sequence


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; columns that are empty in all rows are left out."""
    kept = [i for i in range(len(heading)) if not rows or any(row[i] for row in rows)]
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(line[i] for i in kept) + " |" for line in lines)
