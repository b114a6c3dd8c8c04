"""A better name for when a listing was added."""

from alembic import op

revision = "0003_added_at"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("listings", "created_at", new_column_name="added_at")


def downgrade() -> None:
    op.alter_column("listings", "added_at", new_column_name="created_at")
