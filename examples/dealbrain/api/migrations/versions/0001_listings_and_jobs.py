"""Listings and jobs, and the first listing."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    now = sa.text("now()")
    op.create_table(
        "listings",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("key", sa.Text, nullable=False, unique=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("price_cents", sa.BigInteger, nullable=False),
        sa.Column("list_price_cents", sa.BigInteger, nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=now, nullable=False
        ),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("key", sa.Text, nullable=False, unique=True),
        sa.Column(
            "accepted_at",
            sa.DateTime(timezone=True),
            server_default=now,
            nullable=False,
        ),
    )
    op.create_table(
        "job_completions",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("worker_version", sa.Text, nullable=False),
        sa.Column(
            "finished_at",
            sa.DateTime(timezone=True),
            server_default=now,
            nullable=False,
        ),
    )
    op.execute(
        "INSERT INTO listings (key, title, price_cents, list_price_cents)"
        " VALUES ('seed-00001', 'HP EliteDesk no. 1', 17030, 27919)"
    )


def downgrade() -> None:
    op.drop_table("job_completions")
    op.drop_table("jobs")
    op.drop_table("listings")
