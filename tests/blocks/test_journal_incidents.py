"""What is reported, and what rollouts tell, on both databases."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect, text

from blocks.journal import MIGRATIONS, SqlJournal
from delivery.dora import Window
from delivery.dora_facts import facts_of
from delivery.environment import Kind
from delivery.errors import InvalidSettings
from delivery.journal import Ending, Evidence, Journal
from delivery.plan import Step, plan_rollout
from delivery.source import Commit, Semver
from delivery.walk import walk
from tests.delivery.samples import ALL, a_release, an_environment

TTL = timedelta(minutes=5)
LONG_AGO = datetime(2026, 1, 1, 12, tzinfo=UTC)


def rolled_out(
    journal: SqlJournal,
    version: str,
    *,
    kind: Kind = "normal",
    sick_at: str | None = None,
    environment: str = "production",
    changes: Sequence[Commit] = (),
    planned: bool = True,
    remediates: str | None = None,
) -> str:
    """A whole rollout; every step is well except the one named."""
    release = replace(a_release(version), changes=tuple(changes))
    plan = plan_rollout(
        release,
        an_environment(environment),
        capabilities=ALL,
        blue=journal.live(environment),
        kind=kind,
        planned=planned,
        remediates=remediates,
    )
    lease = journal.acquire(environment, holder="us", purpose="a rollout", ttl=TTL)
    rollout = journal.open_rollout(lease, plan, by="Ann")

    def act(step: Step) -> Evidence:
        return Evidence(well=step.name != sick_at, summary="it is as it is", facts={"step": "shift-10", "well": False})

    walk(Journal(journal.log_of(rollout, lease)), act, threading.Event(), lost=threading.Event())
    journal.give_up(lease)
    return rollout


def test_a_rollout_tells_its_story(journal: SqlJournal):
    commit = Commit("3f2a1bc9", LONG_AGO)
    rolled_out(journal, "1.0.0")
    rollout = rolled_out(journal, "1.1.0", kind="config", changes=(commit,), planned=False, remediates="production-1")
    first, second = journal.stories()
    assert (first.id, first.blue, first.ending) == ("production-1", None, Ending.LIVE)
    assert (second.id, second.environment, second.service) == (rollout, "production", "dealbrain")
    assert (second.release, second.blue) == (a_release("1.1.0").id, a_release("1.0.0").id)
    assert (second.kind, second.planned, second.remediates, second.commits) == ("config", False, "production-1", (commit,))
    assert [(mark.kind, mark.step, mark.well) for mark in second.marks] == [
        *((kind, f"shift-{percent}", well) for percent in (10, 50, 100) for kind, well in (("Started", None), ("Finished", True))),
        ("Promoted", None, None),
    ]
    entries = {(type(entry.event).__name__, getattr(entry.event, "step", None)): entry.at for entry in journal.entries(rollout)}
    assert [entries[mark.kind, mark.step] for mark in second.marks] == [mark.at for mark in second.marks]


def test_a_story_of_a_way_back_holds_what_was_sick_and_when_the_users_were_back(journal: SqlJournal):
    rolled_out(journal, "1.0.0")
    rollout = rolled_out(journal, "1.1.0", sick_at="watch-50")
    told = journal.stories()[-1]
    assert (told.id, told.ending) == (rollout, Ending.ROLLED_BACK)
    assert [(mark.kind, mark.step, mark.well) for mark in told.marks[-3:]] == [
        ("Finished", "watch-50", False),
        ("Started", "restore", None),
        ("Finished", "restore", True),
    ]


def test_stories_may_be_of_one_environment_alone(journal: SqlJournal):
    rolled_out(journal, "1.0.0", environment="staging")
    rolled_out(journal, "1.0.0")
    assert [told.id for told in journal.stories("staging")] == ["staging-1"]
    assert [told.id for told in journal.stories()] == ["staging-1", "production-1"]


def test_an_empty_journal_tells_nothing(journal: SqlJournal):
    assert (list(journal.stories()), list(journal.incident_facts())) == ([], [])


def test_from_journal_to_metrics(journal: SqlJournal):
    rolled_out(journal, "1.0.0")
    commit = Commit("3f2a1bc9", journal.now() - timedelta(hours=3))
    good = rolled_out(journal, "1.1.0", changes=(commit,))
    sick = rolled_out(journal, "1.2.0", sick_at="watch-10")
    unlucky = rolled_out(journal, "1.3.0")
    back = rolled_out(journal, "1.1.0", kind="rollback")
    now = journal.now()
    today = Window(now - timedelta(days=1), now + timedelta(seconds=1))
    found = facts_of(journal.stories(), journal.incident_facts()).deliveries("production", "dealbrain", today)
    assert [one.id for one in found.population] == ["production-1", good, sick, unlucky]
    assert found.excluded == {back: "rollback"}
    assert found.change_fail_rate().deployments == (sick, unlucky)
    assert len(found.recoveries().times["detection"]) == 2
    (took,) = found.lead_times().per_commit.values()
    assert timedelta(hours=3) <= took < timedelta(hours=3, minutes=1)


def test_an_incident_is_words_that_stay(journal: SqlJournal):
    rollout = rolled_out(journal, "1.0.0")
    first = journal.open_incident("production", text="orders are shown twice", by="Ann")
    second = journal.open_incident(
        "production", text="slow", by="a monitor", detected_at=LONG_AGO, impact_started_at=LONG_AGO - timedelta(minutes=5), rollout=rollout
    )
    journal.attribute_incident(first.incident, rollout, by="Bea", text="the new list")
    journal.close_incident(first.incident, by="Ann")
    assert second.at == LONG_AGO
    assert second.impact_started_at == LONG_AGO - timedelta(minutes=5)
    assert [(fact.incident, fact.kind, fact.rollout, fact.by, fact.text) for fact in journal.incident_facts()] == [
        (first.incident, "opened", None, "Ann", "orders are shown twice"),
        (second.incident, "opened", rollout, "a monitor", "slow"),
        (first.incident, "attributed", rollout, "Bea", "the new list"),
        (first.incident, "restored", None, "Ann", ""),
    ]
    assert journal.incident_facts("staging") == []


def test_a_monitor_may_repeat_itself(journal: SqlJournal):
    first = journal.open_incident("production", text="slow", by="a monitor", key="PD-7")
    assert journal.open_incident("production", text="slow", by="a monitor", key="PD-7") == first
    assert len(journal.incident_facts()) == 1


def test_what_cannot_be_is_refused(journal: SqlJournal):
    rollout = rolled_out(journal, "1.0.0", environment="staging")
    tomorrow, fact = journal.now() + timedelta(days=1), journal.open_incident("production", text="slow", by="Ann", detected_at=LONG_AGO)
    with pytest.raises(InvalidSettings, match="expected a time that is not after now"):
        journal.open_incident("production", text="slow", by="Ann", detected_at=tomorrow)
    with pytest.raises(InvalidSettings, match="expected the other order"):
        journal.open_incident("production", text="slow", by="Ann", detected_at=LONG_AGO, impact_started_at=LONG_AGO + timedelta(seconds=1))
    with pytest.raises(InvalidSettings, match="Unknown rollout: got 'staging-1', expected one of production: there is none yet"):
        journal.attribute_incident(fact.incident, rollout, by="Ann")
    with pytest.raises(InvalidSettings, match="expected a later time"):
        journal.close_incident(fact.incident, by="Ann", restored_at=LONG_AGO - timedelta(seconds=1))
    with pytest.raises(InvalidSettings, match="expected a time that is not after now"):
        journal.close_incident(fact.incident, by="Ann", restored_at=tomorrow)
    for act in (journal.close_incident, lambda number, *, by: journal.attribute_incident(number, None, by=by)):
        with pytest.raises(InvalidSettings, match=f"Unknown incident: got 99, expected one that was opened: {fact.incident}"):
            act(99, by="Ann")
    assert journal.incident_facts() == [fact]


def test_only_what_opened_an_incident_names_it(journal: SqlJournal):
    fact = journal.open_incident("production", text="slow", by="Ann")
    word = journal.close_incident(fact.incident, by="Ann")
    with pytest.raises(InvalidSettings, match=f"Unknown incident: got {word.number}"):
        journal.close_incident(word.number, by="Ann")


def test_a_journal_from_before_there_were_incidents_is_brought_up_and_keeps_what_it_holds(empty_url: str):
    address = empty_url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(address)
    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS))
    settings.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "first_tables")
        connection.execute(
            text(
                'INSERT INTO rollouts (id, environment, number, release_id, version, kind, "by", opened_at)'
                " VALUES ('production-1', 'production', 1, 'r', '1.0.0', 'normal', 'Ann', '2026-01-01 12:00:00')"
            )
            if engine.dialect.name == "sqlite"
            else text("SELECT 1")
        )
        assert not inspect(connection).has_table("incident_facts")
    engine.dispose()
    journal = SqlJournal(empty_url)
    journal.migrate()
    assert [record.id for record in journal.rollouts()] == (["production-1"] if address.startswith("sqlite") else [])
    assert journal.open_incident("production", text="slow", by="Ann").incident == 1
    journal.close()


def test_stories_come_in_the_order_in_which_their_rollouts_were_opened(journal: SqlJournal):
    for number in range(1, 12):
        rolled_out(journal, str(Semver(1, number, 0)))
    assert [told.id for told in journal.stories()] == [f"production-{number}" for number in range(1, 12)]
