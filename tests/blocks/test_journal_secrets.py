"""What is said freely is kept without what this process knows to be secret; plans, names and chains stay as they are."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from blocks.journal import SqlJournal
from delivery.approval import Approval
from delivery.journal import Evidence, Finished, Started, TurnedBack
from delivery.redaction import know
from tests.delivery.samples import a_plan

SECRET = "correct-horse"
LONG = timedelta(minutes=5)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqlJournal]:
    opened = SqlJournal(f"sqlite:///{tmp_path / 'journal.db'}")
    opened.migrate()
    yield opened
    opened.close()


def test_no_entry_notice_or_word_of_a_person_keeps_a_secret(journal: SqlJournal, tmp_path: Path) -> None:
    know([SECRET])
    lease = journal.acquire("production", holder="us", purpose="a rollout", ttl=LONG)
    request = journal.open_request(a_plan(), key="run", expires_at=journal.now() + LONG)
    journal.decide(request.number, Approval("Bea", "reject", f"it has {SECRET}", "cli", journal.now()))
    rollout = journal.open_rollout(lease, a_plan(), by="ann")
    evidence = Evidence(well=False, summary=f"said {SECRET}", facts={"lines": [SECRET, {"deep": f"x {SECRET}"}], "count": 7})
    journal.log_of(rollout, lease).append(Started("prepare", attempt=1), Finished("prepare", evidence), TurnedBack(f"since {SECRET}"))
    journal.put_notice("production/1", f"it said {SECRET}", None)
    journal.close_request(request.number, f"closed: {SECRET}")
    journal.open_incident("production", by="ann", text=f"users see {SECRET}")
    finished = journal.entries(rollout)[2].event
    assert finished == Finished(
        "prepare", Evidence(well=False, summary="said ***", facts={"lines": ["***", {"deep": "x ***"}], "count": 7})
    )
    journal.verify_chain(rollout)
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"it said ***" in kept
    assert SECRET.encode() not in kept


def test_a_plan_whose_names_are_somebodys_secret_stays_what_was_approved(journal: SqlJournal) -> None:
    plan = a_plan()
    know(["production", plan.release.id])
    lease = journal.acquire("production", holder="us", purpose="a rollout", ttl=LONG)
    request = journal.open_request(plan, key="run", expires_at=journal.now() + LONG)
    rollout = journal.open_rollout(lease, request.plan, by="ann")
    journal.verify_chain(rollout)
    assert journal.entries(rollout)[0].event.plan == request.plan  # type: ignore[union-attr]
    assert journal.request(request.number).plan.release == plan.release
