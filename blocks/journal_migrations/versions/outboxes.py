"""Who sends notices, and which messages tell about them."""

import sqlalchemy as sa
from alembic import op

revision = "outboxes"
down_revision = "restore_tests"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "outboxes",
        sa.Column("environment", sa.String(200), nullable=False),
        sa.Column("holder", sa.String(60), nullable=False),
        sa.Column("until", _MOMENT, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("environment", name="pk_outboxes"),
    )
    op.create_table(
        "notice_places",
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_notice_places"),
    )


def downgrade() -> None:
    op.drop_table("notice_places")
    op.drop_table("outboxes")
