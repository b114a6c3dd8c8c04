"""How alike two halves of the live release were."""

import sqlalchemy as sa
from alembic import op

revision = "calibrations"
down_revision = "incidents"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "calibrations",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("environment", sa.String(31), nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("release_id", sa.String(120), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("look_seconds", sa.Float, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_calibrations"),
        sa.UniqueConstraint("key", "environment", "service", name="uq_calibrations_key_environment_service"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("calibrations")
