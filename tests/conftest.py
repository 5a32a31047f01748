"""Fixtures and settings for every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
ROOT = Path(__file__).parent.parent


def shared_folder() -> Path | None:
    """The folder of oracles and tables beside the project: ``NAS_SHARED`` or ``../shared``; None where it is absent."""
    folder = Path(os.environ.get("NAS_SHARED", ROOT.parent / "shared"))
    return folder if (folder / "oracles" / "oracles.csv").exists() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared folder; the test is skipped without it, and fails where ``CI=true``."""
    folder = shared_folder()
    if folder is None:
        reason = "no folder with oracles: set NAS_SHARED, or put it at ../shared"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
