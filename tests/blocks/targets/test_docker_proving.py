"""Migrations proven on a copy of a real database, with real images of the example, beside a version that keeps running."""

import re
import time

import pytest

from delivery.durations import measured_in
from delivery.plan import StepKind
from delivery.release import Release
from tests.system.apart import VARIABLES, Apart, rename_a_column

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def live(apart: Apart) -> Release:
    """1.1.0, whose migrations the database has."""
    apart.repository.commit_release("1.1.0")
    release = apart.release("1.1.0")
    assert apart.act(release, None, StepKind.MIGRATE).summary == "the schema went from an empty database to 0002"
    return release


def test_a_release_that_renames_a_column_in_use_is_stopped_with_the_failing_smoke_test_named(apart: Apart, live: Release) -> None:
    apart.repository.commit_release("1.1.0")
    rename_a_column(apart.repository)
    renaming = apart.release("1.4.0", recorded=("0002",))
    assert renaming.review is not None
    assert [one.rule for one in renaming.review.revisions[0].objections] == ["rename", "squawk:renaming-column"]  # the text tells, too
    evidence = apart.act(renaming, live, StepKind.PROVE)
    assert not evidence.well
    assert evidence.summary == (
        "v1.1.0 still serves, and does not live with the new schema: smoke test: api of v1.1.0 answered 500 to "
        "GET /api/listings?limit=1, expected 200. (and 1 more)"
    )
    assert (apart.revision(), apart.databases(), apart.trials()) == ("0002", {"dealbrain", "postgres"}, [])


def test_a_release_that_only_adds_is_proven_and_the_database_is_as_before(apart: Apart, live: Release) -> None:
    left_behind = [f"greenroom_clone_{int(time.time()) - age}_abc_{whose}" for age, whose in ((7 * 3600, "another"), (60, "another"))]
    mine = f"greenroom_clone_{int(time.time())}_abc_{apart.target.environment.replace('-', '_')}"
    for name in (*left_behind, mine):
        apart.make_database(name)
    apart.repository.commit_release("1.2.0")
    adding = apart.release("1.2.0", recorded=("0002",))
    evidence = apart.act(adding, live, StepKind.PROVE)
    assert (evidence.well, evidence.summary) == (True, "0003 on a copy of the database: v1.1.0 and v1.2.0 live with it"), evidence.facts
    assert (evidence.facts["proven"], evidence.facts["versions"], evidence.facts["objections"]) == (["0003"], [live.id], [])
    measured = measured_in(evidence.facts["measured"])
    assert {one.revision for one in measured} == {"0003"}
    assert "listings" in {one.table for one in measured}
    assert "listings" in apart.target.table_sizes(adding, variables=VARIABLES)
    assert apart.revision() == "0002"
    assert (apart.databases(), apart.trials()) == ({"dealbrain", "postgres", left_behind[1]}, [])  # swept by age, and what was its own
    assert apart.act(adding, live, StepKind.MIGRATE).summary == "the schema went from 0002 to 0003"
    assert apart.act(adding, live, StepKind.PROVE).summary == "no revision is pending: there is nothing to prove"


def test_what_no_longer_is_what_was_reviewed_does_not_run(apart: Apart, live: Release) -> None:
    apart.repository.commit_release("1.2.0")
    file = apart.repository.path / "api/migrations/versions/0004_more.py"
    file.write_text(
        'import sqlalchemy as sa\nfrom alembic import op\n\nrevision, down_revision = "0004", "0003"\n\n\n'
        'def upgrade() -> None:\n    op.add_column("listings", sa.Column("more", sa.Text))\n'
    )
    unread = apart.release("1.2.1")  # published while nobody knew where the database stands
    evidence = apart.act(unread, live, StepKind.MIGRATE)
    assert not evidence.well
    assert re.fullmatch("migration failed: revision 000[34] is pending here, and nobody has looked at it", evidence.summary)
