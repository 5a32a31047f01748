"""First schema"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

Json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "architectures",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("architecture", Json, nullable=False),
        sa.Column("costs", Json, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_architectures")),
    )
    op.create_table(
        "datasets",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("source", Json, nullable=False),
        sa.Column("info", Json, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_datasets")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("scope", sa.String(length=80), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("body", sa.String(length=64), nullable=False),
        sa.Column("resource", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "searches",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("request", Json, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("used_seconds", sa.Double(), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("restarts", sa.Integer(), nullable=False),
        sa.Column("last_event", sa.Integer(), nullable=False),
        sa.Column("observed", sa.Integer(), nullable=False),
        sa.Column("winner", Json, nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'pausing', 'paused', 'cancelling', 'cancelled', 'succeeded', 'failed')",
            name=op.f("ck_searches_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_searches")),
    )
    op.create_index("ix_searches_state", "searches", ["state"], unique=False)

    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.CheckConstraint("role IN ('viewer', 'runner', 'admin')", name=op.f("ck_tokens_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_tokens_digest")),
    )
    op.create_table(
        "events",
        sa.Column("search_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("data", Json, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name=op.f("fk_events_search_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("search_id", "number", name=op.f("pk_events")),
    )
    op.create_table(
        "exports",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("search_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("folder", sa.String(length=400), nullable=True),
        sa.Column("manifest", Json, nullable=True),
        sa.Column("certificate", Json, nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("owner", sa.String(length=200), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.CheckConstraint("state IN ('queued', 'running', 'ready', 'failed')", name=op.f("ck_exports_state")),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name=op.f("fk_exports_search_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exports")),
    )
    op.create_index("ix_exports_search_id", "exports", ["search_id"], unique=False)

    op.create_table(
        "strategy_snapshots",
        sa.Column("search_id", sa.String(length=32), nullable=False),
        sa.Column("observed", sa.Integer(), nullable=False),
        sa.Column("snapshot", Json, nullable=False),
        sa.ForeignKeyConstraint(
            ["search_id"], ["searches.id"], name=op.f("fk_strategy_snapshots_search_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("search_id", "observed", name=op.f("pk_strategy_snapshots")),
    )
    op.create_table(
        "trials",
        sa.Column("search_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.Column("evaluation_key", sa.String(length=64), nullable=True),
        sa.Column("questions", Json, nullable=False),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("reused_from", Json, nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("observed_as", sa.Integer(), nullable=True),
        sa.Column("values", Json, nullable=True),
        sa.Column("metrics", Json, nullable=False),
        sa.Column("violations", Json, nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=True),
        sa.Column("failure_kind", sa.String(length=16), nullable=True),
        sa.Column("failure_message", sa.Text(), nullable=True),
        sa.Column("failure_traceback", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("train_seconds", sa.Double(), nullable=False),
        sa.Column("weights", Json, nullable=True),
        sa.CheckConstraint(
            "failure_kind IS NULL OR "
            "failure_kind IN ('oom', 'nan', 'timeout', 'crash', 'build', 'data', 'infrastructure')",
            name=op.f("ck_trials_failure_kind"),
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'running', 'completed', 'pruned', 'infeasible', 'failed', 'cancelled')",
            name=op.f("ck_trials_state"),
        ),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name=op.f("fk_trials_search_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("search_id", "number", name=op.f("pk_trials")),
    )
    op.create_index("ix_trials_evaluation_key", "trials", ["evaluation_key"], unique=False)
    op.create_index("ix_trials_fingerprint", "trials", ["fingerprint"], unique=False)
    op.create_index("ix_trials_search_id_observed_as", "trials", ["search_id", "observed_as"], unique=True)
    op.create_index("ix_trials_search_id_state", "trials", ["search_id", "state"], unique=False)

    op.create_table(
        "finalists",
        sa.Column("search_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=True),
        sa.Column("metrics", Json, nullable=False),
        sa.Column("curve", Json, nullable=False),
        sa.Column("weights", Json, nullable=True),
        sa.Column("failure_kind", sa.String(length=16), nullable=True),
        sa.Column("failure_message", sa.Text(), nullable=True),
        sa.Column("failure_traceback", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'running', 'completed', 'pruned', 'infeasible', 'failed', 'cancelled')",
            name=op.f("ck_finalists_state"),
        ),
        sa.ForeignKeyConstraint(
            ["search_id", "number"],
            ["trials.search_id", "trials.number"],
            name=op.f("fk_finalists_search_id_number"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("search_id", "number", "seed", name=op.f("pk_finalists")),
    )
    op.create_table(
        "measurements",
        sa.Column("search_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("metrics", Json, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["search_id", "number"],
            ["trials.search_id", "trials.number"],
            name=op.f("fk_measurements_search_id_number"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("search_id", "number", "epoch", name=op.f("pk_measurements")),
    )
    op.create_table(
        "strategy_updates",
        sa.Column("search_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("observed_as", sa.Integer(), nullable=False),
        sa.Column("figures", Json, nullable=False),
        sa.ForeignKeyConstraint(
            ["search_id", "number"],
            ["trials.search_id", "trials.number"],
            name=op.f("fk_strategy_updates_search_id_number"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("search_id", "number", name=op.f("pk_strategy_updates")),
    )
