from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.dora import Deliveries, Deployment, Failure, Incident, LeadTimes, Log, Outcome, Start, Window
from delivery.environment import Kind

MONDAY = datetime(2026, 6, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FORTNIGHT = Window(MONDAY, MONDAY + 14 * DAY)


def deployed(identity: str, at: datetime, **other: Any) -> Deployment:
    """Completed at that time, an hour after it was started."""
    usual: dict[str, Any] = {"service": "api", "environment": "production", "kind": "normal", "outcome": "succeeded"}
    times = {"started_at": at - HOUR, "traffic_started_at": at - HOUR / 2, "completed_at": at}
    return Deployment(identity, **(usual | times | other))


def aborted(identity: str, at: datetime, **other: Any) -> Deployment:
    return deployed(identity, at, **({"traffic_started_at": at, "completed_at": None, "outcome": "aborted_in_canary"} | other))


def seen(*deployments: Deployment, window: Window = FORTNIGHT, **log: Any) -> Deliveries:
    return Deliveries(Log(deployments, **log), window, "api")


def ids(deployments: Sequence[Deployment]) -> list[str]:
    return [one.id for one in deployments]


def test_what_served_users_and_is_no_rollback_is_counted_and_the_rest_says_why_not():
    found = seen(
        deployed("good", MONDAY + DAY),
        aborted("aborted", MONDAY + 2 * DAY),
        deployed("rollback", MONDAY + 3 * DAY, kind="rollback"),
        deployed("idle", MONDAY + 4 * DAY, traffic_started_at=None, completed_at=None, outcome="failed_before_traffic"),
        deployed("staging", MONDAY + 5 * DAY, environment="staging"),
        deployed("web", MONDAY + 6 * DAY, service="web"),
        deployed("now", MONDAY + 7 * DAY, completed_at=None, outcome=None),
    )
    assert ids(found.population) == ["good", "aborted"]
    assert found.excluded == {
        "rollback": "rollback",
        "idle": "never served production traffic",
        "staging": "staging",
        "web": "service web",
        "now": "still under way",
    }


def test_the_window_has_its_start_and_not_its_end():
    tick = timedelta.resolution
    found = seen(
        deployed("before", FORTNIGHT.start - tick),
        deployed("start", FORTNIGHT.start),
        deployed("last", FORTNIGHT.end - tick),
        deployed("end", FORTNIGHT.end),
        aborted("after", FORTNIGHT.end + tick),
    )
    assert ids(found.population) == ["start", "last"]
    assert found.excluded == {
        "before": "completed before the window",
        "end": "completed at the exclusive end of the window",
        "after": "ended after the window",
    }


def test_frequency_counts_deployments_completed_ones_and_days_apart():
    frequency = seen(deployed("a", MONDAY), deployed("b", MONDAY + HOUR), aborted("c", MONDAY + DAY)).frequency()
    assert (frequency.deployments, frequency.completed, frequency.deployment_days) == (3, 2, 1)
    assert (frequency.per_day, frequency.completed_per_day) == (3 / 14, 2 / 14)


def test_the_first_day_of_the_week_decides_whether_one_delivers_daily_or_weekly():
    """The sixth and the seventh day are a weekend, which Sunday weeks cut in two."""
    found = seen(*(deployed(str(day), MONDAY + day * DAY) for day in (0, 1, 6, 7, 8, 13)))
    assert found.deployment_days_by_week("monday") == (3, 3)
    assert found.deployment_days_by_week("sunday") == (2, 3, 1)
    assert (found.bucket("monday"), found.bucket("sunday")) == ("Daily", "Weekly")


@pytest.mark.parametrize(("days", "bucket"), [((0,), "Monthly"), ((0, 7, 14), "Weekly"), ((), None)])
def test_rare_deployments_are_weekly_or_monthly_and_none_have_no_bucket(days: tuple[int, ...], bucket: str | None):
    june = Window(MONDAY, MONDAY + 28 * DAY)
    assert seen(*(deployed(str(day), MONDAY + day * DAY) for day in days), window=june).bucket("monday") == bucket


def test_most_months_without_a_deployment_are_yearly():
    year = Window(MONDAY, MONDAY + 365 * DAY)
    assert seen(deployed("only", MONDAY), window=year).bucket("monday") == "Yearly"


def test_a_commit_that_lands_again_counts_at_its_first_deployment_and_once():
    commits = {"one": MONDAY, "two": MONDAY + HOUR}
    again = seen(
        deployed("a", MONDAY + 2 * HOUR, commits=("one",)), deployed("b", MONDAY + 9 * HOUR, commits=("one", "two")), commits=commits
    )
    assert again.lead_times().per_commit == {"one": 2 * HOUR, "two": 8 * HOUR}


def test_a_commit_that_was_first_deployed_before_the_window_is_not_the_windows():
    commits = {"old": MONDAY - 3 * HOUR}
    before, within = deployed("a", MONDAY - HOUR, commits=("old",)), deployed("b", MONDAY + HOUR, commits=("old",))
    assert seen(before, within, commits=commits).lead_times().per_commit == {}


def test_an_abort_a_rollback_another_service_and_staging_bring_no_commit_to_users():
    commits = {"one": MONDAY}
    earlier = [
        aborted("aborted", MONDAY + HOUR, commits=("one",)),
        deployed("back", MONDAY + HOUR, commits=("one",), kind="rollback"),
        deployed("web", MONDAY + HOUR, commits=("one",), service="web"),
        deployed("staging", MONDAY + HOUR, commits=("one",), environment="staging"),
    ]
    found = seen(*earlier, deployed("it", MONDAY + 5 * HOUR, commits=("one",)), commits=commits)
    assert found.lead_times().per_commit == {"one": 5 * HOUR}


@pytest.mark.parametrize("by_outcome", [True, False])
def test_with_stuck_a_deployment_that_was_rolled_back_brings_nothing(*, by_outcome: bool):
    bad = deployed("bad", MONDAY + HOUR, commits=("one", "lost"), outcome="rolled_back_after_completion" if by_outcome else "succeeded")
    back = deployed("back", MONDAY + 2 * HOUR, kind="rollback", rollback_of=None if by_outcome else "bad")
    found = seen(bad, back, deployed("good", MONDAY + 6 * HOUR, commits=("one",)), commits={"one": MONDAY, "lost": MONDAY})
    assert found.lead_times().per_commit == {"one": HOUR, "lost": HOUR}
    assert found.lead_times(stuck=True).per_commit == {"one": 6 * HOUR}


def test_an_even_number_of_lead_times_has_a_median_between_and_a_lower_one():
    times = LeadTimes({str(hours): hours * HOUR for hours in (8, 1, 2, 4)})
    assert (times.median, times.lower_median, times.mean, times.p90) == (3 * HOUR, 2 * HOUR, 3.75 * HOUR, 8 * HOUR)


@pytest.mark.parametrize(("commits", "rank"), [(1, 1), (9, 9), (10, 9), (11, 10), (20, 18)])
def test_p90_is_the_nearest_rank(commits: int, rank: int):
    assert LeadTimes({str(hours): hours * HOUR for hours in range(1, commits + 1)}).p90 == rank * HOUR


@pytest.mark.parametrize(
    "later",
    [
        {"kind": "rollback", "rollback_of": "it"},
        {"kind": "hotfix", "remediates": "it", "planned": False},
        {"kind": "normal", "remediates": "it"},
    ],
)
def test_a_deployment_that_needed_a_rollback_a_hotfix_or_a_fix_forward_failed(later: dict[str, Any]):
    found = seen(deployed("it", MONDAY), deployed("fine", MONDAY + HOUR), deployed("later", MONDAY + 2 * HOUR, **later))
    assert found.change_fail_rate().deployments == ("it",)
    assert found.recoveries().unrecorded == ("it",)


def test_an_abort_and_a_cancellation_are_failures_once_users_were_served_and_only_then():
    found = seen(
        aborted("aborted", MONDAY),
        aborted("cancelled", MONDAY + HOUR, outcome="cancelled"),
        aborted("unserved", MONDAY + 2 * HOUR, outcome="cancelled", traffic_started_at=None),
    )
    assert found.change_fail_rate().deployments == ("aborted", "cancelled")
    assert found.change_fail_rate().value == 1


def test_a_deployment_fails_once_however_many_failures_it_has():
    failures = [Failure("1", "it", MONDAY, MONDAY, MONDAY + HOUR), Failure("2", "it", MONDAY, MONDAY, MONDAY + 3 * HOUR)]
    found = seen(deployed("it", MONDAY), deployed("fine", MONDAY + HOUR), failures=failures)
    assert found.change_fail_rate().value == 0.5
    assert found.recoveries().median("impact") == 2 * HOUR


def test_recovery_counts_from_impact_detection_and_the_deployments_end():
    failure = Failure("1", "it", MONDAY + HOUR, MONDAY + 2 * HOUR, MONDAY + 5 * HOUR)
    recoveries = seen(deployed("it", MONDAY), failures=[failure]).recoveries()
    assert recoveries.times == {"impact": (4 * HOUR,), "detection": (3 * HOUR,), "deployment": (5 * HOUR,)}


def test_an_unknown_impact_is_taken_from_detection_and_an_unknown_detection_is_left_out():
    failures = [Failure("1", "it", None, MONDAY, MONDAY + HOUR), Failure("2", "it", None, None, MONDAY + 7 * HOUR)]
    recoveries = seen(deployed("it", MONDAY), failures=failures).recoveries()
    assert recoveries.times == {"impact": (HOUR,), "detection": (HOUR,), "deployment": (HOUR, 7 * HOUR)}


def test_an_open_failure_is_counted_and_has_no_time():
    recoveries = seen(deployed("it", MONDAY), failures=[Failure("1", "it", MONDAY, MONDAY, None)]).recoveries()
    assert (recoveries.recovered, recoveries.open) == (0, 1)
    assert [recoveries.median(start) for start in get_args(Start)] == [None, None, None]


def test_an_outage_that_no_deployment_caused_is_no_change_failure():
    found = seen(deployed("it", MONDAY), failures=[Failure("cloud", None, MONDAY, MONDAY, MONDAY + HOUR)])
    assert found.change_fail_rate().value == 0
    assert found.recoveries().recovered == 0


def test_rework_is_hotfixes_and_unplanned_remedies():
    found = seen(
        deployed("it", MONDAY),
        deployed("hotfix", MONDAY + HOUR, kind="hotfix"),
        deployed("remedy", MONDAY + 2 * HOUR, planned=False, remediates="it"),
        deployed("planned remedy", MONDAY + 3 * HOUR, remediates="it"),
        deployed("unplanned", MONDAY + 4 * HOUR, planned=False),
    )
    assert found.rework_rate().deployments == ("hotfix", "remedy")
    assert found.rework_rate().value == 2 / 5


def test_rollbacks_enter_the_population_and_rework_only_when_asked():
    found = seen(deployed("it", MONDAY), deployed("back", MONDAY + HOUR, kind="rollback", rollback_of="it"))
    assert (found.frequency().deployments, found.change_fail_rate().value, found.rework_rate().value) == (1, 1, 0)
    assert found.frequency(rollbacks_as_deployments=True).deployments == 2
    assert found.change_fail_rate(rollbacks_as_deployments=True).value == 0.5
    assert found.rework_rate(rollbacks_as_deployments=True).deployments == ("back",)


def test_a_tracker_sees_incidents_only_and_the_naive_see_all_of_them():
    incidents = [
        Incident("1", "it", MONDAY, MONDAY + HOUR),
        Incident("2", "it", MONDAY, None),
        Incident("cloud", None, MONDAY, MONDAY + 9 * HOUR),
        Incident("cloud before the window", None, MONDAY - DAY, MONDAY),
        Incident("of another service", "web", MONDAY, MONDAY + HOUR),
    ]
    back = deployed("back", MONDAY + 2 * HOUR, kind="rollback")
    found = seen(deployed("it", MONDAY), aborted("unseen", MONDAY), back, deployed("web", MONDAY, service="web"), incidents=incidents)
    assert found.tracked_fail_rate().value == 0.5
    assert found.tracked_recovery_times() == (HOUR,)
    assert found.naive_recovery_times() == (HOUR, 9 * HOUR)
    assert found.incidents_per_deployment() == 3 / 2


def everything(found: Deliveries) -> tuple[Any, ...]:
    """All that is measured, the first two entries being what failures bear upon."""
    flags = (False, True)
    return (
        [found.change_fail_rate(rollbacks_as_deployments=flag) for flag in flags],
        (found.recoveries(), found.still_failing),
        ids(found.population),
        found.excluded,
        [found.frequency(rollbacks_as_deployments=flag) for flag in flags],
        [found.deployment_days_by_week("monday"), found.deployment_days_by_week("sunday"), found.bucket("monday"), found.bucket("sunday")],
        [list(found.lead_times(stuck=flag).per_commit.items()) for flag in flags],
        [found.rework_rate(rollbacks_as_deployments=flag) for flag in flags],
        [found.tracked_fail_rate(), found.tracked_recovery_times(), found.naive_recovery_times(), found.incidents_per_deployment()],
    )


NAMES = tuple("abcdef")
moments = st.integers(-48, 16 * 24).map(lambda hours: MONDAY + hours * HOUR)
others = st.none() | st.sampled_from(NAMES)


@st.composite
def deployments(draw: st.DrawFn, identity: str) -> Deployment:
    at, outcome = draw(moments), draw(st.none() | st.sampled_from(get_args(Outcome)))
    completed = outcome in ("succeeded", "rolled_back_after_completion")
    return deployed(
        identity,
        at,
        service=draw(st.sampled_from(["api", "api", "web"])),
        environment=draw(st.sampled_from(["production", "production", "staging"])),
        kind=draw(st.sampled_from(get_args(Kind))),
        traffic_started_at=None if outcome == "failed_before_traffic" else at - HOUR / 2,
        completed_at=at if completed else None,
        outcome=outcome,
        commits=tuple(draw(st.sets(st.sampled_from(NAMES)))),
        planned=draw(st.booleans()),
        rollback_of=draw(others),
        remediates=draw(others),
    )


def failures(identity: str) -> st.SearchStrategy[Failure]:
    return st.builds(Failure, st.just(identity), others, st.none() | moments, st.none() | moments, st.none() | moments)


logs = st.builds(
    Log,
    deployments=st.sets(st.sampled_from(NAMES)).flatmap(lambda names: st.tuples(*map(deployments, sorted(names)))),
    commits=st.fixed_dictionaries(dict.fromkeys(NAMES, moments)),
    failures=st.tuples(*map(failures, "123")),
    incidents=st.tuples(*(st.builds(Incident, st.just(name), others, moments, st.none() | moments) for name in "xyz")),
)


@given(log=logs, data=st.data())
def test_the_order_in_which_anything_comes_in_is_irrelevant(log: Log, data: st.DataObject):
    names = ("deployments", "failures", "incidents")
    shuffled = replace(log, **{name: data.draw(st.permutations(getattr(log, name))) for name in names})
    assert everything(Deliveries(shuffled, FORTNIGHT, "api")) == everything(Deliveries(log, FORTNIGHT, "api"))


@given(log=logs, failure=st.sampled_from("123"), cause=others)
def test_another_cause_changes_only_what_it_names(log: Log, failure: str, cause: str | None):
    [named] = [one for one in log.failures if one.id == failure]
    before = Deliveries(log, FORTNIGHT, "api")
    blamed = [replace(one, deployment=cause) if one is named else one for one in log.failures]
    after = Deliveries(replace(log, failures=blamed), FORTNIGHT, "api")
    assert everything(after)[2:] == everything(before)[2:]
    touched = {cause, named.deployment}
    assert set(before.change_fail_rate().deployments) ^ set(after.change_fail_rate().deployments) <= touched
    assert set(before.recoveries().unrecorded) ^ set(after.recoveries().unrecorded) <= touched
    assert set(before.still_failing) ^ set(after.still_failing) <= touched
    if cause in ids(after.population):
        assert cause in after.change_fail_rate().deployments


@given(log=logs)
def test_nothing_that_is_unknown_is_ever_nought(log: Log):
    found = Deliveries(log, FORTNIGHT, "api")
    shares = [found.change_fail_rate(), found.rework_rate(), found.tracked_fail_rate()]
    assert all((share.value is None) == (not found.population) for share in shares)
    assert (found.frequency().per_day is None) == (found.bucket("monday") is None) == (not found.population)
    lead = found.lead_times()
    assert all((value is None) == (not lead.per_commit) for value in (lead.median, lead.mean, lead.p90, lead.lower_median))
    recoveries = found.recoveries()
    starts: tuple[Start, ...] = get_args(Start)
    assert all((recoveries.median(start) is None) == (not recoveries.times[start]) for start in starts)
    assert len(recoveries.times["deployment"]) == recoveries.recovered


def test_a_log_without_deployments_knows_nothing():
    found = seen()
    assert (found.frequency().per_day, found.frequency().completed_per_day, found.bucket("sunday")) == (None, None, None)
    assert (found.change_fail_rate().value, found.rework_rate().value, found.incidents_per_deployment()) == (None, None, None)
    assert (found.lead_times().median, found.recoveries().mean("impact")) == (None, None)
