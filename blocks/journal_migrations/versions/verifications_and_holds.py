"""What users' endpoints answered, and holds on promotions."""

import sqlalchemy as sa
from alembic import op

revision = "verifications_and_holds"
down_revision = "first_tables"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "verifications",
        sa.Column("environment", sa.String(31), nullable=False),
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("rollout", sa.String(60), nullable=False),
        sa.Column("release_id", sa.String(120), nullable=False),
        sa.Column("deed", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("alerted", sa.Boolean, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("environment", "number", name="pk_verifications"),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_verifications_rollout"),
        sa.UniqueConstraint("key", name="uq_verifications_key"),
    )
    op.create_table(
        "holds",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("environment", sa.String(31), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("held", sa.Boolean, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_holds"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    for table in ("holds", "verifications"):
        op.drop_table(table)
