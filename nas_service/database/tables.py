"""The tables. They are the only truth: strategies, drivers, pages and Optuna's mirror are rebuilt from them.

Times are seconds since 1970.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

SEARCH_STATES = ("queued", "running", "pausing", "paused", "cancelling", "cancelled", "succeeded", "failed")
SEARCH_ENDED = ("cancelled", "succeeded", "failed")
TRIAL_STATES = ("pending", "running", "completed", "pruned", "infeasible", "failed", "cancelled")
TRIAL_ENDED = ("completed", "pruned", "infeasible", "failed", "cancelled")
FAILURE_KINDS = ("oom", "nan", "timeout", "crash", "build", "data", "infrastructure")


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(v) for v in values)})"


class Table(DeclarativeBase):
    """Root of the tables."""

    type_annotation_map = {dict[str, Any]: Json, list[Any]: Json}  # noqa: RUF012 - read by SQLAlchemy as a class attribute
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Search(Table):
    """One search: what was asked, where it stands, who drives it."""

    __tablename__ = "searches"
    __table_args__ = (CheckConstraint(_one_of("state", SEARCH_STATES), name="state"), Index(None, "state"))

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    request: Mapped[dict[str, Any]]
    data: Mapped[dict[str, Any] | None]
    """{source, content_hash, guessing} of the data set when the search was made: its name may mean another one later.
    None for searches of the first schema."""
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="")
    """Why it is in this state, for a person: what a queued search waits for, why a failed one failed."""
    stage: Mapped[str] = mapped_column(String(16), default="search")
    """search, then finalists, then test."""
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    ended_at: Mapped[float | None]
    used_seconds: Mapped[float] = mapped_column(default=0.0)
    """Seconds that drivers have worked on it: what counts against budget.max_seconds."""
    owner: Mapped[str | None] = mapped_column(String(200))
    epoch: Mapped[int] = mapped_column(default=0)
    """Fencing number: a driver's writes are refused once a later driver has taken a higher one."""
    lease_until: Mapped[float | None]
    restarts: Mapped[int] = mapped_column(default=0)
    """Driver starts since the last result."""
    last_event: Mapped[int] = mapped_column(default=0)
    observed: Mapped[int] = mapped_column(default=0)
    """Results that the strategy has seen."""
    winner: Mapped[dict[str, Any] | None]
    """{trial, seed, val_accuracy, test_accuracy, weights, …} of a search that succeeded."""


class Trial(Table):
    """One candidate: its decisions, how it ran, what came out."""

    __tablename__ = "trials"
    __table_args__ = (
        CheckConstraint(_one_of("state", TRIAL_STATES), name="state"),
        CheckConstraint("failure_kind IS NULL OR " + _one_of("failure_kind", FAILURE_KINDS), name="failure_kind"),
        Index(None, "search_id", "state"),
        Index(None, "search_id", "observed_as", unique=True),
        Index(None, "evaluation_key"),
    )

    search_id: Mapped[str] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    fingerprint: Mapped[str | None] = mapped_column(String(64), index=True)
    evaluation_key: Mapped[str | None] = mapped_column(String(64))
    """SHA-256 of everything that decides the result: architecture, data, recipe, epochs, seed."""
    questions: Mapped[list[Any]]
    """[[name, options, answer], …]"""
    counted: Mapped[bool] = mapped_column(default=True)
    """Counts against budget.max_trials. Infeasible and repeated candidates are free."""
    reused_from: Mapped[list[Any] | None]
    """[search id, trial number] whose result this is."""
    attempt: Mapped[int] = mapped_column(default=0)
    observed_as: Mapped[int | None]
    """Place in the order in which the strategy saw the results, from 1."""
    values: Mapped[list[Any] | None]
    """Objective values, in the order of the request's objectives."""
    metrics: Mapped[dict[str, Any]]
    """Costs from the start, training figures once there are some."""
    violations: Mapped[list[Any] | None]
    epoch: Mapped[int | None]
    """Last epoch reported."""
    failure_kind: Mapped[str | None] = mapped_column(String(16))
    failure_message: Mapped[str | None] = mapped_column(Text)
    failure_traceback: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    ended_at: Mapped[float | None]
    train_seconds: Mapped[float] = mapped_column(default=0.0)
    """Seconds inside training epochs, all attempts."""
    weights: Mapped[dict[str, Any] | None]
    """{path, sha256, bytes}, path relative to the data folder; None where they were not kept."""


class Measurement(Table):
    """What one epoch of one trial reported."""

    __tablename__ = "measurements"
    __table_args__ = (
        ForeignKeyConstraint(["search_id", "number"], ["trials.search_id", "trials.number"], ondelete="CASCADE"),
    )

    search_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    metrics: Mapped[dict[str, Any]]
    at: Mapped[float]


class Finalist(Table):
    """One full training of one of the best candidates, with one seed."""

    __tablename__ = "finalists"
    __table_args__ = (
        ForeignKeyConstraint(["search_id", "number"], ["trials.search_id", "trials.number"], ondelete="CASCADE"),
        CheckConstraint(_one_of("state", TRIAL_STATES), name="state"),
    )

    search_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    seed: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    attempt: Mapped[int] = mapped_column(default=0)
    epoch: Mapped[int | None]
    metrics: Mapped[dict[str, Any]]
    curve: Mapped[list[Any]]
    weights: Mapped[dict[str, Any] | None]
    failure_kind: Mapped[str | None] = mapped_column(String(16))
    failure_message: Mapped[str | None] = mapped_column(Text)
    failure_traceback: Mapped[str | None] = mapped_column(Text)


class Event(Table):
    """One change in one search, numbered from 1 without gaps: what the stream, the pages and the audit read."""

    __tablename__ = "events"

    search_id: Mapped[str] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    data: Mapped[dict[str, Any]]
    at: Mapped[float]


class StrategyUpdate(Table):
    """What one result changed in the strategy; exactly one row a result for strategies that learn by steps."""

    __tablename__ = "strategy_updates"
    __table_args__ = (
        ForeignKeyConstraint(["search_id", "number"], ["trials.search_id", "trials.number"], ondelete="CASCADE"),
    )

    search_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    observed_as: Mapped[int]
    figures: Mapped[dict[str, Any]]


class StrategySnapshot(Table):
    """The state of a strategy after ``observed`` results; restored, plus the results since, it is the same strategy."""

    __tablename__ = "strategy_snapshots"

    search_id: Mapped[str] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"), primary_key=True)
    observed: Mapped[int] = mapped_column(primary_key=True)
    snapshot: Mapped[dict[str, Any]]


class ArchitectureRow(Table):
    """One architecture by fingerprint, with its costs."""

    __tablename__ = "architectures"

    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    architecture: Mapped[dict[str, Any]]
    costs: Mapped[dict[str, Any]]
    created_at: Mapped[float]


class Export(Table):
    """One take-home package: asked for, in the making, ready or failed."""

    __tablename__ = "exports"
    __table_args__ = (CheckConstraint(_one_of("state", ("queued", "running", "ready", "failed")), name="state"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    search_id: Mapped[str] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"), index=True)
    number: Mapped[int]
    """The trial whose network it is."""
    seed: Mapped[int | None]
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="")
    folder: Mapped[str | None] = mapped_column(String(400))
    """Relative to the data folder."""
    manifest: Mapped[dict[str, Any] | None]
    certificate: Mapped[dict[str, Any] | None]
    created_at: Mapped[float]
    ended_at: Mapped[float | None]
    owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[float | None]


class DatasetRow(Table):
    """One data set that a user registered: where it lies, what is in it."""

    __tablename__ = "datasets"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    source: Mapped[dict[str, Any]]
    info: Mapped[dict[str, Any]]
    created_at: Mapped[float]


class Token(Table):
    """One access token; only its SHA-256 is stored."""

    __tablename__ = "tokens"
    __table_args__ = (CheckConstraint(_one_of("role", ("viewer", "runner", "admin")), name="role"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    role: Mapped[str] = mapped_column(String(16))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    created_at: Mapped[float]
    revoked_at: Mapped[float | None]


class IdempotencyKey(Table):
    """A POST that was answered: the same key with the same body gets the same answer, with another body a conflict."""

    __tablename__ = "idempotency_keys"

    scope: Mapped[str] = mapped_column(String(80), primary_key=True)
    """Method and path, and who asked."""
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    body: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the request body."""
    resource: Mapped[str] = mapped_column(String(64))
    """Id of what was made."""
    created_at: Mapped[float]
