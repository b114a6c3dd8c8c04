"""`greenroom metrics` and `greenroom incident`, as a person at a terminal meets them."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from blocks.journal import SqlJournal
from cli.main import run
from tests.cli.test_status import rolled_out

LONG_AGO = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlJournal]:
    (tmp_path / "production.toml").write_text('[environment]\nname = "production"\ntarget = "production"\n')
    monkeypatch.setenv("GREENROOM_DATABASE_URL", f"sqlite:///{tmp_path / 'journal.db'}")
    monkeypatch.setenv("GREENROOM_ENVIRONMENTS_DIR", str(tmp_path))
    journal = SqlJournal(f"sqlite:///{tmp_path / 'journal.db'}")
    journal.migrate()
    yield journal
    journal.close()


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(arguments) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    what, next_step = err.splitlines()
    assert next_step.startswith("Next: ")
    return what


def numbers(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    [found] = json.loads(said(capsys, "metrics", "--json"))["services"]
    return dict(found)


@pytest.mark.usefixtures("store")
def test_an_empty_journal_has_no_metrics(capsys: pytest.CaptureFixture[str]):
    assert said(capsys, "metrics") == "No rollout has been told of yet.\n"
    assert json.loads(said(capsys, "metrics", "--json"))["services"] == []


def test_the_figures_stand_beside_their_targets(store: SqlJournal, capsys: pytest.CaptureFixture[str]):
    rolled_out(store, "1.0.0")
    rolled_out(store, "1.1.0", sick_at="watch-50")
    lines = said(capsys, "metrics", "--days", "7").splitlines()
    assert lines[0].startswith(
        "Production, dealbrain: 1 of 4 targets are met over the last 7 days. Missed: deployment frequency, change fail"
    )
    (rate,) = [line for line in lines if "Change fail rate" in line]
    assert rate.split("  ")[1:3] == ["Change fail rate", ""]
    assert "50.0 % (1 of 2)" in rate
    assert rate.endswith("target < 15 %  missed")
    assert "  failed: production-2" in lines
    assert lines[-1] == "  failures are known from: pipeline only"


def test_the_json_has_the_keys_of_a_replay(store: SqlJournal, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rolled_out(store, "1.0.0")
    log = {
        "window": {"start": "2026-06-01T00:00Z", "end_exclusive": "2026-06-02T00:00Z"},
        "commits": {},
        "deployments": [],
        "incidents": [],
    }
    file = tmp_path / "log.json"
    file.write_text(json.dumps(log))
    replayed = json.loads(said(capsys, "replay", "dora", str(file)))
    found = numbers(capsys)
    assert found.keys() - {"environment", "service", "coverage", "window"} == replayed.keys()
    assert found["population"]["counted"] == ["production-1"]
    assert found["change_lead_time_hours"]["median"] is None


@pytest.mark.usefixtures("store")
def test_an_unknown_environment_is_refused(capsys: pytest.CaptureFixture[str]):
    assert "Unknown environment: got 'prod', expected one of: production" in refused(capsys, "metrics", "-e", "prod")
    assert said(capsys, "metrics", "-e", "production") == "No rollout has been told of yet.\n"


def test_an_incident_goes_from_its_report_to_the_metrics(store: SqlJournal, capsys: pytest.CaptureFixture[str]):
    rolled_out(store, "1.0.0")
    told = said(capsys, "incident", "open", "production", "--what", "orders are shown twice", "--since", "2026-01-01T12:00Z", "--as", "Ann")
    assert told.splitlines()[0].startswith("Incident 1 is open in production, noticed at ")
    assert "greenroom incident close 1" in told
    assert numbers(capsys)["change_fail_rate"]["numerator"] == 0

    assert said(capsys, "incident", "attribute", "1", "production-1", "--as", "Bea").startswith("Incident 1 is blamed on production-1.")
    assert numbers(capsys)["failed_deployment_recovery_time_minutes"]["open"] == 1
    assert "failed: production-1 (still open)" in said(capsys, "metrics")

    assert said(capsys, "incident", "close", "1", "--how", "a restart", "--as", "Ann").startswith("Incident 1 is over since ")
    found = numbers(capsys)["failed_deployment_recovery_time_minutes"]
    assert (found["recovered"], found["open"]) == (1, 0)

    said(capsys, "incident", "attribute", "1", "--nothing", "--why", "it was the cloud")
    assert numbers(capsys)["change_fail_rate"]["value"] == 0.0
    assert [(fact.kind, fact.by, fact.text) for fact in store.incident_facts()][:3] == [
        ("opened", "Ann", "orders are shown twice"),
        ("attributed", "Bea", ""),
        ("restored", "Ann", "a restart"),
    ]
    assert store.incident_facts()[0].impact_started_at == LONG_AGO


def test_a_monitor_that_repeats_itself_opens_one_incident(store: SqlJournal, capsys: pytest.CaptureFixture[str]):
    for _ in range(2):
        said(capsys, "incident", "open", "production", "--what", "slow", "--key", "PD-7", "--as", "a monitor")
    assert len(store.incident_facts()) == 1


@pytest.fixture
def five_hours_west(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "XXX+5")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("five_hours_west")
def test_a_time_without_a_zone_is_the_terminals(store: SqlJournal, capsys: pytest.CaptureFixture[str]):
    said(capsys, "incident", "open", "production", "--what", "slow", "--noticed", "2026-01-01 12:00")
    assert store.incident_facts()[0].at == datetime(2026, 1, 1, 17, tzinfo=UTC)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["open", "prod", "--what", "slow"], "Unknown environment: got 'prod'"),
        (["open", "production", "--what", " "], "Nothing was said"),
        (["open", "production", "--what", "slow", "--since", "lunch"], "--since: got 'lunch', expected a time, for instance 2026-"),
        (["open", "production", "--what", "slow", "--noticed", "2999-01-01"], "expected a time that is not after now"),
        (["open", "production", "--what", "slow", "--rollout", "production-7"], "Unknown rollout: got 'production-7'"),
        (["close", "7"], "Unknown incident: got 7, expected one that was opened: there is none yet"),
        (["attribute", "7", "--nothing"], "Unknown incident: got 7"),
        (["attribute", "7"], "Got neither a rollout nor --nothing"),
        (["attribute", "7", "production-1", "--nothing"], "Got both a rollout and --nothing"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]):
    assert told in refused(capsys, "incident", *arguments)


def test_the_figures_go_into_a_file_for_prometheus_too(store: SqlJournal, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rolled_out(store, "1.0.0")
    assert said(capsys, "metrics", "--textfile", str(tmp_path / "greenroom.prom")).startswith("Production, dealbrain: ")
    assert 'greenroom_deployments{environment="production",service="dealbrain"} 1.0\n' in (tmp_path / "greenroom.prom").read_text()
