"""What people and monitors report of incidents."""

import sqlalchemy as sa
from alembic import op

revision = "incidents"
down_revision = "verifications_and_holds"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "incident_facts",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("incident", sa.Integer, nullable=True),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("environment", sa.String(31), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("rollout", sa.String(60), nullable=True),
        sa.Column("impact_started_at", _MOMENT, nullable=True),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("written_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_incident_facts"),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_incident_facts_rollout"),
        sa.UniqueConstraint("key", name="uq_incident_facts_key"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("incident_facts")
