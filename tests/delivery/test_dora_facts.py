from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.dora import Deliveries, Deployment, Failure, Window
from delivery.dora_facts import Facts, Mark, Story, facts_of
from delivery.journal import Ending
from delivery.record import IncidentFact
from delivery.source import Commit

START = datetime(2026, 3, 2, tzinfo=UTC)
WEEKS = Window(START, START + timedelta(days=14))


def after(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def went_live(begin: float) -> tuple[Mark, ...]:
    """10 % five minutes in, all traffic after fifteen, promoted after twenty."""
    return (
        Mark(after(begin + 5), "Started", "shift-10"),
        Mark(after(begin + 6), "Finished", "shift-10", well=True),
        Mark(after(begin + 14), "Started", "shift-100"),
        Mark(after(begin + 15), "Finished", "shift-100", well=True),
        Mark(after(begin + 20), "Promoted"),
    )


def turned_back(begin: float) -> tuple[Mark, ...]:
    return (
        Mark(after(begin + 5), "Started", "shift-10"),
        Mark(after(begin + 6), "Finished", "shift-10", well=True),
        Mark(after(begin + 9), "Finished", "watch-10", well=False),
        Mark(after(begin + 10), "Finished", "restore", well=True),
    )


def story(number: int, begin: float, marks: Sequence[Mark] | None = None, **changes: Any) -> Story:
    fields: dict[str, Any] = {
        "id": f"production-{number}",
        "environment": "production",
        "service": "shop",
        "release": f"v{number}",
        "blue": f"v{number - 1}",
        "kind": "normal",
        "opened_at": after(begin),
        "marks": tuple(went_live(begin) if marks is None else marks),
        "ending": Ending.LIVE,
    }
    return Story(**fields | changes)


def opened(number: int, at: float, *, rollout: str | None = None, impact: float | None = None) -> IncidentFact:
    began = None if impact is None else after(impact)
    return IncidentFact(number, number, "opened", "production", after(at), "Ann", "shown twice", rollout, began)


def closed(number: int, incident: int, at: float) -> IncidentFact:
    return IncidentFact(number, incident, "restored", "production", after(at), "Ann", "")


def blamed(number: int, incident: int, rollout: str | None) -> IncidentFact:
    return IncidentFact(number, incident, "attributed", "production", after(9999), "Ann", "", rollout)


def seen(facts: Facts) -> Deliveries:
    return facts.deliveries("production", "shop", WEEKS)


def the(facts: Facts, number: int) -> Deployment:
    return next(one for one in facts.logs["production", "shop"].deployments if one.id == f"production-{number}")


def failures(facts: Facts, number: int = 1) -> list[Failure]:
    return [one for one in facts.logs["production", "shop"].failures if one.deployment == f"production-{number}"]


def failed(facts: Facts) -> tuple[str, ...]:
    return seen(facts).change_fail_rate().deployments


def test_a_rollout_that_went_live_ended_when_it_had_all_of_the_traffic():
    facts = facts_of([story(1, 0)])
    found = the(facts, 1)
    assert (found.started_at, found.traffic_started_at, found.completed_at) == (after(0), after(5), after(15))
    assert (found.outcome, failures(facts)) == ("succeeded", [])


def test_one_that_was_turned_back_under_traffic_has_failed_from_the_sick_step_until_the_users_were_back():
    facts = facts_of([story(1, 0, turned_back(0), ending=Ending.ROLLED_BACK)])
    assert (the(facts, 1).outcome, the(facts, 1).completed_at) == ("aborted_in_canary", None)
    [failure] = failures(facts)
    assert (failure.detected_at, failure.restored_at) == (after(9), after(10))


def test_one_that_was_turned_back_from_all_of_the_traffic_had_completed():
    marks = (*went_live(0)[:4], Mark(after(18), "Finished", "watch-100", well=False), Mark(after(19), "Finished", "restore", well=True))
    found = the(facts_of([story(1, 0, marks, ending=Ending.ROLLED_BACK)]), 1)
    assert (found.outcome, found.completed_at) == ("rolled_back_after_completion", after(15))


@pytest.mark.parametrize(
    ("marks", "outcome"),
    [
        ([Mark(after(3), "Finished", "migrate", well=False)], "failed_before_traffic"),
        ([Mark(after(3), "TurnedBack")], "cancelled"),
        ([Mark(after(5), "Started", "shift-10"), Mark(after(6), "TurnedBack")], "cancelled"),
    ],
)
def test_what_ended_before_traffic_or_by_hand_is_called_so(marks: Sequence[Mark], outcome: str):
    facts = facts_of([story(1, 0, marks, ending=Ending.UNTOUCHED)])
    assert the(facts, 1).outcome == outcome
    assert bool(failures(facts)) == (the(facts, 1).traffic_started_at is not None)


def test_one_that_is_under_way_counts_once_it_has_all_of_the_traffic():
    begun = story(1, 0, went_live(0)[:2], ending=None)
    assert seen(facts_of([begun])).population == ()
    assert [one.id for one in seen(facts_of([replace(begun, marks=went_live(0)[:4])])).population] == ["production-1"]


def test_one_that_is_under_way_and_has_turned_counts_at_once():
    turning = facts_of([story(1, 0, turned_back(0)[:3], ending=None)])
    assert (the(turning, 1).outcome, failed(turning), seen(turning).still_failing) == (
        "aborted_in_canary",
        ("production-1",),
        ("production-1",),
    )


def test_a_rollback_is_a_failure_of_the_rollout_that_brought_what_it_went_back_from():
    back = story(3, 100, kind="rollback", release="v1", blue="v2")
    facts = facts_of([story(1, 0), story(2, 50), back])
    assert the(facts, 3).rollback_of == "production-2"
    [failure] = failures(facts, 2)
    assert (failure.detected_at, failure.restored_at) == (after(100), after(115))
    assert failed(facts) == ("production-2",)


def test_a_second_rollback_blames_the_rollout_that_brought_the_older_release_and_not_the_first_rollback():
    backs = [story(4, 200, kind="rollback", release="v2", blue="v3"), story(5, 300, kind="rollback", release="v1", blue="v2")]
    facts = facts_of([story(1, 0), story(2, 50), story(3, 100), *backs])
    assert (the(facts, 4).rollback_of, the(facts, 5).rollback_of) == ("production-3", "production-2")


def test_a_hotfix_ends_the_failure_of_what_it_mends():
    facts = facts_of(
        [story(1, 0), story(2, 60, kind="hotfix", remediates="production-1")], [opened(1, 30, rollout="production-1", impact=20)]
    )
    [failure] = failures(facts)
    assert (failure.impact_started_at, failure.detected_at, failure.restored_at) == (after(20), after(30), after(75))


def test_what_needs_a_person_is_open_until_another_release_has_all_of_the_traffic():
    stuck = story(1, 0, [*turned_back(0)[:3], Mark(after(11), "Finished", "restore", well=False)], ending=Ending.NEEDS_HUMAN)
    assert seen(facts_of([stuck])).still_failing == ("production-1",)
    assert seen(facts_of([stuck, story(2, 100)])).recoveries().times["detection"] == (timedelta(minutes=106),)


def test_what_the_very_first_release_held_has_no_lead_time_then_or_later():
    known, new = Commit("known", START - timedelta(days=99)), Commit("new", START)
    first = story(1, 0, blue=None, commits=(known,))
    found = seen(facts_of([first, story(2, 60, commits=(new, known))]))
    assert found.lead_times().per_commit == {"new": timedelta(minutes=75)}


def test_an_incident_that_nobody_is_blamed_for_is_no_failure():
    facts = facts_of([story(1, 0)], [opened(1, 30)])
    assert failed(facts) == ()
    assert seen(facts).incidents_per_deployment() == 1.0


@pytest.mark.parametrize(
    ("words", "those"), [(["production-1"], ("production-1",)), (["production-1", None], ()), ([None, "production-2"], ("production-2",))]
)
def test_the_newest_word_on_the_cause_counts(words: Sequence[str | None], those: tuple[str, ...]):
    reports = [opened(1, 90), *(blamed(2 + number, 1, cause) for number, cause in enumerate(words))]
    assert failed(facts_of([story(1, 0), story(2, 50)], reports)) == those


def test_an_incident_that_is_closed_again_ends_where_the_newer_word_says():
    facts = facts_of([story(1, 0)], [opened(1, 30, rollout="production-1"), closed(2, 1, 40), closed(3, 1, 50)])
    assert seen(facts).recoveries().times["detection"] == (timedelta(minutes=20),)


def test_what_overlaps_is_one_failure_and_what_comes_later_is_another():
    """The rollback at 100 ends what was reported at 90, whenever that is closed; a report after it is not hidden by it."""
    back = story(3, 100, kind="rollback", release="v1", blue="v2")
    reports = [opened(1, 90, rollout="production-2", impact=80), closed(2, 1, 300), opened(3, 200, rollout="production-2")]
    found = seen(facts_of([story(1, 0), story(2, 50), back], reports))
    assert found.recoveries().times["impact"] == (timedelta(minutes=35),)
    assert (found.recoveries().open, found.still_failing, failed(facts_of([story(1, 0), story(2, 50), back], reports))) == (
        1,
        ("production-2",),
        ("production-2",),
    )


def test_staging_and_production_are_not_blended():
    facts = facts_of([story(1, 0), story(2, 50, environment="staging", id="staging-1")], [opened(1, 90)])
    assert facts.places == (("production", "shop"), ("staging", "shop"))
    staging = facts.deliveries("staging", "shop", WEEKS)
    assert ([one.id for one in staging.population], staging.incidents_per_deployment()) == (["staging-1"], 0.0)


def test_it_is_said_whether_anybody_reports():
    facts = facts_of([story(1, 0)], [opened(1, 30)])
    assert (facts.coverage("production"), facts.coverage("staging")) == ("pipeline and reported incidents", "pipeline only")


# whatever happened

KINDS = st.sampled_from(["normal", "normal", "hotfix", "config", "rollback"])


@st.composite
def journals(draw: st.DrawFn) -> tuple[list[Story], list[IncidentFact]]:
    stories = []
    for number in range(1, draw(st.integers(2, 8))):
        begin = 60.0 * number
        marks = draw(st.sampled_from([went_live(begin), turned_back(begin), went_live(begin)[:4], ()]))
        kind = draw(KINDS)
        back = {"release": f"v{number - 2}"} if kind == "rollback" else {}
        mends = draw(st.none() | st.integers(1, number).map(lambda other: f"production-{other}")) if kind == "hotfix" else None
        names = draw(st.lists(st.integers(0, 9), max_size=2, unique=True))
        commits = tuple(Commit(f"c{name}", START - timedelta(hours=name)) for name in names)
        ending = draw(st.sampled_from([None, *Ending]))
        stories.append(story(number, begin, marks, kind=kind, remediates=mends, commits=commits, ending=ending, **back))
    causes = st.none() | st.sampled_from([told.id for told in stories])
    reports = [opened(number, 60.0 * number + 30, rollout=draw(causes)) for number in range(1, draw(st.integers(1, 5)))]
    for _ in range(draw(st.integers(0, 4)) if reports else 0):
        number, of = len(reports) + 1, draw(st.integers(1, max(1, sum(word.kind == "opened" for word in reports))))
        reports.append(draw(st.sampled_from([closed(number, of, 9000 + number), blamed(number, of, draw(causes))])))
    return stories, reports


@given(journal=journals(), data=st.data())
def test_the_order_in_which_a_journal_is_read_does_not_matter(journal: tuple[list[Story], list[IncidentFact]], data: st.DataObject):
    stories, reports = journal
    shuffled = facts_of(data.draw(st.permutations(stories)), data.draw(st.permutations(reports)))
    assert shuffled == facts_of(stories, reports)


@given(journal=journals(), data=st.data())
def test_blaming_late_comes_to_the_same_as_blaming_at_once(journal: tuple[list[Story], list[IncidentFact]], data: st.DataObject):
    stories, reports = journal
    cause = data.draw(st.none() | st.sampled_from([told.id for told in stories]))
    at_once = facts_of(stories, [*reports, opened(98, 500, rollout=cause)])
    late = facts_of(stories, [*reports, opened(98, 500, rollout=data.draw(st.sampled_from([None, stories[0].id]))), blamed(99, 98, cause)])
    assert late == at_once
