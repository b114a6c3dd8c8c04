"""What a house knows of taking migrations back, by the rollouts that its journal tells of."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from delivery.errors import DeliveryError
from delivery.journal import Ending, Evidence, Progress
from delivery.ports import RunResult
from delivery.record import RolloutRecord
from delivery.release import Release
from delivery.revisions import MigrationReview, ReviewedRevision
from delivery.undoing import Undoing
from flows.migrations import applied_in, known_of_way_back, proofs_before
from tasks import acts
from tasks.image_alembic import MARK
from tests.flows.conftest import Stage

Edit = Callable[[str, str, str], None]
BACK: dict[str, object] = {"after": ["0001"], "undone": ["0002"]}


def a_review(sha256: str) -> MigrationReview:
    return MigrationReview(("0002",), (ReviewedRevision("0002", ("0001",), sha256, "", "SELECT 1", (), Undoing()),))


def released(stage: Stage, version: str, *, sha256: str = "0" * 64) -> Release:
    release = replace(stage.published(version), review=a_review(sha256))
    other = replace(release, id=release.id.replace("v1", "v2"), version=replace(release.version, major=2), sha=type(release.sha)("c" * 40))
    stage.house.store.save_release(other)
    return other


def turned_back(stage: Stage, release: Release, environment: str = "staging") -> RolloutRecord:
    stage.targets[environment].fail("launch", 1, DeliveryError("It does not start.", next="mend it."))
    record = stage.bring(release, environment)
    assert record.ending is Ending.UNTOUCHED
    return record


def progress_of(stage: Stage, record: RolloutRecord) -> Progress:
    return Progress.of(entry.event for entry in stage.house.store.entries(record.id))


@pytest.fixture
def live(stage: Stage, edit_environment: Edit) -> Release:
    """Live on staging, where the schema may go back from now on."""
    release = stage.on_staging("1.0.0")
    edit_environment("staging", "[prove]", '[downgrade]\nallow = "if-safe"\n[prove]')
    return release


@pytest.mark.usefixtures("live")
def test_a_schema_that_went_back_is_where_it_was_and_what_was_undone_may_be_written_anew(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = applied_in(stage.house, "staging")
    assert before is not None
    assert (before.revisions, dict(before.hashes)) == (("0002",), {"0002": "0" * 64})
    monkeypatch.setattr(acts, "downgrade", lambda _step, _scene: Evidence(well=True, summary="back", facts=BACK))
    turned_back(stage, released(stage, "1.1.0"))
    after = applied_in(stage.house, "staging")
    assert after is not None
    assert (after.revisions, dict(after.hashes)) == (("0001",), {})


@pytest.mark.usefixtures("live")
def test_a_schema_that_stayed_is_where_the_migration_brought_it(stage: Stage) -> None:
    record = turned_back(stage, released(stage, "1.1.0"))
    told = progress_of(stage, record).finished["downgrade"]
    assert told.summary.startswith("the schema stays as it is: ")
    applied = applied_in(stage.house, "staging")
    assert applied is not None
    assert (applied.revisions, dict(applied.hashes)) == (("0002",), {"0002": "0" * 64})


@pytest.mark.usefixtures("live")
def test_where_it_stood_is_told_by_the_rollouts_before_and_never_by_the_one_under_way(stage: Stage) -> None:
    seen = []
    target = stage.targets["staging"]

    def look(verb: str, when: str) -> None:
        if (verb, when) == ("launch", "before"):  # after its migration
            [record] = stage.house.store.rollouts(environment="staging", open_only=True)
            seen.append((applied_in(stage.house, "staging"), known_of_way_back(stage.house, progress_of(stage, record))))

    def upgraded(command: Sequence[str]) -> RunResult:
        return RunResult(0, (f'{MARK}{{"before": ["0002"], "after": ["0003"]}}',)) if "upgrade" in command[-1] else RunResult(1, ())

    target.spoil, target.command = look, upgraded
    stage.bring(released(stage, "1.1.0"), "staging")
    [(applied, known)] = seen
    assert applied is not None
    assert applied.revisions == ("0003",)
    assert (known.began, known.arrived, known.recorded, known.approved) == (True, ("0003",), ("0002",), None)


@pytest.mark.parametrize(("hashed", "proven"), [("0" * 64, True), ("1" * 64, False)], ids=["the same file", "another one of that name"])
def test_production_counts_what_staging_took_back_on_a_copy_as_long_as_the_file_is_the_same(
    stage: Stage, live: Release, edit_environment: Edit, monkeypatch: pytest.MonkeyPatch, hashed: str, *, proven: bool
) -> None:
    edit_environment("staging", "smoke = false", "smoke = false\nclone = true")
    facts = {
        "recorded": ["0001"],
        "proven": ["0002"],
        "versions": [live.id],
        "taken_back": {"to": ["0001"], "revisions": ["0002"], "versions": [live.id]},
    }
    monkeypatch.setattr(acts, "prove", lambda _step, _scene: Evidence(well=True, summary="proven", facts=facts))
    on_staging = progress_of(stage, turned_back(stage, released(stage, "1.1.0")))
    known = known_of_way_back(stage.house, on_staging)
    assert (known.recorded, known.proven["0002"]) == (("0001",), {live.id})  # by its own rehearsal
    record = stage.bring(released(stage, "1.2.0", sha256=hashed), "production")
    theirs = known_of_way_back(stage.house, progress_of(stage, record))
    assert theirs.proven == ({"0002": {live.id}} if proven else {})
    assert theirs.approved is False  # nobody asked for it
    production = stage.house.environment("production")
    assert ("0002" in proofs_before(stage.house, production, a_review(hashed))) is proven
