"""The file that Prometheus reads, and the dashboard that reads Prometheus."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cli.metrics_textfile import write_textfile
from delivery.dora import Deliveries, Deployment, Failure, Log, Window
from delivery.dora_targets import FAIL_RATE, LEAD_TIME, RECOVERY
from delivery.errors import DeliveryError
from tasks.delivery_report import Delivered

DASHBOARD = Path(__file__).resolve().parents[2] / "deployments/grafana/delivery.json"
NOW = datetime(2026, 6, 15, tzinfo=UTC)
FORTNIGHT = Window(NOW - timedelta(days=14), NOW)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def deployment(name: str, at: datetime, service: str = "shop", **other: Any) -> Deployment:
    times = {"started_at": at - HOUR, "traffic_started_at": at - HOUR, "completed_at": at}
    return Deployment(name, service, "production", "normal", **times, outcome="succeeded", **other)


def told_of(*deployments: Deployment, service: str = "shop", failures: Sequence[Failure] = ()) -> Delivered:
    commits = {name: one.completed_at - 3 * HOUR for one in deployments for name in one.commits if one.completed_at}
    return Delivered(Deliveries(Log(deployments, commits, failures), FORTNIGHT, service), (), "pipeline only")


def samples(file: Path) -> dict[tuple[str, ...], float]:
    """By name and the values of its labels."""
    families = text_string_to_metric_families(file.read_text())
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def written(tmp_path: Path, *found: Delivered) -> dict[tuple[str, ...], float]:
    write_textfile(tmp_path / "greenroom.prom", found, now=NOW)
    return samples(tmp_path / "greenroom.prom")


def test_each_figure_is_a_sample_in_base_units(tmp_path: Path) -> None:
    bad, day = deployment("bad", NOW - timedelta(days=2), commits=("a",)), timedelta(days=1)
    failures = [
        Failure("1", "bad", NOW - day, NOW - day, NOW - day + 12 * MINUTE),
        Failure("2", "bad", None, NOW - HOUR, None),
    ]
    place = ("production", "shop")
    assert written(tmp_path, told_of(bad, deployment("good", NOW - day), failures=failures)) == {
        ("greenroom_delivery_window_seconds", *place): 14 * 86_400,
        ("greenroom_deployments", *place): 2,
        ("greenroom_deployments_per_day", *place): 2 / 14,
        ("greenroom_deployment_dates", *place): 2,
        ("greenroom_change_lead_time_seconds", *place, "median"): 3 * 3600,
        ("greenroom_change_lead_time_seconds", *place, "p90"): 3 * 3600,
        ("greenroom_change_fail_ratio", *place): 0.5,
        ("greenroom_failed_deployment_recovery_time_seconds", *place): 12 * 60,
        ("greenroom_open_failures", *place): 1,
        ("greenroom_deployment_rework_ratio", *place): 0,
        ("greenroom_delivery_target_met", *place, "deployment frequency"): 0,
        ("greenroom_delivery_target_met", *place, "change lead time"): 1,
        ("greenroom_delivery_target_met", *place, "change fail rate"): 0,
        ("greenroom_delivery_target_met", *place, "recovery time"): 1,
        ("greenroom_delivery_measured_timestamp_seconds",): NOW.timestamp(),
    }


def test_what_is_not_known_has_no_sample(tmp_path: Path) -> None:
    names = {name for name, *_ in written(tmp_path, told_of(deployment("old", NOW - timedelta(days=99))))}
    assert names == {
        "greenroom_delivery_window_seconds",
        "greenroom_deployments",
        "greenroom_deployment_dates",
        "greenroom_open_failures",
        "greenroom_delivery_measured_timestamp_seconds",
    }


def test_services_stand_side_by_side_and_each_metric_is_told_once(tmp_path: Path) -> None:
    found = written(tmp_path, told_of(deployment("a", NOW - HOUR)), told_of(deployment("b", NOW - HOUR, "blog"), service="blog"))
    assert (found["greenroom_deployments", "production", "shop"], found["greenroom_deployments", "production", "blog"]) == (1, 1)
    types = re.findall(r"^# TYPE (\S+) gauge$", (tmp_path / "greenroom.prom").read_text(), re.MULTILINE)
    assert len(types) == len({*types}) == 11


def test_a_journal_without_rollouts_still_says_when_it_was_read(tmp_path: Path) -> None:
    assert written(tmp_path) == {("greenroom_delivery_measured_timestamp_seconds",): NOW.timestamp()}


def test_the_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    written(tmp_path, told_of(deployment("a", NOW - HOUR)))
    written(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["greenroom.prom"]


def test_a_file_that_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match=r"nowhere/greenroom\.prom cannot be written: No such file or directory\."):
        write_textfile(tmp_path / "nowhere/greenroom.prom", (), now=NOW)


def test_the_dashboard_asks_for_nothing_that_is_not_written_and_leaves_nothing_out(tmp_path: Path) -> None:
    write_textfile(tmp_path / "greenroom.prom", [told_of(deployment("a", NOW - HOUR, commits=("c",)))], now=NOW)
    exported = {*re.findall(r"^# TYPE (\S+)", (tmp_path / "greenroom.prom").read_text(), re.MULTILINE)}
    asked = {*re.findall(r"greenroom_[a-z0-9_]+", DASHBOARD.read_text())}
    assert asked == exported


def test_the_panels_of_the_dashboard_have_their_own_numbers_and_places() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len({*cells}) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_thresholds_of_the_dashboard_are_the_targets() -> None:
    drawn = {
        (panel["title"], step["value"])
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        if panel["type"] == "timeseries"
        for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        if step["value"] is not None
    }
    assert drawn == {
        ("Change lead time", LEAD_TIME.total_seconds()),
        ("Change fail rate", FAIL_RATE),
        ("Failed deployment recovery time", RECOVERY.total_seconds()),
    }
