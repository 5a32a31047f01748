"""Write the generated pages of docs/: ``python scripts/docs.py``; with ``--check`` say whether they are up to date."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from pydantic_core import PydanticUndefined

from nas_service.settings import Settings
from scripts.catalogue_pages import pages, slim
from search_spaces.drawing import rendered

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


def main() -> None:
    """A picture is drawn anew where its page names another graph than before; without one, where it is missing."""
    texts, graphs = pages()
    texts["settings.md"] = settings_page()
    made = {path for folder in ("blocks", "references", "spaces") for path in (DOCS / folder).glob("*.*")}
    wanted = {DOCS / path for path in texts} | {(DOCS / path).with_suffix(".svg") for path in graphs}
    stale = [path for path, text in texts.items() if not (DOCS / path).exists() or (DOCS / path).read_text() != text]
    undrawn = [path for path in graphs if not (DOCS / path).with_suffix(".svg").exists()]
    superfluous = sorted(made - wanted)
    if "--check" in sys.argv:
        wrong = [*stale, *undrawn, *(str(path.relative_to(DOCS)) for path in superfluous)]
        sys.exit(f"out of date: {', '.join(wrong)}; run scripts/docs.py" if wrong else 0)
    for path in superfluous:
        path.unlink()
    redrawn = [path for path in stale if path in graphs and _graph(texts[path]) != _graph(_read(DOCS / path))]
    for path in dict.fromkeys([*redrawn, *undrawn]):
        (DOCS / path).parent.mkdir(parents=True, exist_ok=True)
        (DOCS / path).with_suffix(".svg").write_text(slim(rendered(graphs[path])))
    for path in stale:
        (DOCS / path).parent.mkdir(parents=True, exist_ok=True)
        (DOCS / path).write_text(texts[path])
    print(f"wrote {len(stale)} pages, {len(set(redrawn + undrawn))} pictures; deleted {len(superfluous)}")


def _graph(text: str) -> str:
    return "".join(re.findall(r"<!-- graph (\w+) -->", text))


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    main()
