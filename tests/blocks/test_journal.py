import hashlib
import itertools
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.ddl.impl import DefaultImpl
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError

import blocks.journal
import blocks.journal_leases
from blocks import database
from blocks.documents import fingerprint, to_document
from blocks.journal import HEAD, MIGRATIONS, VERSION_TABLE, SqlJournal
from blocks.journal_tables import TABLES
from delivery.approval import Approval
from delivery.backup import RestoreTest
from delivery.calibration import NEWEST, Calibration
from delivery.environment import Kind
from delivery.errors import DeliveryError, EnvironmentBusy, InvalidSettings, StaleFence, TransientError
from delivery.journal import Closed, Ending, Event, Evidence, Finished, Journal, Opened, Promoted, Started, TurnedBack
from delivery.noise import Halves
from delivery.plan import Plan, Step, plan_rollout
from delivery.record import Lease
from delivery.release import Release
from delivery.source import Semver
from delivery.verification import Deed, Finding, Verification
from delivery.walk import walk
from deployments.processes import wait_until
from tests.blocks.postgresql_server import PASSWORD
from tests.delivery.samples import ALL, a_plan, a_release, an_environment

ROOT = Path(__file__).resolve().parents[2]
RACER = Path(__file__).with_name("journal_racer.py")
LONG, SHORT = timedelta(minutes=5), timedelta(milliseconds=50)


def held(journal: SqlJournal, *, ttl: timedelta = LONG, holder: str = "us", environment: str = "production") -> Lease:
    return journal.acquire(environment, holder=holder, purpose="releasing v1.1.0", ttl=ttl)


def expired(journal: SqlJournal, lease: Lease) -> Lease:
    """The same lease, once the database's clock has passed its end."""
    wait_until(lambda: journal.now() > lease.expires_at, what="the end of the lease", seconds=20)
    return lease


def change(journal: SqlJournal, statement: str, **values: object) -> None:
    """What a person with a database client could do."""
    with journal._database.engine.begin() as connection:
        assert connection.execute(text(statement), values).rowcount >= 1


def released(
    journal: SqlJournal, version: str, *, kind: Kind = "normal", environment: str = "production", sick_at: str | None = None
) -> tuple[str, Closed]:
    """A whole rollout."""
    live = journal.live(environment)
    return carried_out(
        journal, plan_rollout(a_release(version), an_environment(environment), capabilities=ALL, blue=live, kind=kind), sick_at
    )


def carried_out(journal: SqlJournal, plan: Plan, sick_at: str | None = None) -> tuple[str, Closed]:
    lease = held(journal, environment=plan.environment.name)

    def act(step: Step) -> Evidence:
        return Evidence(well=step.name != sick_at, summary="seen")

    rollout = journal.open_rollout(lease, plan, by="ann")
    never = threading.Event()
    closed = walk(Journal(journal.log_of(rollout, lease)), act, never, lost=never)
    journal.give_up(lease)
    return rollout, closed


def race(url: str, what: str, *, racers: int, argument: str = "") -> list[Any]:
    """The answers of as many processes that begin at once; None for one that was killed."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(RACER), what, argument],
            cwd=ROOT,
            env={**os.environ, "RACER_URL": url, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(racers)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0] for process in processes]
    return [json.loads(answer) if answer else None for answer in answers]


# the tables


def test_migrating_again_changes_nothing(journal: SqlJournal) -> None:
    journal.save_release(a_release())
    journal.migrate()
    assert journal.release(a_release().id) == a_release()


@pytest.mark.processes
def test_two_processes_that_start_at_once_make_the_tables_once(empty_url: str) -> None:
    assert race(empty_url, "migrate", racers=2) == ["migrated"] * 2
    journal = SqlJournal(empty_url)
    journal.save_release(a_release())
    journal.close()


def test_several_threads_that_start_at_once_make_the_tables_once(empty_url: str) -> None:
    journals = [SqlJournal(empty_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(SqlJournal.migrate, journals))
    journals[0].save_release(a_release())
    for journal in journals:
        journal.close()


def test_tables_are_made_by_one_while_the_other_waits(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pause = Pause(DefaultImpl.create_table)
    monkeypatch.setattr(DefaultImpl, "create_table", lambda *arguments, **named: pause(*arguments, **named))  # noqa: PLW0108  a method
    monkeypatch.setattr(blocks.journal, "_ALEMBIC", nullcontext())  # as between two processes
    one, other = SqlJournal(empty_url), SqlJournal(empty_url)
    beside(pause, one.migrate, other.migrate)
    other.save_release(a_release())
    for journal in (one, other):
        journal.close()


def test_the_migrations_make_the_tables_that_the_code_uses(journal: SqlJournal) -> None:
    with journal._database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, TABLES) == []


def test_the_newest_revision_is_the_one_that_migrate_looks_for() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [HEAD]


def test_a_database_without_tables_says_that_it_was_not_migrated(empty_url: str) -> None:
    journal = SqlJournal(empty_url)
    with pytest.raises(DeliveryError, match="has no tables yet"):
        journal.rollouts()
    journal.close()


def test_a_database_of_a_newer_greenroom_is_left_alone(journal: SqlJournal) -> None:
    change(journal, "UPDATE greenroom_journal_version SET version_num = 'from_the_future'")
    with pytest.raises(DeliveryError, match="revision 'from_the_future', which this Greenroom does not know"):
        journal.migrate()


def test_the_folder_of_a_new_journal_is_made(tmp_path: Path) -> None:
    journal = SqlJournal(f"sqlite:///{tmp_path}/not/yet/there/journal.db")
    journal.migrate()
    assert list(journal.rollouts()) == []
    journal.close()


def test_the_clock_is_the_databases_and_aware(journal: SqlJournal) -> None:
    first, second = journal.now(), journal.now()
    assert first.tzinfo is UTC
    assert first <= second
    assert abs(first - datetime.now(UTC)) < timedelta(minutes=1)


# releases


def test_a_release_comes_back_exactly(journal: SqlJournal) -> None:
    release = a_release("1.1.0-main.3")
    journal.save_release(release)
    journal.save_release(release)
    assert journal.release(release.id) == release
    assert journal.release_of(Semver(1, 1, 0, "main.3")) == release
    assert journal.release_of_commit(release.sha, release.version) == release
    assert journal.release_of_commit(release.sha, Semver(9, 9, 9)) is None


def test_another_commit_under_a_released_version_is_refused(journal: SqlJournal) -> None:
    journal.save_release(a_release(commit="a"))
    with pytest.raises(InvalidSettings, match=r"Version v1\.1\.0 is already released from commit aaaaaaaa, got commit bbbbbbbb"):
        journal.save_release(a_release(commit="b"))
    assert journal.release_of(Semver(1, 1, 0)) == a_release(commit="a")


def test_other_images_under_a_published_release_are_refused(journal: SqlJournal) -> None:
    journal.save_release(a_release(image="1"))
    with pytest.raises(InvalidSettings, match="already published with other images"):
        journal.save_release(a_release(image="2"))


@pytest.mark.parametrize("ask", [lambda j: j.release("v9.9.9-00000000"), lambda j: j.release_of(Semver(9, 9, 9))])
def test_an_unknown_release_is_refused_with_those_that_are_known(journal: SqlJournal, ask: Callable[[SqlJournal], Release]) -> None:
    journal.save_release(a_release())
    with pytest.raises(InvalidSettings, match=f"got 'v9.9.9.*expected one that was published: {a_release().id}"):
        ask(journal)


# the lease


@pytest.mark.processes
def test_of_two_processes_exactly_one_gets_the_lease(url: str, journal: SqlJournal) -> None:
    answers = race(url, "acquire", racers=2)
    assert sorted(map(str, answers)) == ["1", "EnvironmentBusy"]
    assert [lease.fence for lease in journal.leases()] == [1]


def test_of_many_threads_exactly_one_gets_the_lease(journal: SqlJournal) -> None:
    def attempt(number: int) -> int | None:
        try:
            return held(journal, holder=f"thread {number}").fence
        except EnvironmentBusy:
            return None

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(attempt, range(8)))
    assert [answer for answer in answers if answer] == [1]


class Pause:
    """Stands in for a function and holds its first call until `go` is set; `reached` tells that it got there."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._calls = itertools.count()
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if next(self._calls) == 0:
            self.reached.set()
            assert self.go.wait(30)
        return self._function(*arguments, **named)


def beside(pause: Pause, first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
    """Runs both, the second while the first is held at the pause; the second gets half a second to do harm in."""
    with ThreadPoolExecutor(2) as pool:
        paused = pool.submit(first)
        assert pause.reached.wait(30)
        other = pool.submit(second)
        wait([other], timeout=0.5)
        pause.go.set()
        return paused.result(), other.result()


def test_nobody_takes_the_lease_between_anothers_look_and_write(journal: SqlJournal, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.give_up(held(journal))
    pause = Pause(blocks.journal_leases._store_lease)
    monkeypatch.setattr(blocks.journal_leases, "_store_lease", pause)
    rival = SqlJournal(url)

    def lose() -> str:
        with pytest.raises(EnvironmentBusy) as busy:
            held(rival, holder="them")
        return busy.value.what

    lease, told = beside(pause, lambda: held(journal), lose)
    rival.close()
    assert (lease.fence, list(journal.leases())) == (2, [lease])
    assert "by us since" in told


def test_a_busy_environment_names_who_holds_it_even_to_the_holder(journal: SqlJournal) -> None:
    lease = held(journal)
    for holder in ("them", "us"):
        with pytest.raises(EnvironmentBusy) as busy:
            held(journal, holder=holder)
        assert busy.value.what == f"Production is busy: releasing v1.1.0 by us since {lease.since:%Y-%m-%d %H:%M:%S} UTC."


def test_leases_of_two_environments_do_not_meet(journal: SqlJournal) -> None:
    assert held(journal).fence == held(journal, environment="staging").fence == 1


def test_the_fence_rises_with_each_holder_and_outlives_the_giving_up(journal: SqlJournal) -> None:
    fences = []
    for _ in range(3):
        lease = held(journal)
        fences.append(lease.fence)
        journal.give_up(lease)
        journal.give_up(lease)
    assert fences == [1, 2, 3]
    assert list(journal.leases()) == []


def test_an_abandoned_lease_can_be_taken_over_and_is_stale_from_then_on(journal: SqlJournal) -> None:
    old = expired(journal, held(journal, ttl=SHORT))
    assert [(lease.holder, lease.expires_at) for lease in journal.leases()] == [("us", old.expires_at)]
    new = held(journal, holder="them")
    assert new.fence == old.fence + 1
    with pytest.raises(StaleFence, match="went to them"):
        journal.renew(old, ttl=LONG)
    journal.give_up(old)
    assert [lease.holder for lease in journal.leases()] == ["them"]


def test_renewing_prolongs_the_lease_by_the_databases_clock(journal: SqlJournal) -> None:
    lease = held(journal, ttl=timedelta(seconds=30))
    renewed = journal.renew(lease, ttl=LONG)
    assert renewed.expires_at >= lease.expires_at + LONG - timedelta(seconds=30)
    assert (renewed.fence, renewed.since) == (lease.fence, lease.since)
    assert list(journal.leases()) == [renewed]


def test_a_lease_that_was_given_up_does_not_come_back_by_a_late_renewal(journal: SqlJournal) -> None:
    lease = held(journal)
    journal.give_up(lease)
    with pytest.raises(StaleFence, match="was given up"):
        journal.renew(lease, ttl=LONG)


# rollouts and their entries


def test_a_walk_is_written_as_it_went(journal: SqlJournal) -> None:
    rollout, closed = released(journal, "1.1.0")
    entries = journal.entries(rollout)
    record = journal.rollout(rollout)
    assert rollout == "production-1"
    assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
    assert isinstance(entries[0].event, Opened)
    assert entries[-1].event == closed == Closed(Ending.LIVE, "Production runs v1.1.0.")
    assert (record.ending, record.message, record.version, record.by) == (Ending.LIVE, closed.message, "1.1.0", "ann")
    assert record.promoted_at is not None
    assert record.ended_at is not None
    assert entries[0].at <= record.opened_at <= record.promoted_at <= record.ended_at == entries[-1].at
    journal.verify_chain(rollout)


def test_events_come_back_exactly_as_they_were_written(journal: SqlJournal) -> None:
    lease = held(journal)
    plan = a_plan()
    rollout = journal.open_rollout(lease, plan, by="Zoë")
    facts = {"share": 0.25, "rows": [[1, None], [2.5, "ü"]], "nested": {"a": True}}
    events: list[Event] = [
        Started("prepare", attempt=1),
        Finished("prepare", Evidence(well=True, summary="fine", facts=facts)),
        TurnedBack("cancelled"),
        Promoted("v1"),
        Closed(Ending.NEEDS_HUMAN, "Production needs a person."),
    ]
    journal.log_of(rollout, lease).append(*events)
    assert list(journal.log_of(rollout).events()) == [Opened(plan, by="Zoë"), *events]


@pytest.mark.parametrize("odd", ["\x00", "\udcff", "😀", "'; DROP TABLE entries; --", "%s %(x)s :x"])
def test_whatever_a_tool_prints_can_be_written(journal: SqlJournal, odd: str) -> None:
    lease = held(journal, holder=f"h{odd}")
    rollout = journal.open_rollout(lease, a_plan(), by=f"ann {odd}")
    log = journal.log_of(rollout, replace(lease, holder=lease.holder))
    log.append(
        Finished("prepare", Evidence(well=False, summary=odd, facts={odd: odd, "path": Path("/x"), "nan": float("nan"), "what": object()})),
        Closed(Ending.UNTOUCHED, f"Production is unchanged. {odd}"),
    )
    journal.verify_chain(rollout)
    assert journal.entries(rollout)[1].event.step == "prepare"  # type: ignore[union-attr]


def test_an_append_writes_all_events_or_none(journal: SqlJournal) -> None:
    lease = held(journal)
    rollout = journal.open_rollout(lease, a_plan(), by="ann")
    endless: dict[str, object] = {}
    endless["itself"] = endless
    with pytest.raises(ValueError, match=r"[Cc]ircular"):
        journal.log_of(rollout, lease).append(Started("prepare", 1), Finished("prepare", Evidence(well=True, summary="", facts=endless)))
    assert len(journal.entries(rollout)) == 1


def test_an_expired_holder_writes_nothing_even_when_nobody_took_over(journal: SqlJournal) -> None:
    lease = held(journal, ttl=timedelta(milliseconds=300))
    rollout = journal.open_rollout(lease, a_plan(), by="ann")
    expired(journal, lease)
    with pytest.raises(StaleFence, match="expired at"):
        journal.log_of(rollout, lease).append(Started("prepare", 1))
    assert len(journal.entries(rollout)) == 1


def test_a_stale_holder_writes_nothing_beside_the_new_one(journal: SqlJournal) -> None:
    old = held(journal, ttl=timedelta(milliseconds=300))
    rollout = journal.open_rollout(old, a_plan(), by="ann")
    expired(journal, old)
    new = held(journal, holder="them")
    journal.log_of(rollout, new).append(Started("prepare", 1))
    with pytest.raises(StaleFence, match="went to them"):
        journal.log_of(rollout, old).append(Finished("prepare", Evidence(well=True, summary="late")))
    with pytest.raises(StaleFence):
        journal.open_rollout(old, a_plan("1.2.0"), by="ann")
    assert [entry.fence for entry in journal.entries(rollout)] == [1, 2]
    journal.verify_chain(rollout)


def test_a_log_without_a_lease_is_for_reading(journal: SqlJournal) -> None:
    rollout, _ = released(journal, "1.1.0")
    with pytest.raises(DeliveryError, match="opened for reading"):
        journal.log_of(rollout).append(Started("prepare", 1))


def test_the_lease_of_another_environment_does_not_open_the_log(journal: SqlJournal) -> None:
    rollout = journal.open_rollout(held(journal), a_plan(), by="ann")
    with pytest.raises(DeliveryError, match="is not in staging"):
        journal.log_of(rollout, held(journal, environment="staging")).append(Started("prepare", 1))


def test_nothing_follows_the_end_of_a_rollout(journal: SqlJournal) -> None:
    rollout, _ = released(journal, "1.1.0")
    with pytest.raises(DeliveryError, match="has ended"):
        journal.log_of(rollout, held(journal)).append(TurnedBack("late"))


@pytest.mark.processes
def test_many_writers_at_once_leave_one_unbroken_chain(journal: SqlJournal, url: str) -> None:
    lease = held(journal)
    rollout = journal.open_rollout(lease, a_plan(), by="ann")
    other = SqlJournal(url)

    def write(number: int) -> None:
        (journal if number % 2 else other).log_of(rollout, lease).append(Started("prepare", number), Started("launch", number))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(24)))
    other.close()
    events = [entry.event for entry in journal.entries(rollout)][1:]
    assert [entry.sequence for entry in journal.entries(rollout)] == list(range(1, 50))
    assert sorted(event.attempt for event in events[::2]) == list(range(24))  # type: ignore[union-attr]
    assert [event.attempt for event in events[::2]] == [event.attempt for event in events[1::2]]  # type: ignore[union-attr]
    journal.verify_chain(rollout)


@pytest.mark.processes
def test_what_was_written_ahead_outlives_a_killed_process(journal: SqlJournal, url: str) -> None:
    lease = held(journal)
    rollout = journal.open_rollout(lease, a_plan(), by="ann")
    journal.give_up(lease)
    assert race(url, "append_and_die", racers=1, argument=rollout) == [None]
    assert [entry.event for entry in journal.entries(rollout)][1:] == [Started("prepare", attempt=1)]
    journal.verify_chain(rollout)


EDITS = [
    ("UPDATE entries SET payload = REPLACE(payload, 'seen', 'fine') WHERE sequence = 5", "Entry 5 of rollout production-1 was changed"),
    ("UPDATE entries SET payload = payload || ' ' WHERE sequence = 1", "Entry 1 .* was changed"),
    ("UPDATE entries SET fence = 7 WHERE sequence = 3", "Entry 3 .* was changed"),
    ("UPDATE entries SET at = '2020-01-01 00:00:00.000000' WHERE sequence = 4", "Entry 4 .* was changed"),
    ("UPDATE entries SET kind = 'Closed' WHERE sequence = 2", "Entry 2 .* was changed: its kind"),
    ("UPDATE entries SET previous = hash WHERE sequence = 6", "Entry 6 .* was changed"),
    ("DELETE FROM entries WHERE sequence = 3", "Entry 3 .* is missing"),
    ("DELETE FROM entries WHERE kind = 'Closed'", "The end of rollout production-1 does not fit"),
    ("UPDATE rollouts SET ending = 'ROLLED_BACK'", "The end of rollout production-1 does not fit"),
    ("UPDATE rollouts SET message = 'all is well'", "The end of rollout production-1 does not fit"),
    ("UPDATE rollouts SET promoted_at = NULL", "The promotion of rollout production-1 does not fit"),
]


@pytest.mark.parametrize(("statement", "told"), EDITS)
def test_an_edited_row_is_found_and_named(journal: SqlJournal, statement: str, told: str) -> None:
    rollout, _ = released(journal, "1.1.0")
    journal.verify_chain(rollout)
    change(journal, statement)
    with pytest.raises(DeliveryError, match=told):
        journal.verify_chain(rollout)


def test_an_open_rollout_verifies_too(journal: SqlJournal) -> None:
    journal.verify_chain(journal.open_rollout(held(journal), a_plan(), by="ann"))


def test_one_request_opens_one_rollout(journal: SqlJournal) -> None:
    lease = held(journal)
    plan = journal.open_request(a_plan(), key="run", expires_at=journal.now() + LONG).plan
    first = journal.open_rollout(lease, plan, by="ann")
    assert journal.open_rollout(lease, plan, by="bob") == first
    assert len(journal.entries(first)) == 1


def test_a_second_rollout_waits_for_the_end_of_the_first(journal: SqlJournal) -> None:
    lease = held(journal)
    first = journal.open_rollout(lease, a_plan(), by="ann")
    with pytest.raises(EnvironmentBusy, match=f"Production has an open rollout: {first} to 1.1.0 by ann since"):
        journal.open_rollout(lease, a_plan("1.2.0"), by="bob")
    journal.log_of(first, lease).append(Closed(Ending.UNTOUCHED, "Production is unchanged."))
    assert journal.open_rollout(lease, a_plan("1.2.0"), by="bob") == "production-2"


def test_a_plan_needs_the_lease_of_its_own_environment(journal: SqlJournal) -> None:
    with pytest.raises(DeliveryError, match="The plan is for production, the lease for staging"):
        journal.open_rollout(held(journal, environment="staging"), a_plan(), by="ann")


def test_rollouts_are_listed_newest_first_and_by_what_is_asked(journal: SqlJournal) -> None:
    for version in ("1.0.0", "1.1.0"):
        released(journal, version, environment="staging")
        released(journal, version)
    still_open = journal.open_rollout(held(journal), a_plan("1.2.0", blue="1.1.0"), by="ann")
    assert [record.id for record in journal.rollouts()] == ["production-3", "production-2", "staging-2", "production-1", "staging-1"]
    assert [record.id for record in journal.rollouts(environment="staging")] == ["staging-2", "staging-1"]
    assert [record.id for record in journal.rollouts(open_only=True)] == [still_open]
    assert [record.id for record in journal.rollouts(limit=1)] == [still_open]
    assert journal.rollout("production-2").blue == a_release("1.0.0").id


@pytest.mark.parametrize("ask", [lambda j: j.rollout("production-9"), lambda j: j.log_of("production-9").events()])
def test_an_unknown_rollout_is_refused_with_those_that_are_known(journal: SqlJournal, ask: Callable[[SqlJournal], object]) -> None:
    rollout, _ = released(journal, "1.1.0")
    with pytest.raises(InvalidSettings, match=f"got 'production-9', expected one that was opened: {rollout}"):
        ask(journal)


STORIES: list[tuple[str, Sequence[tuple[str, Kind]], str | None, str | None]] = [
    ("nothing yet", [], None, None),
    ("the first release", [("1.0.0", "normal")], "1.0.0", None),
    ("the second", [("1.0.0", "normal"), ("1.1.0", "normal")], "1.1.0", "1.0.0"),
    ("back from the second", [("1.0.0", "normal"), ("1.1.0", "normal"), ("1.0.0", "rollback")], "1.0.0", None),
    (
        "back from the third leads to the first next",
        [("1.0.0", "normal"), ("1.1.0", "normal"), ("1.2.0", "normal"), ("1.1.0", "rollback")],
        "1.1.0",
        "1.0.0",
    ),
    (
        "back twice leads nowhere else",
        [("1.0.0", "normal"), ("1.1.0", "normal"), ("1.2.0", "normal"), ("1.1.0", "rollback"), ("1.0.0", "rollback")],
        "1.0.0",
        None,
    ),
    (
        "a jump back does not lead forward to what it skipped",
        [("1.0.0", "normal"), ("1.1.0", "normal"), ("1.2.0", "normal"), ("1.0.0", "rollback")],
        "1.0.0",
        None,
    ),
    (
        "a new release after going back",
        [("1.0.0", "normal"), ("1.1.0", "normal"), ("1.0.0", "rollback"), ("1.2.0", "normal")],
        "1.2.0",
        "1.0.0",
    ),
    (
        "forward again by name to what was rolled back from",
        [("1.0.0", "normal"), ("1.1.0", "normal"), ("1.0.0", "rollback"), ("1.1.0", "rollback")],
        "1.1.0",
        "1.0.0",
    ),
    ("a hotfix counts as a release", [("1.0.0", "normal"), ("1.1.0", "hotfix")], "1.1.0", "1.0.0"),
]


@pytest.mark.parametrize(("story", "live", "previous"), [case[1:] for case in STORIES], ids=[case[0] for case in STORIES])
def test_going_back_leads_to_what_was_live_before_and_never_to_what_was_rolled_back_from(
    journal: SqlJournal, story: Sequence[tuple[str, Kind]], live: str | None, previous: str | None
) -> None:
    for version, kind in story:
        released(journal, version, kind=kind)
    released(journal, "9.9.9", environment="staging")
    assert journal.live("production") == (a_release(live) if live else None)
    assert journal.previous("production") == (a_release(previous) if previous else None)


def test_what_lived_comes_with_the_secrets_that_it_was_brought_with(journal: SqlJournal) -> None:
    first, again = a_release("1.0.0"), a_release("1.0.0").with_settings(2)
    released(journal, "1.0.0")
    carried_out(journal, replace(a_plan("1.1.0"), release=again.with_secret("URL", 2), blue=first, kind="config"))
    assert journal.lived("production", newest=9) == [again.with_secret("URL", 2), first]
    assert journal.release(again.id) == again
    assert journal.release_of(first.version) == first


def test_a_release_that_was_turned_back_was_never_live(journal: SqlJournal) -> None:
    released(journal, "1.0.0")
    _, closed = released(journal, "1.1.0", sick_at="watch-50")
    assert closed.ending is Ending.ROLLED_BACK
    assert journal.live("production") == a_release("1.0.0")
    assert journal.previous("production") is None


# promotion requests


def asked(journal: SqlJournal, plan: Plan | None = None, *, key: str = "run-1", within: timedelta = LONG) -> int:
    return journal.open_request(plan or a_plan(), key=key, expires_at=journal.now() + within).number


def word(person: str = "Bob", decision: Any = "approve") -> Approval:
    return Approval(person, decision, reason="seen", channel="ui", at=datetime(2020, 1, 1, tzinfo=UTC))


def test_a_request_is_numbered_and_binds_its_plan(journal: SqlJournal) -> None:
    number = asked(journal)
    request = journal.request(number)
    assert request.plan == replace(a_plan(), request=number)
    assert request.plan_hash == fingerprint(request.plan)
    assert (request.key, request.approvals, request.closed) == ("run-1", (), None)


def test_the_same_key_asks_once(journal: SqlJournal) -> None:
    with ThreadPoolExecutor(4) as pool:
        numbers = set(pool.map(lambda _: asked(journal), range(8)))
    assert len(numbers) == 1
    assert len(journal.requests()) == 1


def test_a_plan_that_an_older_greenroom_froze_can_still_be_read(journal: SqlJournal) -> None:
    number = asked(journal)
    older = to_document(journal.request(number).plan)
    del older["planned"], older["remediates"]
    text_of_it = json.dumps(older, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    hash_of_it = hashlib.sha256(text_of_it.encode()).hexdigest()
    change(journal, "UPDATE requests SET plan = :plan, plan_hash = :hash", plan=text_of_it, hash=hash_of_it)
    assert journal.request(number).plan == replace(a_plan(), request=number)


def test_asking_again_for_the_same_release_closes_the_older_request(journal: SqlJournal) -> None:
    first = asked(journal, key="run-1")
    elsewhere = asked(journal, a_plan(environment=an_environment("staging")), key="run-2")
    another = asked(journal, a_plan("1.2.0"), key="run-3")
    second = asked(journal, key="run-4")
    assert journal.request(first).closed == f"superseded by request {second}"
    assert [request.number for request in journal.requests(open_only=True)] == [second, another, elsewhere]
    assert [request.number for request in journal.requests(environment="staging")] == [elsewhere]


def test_of_requests_asked_at_once_for_one_release_one_stays_open(journal: SqlJournal) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: asked(journal, key=f"run-{number}"), range(8)))
    assert len(journal.requests()) == 8
    assert len(journal.requests(open_only=True)) == 1


def test_a_word_is_kept_with_the_databases_time(journal: SqlJournal) -> None:
    number = asked(journal)
    before = journal.now()
    request = journal.decide(number, word("Bob B"))
    (approval,) = request.approvals
    assert (approval.person, approval.decision, approval.reason, approval.channel) == ("Bob B", "approve", "seen", "ui")
    assert before <= approval.at <= journal.now()


@pytest.mark.parametrize("again", ["Bob", "BOB", " bob "])
def test_a_persons_second_word_is_refused_however_the_name_is_written(journal: SqlJournal, again: str) -> None:
    number = asked(journal)
    journal.decide(number, word("Bob"))
    with pytest.raises(InvalidSettings, match=f"Bob has already said approve to request {number}"):
        journal.decide(number, word(again, "reject"))
    assert [approval.decision for approval in journal.request(number).approvals] == ["approve"]


def test_one_person_at_several_places_at_once_counts_once(journal: SqlJournal) -> None:
    number = asked(journal)

    def say(person: str) -> bool:
        try:
            journal.decide(number, word(person))
        except InvalidSettings:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        heard = list(pool.map(say, ["Bob", "bob", "BOB", "Cleo", "cleo", "Bob"]))
    assert sum(heard) == 2
    assert sorted(approval.person.casefold() for approval in journal.request(number).approvals) == ["bob", "cleo"]


def test_a_closed_request_takes_no_word_and_keeps_its_first_reason(journal: SqlJournal) -> None:
    number = asked(journal)
    journal.close_request(number, "rejected by Dan")
    journal.close_request(number, "again")
    assert journal.request(number).closed == "rejected by Dan"
    with pytest.raises(InvalidSettings, match=f"Request {number} is closed: rejected by Dan"):
        journal.decide(number, word())


def test_an_expired_request_takes_no_word(journal: SqlJournal) -> None:
    number = asked(journal, within=timedelta(milliseconds=-1))
    with pytest.raises(InvalidSettings, match=f"Request {number} expired at"):
        journal.decide(number, word())


def test_nobody_in_particular_cannot_approve(journal: SqlJournal) -> None:
    with pytest.raises(InvalidSettings, match="needs a person"):
        journal.decide(asked(journal), word(" "))


@pytest.mark.parametrize("act", [lambda j: j.request(7), lambda j: j.decide(7, word()), lambda j: j.close_request(7, "x")])
def test_a_request_that_is_not_there_is_refused(journal: SqlJournal, act: Callable[[SqlJournal], object]) -> None:
    with pytest.raises(InvalidSettings, match="There is no request 7"):
        act(journal)


def test_a_plan_that_was_changed_after_it_was_asked_for_is_not_handed_out(journal: SqlJournal) -> None:
    number = asked(journal)
    change(journal, "UPDATE requests SET plan = REPLACE(plan, 'shift-10', 'shift-90')")
    with pytest.raises(DeliveryError, match=f"The plan of request {number} was changed"):
        journal.request(number)


# notices


def test_a_notice_waits_until_it_is_sent(journal: SqlJournal) -> None:
    journal.put_notice("rollout-1", "started", "http://127.0.0.1/1")
    journal.put_notice("rollout-2", "started", None)
    (first, *told), second = journal.unsent_notices()
    assert (told, second[1:]) == (["rollout-1", "started", "http://127.0.0.1/1"], ("rollout-2", "started", None))
    journal.mark_sent(first)
    journal.mark_sent(first)
    assert [notice[1] for notice in journal.unsent_notices()] == ["rollout-2"]
    assert len(journal.unsent_notices(limit=1)) == 1


def test_a_notice_whose_text_changed_is_sent_again(journal: SqlJournal) -> None:
    journal.put_notice("rollout-1", "started", None)
    journal.mark_sent(journal.unsent_notices()[0][0])
    journal.put_notice("rollout-1", "ended", None)
    assert [notice[1:3] for notice in journal.unsent_notices()] == [("rollout-1", "ended")]


def test_a_text_that_changed_while_the_old_one_was_being_sent_is_still_sent(journal: SqlJournal) -> None:
    journal.put_notice("rollout-1", "started", None)
    being_sent = journal.unsent_notices()[0][0]
    journal.put_notice("rollout-1", "ended", None)
    journal.mark_sent(being_sent)
    assert [notice[2] for notice in journal.unsent_notices()] == ["ended"]


def test_one_key_put_at_once_from_several_places_is_one_notice(journal: SqlJournal) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: journal.put_notice("rollout-1", f"step {number}", None), range(12)))
    assert len(journal.unsent_notices()) == 1


def test_notices_that_belong_together_are_put_once_or_not_at_all(journal: SqlJournal) -> None:
    assert journal.put_together(("events/a", "it began", None), ("production/a", "It began.", "https://run"))
    assert not journal.put_together(("events/a", "again", None), ("production/b", "Again.", None))
    assert [notice[1:] for notice in journal.unsent_notices()] == [
        ("events/a", "it began", None),
        ("production/a", "It began.", "https://run"),
    ]
    assert journal.known_notices(["events/a", "production/b"]) == {"events/a"}
    assert journal.known_notices([]) == frozenset()


def test_of_many_who_put_the_same_at_once_one_does(journal: SqlJournal) -> None:
    with ThreadPoolExecutor(6) as pool:
        for key in map(str, range(20)):
            done = list(pool.map(lambda number, key=key: journal.put_together((f"events/{key}", str(number), None)), range(6)))
            assert sorted(done) == [False] * 5 + [True]


# verifications and holds


def a_look(rollout: str, number: int = 1, *, deed: Deed = Deed.NOTHING, environment: str = "production") -> Verification:
    began = datetime(2026, 7, 1, 10, 0, 0, 250_000, tzinfo=UTC)
    findings = (Finding("GET /health", "sick", "it answered 503 \0 “é”.", failures=2, since=began), Finding("GET /", "well", "fine."))
    return Verification(environment, number, began, rollout, a_release().id, findings, deed, "GET /health: 503.", alerted=True)


def test_a_verification_comes_back_as_it_was_written_at_the_databases_time(journal: SqlJournal) -> None:
    rollout, _ = released(journal, "1.1.0")
    before = journal.now()
    assert journal.last_verification("production") is None
    assert journal.add_verification(a_look(rollout), key="a")
    last = journal.last_verification("production")
    assert last
    assert before <= last.at <= journal.now()
    assert last.findings[0].detail == "it answered 503 \0 “é”."
    assert replace(last, at=a_look(rollout).at) == a_look(rollout)
    assert journal.last_verification("staging") is None


def test_a_number_that_somebody_else_has_written_is_refused_with_its_hold(journal: SqlJournal) -> None:
    rollout, _ = released(journal, "1.1.0")
    assert journal.add_verification(a_look(rollout), key="a")
    assert not journal.add_verification(a_look(rollout, deed=Deed.GO_BACK), key="b")
    assert not journal.add_verification(a_look(rollout, 3), key="c")
    assert journal.hold_on("production") is None
    assert journal.add_verification(a_look(rollout, 2), key="d")


def test_the_looks_that_led_to_something_are_read_newest_first(journal: SqlJournal) -> None:
    rollout, _ = released(journal, "1.1.0")
    for number, deed in enumerate((Deed.NOTHING, Deed.ALERT, Deed.NOTHING, Deed.WELL_AGAIN), 1):
        journal.add_verification(a_look(rollout, number, deed=deed), key=str(number))
    assert [look.number for look in journal.telling_verifications("production")] == [4, 2]
    assert [look.number for look in journal.telling_verifications("production", limit=1)] == [4]
    assert journal.telling_verifications("staging") == []


def test_a_verification_that_is_written_again_is_one_row(journal: SqlJournal) -> None:
    rollout, _ = released(journal, "1.1.0")
    for _ in range(2):
        assert journal.add_verification(a_look(rollout), key="a")
    last = journal.last_verification("production")
    assert last
    assert last.number == 1


def test_of_many_looks_at_once_one_is_written(journal: SqlJournal) -> None:
    rollout, _ = released(journal, "1.1.0")
    with ThreadPoolExecutor(6) as pool:
        written = list(pool.map(lambda key: journal.add_verification(a_look(rollout), key=str(key)), range(6)))
    assert sorted(written) == [False] * 5 + [True]


def test_going_back_holds_promotions_to_that_environment_until_a_person_says_so(journal: SqlJournal) -> None:
    rollout, _ = released(journal, "1.1.0")
    journal.add_verification(a_look(rollout, deed=Deed.ALERT), key="a")
    assert journal.hold_on("production") is None
    for number in (2, 3):  # a way back that could not begin is written again
        journal.add_verification(a_look(rollout, number, deed=Deed.GO_BACK), key=f"b{number}")
    hold = journal.hold_on("production")
    assert hold
    assert (hold.held, hold.by, hold.reason) == (True, "canary-verification", "GET /health: 503.")
    assert journal.hold_on("staging") is None
    assert journal.let_go_on("production", by="Bea", reason="1.2.0 mends it") == hold
    assert journal.hold_on("production") is None
    assert journal.let_go_on("production", by="Bea", reason="again") is None


def test_who_held_and_who_let_go_on_is_kept(journal: SqlJournal) -> None:
    rollout, _ = released(journal, "1.1.0")
    journal.add_verification(a_look(rollout, deed=Deed.GO_BACK), key="a")
    journal.let_go_on("production", by="Bea", reason="1.2.0 mends it")
    with journal._database.engine.connect() as connection:
        rows = connection.execute(text("SELECT held, by, reason FROM holds ORDER BY number")).all()
    assert [tuple(row) for row in rows] == [(True, "canary-verification", "GET /health: 503."), (False, "Bea", "1.2.0 mends it")]


def test_a_journal_of_the_first_tables_gets_the_new_ones_and_keeps_what_it_knows(empty_url: str) -> None:
    journal = SqlJournal(empty_url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with journal._database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "first_tables")
    rollout, _ = released(journal, "1.1.0")
    journal.migrate()
    assert journal.add_verification(a_look(rollout), key="a")
    journal.verify_chain(rollout)
    journal.close()


# locks, lost connections and secrets


def test_a_locked_sqlite_file_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    journal = SqlJournal(f"sqlite:///{file}")
    journal.migrate()
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, other.execute, ("COMMIT",)).start()
    assert held(journal).fence == 1
    assert list(journal.rollouts()) == []
    journal.close()


@pytest.mark.processes  # takes its time
def test_a_sqlite_file_that_stays_locked_is_worth_another_try_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE_SECONDS", 0.1)
    file = tmp_path / "journal.db"
    journal = SqlJournal(f"sqlite:///{file}?timeout=0.1")
    journal.migrate()
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(TransientError, match=r"locked by another writer \(SQLITE_BUSY\)"):
        held(journal)
    journal.close()


def test_a_folder_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSettings, match="cannot be made"):
        SqlJournal(f"sqlite:///{tmp_path}/file/journal.db").migrate()


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_text("not a database, but long enough to be taken for one" * 20)
    with pytest.raises(DeliveryError, match=r"refuses \(SQLITE_NOTADB\)"):
        SqlJournal(f"sqlite:///{tmp_path}/journal.db").migrate()


@pytest.mark.parametrize(
    "wrong",
    [f"mysql://u:{PASSWORD}@host/db", f"//u:{PASSWORD}@", f"postgresql://u:{PASSWORD}@host:port/db", "sqlite://", ""],
    ids=["another database", "no scheme", "no port", "no file", "nothing"],
)
def test_a_url_that_cannot_be_meant_is_refused_without_being_shown(wrong: str) -> None:
    with pytest.raises(InvalidSettings, match="expected sqlite") as refused:
        SqlJournal(SecretStr(wrong))
    assert PASSWORD not in "".join(traceback.format_exception(refused.value))


def test_a_server_that_is_not_there_is_worth_another_try_and_no_secret_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE_SECONDS", 0.1)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        journal = SqlJournal(f"postgresql://journal:{PASSWORD}@127.0.0.1:{nobody.getsockname()[1]}/journal")
        with pytest.raises(TransientError, match="does not answer") as refused:
            journal.now()
    assert PASSWORD not in "".join(traceback.format_exception(refused.value)) + repr(vars(refused.value))


@pytest.mark.docker
@pytest.mark.parametrize("wrong", ["postgresql://journal:{}@{}/journal", "postgresql://nobody:{}@{}/journal"])
def test_a_wrong_password_is_told_at_once_and_not_shown(postgresql: str, wrong: str) -> None:
    journal = SqlJournal(wrong.format("another-" + PASSWORD, postgresql.rpartition("@")[2]))
    with pytest.raises(DeliveryError, match="refuses") as refused:
        journal.now()
    assert not isinstance(refused.value, TransientError)
    assert PASSWORD not in "".join(traceback.format_exception(refused.value))


@pytest.mark.docker
def test_a_missing_database_is_told_at_once(postgresql: str) -> None:
    with pytest.raises(DeliveryError, match="refuses") as refused:
        SqlJournal(f"postgresql://{postgresql}/nowhere").migrate()
    assert not isinstance(refused.value, TransientError)


class CuttingProxy:
    """Between us and PostgreSQL. The next COMMIT is cut off: before the server sees it, or before we see the server's answer."""

    def __init__(self, address: str) -> None:
        host, port = re.sub(r".*@", "", address).split(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cut: str | None = None
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
                threading.Thread(target=self._back, args=(server, client), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if b"COMMIT" in data and self.cut:
                    when, self.cut = self.cut, None
                    self.cuts += 1
                    if when == "before":
                        break
                    client.shutdown(socket.SHUT_RDWR)  # the answer finds nobody
                    server.sendall(data)
                    time.sleep(0.1)  # the server needs its connection until it has committed; nothing tells us from outside
                    break
                server.sendall(data)
        for end in (client, server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # close alone says nothing while the other thread still reads
            end.close()

    @staticmethod
    def _back(server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def cut_off(make_database: Callable[..., str]) -> Iterator[tuple[SqlJournal, CuttingProxy]]:
    url = make_database(migrated=True)
    proxy = CuttingProxy(url.removeprefix("postgresql://").rpartition("/")[0])
    journal = SqlJournal(f"postgresql://journal:{PASSWORD}@127.0.0.1:{proxy.port}/{url.rpartition('/')[2]}")
    yield journal, proxy
    journal.close()
    proxy.close()


@pytest.mark.docker
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_lost_at_commit_leaves_everything_written_exactly_once(cut_off: tuple[SqlJournal, CuttingProxy], when: str) -> None:
    journal, proxy = cut_off

    def while_cut_off(act: Callable[[], Any]) -> Any:
        proxy.cut = when
        return act()

    lease = while_cut_off(lambda: held(journal))
    assert lease.fence == 1
    while_cut_off(lambda: journal.renew(lease, ttl=LONG))
    number = while_cut_off(lambda: asked(journal))
    assert len(while_cut_off(lambda: journal.decide(number, word())).approvals) == 1
    rollout = while_cut_off(lambda: journal.open_rollout(lease, a_plan(), by="ann"))
    while_cut_off(lambda: journal.log_of(rollout, lease).append(Started("prepare", 1)))
    while_cut_off(lambda: journal.put_notice("k", "text", None))
    while_cut_off(lambda: journal.give_up(lease))
    assert proxy.cuts == 8
    assert (rollout, number) == ("production-1", journal.requests()[0].number)
    assert [entry.event for entry in journal.entries(rollout)][1:] == [Started("prepare", 1)]
    assert len(journal.requests()) == len(journal.unsent_notices()) == len(journal.rollouts()) == 1
    assert held(journal).fence == 2
    journal.verify_chain(rollout)


@pytest.mark.docker
def test_connections_that_the_server_ended_are_made_anew(postgresql: str) -> None:
    journal = SqlJournal(f"postgresql://{postgresql}/postgres")
    before = journal.now()
    with psycopg.connect(f"postgresql://{postgresql}/postgres", autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'greenroom'")
    assert journal.now() > before
    journal.close()


@pytest.mark.docker
def test_a_writer_that_freezes_inside_a_transaction_does_not_keep_the_environment(make_database: Callable[..., str]) -> None:
    url = make_database(migrated=True)
    frozen, journal = SqlJournal(url), SqlJournal(url)
    journal.give_up(held(journal))
    with frozen._database.engine.connect() as connection:
        connection.execute(text("SELECT * FROM leases FOR UPDATE"))
        assert held(journal).fence == 2
        with suppress(DBAPIError):  # the server has ended this connection by now
            connection.rollback()
    frozen.close()
    journal.close()


# calibrations

LOOKS = (Halves(10, 12, 1, 0), Halves(9, 11, 0, 3))


def a_calibration(service: str = "api", environment: str = "production") -> Calibration:
    return Calibration(environment, service, "v1.0.0-aaaaaaaa", datetime(2026, 7, 1, tzinfo=UTC), 15.0, LOOKS)


def test_calibrations_come_back_newest_first_at_the_databases_time(journal: SqlJournal) -> None:
    journal.add_calibrations([a_calibration("api"), a_calibration("web")], key="a")
    journal.add_calibrations([a_calibration("api"), a_calibration("api", "staging")], key="b")
    found = journal.calibrations("production", newest=NEWEST)
    assert [one.service for one in found] == ["api", "web", "api"]
    assert {(one.release, one.look_seconds, one.halves) for one in found} == {("v1.0.0-aaaaaaaa", 15.0, LOOKS)}
    assert all(abs(journal.now() - one.at) < LONG for one in found)
    assert journal.calibrations("production", newest=-LONG) == []


def test_calibrations_that_are_written_again_are_there_once(journal: SqlJournal) -> None:
    for _ in range(2):
        journal.add_calibrations([a_calibration("api"), a_calibration("web")], key="a")
    assert len(journal.calibrations("production", newest=NEWEST)) == 2


def test_calibrations_that_say_nothing_any_more_leave_with_the_next_ones(journal: SqlJournal) -> None:
    journal.add_calibrations([a_calibration()], key="a")
    old = journal.now() - NEWEST - LONG
    journal._database.write(lambda connection: connection.execute(update(TABLES.tables["calibrations"]).values(at=old)))
    journal.add_calibrations([a_calibration("web")], key="b")
    count = select(func.count()).select_from(TABLES.tables["calibrations"])
    assert journal._database.read(lambda connection: connection.execute(count).scalar_one()) == 1


def test_restore_tests_come_back_newest_first_and_once_at_the_databases_time(journal: SqlJournal) -> None:
    for key, well in (("a", True), ("b", False), ("b", False)):
        test = RestoreTest("production", "production-7", "0" * 64, datetime(2026, 7, 1, tzinfo=UTC), well, 1.5, key)
        journal.add_restore_test(test, key=key)
    found = journal.restore_tests("production")
    assert [(one.what, one.well, one.rollout, one.seconds) for one in found] == [
        ("b", False, "production-7", 1.5),
        ("a", True, "production-7", 1.5),
    ]
    assert all(abs(journal.now() - one.at) < LONG for one in found)
    assert journal.restore_tests("staging") == []
