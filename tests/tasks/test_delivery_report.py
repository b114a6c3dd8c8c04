from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from delivery.dora import Deliveries, Deployment, Failure, Log, Window
from tasks.delivery_report import Delivered, duration, figures, metrics_markdown, metrics_rows, sentence, weeks_until, window_until

END = datetime(2026, 3, 30, tzinfo=UTC)
MONTH = Window(END - timedelta(days=28), END)


def rollout(name: str, days_ago: float) -> Deployment:
    ended = END - timedelta(days=days_ago)
    times = {"started_at": ended - timedelta(minutes=30), "traffic_started_at": ended - timedelta(minutes=20), "completed_at": ended}
    return Deployment(name, "shop", "production", "normal", **times, outcome="succeeded", commits=(f"of {name}",))


def told_of(*rollouts: Deployment, took_hours: Mapping[str, float] | None = None, failures: Sequence[Failure] = ()) -> Delivered:
    took = took_hours or {}
    commits = {
        commit: rollout.completed_at - timedelta(hours=took.get(rollout.id, 2))
        for rollout in rollouts
        for commit in rollout.commits
        if rollout.completed_at
    }
    log = Log(rollouts, commits, failures)
    weeks = tuple(Deliveries(log, week, "shop") for week in weeks_until(END)[-4:])
    return Delivered(Deliveries(log, MONTH, "shop"), weeks, "pipeline only")


def a_mixed_month() -> Delivered:
    failed_at = END - timedelta(days=5)
    return told_of(
        *(rollout(f"production-{number}", days_ago) for number, days_ago in enumerate((20, 10, 5, 1), start=1)),
        took_hours={"production-2": 30, "production-4": 3},
        failures=[
            Failure("1", "production-3", None, failed_at, failed_at + timedelta(minutes=12)),
            Failure("2", "production-4", None, END - timedelta(hours=20), None),
        ],
    )


def test_each_figure_stands_against_its_target():
    assert [(figure.name, figure.value, figure.target, figure.verdict) for figure in figures(a_mixed_month().seen)] == [
        ("Deployment frequency", "0.14 a day (4 deployments, on 4 of 28 days)", "daily", "missed"),
        ("Change lead time", "2 h 30 min (median of 4 commits); nine of ten within 1 d 6 h", "< 4 h", "met"),
        ("Change fail rate", "50.0 % (2 of 4)", "< 15 %", "missed"),
        ("Failed deployment recovery time", "12 min (median of 1 failure); 1 still open", "< 1 h", "met"),
        ("Deployment rework rate", "0.0 % (0 of 4)", "", ""),
    ]


def test_what_is_not_known_is_not_nought():
    nothing = told_of(rollout("production-1", 90))
    found = figures(nothing.seen)
    assert [figure.verdict for figure in found] == ["unknown"] * 4 + [""]
    assert [figure.value for figure in found] == [
        "none in 28 days",
        "no commit to measure",
        "no deployment to measure",
        "no failure to measure",
        "no deployment to measure",
    ]
    assert sentence(nothing).endswith("Unknown: deployment frequency, change lead time, change fail rate, failed deployment recovery time.")


def test_the_first_line_says_what_is_met_and_what_is_missed():
    first = metrics_markdown([a_mixed_month()]).splitlines()[0]
    assert first == ("# Production, shop: 2 of 4 targets are met over the last 28 days. Missed: deployment frequency, change fail rate.")


def test_the_page_has_figures_failures_and_four_trends_as_images():
    page = metrics_markdown([a_mixed_month()])
    assert "| Change fail rate | 50.0 % (2 of 4) | < 15 % | **missed** |" in page
    assert "Failed: production-3, production-4 (still open)." in page
    assert page.count("](data:image/svg+xml;base64,") == 4
    assert "![Days with a deployment, by week: unknown, 1, 1, 2](" in page
    assert "![Change fail rate, by week: unknown, 0, 0, 100](" in page
    assert "<svg" not in page
    assert "Failures are known from: pipeline only." in page


def test_a_journal_without_rollouts_says_so():
    assert metrics_markdown([]).startswith("No rollout has been told of yet.")
    assert metrics_rows([]) == []


def test_the_table_names_everything_in_every_row():
    rows = metrics_rows([a_mixed_month()])
    assert len(rows) == 5
    assert rows[2] == {
        "environment": "production",
        "application": "shop",
        "figure": "Change fail rate",
        "last 28 days": "50.0 % (2 of 4)",
        "target": "< 15 %",
        "verdict": "missed",
    }


def test_the_window_is_whole_days_with_today_as_the_last():
    now = datetime(2026, 3, 29, 23, 59, tzinfo=UTC)
    assert window_until(now, days=28) == MONTH
    assert window_until(datetime(2026, 3, 29, tzinfo=UTC), days=1) == Window(END - timedelta(days=1), END)


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(seconds=12), "12 s"),
        (timedelta(minutes=59.8), "1 h"),
        (timedelta(hours=2, minutes=57), "2 h 57 min"),
        (timedelta(days=3, hours=4, minutes=30), "3 d 4 h"),
        (timedelta(days=3, minutes=5), "3 d"),
        (timedelta(0), "0 s"),
    ],
)
def test_durations_read_well(length: timedelta, words: str):
    assert duration(length) == words
