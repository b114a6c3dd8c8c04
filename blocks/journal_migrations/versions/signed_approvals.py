"""A person's signature beside their word."""

import sqlalchemy as sa
from alembic import op

revision = "signed_approvals"
down_revision = "envelopes"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("approvals", sa.Column("signature", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("approvals", "signature")
