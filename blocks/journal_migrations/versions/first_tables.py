"""Releases, leases, rollouts and their entries, requests and approvals, notices."""

import sqlalchemy as sa
from alembic import op

revision = "first_tables"
down_revision = None
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "releases",
        sa.Column("id", sa.String(120), nullable=False),
        sa.Column("version", sa.String(100), nullable=False),
        sa.Column("sha", sa.String(40), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("saved_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_releases"),
        sa.UniqueConstraint("version", name="uq_releases_version"),
    )
    op.create_table(
        "leases",
        sa.Column("environment", sa.String(31), nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("since", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("environment", name="pk_leases"),
    )
    op.create_table(
        "rollouts",
        sa.Column("id", sa.String(60), nullable=False),
        sa.Column("environment", sa.String(31), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("release_id", sa.String(120), nullable=False),
        sa.Column("blue_id", sa.String(120), nullable=True),
        sa.Column("version", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("request", sa.Integer, nullable=True),
        sa.Column("opened_at", _MOMENT, nullable=False),
        sa.Column("promoted_at", _MOMENT, nullable=True),
        sa.Column("ended_at", _MOMENT, nullable=True),
        sa.Column("ending", sa.String(20), nullable=True),
        sa.Column("message", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_rollouts"),
        sa.ForeignKeyConstraint(["release_id"], ["releases.id"], name="fk_rollouts_release_id"),
        sa.ForeignKeyConstraint(["blue_id"], ["releases.id"], name="fk_rollouts_blue_id"),
        sa.UniqueConstraint("request", name="uq_rollouts_request"),
        sa.UniqueConstraint("environment", "number", name="uq_rollouts_environment_number"),
    )
    op.create_table(
        "entries",
        sa.Column("rollout", sa.String(60), nullable=False),
        sa.Column("sequence", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "sequence", name="pk_entries"),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_entries_rollout"),
    )
    op.create_table(
        "requests",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("environment", sa.String(31), nullable=False),
        sa.Column("release_id", sa.String(120), nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("plan_hash", sa.String(64), nullable=False),
        sa.Column("opened_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.Column("closed", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("number", name="pk_requests"),
        sa.UniqueConstraint("key", name="uq_requests_key"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "approvals",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("request", sa.Integer, nullable=False),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("person_key", sa.Text, nullable=False),
        sa.Column("decision", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("channel", sa.String(40), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_approvals"),
        sa.ForeignKeyConstraint(["request"], ["requests.number"], name="fk_approvals_request"),
        sa.UniqueConstraint("request", "person_key", name="uq_approvals_request_person_key"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "notices",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("link", sa.Text, nullable=True),
        sa.Column("put_at", _MOMENT, nullable=False),
        sa.Column("sent_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("number", name="pk_notices"),
        sa.UniqueConstraint("key", name="uq_notices_key"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    for table in ("notices", "approvals", "requests", "entries", "rollouts", "leases", "releases"):
        op.drop_table(table)
