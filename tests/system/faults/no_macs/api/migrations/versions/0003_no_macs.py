"""Macs are not sold any more. It fails where listings of Macs are left: on staging,
not in a new database.
"""

from alembic import op

revision = "0003_no_macs"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_check_constraint("no_macs", "listings", "strpos(title, 'Mac') = 0")


def downgrade() -> None:
    op.drop_constraint("no_macs", "listings")
