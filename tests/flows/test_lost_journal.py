"""The journal itself does not answer: people hear of it without it, once, and of its end through it."""

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from blocks.journal import SqlJournal
from delivery.errors import DeliveryError, TransientError
from flows.outage import PATIENCE, Outage, machine_clock
from flows.steward import Steward
from tests.flows.conftest import Remembering, Stage
from tests.flows.test_alerts import Events, of_alerts, prefect, slack, told
from tests.slack_server import Slack

__all__ = ["prefect", "slack", "told"]  # fixtures of the neighbour's


class Journal:
    """Whether the journal answers, to whoever asks; and the clock of the machine."""

    def __init__(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stage, self.away, self.passed = stage, True, timedelta()
        for name in ("now", "rollouts", "leases", "put_together", "place_of", "keep_place", "unsent_notices", "outboxes"):
            monkeypatch.setattr(SqlJournal, name, self._maybe(getattr(SqlJournal, name)))
        monkeypatch.setattr("flows.steward.machine_clock", lambda: machine_clock() + self.passed)

    def _maybe(self, method: Callable[..., object]) -> Callable[..., object]:
        def asked(*arguments: object, **named: object) -> object:
            if self.away:
                raise TransientError("The journal's database does not answer.", next="start it.")
            return method(*arguments, **named)

        return asked

    def round(self) -> None:
        """A steward that begins anew, with nothing in its memory, looks once."""
        steward = Steward(self.stage.house.settings, stop=threading.Event(), blocks=lambda: self.stage.house.blocks)
        try:
            steward.once()
        except DeliveryError:
            assert steward._duties["the lost journal"].wait(60)


@pytest.fixture
def journal(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Journal:
    return Journal(stage, monkeypatch)


def test_people_are_told_once_without_it_and_of_the_end_through_it(
    journal: Journal, told: Slack, prefect: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.steward.Steward._end_runs", lambda _: ())
    journal.round()
    assert of_alerts(told) == []  # a database that is restarted is nobody's alert
    journal.passed = PATIENCE
    for _ in range(3):
        journal.round()
    [lost] = of_alerts(told)
    assert lost.startswith("CRITICAL: database-lost in production, since ")
    assert "Greenroom's journal does not answer" in lost
    assert prefect.names == ["greenroom.alert.database-lost"]
    journal.away = False
    for _ in range(3):
        journal.round()
    [over] = of_alerts(told)  # the same message
    assert over.startswith("OVER (critical): database-lost in production")
    assert over.endswith("Ended: The journal answers again.")
    assert set(prefect.names) == {"greenroom.alert.database-lost", "greenroom.alert.database-lost.resolved"}
    assert len({event["id"] for event in prefect.seen}) == 2  # the beginning came twice, with one id
    assert Outage(journal.stage.house.settings).since is None


def test_a_journal_that_is_soon_back_is_no_news(journal: Journal, told: Slack) -> None:
    journal.round()
    assert Outage(journal.stage.house.settings).since is not None
    journal.away = False
    for _ in range(2):
        journal.round()
    assert of_alerts(told) == []
    assert Outage(journal.stage.house.settings).since is None


def test_a_dead_slack_is_tried_again_while_the_journal_is_away(journal: Journal, told: Slack, stage: Stage) -> None:
    bot = stage.house.blocks._blocks["slack-notifier", "team"]  # type: ignore[attr-defined]
    stage.house.blocks._blocks["slack-notifier", "team"] = Remembering(broken=True)  # type: ignore[attr-defined]
    journal.round()
    journal.passed = PATIENCE
    journal.round()
    assert Outage(stage.house.settings).told == frozenset()
    stage.house.blocks._blocks["slack-notifier", "team"] = bot  # type: ignore[attr-defined]
    journal.round()
    assert Outage(stage.house.settings).told == {"production"}
    assert len(of_alerts(told)) == 1


@pytest.mark.usefixtures("told")
def test_an_environment_without_a_notifier_tells_nobody_and_keeps_no_other_waiting(journal: Journal, stage: Stage) -> None:
    (stage.environments / "a-broken-one.toml").write_text("nonsense")
    journal.round()
    journal.passed = PATIENCE
    journal.round()
    assert Outage(stage.house.settings).told == {"production"}


@pytest.mark.parametrize("written", ["", "[]", "{}", '{"since": "yesterday"}', '{"since": "2026-07-01T10:00:00+00:00"}'])
def test_a_note_that_cannot_be_read_is_none(stage: Stage, written: str) -> None:
    outage = Outage(stage.house.settings)
    outage.begin(machine_clock())
    [file] = Path(stage.house.settings.work_dir).glob("journal-away-*")
    file.write_text(written)
    assert (outage.since, outage.told, outage.place_of("a")) == (None, frozenset(), None)
    outage.begin(machine_clock())
    assert outage.since is not None
    outage.forget()
    outage.forget()
