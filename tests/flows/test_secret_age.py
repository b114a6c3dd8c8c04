"""The age of secrets, as requests, ways back, the doctor, the command and the flow meet it."""

import json
from datetime import date, timedelta

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from cli.main import run
from delivery.approval import Approval, PromotionRequest
from delivery.errors import InvalidSettings, NotApproved
from delivery.journal import Ending
from delivery.record import RolloutRecord
from delivery.release import Release
from flows.assembly import House, blocks_from
from flows.examination import examine_secrets
from flows.promote import ask, carry_out
from flows.rollback import go_back
from flows.secret_age import look, rows, secret_age, tell
from flows.telling import Telling
from tests.flows.conftest import Stage
from tests.prefect_stage import prefect_server
from tests.signing import AT

pytestmark = pytest.mark.processes


def register(stage: Stage, text: str) -> None:
    file = stage.environments / "production.toml"
    file.write_text(f"{file.read_text()}{text}")


def made(stage: Stage, days: int, more: str = "") -> None:
    """A secret of production that was made so many days ago by the journal's clock."""
    created = stage.house.store.now().date() - timedelta(days=days)
    register(stage, f'[secrets.DATABASE_URL]\nowner = "Bea"\nversion = 2\ncreated = "{created}"\n{more}')


def waiver(until: date) -> str:
    return f'[[secret_age.waiver]]\nsecret = "DATABASE_URL"\nreason = "the vendor"\nowner = "Ann"\nuntil = "{until}"\n'


def carried_out(stage: Stage, release: Release, kind: str = "normal") -> RolloutRecord:
    request: PromotionRequest = ask(stage.house, release.id, "production", kind, key=f"{kind} {release.id}")  # type: ignore[arg-type]
    request = stage.house.store.decide(request.number, Approval("Bea", "approve", "fine", "cli", AT))
    with Telling() as telling:
        return carry_out(stage.house, request, telling, approved_by=("Bea",))


def test_an_approved_release_goes_to_production_with_a_secret_of_96_days(stage: Stage) -> None:
    made(stage, 96)
    assert carried_out(stage, stage.on_staging("1.0.0")).ending is Ending.LIVE


@pytest.mark.parametrize("kind", ["normal", "config"])
def test_at_97_days_an_approved_release_begins_nothing(stage: Stage, kind: str) -> None:
    made(stage, 97)
    with pytest.raises(NotApproved, match="NO GO, secrets: DATABASE_URL v2 is 97 days old, too old"):
        carried_out(stage, stage.on_staging("1.0.0"), kind)
    assert stage.production.acts == []


def test_a_dated_waiver_lets_it_go_until_its_last_day(stage: Stage) -> None:
    today = stage.house.store.now().date()
    made(stage, 97, waiver(today + timedelta(days=1)))
    assert carried_out(stage, stage.on_staging("1.0.0")).ending is Ending.LIVE


def test_a_waiver_that_ran_out_lets_nothing_go(stage: Stage) -> None:
    today = stage.house.store.now().date()
    made(stage, 97, waiver(today - timedelta(days=1)))
    with pytest.raises(NotApproved, match="NO GO, secrets"):
        carried_out(stage, stage.on_staging("1.0.0"))


def test_a_secret_that_grows_too_old_while_a_request_waits_holds_it_up(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    made(stage, 90)
    release = stage.on_staging("1.0.0")
    ask(stage.house, release.id, "production", "normal", key=f"normal {release.id}")
    kind = type(stage.house.store)
    now = kind.now
    monkeypatch.setattr(kind, "now", lambda store: now(store) + timedelta(days=7))
    with pytest.raises(NotApproved, match="NO GO, secrets"):
        carried_out(stage, release)


def test_a_secret_that_is_renewed_while_a_request_waits_lets_it_go(stage: Stage) -> None:
    made(stage, 97)
    release = stage.on_staging("1.0.0")
    ask(stage.house, release.id, "production", "normal", key=f"normal {release.id}")
    file, today = stage.environments / "production.toml", stage.house.store.now().date()
    file.write_text(file.read_text().replace(str(today - timedelta(days=97)), str(today)))
    assert carried_out(stage, release).ending is Ending.LIVE


def test_the_way_back_is_never_refused_for_a_secrets_age(stage: Stage) -> None:
    for version in ("1.0.0", "1.1.0"):
        stage.bring(stage.on_staging(version), "production")
    made(stage, 400)
    with Telling() as telling:
        record = go_back(stage.house, "production", version=None, reason="orders twice", by="Bea", telling=telling)
    assert (record.ending, record.version) == (Ending.LIVE, "1.0.0")


@pytest.mark.parametrize(("days", "verdict"), [(74, "ok"), (75, "look"), (89, "look"), (90, "missing"), (97, "missing")])
def test_the_doctor_warns_at_75_days_and_fails_at_90(stage: Stage, days: int, verdict: str) -> None:
    made(stage, days)
    assert examine_secrets(stage.house, "production", "secrets").verdict == verdict


def test_a_secret_that_containers_get_and_nobody_registered_is_worth_a_look(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(House, "secret_names", lambda *_: frozenset({"REDIS_URL"}))
    found = examine_secrets(stage.house, "production", "secrets")
    assert (found.verdict, found.evidence) == ("look", "REDIS_URL is not in [secrets]: nobody can tell its age")
    assert carried_out(stage, stage.on_staging("1.0.0")).ending is Ending.LIVE


def test_what_looks_like_a_secret_in_the_wrong_place_is_refused_and_not_told(stage: Stage) -> None:
    register(stage, '[secrets]\nDATABASE_URL = "postgresql://app:hunter2@db/shop"\n')
    with pytest.raises(InvalidSettings, match=r"secrets.DATABASE_URL: got a value that is not shown, expected a table") as refused:
        stage.house.environment("production")
    assert "hunter2" not in str(refused.value)


def test_people_are_told_once_for_each_version_and_verdict(stage: Stage) -> None:
    made(stage, 80)
    for expected in (["Production: DATABASE_URL v2 is 80 days old, due soon (Bea renews it)."], []):
        found, failures = look(stage.house)
        tell(stage.house, found)
        waiting = stage.house.store.unsent_notices()
        assert ([text for _, _, text, _ in waiting], failures) == (expected, ())
        for number, *_ in waiting:
            stage.house.store.mark_sent(number)


def test_one_environment_that_cannot_be_looked_at_hides_no_other(stage: Stage) -> None:
    made(stage, 1)
    (stage.environments / "staging.toml").write_text("nonsense")
    found, failures = look(stage.house)
    assert ([row["secret"] for row in rows(found)], len(failures)) == (["DATABASE_URL"], 1)


def test_the_command_tells_versions_and_ages_and_ends_with_1_when_one_is_overdue(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cli.house.LocalBlocks.of", lambda _: stage.house.blocks)
    assert run(["secrets"]) == 0
    assert capsys.readouterr().out == "No secrets.\n"
    made(stage, 91)
    assert run(["secrets", "production", "--json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["secret"], row["version"], row["days"], row["owner"], row["verdict"]) == ("DATABASE_URL", 2, 91, "Bea", "overdue")
    assert run(["secrets", "producton"]) == 2


@pytest.mark.prefect
def test_a_run_leaves_the_table_and_fails_when_a_secret_is_overdue(stage: Stage) -> None:
    made(stage, 90)
    with temporary_settings({PREFECT_API_URL: prefect_server().api_url}), get_client(sync_client=True) as client:
        with blocks_from(stage.house.blocks):
            state = secret_age(return_state=True)
        assert state.is_failed()
        (table,) = (one for one in client.read_artifacts() if one.key == "secret-age")
    assert [row["verdict"] for row in json.loads(str(table.data))] == ["overdue"]
