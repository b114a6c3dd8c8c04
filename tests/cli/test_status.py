import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from blocks.journal import SqlJournal
from cli.main import run
from delivery.approval import Approval
from delivery.environment import ApprovalPolicy, Capability, Environment
from delivery.journal import Closed, Evidence, Journal
from delivery.plan import Plan, Step, plan_rollout
from delivery.release import Release
from delivery.verification import Deed, Finding, Verification
from delivery.walk import walk
from tests.samples import a_release, an_environment

TTL = timedelta(seconds=30)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlJournal]:
    """An installation with two environment files and an empty journal, as the command finds it."""
    folder = tmp_path / "environments"
    folder.mkdir()
    for name in ("production", "staging"):
        (folder / f"{name}.toml").write_text(f'[environment]\nname = "{name}"\ntarget = "{name}"\n')
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    monkeypatch.setenv("GREENROOM_DATABASE_URL", url)
    monkeypatch.setenv("GREENROOM_ENVIRONMENTS_DIR", str(folder))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # nobody answers there, and nobody has to
    monkeypatch.delenv("PREFECT_UI_URL", raising=False)
    journal = SqlJournal(url)
    journal.migrate()
    yield journal
    journal.close()


def planned(store: SqlJournal, release: Release, environment: Environment | None = None) -> Plan:
    policy = environment or an_environment()
    store.save_release(release)
    return plan_rollout(release, policy, capabilities=frozenset(Capability), blue=store.live(policy.name))


def rolled_out(store: SqlJournal, version: str, *, sick_at: str | None = None) -> Closed:
    """A whole rollout whose steps are well, except the one named."""
    plan = planned(store, a_release(version))

    def act(step: Step) -> Evidence:
        return Evidence(well=step.name != sick_at, summary="error rate 8.1 % is above 5 % for 45 s" if step.name == sick_at else "fine")

    lease = store.acquire(plan.environment.name, holder="a worker", purpose="a rollout", ttl=TTL)
    closed = walk(Journal(store.log_of(store.open_rollout(lease, plan, by="Ann"), lease)), act, threading.Event(), lost=threading.Event())
    store.give_up(lease)
    return closed


def begun(store: SqlJournal, version: str, *, until: str) -> None:
    """A rollout whose walker is in the middle of a step."""
    plan = planned(store, a_release(version))
    lease = store.acquire(plan.environment.name, holder="a worker", purpose="a rollout", ttl=TTL)
    journal = Journal(store.log_of(store.open_rollout(lease, plan, by="Ann"), lease))
    while step := journal.next_step():
        journal.started(step)
        if step.name == until:
            return
        journal.finished(step, Evidence(well=True, summary="fine"))


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["status", *arguments]) == 0
    return capsys.readouterr().out


def stand(capsys: pytest.CaptureFixture[str], environment: str) -> dict[str, Any]:
    [found] = json.loads(shown(capsys, "--json", "-e", environment))["environments"]
    assert found["environment"] == environment
    return dict(found)


@pytest.mark.usefixtures("store")
def test_an_empty_journal_says_that_nothing_is_live(capsys: pytest.CaptureFixture[str]):
    assert shown(capsys) == "production   nothing is live yet\n\nstaging      nothing is live yet\n"


def test_what_is_live_and_what_was_before_it_stand_in_the_first_line(store: SqlJournal, capsys: pytest.CaptureFixture[str]):
    rolled_out(store, "1.0.0")
    rolled_out(store, "1.1.0")
    first = shown(capsys, "-e", "production").splitlines()[0]
    assert first.startswith("production   v1.1.0 since ")
    assert first.endswith(" s ago, before it v1.0.0")


def test_a_release_that_was_turned_back_is_not_live_and_its_message_is_shown(store: SqlJournal, capsys: pytest.CaptureFixture[str]):
    rolled_out(store, "1.0.0")
    closed = rolled_out(store, "1.1.0", sick_at="watch-50")
    text = shown(capsys, "-e", "production")
    assert text.startswith("production   v1.0.0 ")
    assert closed.message in text
    assert "ROLLED_BACK" in text


def test_the_step_under_way_is_named_with_who_asked_for_it(store: SqlJournal, capsys: pytest.CaptureFixture[str]):
    rolled_out(store, "1.0.0")
    begun(store, "1.1.0", until="shift-50")
    text = shown(capsys, "-e", "production")
    assert "production-2 to v1.1.0: shift-50 for " in text
    assert "asked for by Ann" in text
    assert "nobody works on it" not in text
    [rollout] = stand(capsys, "production")["underway"]
    assert (rollout["step"], rollout["holder"], rollout["turned_back"]) == ("shift-50", "a worker", None)


def test_a_rollout_whose_walker_is_gone_is_called_abandoned(store: SqlJournal, capsys: pytest.CaptureFixture[str]):
    begun(store, "1.0.0", until="launch")
    [lease] = store.leases()
    store.give_up(lease)
    assert "nobody works on it: the steward or the recover flow brings it to an end" in shown(capsys, "-e", "production")


def test_a_waiting_request_shows_how_to_answer_it(store: SqlJournal, capsys: pytest.CaptureFixture[str]):
    policy = an_environment(approval=ApprovalPolicy(quorum=2))
    plan = planned(store, a_release("1.1.0"), policy)
    request = store.open_request(plan, key="11111111-2222-3333-4444-555555555555", expires_at=store.now() + timedelta(hours=24))
    store.decide(request.number, Approval("Bea", "approve", "looks good", "ui", store.now()))
    text = shown(capsys, "-e", "production")
    assert f"request {request.number}: Production to v1.1.0 by 100 %, 1 of 2 so far, expires in 24 h" in text
    assert f"greenroom approve {request.number} --reason" in text
    assert "http://127.0.0.1:9/runs/flow-run/11111111-2222-3333-4444-555555555555" in text


def test_a_closed_or_expired_request_waits_for_nobody(store: SqlJournal, capsys: pytest.CaptureFixture[str]):
    closed = store.open_request(planned(store, a_release("1.1.0")), key="a", expires_at=store.now() + timedelta(hours=1))
    store.close_request(closed.number, "Bea rejected it.")
    store.open_request(planned(store, a_release("1.2.0")), key="b", expires_at=store.now() - timedelta(seconds=1))
    assert stand(capsys, "production")["waiting"] == []


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a_request_that_was_answered_waits_no_longer(
    decision: Literal["approve", "reject"], store: SqlJournal, capsys: pytest.CaptureFixture[str]
):
    request = store.open_request(planned(store, a_release("1.1.0")), key="a", expires_at=store.now() + timedelta(hours=1))
    assert [waiting["request"] for waiting in stand(capsys, "production")["waiting"]] == [request.number]
    store.decide(request.number, Approval("Bea", decision, "because", "ui", store.now()))
    assert stand(capsys, "production")["waiting"] == []


@pytest.mark.usefixtures("store")
def test_an_unknown_environment_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]):
    assert run(["status", "-e", "prod"]) == 2
    assert "expected one of: production, staging" in capsys.readouterr().err


def test_the_journal_is_only_read(store: SqlJournal, capsys: pytest.CaptureFixture[str]):
    rolled_out(store, "1.0.0")
    begun(store, "1.1.0", until="check")
    before = (store.entries("production-1"), store.entries("production-2"), store.leases())
    shown(capsys)
    shown(capsys, "--json")
    assert (store.entries("production-1"), store.entries("production-2"), store.leases()) == before


def looked(store: SqlJournal, *, deed: Deed, failures: int) -> None:
    [promotion, *_] = store.rollouts(environment="production")
    finding = Finding("GET /health", "sick" if failures else "well", "it answered 503.", failures=failures)
    last = store.last_verification("production")
    number = (last.number if last else 0) + 1
    look = Verification("production", number, store.now(), promotion.id, promotion.release, (finding,), deed, "503.", alerted=True)
    assert store.add_verification(look, key=str(number))


def test_a_verification_that_fails_is_one_line_until_it_is_well(store: SqlJournal, capsys: pytest.CaptureFixture[str]):
    rolled_out(store, "1.0.0")
    looked(store, deed=Deed.ALERT, failures=4)
    assert "\n  failing    GET /health: it answered 503 (4 times in a row). Looked " in shown(capsys, "-e", "production")
    assert stand(capsys, "production")["failing"]["findings"][0]["failures"] == 4
    looked(store, deed=Deed.WELL_AGAIN, failures=0)
    assert "failing" not in shown(capsys, "-e", "production")


def test_an_alert_that_is_open_is_one_line_until_it_is_over(store: SqlJournal, capsys: pytest.CaptureFixture[str]):
    rolled_out(store, "1.0.0")
    rolled_out(store, "1.1.0", sick_at="check")
    [line] = [line for line in shown(capsys, "-e", "production").splitlines() if line.startswith("  alert ")]
    assert line.startswith("  alert      warning, deployment-failed for 0 min: Production does not get v1.1.0: error rate 8.1 %")
    assert line.endswith("Mend what `greenroom report production-2` shows, and release again.")
    assert [alert["kind"] for alert in stand(capsys, "production")["alerts"]] == ["deployment-failed"]
    assert stand(capsys, "staging")["alerts"] == []
    rolled_out(store, "1.2.0")
    assert stand(capsys, "production")["alerts"] == []


def test_what_verification_alerted_of_is_open_as_long_as_it_looks(store: SqlJournal, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    file = tmp_path / "environments" / "production.toml"
    rolled_out(store, "1.0.0")
    looked(store, deed=Deed.ALERT, failures=4)
    assert stand(capsys, "production")["alerts"] == []
    file.write_text(f"{file.read_text()}[verification]\nenabled = true\n")
    assert [alert["kind"] for alert in stand(capsys, "production")["alerts"]] == ["health-failed"]
    file.write_text("nonsense")
    assert [alert["kind"] for alert in stand(capsys, "production")["alerts"]] == ["health-failed"]


def test_what_failed_of_an_earlier_release_is_no_news(store: SqlJournal, capsys: pytest.CaptureFixture[str]):
    rolled_out(store, "1.0.0")
    looked(store, deed=Deed.ALERT, failures=4)
    rolled_out(store, "1.1.0")
    assert "failing" not in shown(capsys, "-e", "production")


def test_a_hold_is_one_line_with_how_it_ends(store: SqlJournal, capsys: pytest.CaptureFixture[str]):
    rolled_out(store, "1.0.0")
    looked(store, deed=Deed.GO_BACK, failures=5)
    [line] = [line for line in shown(capsys).splitlines() if line.startswith("  held")]
    assert "by canary-verification: 503. greenroom unhold production --reason" in line
    assert stand(capsys, "staging")["hold"] is None


def test_a_person_lets_releases_go_on(store: SqlJournal, capsys: pytest.CaptureFixture[str]):
    rolled_out(store, "1.0.0")
    looked(store, deed=Deed.GO_BACK, failures=5)
    assert run(["unhold", "production", "--reason", " ", "--as", "Bea"]) == 2
    assert run(["unhold", "nowhere", "--reason", "mended", "--as", "Bea"]) == 2
    assert store.hold_on("production")
    assert run(["unhold", "production", "--reason", "mended", "--as", "Bea"]) == 0
    assert capsys.readouterr().out.startswith("Production takes releases again, by Bea. Held since ")
    assert store.hold_on("production") is None
    assert run(["unhold", "production", "--reason", "mended", "--as", "Bea"]) == 0
    assert capsys.readouterr().out == "Nothing holds promotions to production.\n"
