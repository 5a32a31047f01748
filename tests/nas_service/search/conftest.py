"""A folder of data and a SQLite database for searches that run in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nas_service.database.schema import migrate
from nas_service.database.session import Database
from nas_service.settings import Settings
from tests.nas_service.search.benches import folder_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return folder_settings(tmp_path / "data")


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'nas.db'}")
    migrate(made)
    yield made
    made.close()
