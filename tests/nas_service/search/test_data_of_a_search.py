"""A search and its data: files that go away or change, a name that gets another meaning, labels that no image tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from nas_service import datasets
from nas_service.database.schema import migrate
from nas_service.database.session import Database
from nas_service.database.tables import Finalist, Measurement, Search, Trial
from nas_service.errors import DataAway, InvalidRequest
from nas_service.search import status
from nas_service.search.driver import Driver
from nas_service.search.guessing import Guessing
from nas_service.search.ledger import Ledger
from nas_service.search.plan import make_plan
from nas_service.search.report import report
from nas_service.search.report_text import sentences
from nas_service.search.request import SearchRequest
from nas_service.settings import Settings
from workers.datasets import DatasetSource, DatasetSpec, load

TRIALS = 4


def write(path: Path, seed: int = 0) -> None:
    """30 small images of two classes."""
    images = np.random.default_rng(seed).integers(0, 256, (30, 1, 8, 8), dtype=np.uint8)
    np.savez(path, x=images, y=np.arange(30) % 2)


@pytest.fixture
def sqlite(settings: Settings) -> Iterator[Database]:
    made = Database(settings.url)
    migrate(made)
    yield made
    made.close()


@pytest.fixture
def path(settings: Settings, sqlite: Database) -> Path:
    place = settings.data_dir / "datasets" / "mine.npz"
    place.parent.mkdir(parents=True, exist_ok=True)
    write(place)
    datasets.register(DatasetSource(name="mine", format="npz", path="mine.npz"), sqlite, settings)
    return place


def asked(database: Database, settings: Settings) -> str:
    body = {
        "dataset": {"name": "mine"},
        "space": {"name": "residual", "widths": [4, 8], "depths": [1], "stages": 2, "blocks": ["basic"]},
        "strategy": {"name": "random"},
        "scheduler": {"name": "none", "max_epochs": 2},
        "budget": {"max_trials": TRIALS},
        "finalists": {"top_k": 2, "epochs": 2, "seeds": [0]},
        "resources": {"max_parallel": 1},
    }
    request = SearchRequest.model_validate(body).settled("classification")
    data = datasets.described(request.dataset, database, settings)
    return database.write(lambda session: status.create(session, request, "a test", data).id)


def when(monkeypatch: pytest.MonkeyPatch, method: str, trial: int, act: Callable[[], None]) -> None:
    """Do something just before a trial is started: while the search runs."""
    real = getattr(Ledger, method)

    def watched(self: Ledger, number: int, *more: int) -> int:
        if number == trial or trial < 0:
            monkeypatch.setattr(Ledger, method, real)
            act()
        return int(real(self, number, *more))

    monkeypatch.setattr(Ledger, method, watched)


def drive(search_id: str, database: Database, settings: Settings) -> Search:
    Driver(settings, search_id).run()
    with database.read() as session:
        return session.get_one(Search, search_id)


def go_on(search_id: str, database: Database, settings: Settings) -> Search:
    database.write(lambda session: status.resume(session, search_id).id)
    return drive(search_id, database, settings)


def test_files_that_go_away_cost_no_candidate(
    path: Path, sqlite: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_id = asked(sqlite, settings)
    when(monkeypatch, "start_trial", 2, lambda: path.rename(path.with_suffix(".away")))
    search = drive(search_id, sqlite, settings)
    assert search.state == "paused"
    assert "data set 'mine' cannot be read" in search.reason
    assert "resume" in search.reason
    again = go_on(search_id, sqlite, settings)
    assert (again.state, again.reason) == ("paused", search.reason)
    path.with_suffix(".away").rename(path)
    search = go_on(search_id, sqlite, settings)
    assert search.state == "succeeded"
    assert "cannot be read" not in search.reason
    with sqlite.read() as session:
        trials = list(session.scalars(sa.select(Trial).where(Trial.search_id == search_id)))
    assert [t.state for t in trials if t.counted] == ["completed"] * TRIALS
    assert {t.attempt for t in trials if t.counted and not t.reused_from} == {1}


@pytest.mark.parametrize("trial", [0, 2])
def test_files_that_change_mix_no_results(
    path: Path, sqlite: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, trial: int
) -> None:
    """Before the first training, after the driver has looked, too: else all would be trained on the other files, and be
    reused under the name of these."""
    search_id = asked(sqlite, settings)
    when(monkeypatch, "start_trial", trial, lambda: write(path, seed=1))
    search = drive(search_id, sqlite, settings)
    assert search.state == "paused"
    assert "data set 'mine' has changed since" in search.reason
    assert go_on(search_id, sqlite, settings).reason == search.reason
    write(path, seed=0)
    assert go_on(search_id, sqlite, settings).state == "succeeded"
    with sqlite.read() as session:
        trials = list(session.scalars(sa.select(Trial).where(Trial.search_id == search_id)))
        hashes = {m.metrics["data_hash"] for m in session.scalars(sa.select(Measurement))}
    right = load(DatasetSpec(name="mine"), settings.roots(), DatasetSource(name="mine", format="npz", path=str(path)))
    assert hashes == {right.content_hash}
    assert {t.metrics["data_hash"] for t in trials if t.state == "completed"} == {right.content_hash}


@pytest.mark.parametrize("what", ["away", "changed"])
def test_the_test_waits_for_its_data_too(
    path: Path, sqlite: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    search_id = asked(sqlite, settings)
    real = Ledger.set_stage

    def watched(self: Ledger, stage: str) -> None:
        real(self, stage)
        if stage == "test":
            monkeypatch.setattr(Ledger, "set_stage", real)
            path.unlink() if what == "away" else write(path, seed=1)

    monkeypatch.setattr(Ledger, "set_stage", watched)
    search = drive(search_id, sqlite, settings)
    assert (search.state, search.stage, search.winner) == ("paused", "test", None)
    write(path)
    search = go_on(search_id, sqlite, settings)
    assert search.state == "succeeded"
    assert search.winner is not None
    assert search.winner["test"]["test_images"] == 6


@pytest.mark.parametrize("what", ["away", "changed"])
def test_finalists_wait_for_their_data_too(
    path: Path, sqlite: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    search_id = asked(sqlite, settings)
    when(monkeypatch, "start_finalist", -1, lambda: path.unlink() if what == "away" else write(path, seed=1))
    search = drive(search_id, sqlite, settings)
    assert (search.state, search.stage) == ("paused", "finalists")
    write(path)
    assert go_on(search_id, sqlite, settings).state == "succeeded"
    with sqlite.read() as session:
        finalists = list(session.scalars(sa.select(Finalist).where(Finalist.search_id == search_id)))
    assert [f.state for f in finalists] == ["completed"] * 2
    assert len({f.metrics["data_hash"] for f in finalists}) == 1
    assert {f.attempt for f in finalists} == {1}, "a rest is no attempt"


def test_a_search_keeps_its_source_when_the_name_gets_another(path: Path, sqlite: Database, settings: Settings) -> None:
    search_id = asked(sqlite, settings)
    assert drive(search_id, sqlite, settings).state == "succeeded"
    datasets.forget("mine", sqlite)
    other = path.with_name("other.npz")
    write(other, seed=5)
    datasets.register(DatasetSource(name="mine", format="npz", path="other.npz"), sqlite, settings)
    with sqlite.read() as session:
        search = session.get_one(Search, search_id)
    source, info = datasets.of_search(search, sqlite, settings)
    assert source.path == str(path)
    assert info.content_hash != datasets.info(datasets.sources(sqlite, settings)["mine"], settings).content_hash
    write(path, seed=1)
    with pytest.raises(DataAway, match="data set 'mine' has changed since the search was made"):
        datasets.of_search(search, sqlite, settings)
    path.unlink()
    with pytest.raises(DataAway, match="data set 'mine' cannot be read: data set path"):
        datasets.of_search(search, sqlite, settings)


def test_a_winner_that_guesses_is_told(path: Path, sqlite: Database, settings: Settings) -> None:
    """Labels that no image tells: half of them is all there is to reach."""
    search = drive(asked(sqlite, settings), sqlite, settings)
    assert search.state == "succeeded"
    assert "is hardly better than naming the most frequent class always, 0.5000" in search.reason
    with sqlite.read() as session:
        found = report(session, search)
    assert (found.guessing, found.no_better_than_guessing) == (0.5, True)
    assert sentences(found)[0].startswith("Naming the most frequent class always would have 0.5000; no candidate is")


def test_files_that_moved_are_found_by_the_name(path: Path, sqlite: Database, settings: Settings) -> None:
    search = drive(asked(sqlite, settings), sqlite, settings)
    datasets.forget("mine", sqlite)
    path.rename(path.with_name("moved.npz"))
    datasets.register(DatasetSource(name="mine", format="npz", path="moved.npz"), sqlite, settings)
    source, _ = datasets.of_search(search, sqlite, settings)
    assert source.path == str(path.with_name("moved.npz"))


def test_a_file_that_goes_while_it_is_looked_up_is_told(
    path: Path, sqlite: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(source: DatasetSource, roots: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", f"{source.path}/1.png")

    monkeypatch.setattr(datasets, "source_stamp", gone)
    with pytest.raises(InvalidRequest, match=r"mine.npz/1.png: No such file or directory"):
        datasets.described(DatasetSpec(name="mine"), sqlite, settings)


@pytest.mark.parametrize(("limit", "least"), [({"max_train": 1}, 2), ({"max_validation": 1}, 2)])
def test_limits_leave_an_image_of_each_class(
    path: Path, sqlite: Database, settings: Settings, limit: dict[str, int], least: int
) -> None:
    (name,) = limit
    data = datasets.described(DatasetSpec(name="mine"), sqlite, settings)
    spec = DatasetSpec.model_construct(
        name="mine", validation_fraction=0.2, seed=0, **{"max_train": None, "max_validation": None, **limit}
    )
    request = SearchRequest.model_validate({"dataset": {"name": "mine"}, "space": {"name": "residual"}})
    with pytest.raises(InvalidRequest, match=f"{name} is 1; allowed: at least {least}, an image of each class"):
        make_plan(request.model_copy(update={"dataset": spec}), *data, settings)


@pytest.mark.parametrize(
    ("share", "images", "accuracy", "said"),
    [(0.5, 100, 0.59, True), (0.5, 100, 0.61, False), (0.97, 100, 1.0, False), (0.97, 100, 0.97, False)],
)
def test_guessing_is_told_where_it_can_be_known(share: float, images: int, accuracy: float, said: bool) -> None:
    assert Guessing(share, images).explains(accuracy) is said
