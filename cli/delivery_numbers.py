"""The delivery metrics as one JSON object: what `replay dora` and `metrics --json` print. What is not known is null, never 0."""

from datetime import timedelta
from statistics import median
from typing import Any, get_args

from delivery.dora import Deliveries, LeadTimes, Recoveries, Start, WeekStart, median_of
from delivery.dora_targets import LEAD_TIME, targets_met

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
RATE_DIGITS, TIME_DIGITS = 6, 4


def document_of(seen: Deliveries) -> dict[str, Any]:
    """Shares and numbers per day with six decimals, hours and minutes with four."""
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
    met, lead = targets_met(seen), seen.lead_times()
    return {
        "deployment_frequency_daily": None if met.frequency is None else _daily(seen, met=met.frequency),
        "lead_time_under_4h": None if lead.median is None or lead.mean is None else _lead_time_target(lead.median, lead.mean),
        "change_fail_rate_under_15pct": None if met.fail_rate is None else _met(met.fail_rate),
        "recovery_under_1h": None if met.recovery is None else f"{_met(met.recovery)} (median)",
    }


def _daily(seen: Deliveries, *, met: bool) -> str:
    if met:
        return "met"
    weeks: tuple[WeekStart, ...] = get_args(WeekStart)
    buckets = " or ".join(first_day.capitalize() for first_day in weeks if seen.bucket(first_day) == "Daily")
    only = f" (met only under the bucket rule with {buckets} weeks)" if buckets else ""
    return f"missed: {seen.frequency().deployment_days} deployment days of {seen.window.days:g}{only}"


def _lead_time_target(middle: timedelta, mean: timedelta) -> str:
    would = "would meet it too" if mean < LEAD_TIME else "would miss it"
    return f"{_met(middle < LEAD_TIME)} (median {middle / HOUR:.4g} h), the mean {mean / HOUR:.3g} h {would}"


def _met(met: bool) -> str:
    return "met" if met else "missed"


def _rate(share: float | None) -> float | None:
    return None if share is None else round(share, RATE_DIGITS)


def _hours(time: timedelta | None) -> float | None:
    return None if time is None else round(time / HOUR, TIME_DIGITS)


def _minutes(time: timedelta | None) -> float | None:
    return None if time is None else round(time / MINUTE, TIME_DIGITS)
