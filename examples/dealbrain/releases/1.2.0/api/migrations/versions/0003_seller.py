"""Who sells it; unknown for the listings there are."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("listings", sa.Column("seller", sa.Text, nullable=True))


def downgrade() -> None:
    op.drop_column("listings", "seller")
