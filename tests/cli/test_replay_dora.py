import io
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from cli.main import run


def deployment(identity: str, hour: int, **other: Any) -> dict[str, Any]:
    """Completed at that hour of 1 June."""
    usual = {"id": identity, "service": "api", "environment": "production", "kind": "normal", "outcome": "succeeded"}
    times = {"started_at": at(hour - 1), "traffic_started_at": at(hour - 1), "completed_at": at(hour)}
    return usual | times | {"commits": [], "failure": None} | other


def at(hour: int) -> str:
    return f"2026-06-01T{hour:02}:00:00Z"


def recorded(**other: Any) -> dict[str, Any]:
    """One day: a bad deployment that is rolled back, one that is aborted and still felt, and one of two commits."""
    failure = {"impact_started_at": at(6), "detected_at": at(7), "restored_at": at(9)}
    still_felt = {"impact_started_at": at(11), "detected_at": at(11), "restored_at": None}
    return {
        "window": {"start": "2026-06-01T00:00:00Z", "end_exclusive": "2026-06-02T00:00:00Z", "days": 1, "timezone": "UTC"},
        "commits": {"a": at(1), "b": at(2), "c": at(3)},
        "deployments": [
            deployment("bad", 5, commits=["a"], outcome="rolled_back_after_completion", failure=failure),
            deployment("back", 9, kind="rollback", rollback_of="bad"),
            deployment("aborted", 10, commits=["b"], completed_at=None, outcome="aborted_in_canary", failure=still_felt),
            deployment("good", 12, commits=["a", "b", "c"]),
        ],
        "incidents": [
            {"id": "1", "cause_deployment": "bad", "opened_at": at(7), "resolved_at": at(9)},
            {"id": "2", "cause_deployment": None, "opened_at": at(14), "resolved_at": None, "note": "the cloud"},
        ],
    } | other


def written(tmp_path: Path, document: object) -> str:
    file = tmp_path / "log.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(file)


def replayed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(["replay", "dora", *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_one_object_holds_every_metric_and_how_others_would_have_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    found = replayed(capsys, written(tmp_path, recorded()))
    assert found.pop("targets") == {
        "deployment_frequency_daily": "met",
        "lead_time_under_4h": "missed (median 9 h), the mean 7.67 h would miss it",
        "change_fail_rate_under_15pct": "missed",
        "recovery_under_1h": "missed (median)",
    }
    assert found == {
        "population": {"counted": ["bad", "aborted", "good"], "excluded": {"back": "rollback"}},
        "deployment_frequency": {
            "deployments": 3,
            "per_day": 3.0,
            "completed": 2,
            "completed_per_day": 2.0,
            "deployment_days": 1,
            "median_deployment_days_per_week": 1.0,
            "bucket_monday_weeks": "Weekly (1 day, median 1; DevLake weeks)",
            "bucket_sunday_weeks": "Weekly (1 day, median 1; BigQuery WEEK as in Four Keys)",
        },
        "change_lead_time_hours": {
            "commits": 3,
            "median": 9.0,
            "mean": 7.6667,
            "p90_nearest_rank": 10.0,
            "lower_median_devlake_style": 9.0,
            "per_commit": {"a": 4.0, "b": 10.0, "c": 9.0},
        },
        "change_lead_time_hours_if_only_deployments_that_stuck": {"commits": 3, "median": 10.0, "mean": 10.0},
        "change_fail_rate": {"failed": ["bad", "aborted"], "numerator": 2, "denominator": 3, "value": 0.666667},
        "failed_deployment_recovery_time_minutes": {
            "recovered": 1,
            "open": 1,
            "median_from_impact": 180.0,
            "median_from_detection": 120.0,
            "median_from_deployment": 240.0,
            "mean_from_impact": 180.0,
            "values_from_impact": [180.0],
            "values_from_detection": [120.0],
            "values_from_deployment": [240.0],
        },
        "deployment_rework_rate": {"rework": [], "value": 0.0},
        "variant_rollbacks_counted_as_deployments": {
            "deployments": 4,
            "per_day": 4.0,
            "change_fail_rate": 0.5,
            "deployment_rework_rate": 0.25,
        },
        "variant_incident_tracker_only": {
            "note": "failures known only through incidents; invisible: aborted",
            "change_fail_rate": 0.333333,
            "recovery_minutes_incident_open_to_resolve": [120.0],
            "median": 120.0,
            "naive_all_incidents_median": 120.0,
            "gitlab_style_incidents_over_deployments": 0.666667,
        },
    }


def leaves(found: Any) -> list[Any]:
    if isinstance(found, dict):
        return [leaf for value in found.values() for leaf in leaves(value)]
    return [leaf for value in found for leaf in leaves(value)] if isinstance(found, list) else [found]


def test_an_empty_log_gives_the_same_keys_with_counts_of_nought_and_nulls(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    full = replayed(capsys, written(tmp_path, recorded()))
    empty = replayed(capsys, written(tmp_path, recorded(commits={}, deployments=[], incidents=[])))
    assert {key: list(value) for key, value in empty.items()} == {key: list(value) for key, value in full.items()}
    counts = {"deployments", "completed", "deployment_days", "commits", "numerator", "denominator", "recovered", "open", "note"}
    unknown = [value for part in empty.values() for key, value in part.items() if key not in counts]
    assert set(leaves(unknown)) == {None}


def test_what_somebody_expects_is_not_read_wherever_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    lying = deepcopy(recorded())
    for place in (
        lying,
        lying["window"],
        lying["commits"],
        lying["deployments"][0],
        lying["deployments"][0]["failure"],
        lying["incidents"][0],
    ):
        place["expected"] = {"change_fail_rate": {"value": 0.0}}
    assert replayed(capsys, written(tmp_path, lying)) == replayed(capsys, written(tmp_path, recorded()))


def test_standard_input_is_read_for_a_dash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(recorded())))
    assert replayed(capsys, "-") == replayed(capsys, written(tmp_path, recorded()))


def test_times_may_have_any_offset(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    elsewhere = json.dumps(recorded()).replace("T05:00:00Z", "T07:00:00+02:00")
    assert replayed(capsys, written(tmp_path, elsewhere)) == replayed(capsys, written(tmp_path, recorded()))


def test_services_are_not_blended_and_one_must_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    document = recorded()
    document["deployments"].append(deployment("web", 15, service="web"))
    file = written(tmp_path, document)
    assert run(["replay", "dora", file]) == 2
    assert "got 2 services in production, expected one: api, web" in capsys.readouterr().err
    assert replayed(capsys, file, "--service", "web")["population"]["counted"] == ["web"]
    assert run(["replay", "dora", file, "--service", "wbe"]) == 2
    assert '--service: got "wbe", expected one of api, web' in capsys.readouterr().err


def test_another_environment_may_be_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    document = recorded()
    document["deployments"].append(deployment("staged", 15, environment="staging"))
    found = replayed(capsys, written(tmp_path, document), "--environment", "staging")
    assert found["population"]["counted"] == ["staged"]
    assert found["population"]["excluded"]["good"] == "production"


def changed(path: str, value: Any) -> dict[str, Any]:
    """The record with another value at a path such as deployments.0.kind; `...` removes the key."""
    document: Any = recorded()
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place = document
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("{", "is not JSON"),
        ("[]", "got [], expected an object"),
        (changed("deployments", ...), "got no deployments, expected one"),
        (changed("deployments", {}), "deployments: got {}, expected a list"),
        (changed("deployments.1", 7), "deployments[1]: got 7, expected an object"),
        (changed("incidents", ...), "got no incidents"),
        (changed("commits", []), "commits: got [], expected an object of times by commit"),
        (changed("commits.b", "yesterday"), 'commits.b: got "yesterday", expected a time such as'),
        (changed("commits.b", None), "commits.b: got null, expected a time"),
        (changed("commits.b", "2026-06-01T02:00:00"), "expected a time such as"),
        (changed("window", ...), "got no window"),
        (changed("window.end_exclusive", "2026-06-01T00:00:00Z"), "window.end_exclusive: got"),
        (changed("window.days", 14), "window.days: got 14, expected 1"),
        (changed("window.timezone", "Europe/Berlin"), 'window.timezone: got "Europe/Berlin", expected "UTC"'),
        (changed("deployments.0.id", "good"), 'deployments[3].id: got "good", expected an id that no other has'),
        (changed("deployments.0.service", ""), 'deployments[0].service: got "", expected a text'),
        (changed("deployments.0.kind", "hotfixx"), 'deployments[0].kind: got "hotfixx", expected one of normal, hotfix, rollback, config'),
        (changed("deployments.0.kind", []), "deployments[0].kind: got [], expected one of"),
        (changed("deployments.0.outcome", "fine"), 'deployments[0].outcome: got "fine", expected null (under way) or one of succeeded'),
        (changed("deployments.0.planned", 1), "deployments[0].planned: got 1, expected true or false"),
        (changed("deployments.0.commits", ["z"]), 'deployments[0].commits[0]: got "z", expected a key of commits'),
        (changed("deployments.0.completed_at", ...), "deployments[0]: got no completed_at"),
        (changed("deployments.0.completed_at", None), "deployments[0].completed_at: got null, expected a time, since the outcome is"),
        (changed("deployments.0.completed_at", at(3)), "expected a time not before traffic_started_at"),
        (changed("deployments.2.traffic_started_at", None), "deployments[2].traffic_started_at: got null, expected a time"),
        (changed("deployments.2.completed_at", at(11)), "expected null, since the outcome is aborted_in_canary"),
        (changed("deployments.2.outcome", "failed_before_traffic"), "expected null, since the outcome is failed_before_traffic"),
        (changed("deployments.1.rollback_of", "bda"), 'deployments[1].rollback_of: got "bda", expected null or another deployment\'s id'),
        (changed("deployments.1.remediates", "back"), 'deployments[1].remediates: got "back", expected null or another'),
        (changed("deployments.1.remediate", "bad"), 'deployments[1]: got the key "remediate", expected "remediates"'),
        (changed("deployments.0.failure", True), "deployments[0].failure: got true, expected an object"),
        (changed("deployments.0.failure.restored_at", ...), "deployments[0].failure: got no restored_at"),
        (changed("deployments.0.failure.restored_at", at(5)), "failure.restored_at: got"),
        (changed("incidents.0.cause_deployment", "bda"), 'incidents[0].cause_deployment: got "bda"'),
        (changed("incidents.0.opened_at", None), "incidents[0].opened_at: got null, expected a time"),
        (changed("incidents.0.resolved_at", at(3)), "expected a time not before opened_at"),
        (changed("incidents.0.id", "2"), 'incidents[1].id: got "2", expected an id that no other has'),
    ],
)
def test_a_malformed_log_is_refused_before_anything_is_printed(
    document: object, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = written(tmp_path, document)
    assert run(["replay", "dora", file]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    what, next_step = err.splitlines()
    assert file in what
    assert told in what
    assert next_step.startswith("Next: ")
