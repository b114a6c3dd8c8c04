"""The delivery metrics as a file that Prometheus reads (node_exporter's textfile collector). What is not known has no sample, never a 0."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from delivery.dora import Deliveries
from delivery.dora_targets import targets_met
from delivery.errors import DeliveryError
from tasks.delivery_report import Delivered

PLACE = ("environment", "service")
Sample = tuple[dict[str, str], float | None]


def write_textfile(file: Path, found: Sequence[Delivered], *, now: datetime) -> None:
    """Replaces the file at once, so that nobody reads half of it. Raises `DeliveryError` when it cannot be written."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Delivery(found, now))
    try:
        write_to_textfile(str(file), registry)
    except OSError as error:
        raise DeliveryError(
            f"{file} cannot be written: {error.strerror}.", next="pass a file in a folder that you may write to."
        ) from error


class _Delivery(Collector):
    def __init__(self, found: Sequence[Delivered], now: datetime) -> None:
        self._found = found
        self._now = now

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families: dict[str, GaugeMetricFamily] = {}
        for told in self._found:
            seen = told.seen
            for name, (help_text, samples) in _samples(seen).items():
                extra = tuple(samples[0][0])
                family = families.setdefault(name, GaugeMetricFamily(f"greenroom_{name}", help_text, labels=(*PLACE, *extra)))
                for labels, value in samples:
                    if value is not None:
                        family.add_metric((seen.environment, seen.service, *labels.values()), value)
        yield from families.values()
        yield GaugeMetricFamily("greenroom_delivery_measured_timestamp_seconds", "When this was measured.", value=self._now.timestamp())


def _samples(seen: Deliveries) -> dict[str, tuple[str, list[Sample]]]:
    """By name without its prefix: what it is, and its samples with the labels beside environment and service."""
    frequency, lead, recoveries, met = seen.frequency(), seen.lead_times(), seen.recoveries(), targets_met(seen)
    return {
        "delivery_window_seconds": (
            "How long the time is that all of this is about.",
            [({}, _seconds(seen.window.end - seen.window.start))],
        ),
        "deployments": ("Deployments that ended in the window and served users, without rollbacks.", [({}, frequency.deployments)]),
        "deployments_per_day": ("The same, per day of the window.", [({}, frequency.per_day)]),
        "deployment_dates": ("UTC dates of the window with a deployment that completed.", [({}, frequency.deployment_days)]),
        "change_lead_time_seconds": (
            "From a commit to users, over the window's commits.",
            [({"statistic": "median"}, _seconds(lead.median)), ({"statistic": "p90"}, _seconds(lead.p90))],
        ),
        "change_fail_ratio": ("Failed deployments out of all, from 0 to 1.", [({}, seen.change_fail_rate().value)]),
        "failed_deployment_recovery_time_seconds": (
            "From the impact on users to its end, median over the failures that are over.",
            [({}, _seconds(recoveries.median("impact")))],
        ),
        "open_failures": ("Failures of the window's deployments that are not known to be over.", [({}, recoveries.open)]),
        "deployment_rework_ratio": (
            "Hotfixes and unplanned remedies out of all deployments, from 0 to 1.",
            [({}, seen.rework_rate().value)],
        ),
        "delivery_target_met": (
            "1 where the specification's target is met, 0 where it is missed.",
            [
                ({"target": "deployment frequency"}, _flag(met.frequency)),
                ({"target": "change lead time"}, _flag(met.lead_time)),
                ({"target": "change fail rate"}, _flag(met.fail_rate)),
                ({"target": "recovery time"}, _flag(met.recovery)),
            ],
        ),
    }


def _seconds(length: timedelta | None) -> float | None:
    return None if length is None else length.total_seconds()


def _flag(met: bool | None) -> float | None:
    return None if met is None else float(met)
