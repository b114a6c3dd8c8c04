"""Whether backups bring everything back."""

import sqlalchemy as sa
from alembic import op

revision = "restore_tests"
down_revision = "signed_approvals"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "restore_tests",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("environment", sa.String(31), nullable=False),
        sa.Column("rollout_id", sa.String(60), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("well", sa.Boolean, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_restore_tests"),
        sa.UniqueConstraint("key", name="uq_restore_tests_key"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("restore_tests")
