"""Write the generated pages of docs/: ``python scripts/docs.py``; with ``--check`` say whether they are up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic_core import PydanticUndefined

from nas_service.settings import Settings

DOCS = Path(__file__).parent.parent / "docs"


def settings_page() -> str:
    """Every setting of the server."""
    lines = [
        "# Settings",
        "",
        "Environment variables of the server, its drivers and its workers. `NAS_…_FILE` names a file that holds",
        "the value, for secrets.",
        "Made by `scripts/docs.py` from `nas_service/settings.py`.",
        "",
        "| variable | default | meaning |",
        "| --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (PydanticUndefined, None, "", []) else field.default
        shown = ", ".join(map(str, default)) if isinstance(default, list) else str(default)
        lines.append(f"| `NAS_{name.upper()}` | {f'`{shown}`' if shown else ''} | {field.description} |")
    return "\n".join(lines) + "\n"


PAGES = {"settings.md": settings_page}


def main() -> None:
    stale = [name for name, page in PAGES.items() if not (DOCS / name).exists() or (DOCS / name).read_text() != page()]
    if "--check" in sys.argv:
        sys.exit(f"out of date: {', '.join(stale)}; run scripts/docs.py" if stale else 0)
    for name in stale:
        (DOCS / name).write_text(PAGES[name]())
        print(f"wrote docs/{name}")


if __name__ == "__main__":
    main()
