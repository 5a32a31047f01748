"""Which modules stay free of torch and ray, so that others can import them in milliseconds."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("workers.assignment", ("torch", "ray", "numpy")),
        ("workers.ending", ("torch", "ray", "numpy")),
        ("workers.containment", ("torch", "ray", "numpy")),
        ("workers.run", ("ray",)),
        ("workers.datasets", ("ray", "sklearn", "pandas")),
    ],
)
def test_imports(module: str, forbidden: tuple[str, ...]) -> None:
    script = f"import sys, {module}; print([name for name in {forbidden!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
