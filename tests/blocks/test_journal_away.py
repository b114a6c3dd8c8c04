"""The journal's PostgreSQL server dies under a walk and comes back."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from blocks import database
from blocks.journal import SqlJournal
from delivery.errors import TransientError
from delivery.journal import Closed, Ending, Evidence, Finished, Journal, Started
from delivery.plan import Step, plan_rollout
from delivery.walk import walk
from tasks.lease import LeaseKeeper
from tests.blocks.postgresql_server import PASSWORD, PostgresqlServer, postgresql_server
from tests.delivery.samples import ALL, a_release, an_environment

pytestmark = pytest.mark.docker

WELL, SICK = Evidence(well=True, summary="fine"), Evidence(well=False, summary="error rate 8.1 %")
AWAY_SECONDS = 10.0


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    with postgresql_server(durable=True) as server:
        yield server


@pytest.fixture
def journal(server: PostgresqlServer) -> Iterator[SqlJournal]:
    journal = SqlJournal(server.url)
    journal.migrate()
    yield journal
    server.start()
    server.wait_until_it_answers()
    journal.close()


def walked(journal: SqlJournal, environment: str, act: Callable[[Step], Evidence], *, ttl: float) -> tuple[str, Closed]:
    """A whole rollout under a lease that is kept."""
    release, blue = a_release("1.1.0"), a_release("1.0.0")
    plan = plan_rollout(release, an_environment(environment), capabilities=ALL, blue=blue)
    with LeaseKeeper(journal, environment, holder="us", purpose="releasing", ttl=timedelta(seconds=ttl)) as keeper:
        rollout = journal.open_rollout(keeper.lease, plan, by="ann")
        closed = walk(Journal(journal.log_of(rollout, keeper.lease)), act, threading.Event(), lost=keeper.lost)
    return rollout, closed


def steps_in(journal: SqlJournal, rollout: str, kind: type[Started] | type[Finished]) -> list[str]:
    return [entry.event.step for entry in journal.entries(rollout) if isinstance(entry.event, kind)]


@pytest.mark.parametrize("ttl", [15.0, 5.0], ids=["the lease lasts", "the lease runs out meanwhile"])
def test_a_walk_goes_on_when_its_journals_server_was_gone_for_ten_seconds(
    server: PostgresqlServer, journal: SqlJournal, ttl: float
) -> None:
    done: list[str] = []

    def act(step: Step) -> Evidence:
        done.append(step.name)
        if step.name == "watch-50":
            server.kill()
            threading.Timer(AWAY_SECONDS, server.start).start()
        return WELL

    rollout, closed = walked(journal, f"away-{ttl:.0f}", act, ttl=ttl)
    assert closed.ending is Ending.LIVE
    assert steps_in(journal, rollout, Started) == steps_in(journal, rollout, Finished) == done
    assert len(done) == len(set(done))
    assert list(journal.leases()) == []
    journal.verify_chain(rollout)


def test_users_of_a_sick_release_go_back_while_the_journals_server_is_gone(server: PostgresqlServer, journal: SqlJournal) -> None:
    answered: list[bool] = []

    def act(step: Step) -> Evidence:
        if step.name == "watch-50":
            server.kill()
            return SICK
        if step.name == "restore":
            server.container.reload()
            answered.append(server.container.status == "running")
            if not answered[-1]:
                server.start()
        return WELL

    rollout, closed = walked(journal, "sick", act, ttl=15)
    assert answered == [False, True], "once at once, once written ahead"
    assert (closed.ending, SICK.summary in closed.message) == (Ending.ROLLED_BACK, True)
    assert steps_in(journal, rollout, Finished).count("watch-50") == 1
    journal.verify_chain(rollout)


def test_a_server_that_stays_away_is_worth_another_try_later_and_leaves_what_was_written(
    server: PostgresqlServer, journal: SqlJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = journal.acquire("gone", holder="us", purpose="releasing", ttl=timedelta(minutes=5))
    plan = plan_rollout(a_release("1.1.0"), an_environment("gone"), capabilities=ALL, blue=a_release("1.0.0"))
    rollout = journal.open_rollout(lease, plan, by="ann")
    log = journal.log_of(rollout, lease)
    log.append(Started("prepare", 1))
    monkeypatch.setattr(database, "PATIENCE_SECONDS", 0.5)
    server.kill()
    for act in (
        lambda: log.append(Finished("prepare", WELL)),
        lambda: journal.renew(lease, ttl=timedelta(minutes=5)),
        lambda: journal.acquire("another", holder="us", purpose="releasing", ttl=timedelta(minutes=5)),
        journal.rollouts,
        lambda: journal.give_up(lease),
    ):
        with pytest.raises(TransientError, match="does not answer") as away:
            act()
        assert PASSWORD not in str(away.value)
    server.start()
    server.wait_until_it_answers()
    assert [entry.event for entry in journal.entries(rollout)][1:] == [Started("prepare", 1)]
    log.append(Finished("prepare", WELL))
    assert journal.renew(lease, ttl=timedelta(minutes=5)).fence == lease.fence
    journal.verify_chain(rollout)
