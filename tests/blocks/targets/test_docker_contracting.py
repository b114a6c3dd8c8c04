"""A column is taken away from a real database only once no real image that serves names it, beside versions that keep running."""

from datetime import date

import pytest

from delivery.operations import MigrationWaiver
from delivery.plan import StepKind
from delivery.release import Release
from delivery.revisions import admit
from tests.system.apart import Apart

pytestmark = pytest.mark.docker

DROP = 'op.drop_column("job_completions", "worker_version")'
# What SQL cannot tell beforehand: Alembic does not render it without a database.
HIDDEN = f'if op.get_bind().execute(sa.text("SELECT 1")).scalar_one():\n        {DROP}'
OPTIONAL = 'op.alter_column("job_completions", "worker_version", nullable=True)'
TIGHTEN = 'op.alter_column("listings", "title", nullable=False)'
NO_DEFAULT = 'op.execute("ALTER TABLE listings ALTER COLUMN created_at DROP DEFAULT")'


def write_revision(apart: Apart, name: str, down: str, body: str) -> None:
    file = apart.repository.path / f"api/migrations/versions/{name}_of_a_test.py"
    lead = f'import sqlalchemy as sa\nfrom alembic import op\n\nrevision, down_revision = "{name}", "{down}"\n'
    file.write_text(f"{lead}\n\ndef upgrade() -> None:\n    {body}\n")


def forget_the_column(apart: Apart) -> None:
    """The code no longer names it, as the release before the last does."""
    code = apart.repository.path / "api" / "dealbrain"
    for file, before, after in (
        ("models.py", "    worker_version: Mapped[str] = mapped_column(Text)\n", ""),
        ("jobs.py", "(key, worker_version) VALUES ($1, $2)", "(key) VALUES ($1)"),
        ("jobs.py", "            settings.version,\n", ""),
    ):
        text = (code / file).read_text()
        assert text.count(before) == 1
        (code / file).write_text(text.replace(before, after))


@pytest.fixture(scope="module")
def live(apart: Apart) -> Release:
    """1.1.0, whose worker writes the column, and whose smoke requests never touch it."""
    apart.repository.commit_release("1.1.0")
    release = apart.release("1.1.0")
    assert apart.act(release, None, StepKind.MIGRATE).well
    return release


@pytest.mark.parametrize(("body", "rule"), [(DROP, "drop-column"), (HIDDEN, "gone")], ids=["as SQL", "by Python"])
def test_a_column_that_code_names_and_no_smoke_request_touches_is_not_taken_away_and_the_place_is_named(
    apart: Apart, live: Release, body: str, rule: str
) -> None:
    apart.repository.commit_release("1.1.0")
    forget_the_column(apart)
    write_revision(apart, "0003", "0002", body)
    early = apart.release(f"1.3.{len(rule)}", recorded=("0002",))
    evidence = apart.act(early, live, StepKind.PROVE)
    assert not evidence.well
    assert evidence.summary.startswith(
        f"it contracts: {rule} on job_completions: worker_version: not proved beside {live.id}: worker_version is named in "
    )
    for place in ("api:/srv/dealbrain/jobs.py:71", "api:/srv/dealbrain/models.py:47"):
        assert place in evidence.summary
    assert "(and 1 more)" in evidence.summary  # the worker's image, which nobody started
    assert "waive contraction on that table" in str(evidence.facts["next"])
    assert (apart.revision(), apart.databases(), apart.trials()) == ("0002", {"dealbrain", "postgres"}, [])
    waived = MigrationWaiver(rule="contraction", table="job_completions", reason="nobody reads it", owner="Bea", until=date(2999, 1, 1))
    if rule == "gone":
        answered_for = apart.act(early, live, StepKind.PROVE, waived)
        assert (answered_for.well, "waived, not proved" in answered_for.summary) == (True, True)


def test_what_writes_must_do_is_proved_by_a_smoke_request_that_writes_and_one_that_fails_is_named(apart: Apart, live: Release) -> None:
    apart.repository.commit_release("1.1.0")
    write_revision(apart, "0003", "0002", TIGHTEN)
    evidence = apart.act(apart.release("1.3.1", recorded=("0002",)), live, StepKind.PROVE)
    assert evidence.well, evidence.summary
    (proof,) = evidence.facts["contractions"]  # type: ignore[misc]  # a list of what the journal holds
    assert proof["how"] == "its smoke requests wrote 1 row of listings afterwards"
    write_revision(apart, "0003", "0002", NO_DEFAULT)
    broken = apart.act(apart.release("1.3.2", recorded=("0002",)), live, StepKind.PROVE)
    assert broken.summary.endswith("smoke test: api of v1.1.0 answered 500 to POST /api/listings, expected 201.")


def test_once_the_version_that_serves_no_longer_names_it_the_column_goes(apart: Apart, live: Release) -> None:
    apart.repository.commit_release("1.1.0")
    forget_the_column(apart)
    write_revision(apart, "0003", "0002", OPTIONAL)
    without = apart.release("1.4.0", recorded=("0002",))
    assert apart.act(without, live, StepKind.PROVE).well
    assert apart.act(without, live, StepKind.MIGRATE).well
    write_revision(apart, "0004", "0003", DROP)
    contracting = apart.release("1.5.0", recorded=("0003",))
    assert contracting.review is not None
    hashes = contracting.review.hashes()
    told = admit(contracting.review, recorded=("0003",), serves="v1.4.0", waivers=(), today=date(2999, 1, 1), unused=hashes)
    assert told.refusal == ""  # nobody need answer for what is proved
    evidence = apart.act(contracting, without, StepKind.PROVE)
    assert evidence.well, evidence.summary
    (proof,) = evidence.facts["contractions"]  # type: ignore[misc]  # a list of what the journal holds
    assert proof["how"].startswith("worker_version is named in none of ")
    assert proof["how"].endswith(" files of api, worker, and its 2 smoke requests went well afterwards")
    assert apart.act(contracting, without, StepKind.MIGRATE).summary == "the schema went from 0003 to 0004"
