"""Each kind of alert from a story as the journal tells it: when it begins, what it says, and what ends it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.alert_news import FRESH, News, Phase, keys_of, news_of
from delivery.alerts import CAUSE, Alert, AlertKind, Walked, alerts_of, critical_within, journal_lost
from delivery.journal import CANCELLED, Ending, Entry, Event, Evidence, Journal, Opened
from delivery.plan import Step, StepKind
from delivery.record import RolloutRecord
from delivery.verification import Deed, Finding, Verification
from tests.delivery.samples import a_plan

START = datetime(2026, 7, 1, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
WELL = Evidence(well=True, summary="well")


def after(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


class Told:
    """A log whose entries are ten seconds apart."""

    def __init__(self, begin: float, opened: Opened) -> None:
        self.entries: list[Entry] = []
        self._begin = after(begin)
        self.append(opened)

    def append(self, *events: Event) -> None:
        for event in events:
            number = len(self.entries)
            self.entries.append(Entry(number + 1, self._begin + number * timedelta(seconds=10), 1, event, ""))

    def events(self) -> Sequence[Event]:
        return tuple(entry.event for entry in self.entries)


def rollout(
    number: int, begin: float = 0.0, *, sick: dict[str, Evidence] | None = None, cancelled_at: str | None = None, until: str | None = None
) -> Walked:
    """Walked as a rollout is, to its end or until before the step `until`; `sick` says what some steps found."""
    plan = a_plan(f"1.{number}.0", blue=f"1.{number - 1}.0")
    log = Told(begin, Opened(plan, by="Ann"))
    journal = Journal(log)
    while step := journal.next_step():
        if step.name == until:
            break
        if step.name == cancelled_at:
            journal.turn_back(CANCELLED)
            cancelled_at = None
            continue
        journal.started(step)
        journal.finished(step, (sick or {}).get(step.name, WELL))
    else:
        journal.close()
    closed, promoted = journal.progress.closed, journal.progress.promoted
    record = RolloutRecord(
        id=f"production-{number}",
        environment="production",
        release=plan.release.id,
        version=str(plan.release.version),
        blue=None,
        kind="normal",
        by="Ann",
        opened_at=after(begin),
        promoted_at=log.entries[-1].at if promoted else None,
        ended_at=log.entries[-1].at if closed else None,
        ending=closed.ending if closed else None,
        message=closed.message if closed else None,
    )
    return Walked(record, tuple(log.entries))


def found(cause: str | None, summary: str = "error rate 8 % is above 5 % for 45 s at 10 %") -> Evidence:
    return Evidence(well=False, summary=summary, facts={CAUSE: cause} if cause else {})


def look(number: int, deed: Deed, *findings: Finding, minutes: float = 0.0) -> Verification:
    failing = findings or (Finding("GET /health", "sick", "it answered 503, expected 200.", failures=3),)
    reason = "GET /health: it answered 503, expected 200 (3 times in a row)."
    return Verification("production", number, after(minutes), "production-1", "v1.1.0-aaaaaaaa", failing, deed, reason, alerted=True)


def alerts(*told: Walked | Verification, is_watched: bool = True) -> tuple[Alert, ...]:
    walked = [one for one in told if isinstance(one, Walked)]
    return alerts_of("production", walked, [one for one in told if isinstance(one, Verification)], is_watched=is_watched)


def test_what_goes_well_alerts_nobody() -> None:
    assert alerts(rollout(1), rollout(2, 60), look(1, Deed.NOTHING)) == ()


def test_a_release_that_no_user_met_is_a_failed_deployment_until_somebody_tries_again() -> None:
    failed = rollout(1, sick={"check": Evidence(well=False, summary="api-1 does not answer")})
    [alert] = alerts(failed)
    assert (alert.kind, alert.severity, alert.is_open) == (AlertKind.DEPLOYMENT_FAILED, "warning", True)
    assert alert.sentence == "Production does not get v1.1.0: api-1 does not answer."
    assert "`greenroom report production-1`" in alert.next
    [alert] = alerts(failed, rollout(2, 60))
    assert (alert.ended_at, alert.ending) == (after(60), "production-2 to v1.2.0 has begun.")


@pytest.mark.parametrize(
    ("cause", "kind", "severity"),
    [
        ("error_rate", AlertKind.ERROR_SPIKE, "critical"),
        ("errors", AlertKind.ERROR_SPIKE, "critical"),
        ("health", AlertKind.HEALTH_FAILED, "critical"),
        ("restarts", AlertKind.HEALTH_FAILED, "critical"),
        ("log_pattern", AlertKind.HEALTH_FAILED, "critical"),
        ("database_lost", AlertKind.DATABASE_LOST, "critical"),
        ("p95_ms", AlertKind.DEGRADED, "warning"),
        ("slow", AlertKind.DEGRADED, "warning"),
        ("memory", AlertKind.DEGRADED, "warning"),
        ("gauge", AlertKind.DEGRADED, "warning"),
        ("doubt", AlertKind.DEPLOYMENT_FAILED, "warning"),
        ("a word of a later version", AlertKind.DEPLOYMENT_FAILED, "warning"),
        (None, AlertKind.DEPLOYMENT_FAILED, "warning"),
    ],
)
def test_what_a_watch_found_is_the_kind_of_the_alert(cause: str | None, kind: AlertKind, severity: str) -> None:
    [alert] = alerts(rollout(1, sick={"watch-10": found(cause)}))
    assert (alert.kind, alert.severity) == (kind, severity)
    assert "error rate 8 % is above 5 % for 45 s at 10 %" in alert.sentence


def test_what_users_met_begins_with_the_finding_and_ends_when_they_are_back() -> None:
    under_way = rollout(1, sick={"watch-10": found("error_rate")}, until="restore")
    [alert] = alerts(under_way)
    assert (alert.is_open, alert.since) == (True, under_way.entries[-1].at)
    ended = rollout(1, sick={"watch-10": found("error_rate")})
    [over] = alerts(ended)
    assert (over.key, over.since) == (alert.key, alert.since)
    assert over.ended_at == alert.since + timedelta(seconds=20)  # the way back is started, and finished
    assert over.ending == "Every user is back on v1.0.0."


def test_a_load_test_that_fails_is_a_degradation() -> None:
    walked = rollout(1)
    opening = walked.entries[0].event
    assert isinstance(opening, Opened)
    assert "load" not in opening.plan.step_names
    plan = opening.plan
    place = plan.step_names.index("promote")
    step = Step("load", StepKind.LOAD, 60)
    log = Told(0, Opened(replace(plan, forward=(*plan.forward[:place], step, *plan.forward[place:])), by="Ann"))
    journal = Journal(log)
    while due := journal.next_step():
        journal.started(due)
        journal.finished(due, Evidence(well=False, summary="p95 is 3 s") if due == step else WELL)
    [alert] = alerts(Walked(replace(walked.record, ending=Ending.ROLLED_BACK), tuple(log.entries)))
    assert alert.kind is AlertKind.DEGRADED


@pytest.mark.parametrize("step", ["check", "watch-10", "watch-50"])
def test_what_a_person_cancels_alerts_nobody(step: str) -> None:
    assert alerts(rollout(1, cancelled_at=step)) == ()
    assert alerts(rollout(1, sick={step: Evidence(well=False, summary=CANCELLED)})) == ()


def test_a_way_back_that_fails_needs_a_person_and_both_alerts_wait_for_a_known_release() -> None:
    broken = Evidence(well=False, summary="the engine does not answer", facts={"next": "start the engine."})
    stuck = rollout(1, sick={"watch-10": found("error_rate"), "restore": broken})
    spike, human = alerts(stuck)
    assert (spike.kind, human.kind) == (AlertKind.ERROR_SPIKE, AlertKind.NEEDS_HUMAN)
    assert (human.severity, human.next) == ("critical", "start the engine.")
    assert human.sentence == "Production needs a person: step restore of v1.1.0: the engine does not answer."
    assert all(one.is_open for one in (spike, human))
    untouched = rollout(2, 60, sick={"check": Evidence(well=False, summary="no")})
    assert [one.is_open for one in alerts(stuck, untouched)] == [True, True, True]
    live = rollout(3, 90)
    spike, human, _ = alerts(stuck, untouched, live)
    assert (spike.ended_at, human.ended_at) == (live.record.ended_at,) * 2
    assert human.ending == "Production runs v1.3.0."


def test_a_step_after_the_promotion_that_fails_needs_a_person() -> None:
    [alert] = alerts(rollout(1, sick={"drain": Evidence(well=False, summary="the engine does not answer")}))
    assert (alert.kind, alert.about) == (AlertKind.NEEDS_HUMAN, "production-1")


def test_what_users_reach_alerts_until_it_is_well_again() -> None:
    [alert] = alerts(look(7, Deed.ALERT))
    assert (alert.kind, alert.severity, alert.key) == (AlertKind.HEALTH_FAILED, "critical", "production/alert-health-failed-look-7")
    assert alert.sentence == "Production fails under v1.1.0: GET /health: it answered 503, expected 200 (3 times in a row)."
    assert alert.is_open
    [over] = alerts(look(7, Deed.ALERT), look(12, Deed.WELL_AGAIN, minutes=5))
    assert (over.key, over.ended_at) == (alert.key, after(5))


def test_one_endpoint_among_well_ones_is_a_degradation_and_a_named_database_is_lost() -> None:
    fine = Finding("GET /", "well", "fine.")
    [alert] = alerts(look(1, Deed.ALERT, Finding("GET /offers", "sick", "it took too long.", failures=2), fine))
    assert (alert.kind, alert.severity) == (AlertKind.DEGRADED, "critical")
    [alert] = alerts(look(1, Deed.ALERT, Finding("GET /health/database", "sick", "it answered 503.", failures=2), fine))
    assert alert.kind is AlertKind.DATABASE_LOST


def test_a_database_that_answers_is_not_lost_whatever_fails_beside_it() -> None:
    database = Finding("GET /health/database", "well", "fine.")
    [alert] = alerts(look(1, Deed.ALERT, Finding("GET /offers", "sick", "it took too long.", failures=2), database))
    assert alert.kind is AlertKind.DEGRADED


def test_going_back_is_the_same_alert_however_often_it_is_tried() -> None:
    [alert] = alerts(look(7, Deed.ALERT), look(9, Deed.GO_BACK, minutes=2), look(10, Deed.GO_BACK, minutes=3))
    assert (alert.key, alert.went_back_at) == ("production/alert-health-failed-look-7", after(2))
    assert "goes back to the release before" in alert.sentence
    assert "greenroom unhold production" in alert.next


def test_what_nobody_asks_any_more_does_not_stay_open_for_ever() -> None:
    [alert] = alerts(look(7, Deed.ALERT, minutes=3), is_watched=False)
    assert alert.ended_at == after(3)
    assert "switched off" in alert.ending


def test_a_second_time_is_an_alert_of_its_own() -> None:
    first, second = alerts(look(7, Deed.ALERT), look(8, Deed.WELL_AGAIN, minutes=1), look(9, Deed.ALERT, minutes=2))
    assert (first.is_open, second.is_open) == (False, True)
    assert first.key != second.key


STORY: tuple[Walked | Verification, ...] = (
    rollout(1, 0, sick={"check": Evidence(well=False, summary="no")}),
    rollout(2, 60),
    rollout(3, 120, sick={"watch-50": found("database_lost"), "restore": Evidence(well=False, summary="no")}),
    rollout(10, 180),
    rollout(11, 240, sick={"watch-10": found("slow")}, until="restore"),
    look(3, Deed.ALERT, minutes=100),
    look(5, Deed.GO_BACK, minutes=102),
    look(20, Deed.WELL_AGAIN, minutes=130),
    look(31, Deed.ALERT, minutes=200),
)


@given(st.permutations(STORY))
def test_the_order_in_which_facts_are_read_changes_nothing(told: list[Walked | Verification]) -> None:
    assert alerts(*told) == alerts(*STORY)


@given(st.integers(0, len(STORY)))
def test_no_alert_that_was_told_disappears_as_the_story_goes_on(length: int) -> None:
    """By the time at which each fact was known."""
    known = sorted(STORY, key=lambda one: one.record.opened_at if isinstance(one, Walked) else one.at)
    keys = [one.key for one in alerts(*known)]
    assert {one.key for one in alerts(*known[:length])} <= set(keys)
    assert len(keys) == len(set(keys))


def test_critical_ones_count_while_they_are_open_and_for_the_time_after() -> None:
    [over] = alerts(look(7, Deed.ALERT), look(12, Deed.WELL_AGAIN, minutes=5))
    assert critical_within([over], HOUR, now=after(64)) == (over,)
    assert critical_within([over], HOUR, now=after(65)) == ()
    [still] = alerts(look(7, Deed.ALERT))
    assert critical_within([still], HOUR, now=after(60 * 24 * 30)) == (still,)
    [warned] = alerts(rollout(1, sick={"check": Evidence(well=False, summary="no")}))
    assert critical_within([warned], HOUR, now=after(1)) == ()


# What is still to be told.


def phases(news: Sequence[News]) -> list[Phase]:
    return [one.phase for one in news]


def told_after(*rounds: tuple[Sequence[Alert], datetime]) -> list[list[Phase]]:
    """What each round tells when everything before lies in the outbox."""
    outbox: set[str] = set()
    found = []
    for those, now in rounds:
        news = news_of(those, outbox & set(keys_of(those)), escalate=timedelta(minutes=30), now=now)
        outbox |= {one.event_key for one in news}
        found.append(phases(news))
    return found


OPEN = alerts(look(7, Deed.ALERT))
BACK = alerts(look(7, Deed.ALERT), look(9, Deed.GO_BACK, minutes=2))
OVER = alerts(look(7, Deed.ALERT), look(9, Deed.GO_BACK, minutes=2), look(12, Deed.WELL_AGAIN, minutes=5))


def test_each_phase_is_told_once() -> None:
    rounds = [(OPEN, after(0)), (OPEN, after(1)), (BACK, after(2)), (BACK, after(3)), (OVER, after(5)), (OVER, after(6))]
    assert told_after(*rounds) == [[Phase.OPENED], [], [Phase.WENT_BACK], [], [Phase.RESOLVED], []]


def test_what_stays_open_calls_more_people_once() -> None:
    rounds = [(OPEN, after(0)), (OPEN, after(29)), (OPEN, after(30)), (OPEN, after(300))]
    assert told_after(*rounds) == [[Phase.OPENED], [], [Phase.ESCALATED], []]
    assert phases(news_of(OPEN, (), escalate=None, now=after(300))) == [Phase.OPENED]


def test_a_warning_calls_nobody_else() -> None:
    warned = alerts(rollout(1, sick={"check": Evidence(well=False, summary="no")}))
    assert told_after((warned, after(1)), (warned, after(600))) == [[Phase.OPENED], []]


def test_an_end_that_could_not_be_told_is_told_later_and_history_never() -> None:
    late = after(5) + FRESH + HOUR
    assert told_after((OPEN, after(0)), (OVER, late)) == [[Phase.OPENED], [Phase.WENT_BACK, Phase.RESOLVED]]
    assert told_after((OVER, late)) == [[]]
    assert told_after((OVER, after(5) + FRESH)) == [[Phase.OPENED, Phase.WENT_BACK, Phase.RESOLVED]]


def test_a_message_has_severity_environment_sentence_next_step_and_runbook() -> None:
    [opened] = news_of(OPEN, (), escalate=None, now=after(0))
    assert opened.text().splitlines() == [
        "CRITICAL: health-failed in production, since 2026-07-01 10:00 UTC",
        OPEN[0].sentence,
        "Next: look at it; to go back: `greenroom rollback production`.",
        "Runbook: docs/runbooks/health-failed.md",
    ]
    *_, resolved = news_of(OVER, (), escalate=None, now=after(5))
    assert resolved.text().splitlines()[0] == "OVER (critical): health-failed in production, 2026-07-01 10:00 to 10:05 UTC"
    assert resolved.text().endswith("Ended: Every endpoint answers as it should.")
    assert {one.message_key for one in (opened, resolved)} == {OPEN[0].key}


def test_keys_fit_the_outbox_whatever_the_environment_is_called() -> None:
    longest = replace(OPEN[0], environment="e" * 31, kind=AlertKind.DEPLOYMENT_FAILED, about=f"{'e' * 31}-123456789")
    assert max(map(len, keys_of([longest]))) <= 200


def test_every_kind_has_its_runbook() -> None:
    docs = Path(__file__).resolve().parents[2] / "docs"
    assert [kind for kind in AlertKind if not (docs / replace(OPEN[0], kind=kind).runbook).is_file()] == []


def test_a_lost_journal_is_one_alert_from_its_beginning_to_its_end() -> None:
    lost, over = journal_lost("production", after(0)), journal_lost("production", after(0), until=after(7))
    assert (lost.kind, lost.is_open, over.is_open) == (AlertKind.DATABASE_LOST, True, False)
    assert lost.key == over.key
