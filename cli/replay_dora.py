"""`greenroom replay dora`: a recorded log of deployments through the very rules that count ours."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, get_args

from cli.replay import field_of, only_known_keys, read_json, refused, shown
from delivery.dora import (
    Deliveries,
    Deployment,
    Failure,
    Incident,
    Kind,
    LeadTimes,
    Log,
    Outcome,
    Recoveries,
    Start,
    WeekStart,
    Window,
    median_of,
)
from delivery.errors import InvalidSettings

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
RATE_DIGITS, TIME_DIGITS = 6, 4

TARGET_LEAD_TIME = timedelta(hours=4)
TARGET_FAIL_RATE = 0.15
TARGET_RECOVERY = timedelta(hours=1)

FILE_KEYS = frozenset({"window", "commits", "deployments", "incidents"})
WINDOW_KEYS = frozenset({"start", "end_exclusive", "days", "timezone"})
DEPLOYMENT_KEYS = frozenset(
    {"id", "service", "environment", "kind", "started_at", "traffic_started_at", "completed_at", "outcome", "commits", "failure"}
    | {"planned", "rollback_of", "remediates"}
)
FAILURE_KEYS = ("impact_started_at", "detected_at", "restored_at")
INCIDENT_KEYS = frozenset({"id", "cause_deployment", "opened_at", "resolved_at"})


def print_metrics(file: Path, *, service: str | None, environment: str) -> None:
    """One JSON object. The whole file is read before it is printed, so that a bad one prints nothing."""
    name, document = read_json(file, holding="a log of deployments")
    log, window = _parsed(_without_expectations(document), name=name)
    seen = Deliveries(log, window, _service(log, service, environment, name=name), environment)
    print(json.dumps(_metrics(seen), indent=1, ensure_ascii=False))


def _metrics(seen: Deliveries) -> dict[str, Any]:
    frequency = seen.frequency()
    return {
        "population": {"counted": [one.id for one in seen.population], "excluded": seen.excluded},
        "deployment_frequency": {
            "deployments": frequency.deployments,
            "per_day": _rate(frequency.per_day),
            "completed": frequency.completed,
            "completed_per_day": _rate(frequency.completed_per_day),
            "deployment_days": frequency.deployment_days,
            "median_deployment_days_per_week": float(median(seen.deployment_days_by_week("monday"))) if seen.population else None,
            "bucket_monday_weeks": _bucket(seen, "monday", "DevLake weeks"),
            "bucket_sunday_weeks": _bucket(seen, "sunday", "BigQuery WEEK as in Four Keys"),
        },
        "change_lead_time_hours": _lead_times(seen.lead_times()),
        "change_lead_time_hours_if_only_deployments_that_stuck": _stuck_lead_times(seen.lead_times(stuck=True)),
        "change_fail_rate": {
            "failed": list(seen.change_fail_rate().deployments),
            "numerator": seen.change_fail_rate().numerator,
            "denominator": seen.change_fail_rate().denominator,
            "value": _rate(seen.change_fail_rate().value),
        },
        "failed_deployment_recovery_time_minutes": _recoveries(seen.recoveries()),
        "deployment_rework_rate": {"rework": list(seen.rework_rate().deployments), "value": _rate(seen.rework_rate().value)},
        "variant_rollbacks_counted_as_deployments": {
            "deployments": seen.frequency(rollbacks_as_deployments=True).deployments,
            "per_day": _rate(seen.frequency(rollbacks_as_deployments=True).per_day),
            "change_fail_rate": _rate(seen.change_fail_rate(rollbacks_as_deployments=True).value),
            "deployment_rework_rate": _rate(seen.rework_rate(rollbacks_as_deployments=True).value),
        },
        "variant_incident_tracker_only": _tracked(seen),
        "targets": _targets(seen),
    }


def _bucket(seen: Deliveries, first_day: WeekStart, whose: str) -> str | None:
    bucket = seen.bucket(first_day)
    if bucket is None:
        return None
    *others, last = seen.deployment_days_by_week(first_day)
    weeks = f"{', '.join(map(str, others))} and {last} days" if others else f"{last} day{'' if last == 1 else 's'}"
    return f"{bucket} ({weeks}, median {median([*others, last]):g}; {whose})"


def _lead_times(times: LeadTimes) -> dict[str, Any]:
    return {
        "commits": len(times.per_commit),
        "median": _hours(times.median),
        "mean": _hours(times.mean),
        "p90_nearest_rank": _hours(times.p90),
        "lower_median_devlake_style": _hours(times.lower_median),
        "per_commit": {commit: _hours(time) for commit, time in times.per_commit.items()},
    }


def _stuck_lead_times(times: LeadTimes) -> dict[str, Any]:
    return {"commits": len(times.per_commit), "median": _hours(times.median), "mean": _hours(times.mean)}


def _recoveries(recoveries: Recoveries) -> dict[str, Any]:
    starts: tuple[Start, ...] = get_args(Start)
    return {
        "recovered": recoveries.recovered,
        "open": recoveries.open,
        **{f"median_from_{start}": _minutes(recoveries.median(start)) for start in starts},
        "mean_from_impact": _minutes(recoveries.mean("impact")),
        **{f"values_from_{start}": [_minutes(time) for time in recoveries.times[start]] for start in starts},
    }


def _tracked(seen: Deliveries) -> dict[str, Any]:
    tracked = seen.tracked_fail_rate()
    invisible = [one for one in seen.change_fail_rate().deployments if one not in tracked.deployments]
    return {
        "note": f"failures known only through incidents; invisible: {', '.join(invisible) or 'none'}",
        "change_fail_rate": _rate(tracked.value),
        "recovery_minutes_incident_open_to_resolve": [_minutes(time) for time in seen.tracked_recovery_times()],
        "median": _minutes(median_of(seen.tracked_recovery_times())),
        "naive_all_incidents_median": _minutes(median_of(seen.naive_recovery_times())),
        "gitlab_style_incidents_over_deployments": _rate(seen.incidents_per_deployment()),
    }


def _targets(seen: Deliveries) -> dict[str, str | None]:
    """Against the specification's targets, each with the number that decides it; null when there is none."""
    lead, recovery, fail_rate = seen.lead_times(), seen.recoveries().median("impact"), seen.change_fail_rate().value
    return {
        "deployment_frequency_daily": _daily(seen),
        "lead_time_under_4h": None if lead.median is None or lead.mean is None else _lead_time_target(lead.median, lead.mean),
        "change_fail_rate_under_15pct": None if fail_rate is None else _met(fail_rate < TARGET_FAIL_RATE),
        "recovery_under_1h": None if recovery is None else f"{_met(recovery < TARGET_RECOVERY)} (median)",
    }


def _daily(seen: Deliveries) -> str | None:
    if not seen.population:
        return None
    days, window = seen.frequency().deployment_days, seen.window.days
    if days >= window:
        return "met"
    weeks: tuple[WeekStart, ...] = get_args(WeekStart)
    buckets = " or ".join(first_day.capitalize() for first_day in weeks if seen.bucket(first_day) == "Daily")
    only = f" (met only under the bucket rule with {buckets} weeks)" if buckets else ""
    return f"missed: {days} deployment days of {window:g}{only}"


def _lead_time_target(middle: timedelta, mean: timedelta) -> str:
    would = "would meet it too" if mean < TARGET_LEAD_TIME else "would miss it"
    return f"{_met(middle < TARGET_LEAD_TIME)} (median {middle / HOUR:.4g} h), the mean {mean / HOUR:.3g} h {would}"


def _met(met: bool) -> str:
    return "met" if met else "missed"


def _rate(share: float | None) -> float | None:
    return None if share is None else round(share, RATE_DIGITS)


def _hours(time: timedelta | None) -> float | None:
    return None if time is None else round(time / HOUR, TIME_DIGITS)


def _minutes(time: timedelta | None) -> float | None:
    return None if time is None else round(time / MINUTE, TIME_DIGITS)


def _without_expectations(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _without_expectations(value) for key, value in document.items() if key != "expected"}
    return [_without_expectations(value) for value in document] if isinstance(document, list) else document


def _service(log: Log, asked: str | None, environment: str, *, name: str) -> str:
    """Whose metrics are meant; a log without any deployment there is nobody's, and all that is unknown of it is null."""
    services = sorted({one.service for one in log.deployments if one.environment == environment})
    if asked is not None:
        if asked not in services:
            raise InvalidSettings(
                f"{name}: --service: got {shown(asked)}, expected one of {', '.join(services) or 'none'}.",
                next=f"name a service that the log has in {environment}.",
            )
        return asked
    if len(services) > 1:
        raise InvalidSettings(
            f"{name}: got {len(services)} services in {environment}, expected one: {', '.join(services)}.",
            next="name one with --service; metrics of several are not blended.",
        )
    return services[0] if services else ""


@dataclass(frozen=True)
class _Known:
    """What other parts of the file may name."""

    deployments: frozenset[str]
    commits: frozenset[str]


def _parsed(document: Any, *, name: str) -> tuple[Log, Window]:
    only_known_keys(document, FILE_KEYS, where=name)
    commits = field_of(document, "commits", where=name)
    if not isinstance(commits, Mapping):
        raise refused(name, "commits", commits, "an object of times by commit")
    deployments = _list(document, "deployments", where=name)
    identities = [_text(one, "id", where=f"{name}: deployments[{index}]") for index, one in enumerate(deployments)]
    _refuse_twice(identities, where=f"{name}: deployments")
    known = _Known(frozenset(identities), frozenset(commits))
    incidents = _list(document, "incidents", where=name)
    log = Log(
        deployments=[_deployment(one, known, where=f"{name}: deployments[{index}]") for index, one in enumerate(deployments)],
        commits={commit: _time(at, where=f"{name}: commits.{commit}") for commit, at in commits.items()},
        failures=[
            _failure(one["id"], one["failure"], where=f"{name}: deployments[{index}].failure")
            for index, one in enumerate(deployments)
            if one.get("failure") is not None
        ],
        incidents=[_incident(one, known, where=f"{name}: incidents[{index}]") for index, one in enumerate(incidents)],
    )
    _refuse_twice([incident.id for incident in log.incidents], where=f"{name}: incidents")
    return log, _window(field_of(document, "window", where=name), where=f"{name}: window")


def _window(document: Any, *, where: str) -> Window:
    only_known_keys(document, WINDOW_KEYS, where=where)
    window = Window(_required_time(document, "start", where=where), _required_time(document, "end_exclusive", where=where))
    if window.end <= window.start:
        raise refused(where, "end_exclusive", document["end_exclusive"], f"a time after {document['start']}")
    if (days := field_of(document, "days", where=where, default=None)) not in (None, window.days):
        raise refused(where, "days", days, f"{window.days:g} as from start to end_exclusive")
    if (zone := field_of(document, "timezone", where=where, default="UTC")) != "UTC":
        raise refused(where, "timezone", zone, '"UTC"')
    return window


def _deployment(document: Any, known: _Known, *, where: str) -> Deployment:
    only_known_keys(document, DEPLOYMENT_KEYS, where=where)
    planned = field_of(document, "planned", where=where, default=True)
    if not isinstance(planned, bool):
        raise refused(where, "planned", planned, "true or false")
    commits = _list(document, "commits", where=where)
    for index, commit in enumerate(commits):
        if not isinstance(commit, str) or commit not in known.commits:
            raise InvalidSettings(f"{where}.commits[{index}]: got {shown(commit)}, expected a key of commits.", next="correct the file.")
    kind, outcome = field_of(document, "kind", where=where), field_of(document, "outcome", where=where)
    if kind not in get_args(Kind):
        raise refused(where, "kind", kind, f"one of {', '.join(get_args(Kind))}")
    if outcome is not None and outcome not in get_args(Outcome):
        raise refused(where, "outcome", outcome, f"null (under way) or one of {', '.join(get_args(Outcome))}")
    deployment = Deployment(
        id=document["id"],
        service=_text(document, "service", where=where),
        environment=_text(document, "environment", where=where),
        kind=kind,
        started_at=_required_time(document, "started_at", where=where),
        traffic_started_at=_optional_time(document, "traffic_started_at", where=where),
        completed_at=_optional_time(document, "completed_at", where=where),
        outcome=outcome,
        commits=tuple(commits),
        planned=planned,
        rollback_of=_other(document, "rollback_of", known, where=where),
        remediates=_other(document, "remediates", known, where=where),
    )
    _refuse_disorder(document, ("started_at", "traffic_started_at", "completed_at"), where=where)
    _refuse_contradiction(deployment, where=where)
    return deployment


def _refuse_contradiction(deployment: Deployment, *, where: str) -> None:
    """The outcome says whether a deployment completed and whether it served anybody; its times say it too."""
    completed, served = deployment.completed_at is not None, deployment.traffic_started_at is not None
    match deployment.outcome:
        case "succeeded" | "rolled_back_after_completion" if not completed:
            raise refused(where, "completed_at", None, f"a time, since the outcome is {deployment.outcome}")
        case "aborted_in_canary" if not served:
            raise refused(where, "traffic_started_at", None, "a time, since the outcome is aborted_in_canary")
        case "failed_before_traffic" if served:
            raise refused(
                where, "traffic_started_at", str(deployment.traffic_started_at), "null, since the outcome is failed_before_traffic"
            )
        case "aborted_in_canary" | "failed_before_traffic" | "cancelled" | None if completed:
            raise refused(where, "completed_at", str(deployment.completed_at), f"null, since the outcome is {deployment.outcome}")


def _failure(deployment: str, document: Any, *, where: str) -> Failure:
    only_known_keys(document, FAILURE_KEYS, where=where)
    failure = Failure(deployment, deployment, *(_optional_time(document, key, where=where) for key in FAILURE_KEYS))
    _refuse_disorder(document, FAILURE_KEYS, where=where)
    return failure


def _incident(document: Any, known: _Known, *, where: str) -> Incident:
    only_known_keys(document, INCIDENT_KEYS, where=where)
    incident = Incident(
        id=_text(document, "id", where=where),
        cause_deployment=_other(document, "cause_deployment", known, where=where),
        opened_at=_required_time(document, "opened_at", where=where),
        resolved_at=_optional_time(document, "resolved_at", where=where),
    )
    _refuse_disorder(document, ("opened_at", "resolved_at"), where=where)
    return incident


def _refuse_disorder(document: Mapping[str, Any], keys: Iterable[str], *, where: str) -> None:
    known = [(key, _time(document[key], where=f"{where}.{key}")) for key in keys if document.get(key) is not None]
    for (earlier, before), (key, at) in pairwise(known):
        if at < before:
            raise refused(where, key, document[key], f"a time not before {earlier}, which is {document[earlier]}")


def _refuse_twice(identities: Iterable[str], *, where: str) -> None:
    seen: set[str] = set()
    for index, identity in enumerate(identities):
        if identity in seen:
            raise refused(f"{where}[{index}]", "id", identity, "an id that no other has")
        seen.add(identity)


def _other(document: Any, key: str, known: _Known, *, where: str) -> str | None:
    value = field_of(document, key, where=where, default=None)
    if value is None:
        return None
    if not isinstance(value, str) or value not in known.deployments or value == document["id"]:
        raise refused(where, key, value, "null or another deployment's id")
    return value


def _text(document: Any, key: str, *, where: str) -> str:
    value = field_of(document, key, where=where)
    if not isinstance(value, str) or not value:
        raise refused(where, key, value, "a text")
    return value


def _list(document: Any, key: str, *, where: str) -> list[Any]:
    value = field_of(document, key, where=where)
    if not isinstance(value, list):
        raise refused(where, key, value, "a list")
    return value


def _optional_time(document: Any, key: str, *, where: str) -> datetime | None:
    value = field_of(document, key, where=where)
    return None if value is None else _time(value, where=f"{where}.{key}")


def _required_time(document: Any, key: str, *, where: str) -> datetime:
    return _time(field_of(document, key, where=where), where=f"{where}.{key}")


def _time(value: Any, *, where: str) -> datetime:
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
        if at is not None and at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise InvalidSettings(f'{where}: got {shown(value)}, expected a time such as "2026-03-02T09:42:00Z".', next="correct the file.")
