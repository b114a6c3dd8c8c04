"""What was signed about releases."""

import sqlalchemy as sa
from alembic import op

revision = "envelopes"
down_revision = "calibrations"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "envelopes",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("release_id", sa.String(120), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_envelopes"),
        sa.ForeignKeyConstraint(["release_id"], ["releases.id"], name="fk_envelopes_release_id"),
        sa.UniqueConstraint("release_id", "fingerprint", name="uq_envelopes_release_id_fingerprint"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("envelopes")
