"""The checklist of an environment, from whole rollouts on simulated platforms."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks.secrets import EnvironmentSecrets
from cli.main import run
from delivery.approval import Approval
from delivery.backup import RestoreTest
from delivery.check import CheckResult
from delivery.errors import InvalidSettings, TransientError
from delivery.preflight import Item
from flows.assembly import blocks_from
from flows.preflight import go_through, preflight
from flows.promote import plan_for
from flows.signing import sign_tests
from tests.flawed_server import flawed_server
from tests.flows.conftest import Stage
from tests.prefect_stage import prefect_server
from tests.signing import AT, Keyring

OF_A_PERSON = ("backup strategy", "team trained")
CHECKS = (CheckResult("pytest", passed=True, seconds=3), CheckResult("bandit", passed=True, seconds=1))


def asked(stage: Stage, environment: str = "production") -> dict[str, Item]:
    return {item.name: item for item in go_through(stage.house, environment)}


def test_there_are_thirteen_items_and_each_that_does_not_pass_says_what_to_do(stage: Stage) -> None:
    items = asked(stage)
    assert len(items) == 13
    assert [item.name for item in items.values() if item.verdict != "pass" and not item.next] == []


def test_before_anything_is_published_what_a_release_shows_fails(stage: Stage) -> None:
    items = asked(stage)
    for name in ("images build", "migrations tested", "health checks verified", "performance baseline"):
        assert items[name].verdict == "fail", name


def test_what_was_shown_on_staging_counts_for_production(stage: Stage) -> None:
    stage.published("1.0.0")
    assert asked(stage)["migrations tested"].verdict == "fail"
    stage.bring(stage.on_staging("1.1.0"), "production")
    items = asked(stage)
    assert [items[name].verdict for name in ("migrations tested", "health checks verified")] == ["pass", "pass"]


def test_what_an_older_release_has_shown_does_not_count_for_the_newest(stage: Stage) -> None:
    stage.on_staging("1.0.0")
    stage.published("1.1.0")
    assert asked(stage)["health checks verified"].verdict == "fail"


@pytest.mark.parametrize("name", OF_A_PERSON)
def test_what_only_people_know_is_never_a_pass(stage: Stage, name: str) -> None:
    assert asked(stage)[name].verdict == "cannot tell"


def test_a_backup_counts_when_it_came_back_the_last_time(stage: Stage) -> None:
    tried = RestoreTest("production", "production-1", "0" * 64, AT, well=True, seconds=1.0, what="it brings everything back")
    stage.house.store.add_restore_test(tried, key="1")
    assert asked(stage)["backup strategy"].verdict == "pass"
    assert asked(stage, "staging")["backup strategy"].verdict == "cannot tell"
    stage.house.store.add_restore_test(replace(tried, well=False, what="orders has 1 rows and had 2"), key="2")
    assert asked(stage)["backup strategy"].verdict == "fail"


def test_an_environment_that_refuses_backups_fails(stage: Stage, edit_environment: Callable[[str, str, str], None]) -> None:
    edit_environment("production", "[prove]", "[backup]\nbefore_migrations = false\n[prove]")
    assert asked(stage)["backup strategy"].verdict == "fail"


def test_a_configuration_is_reviewed_when_a_person_approved_a_plan_with_it(
    stage: Stage, edit_environment: Callable[[str, str, str], None]
) -> None:
    store, release = stage.house.store, stage.on_staging("1.0.0")
    assert asked(stage)["configuration reviewed"].verdict == "cannot tell"
    plan = plan_for(stage.house, release, stage.house.environment("production"), "normal")
    request = store.open_request(plan, key="a test", expires_at=store.now() + timedelta(hours=1))
    assert asked(stage)["configuration reviewed"].verdict == "cannot tell"
    store.decide(request.number, Approval("Bea", "approve", "read it", "cli", AT))
    assert asked(stage)["configuration reviewed"].evidence.endswith("approved by Bea")
    edit_environment("production", "hold_seconds = 900", "hold_seconds = 0")
    assert asked(stage)["configuration reviewed"].verdict == "cannot tell"


def test_secrets_are_told_by_name_only_and_what_migrations_need_is_among_them(stage: Stage) -> None:
    stage.published("1.0.0")
    stage.production.secrets = EnvironmentSecrets(values={"REDIS_URL": "redis://:hunter2@redis"})  # type: ignore[attr-defined]
    assert asked(stage)["secrets configured"].evidence.startswith("DATABASE_URL, which migrations need, is not among them: REDIS_URL")
    values = {"REDIS_URL": "redis://:hunter2@redis", "DATABASE_URL": "postgresql://app:hunter2@db/app"}
    stage.production.secrets = EnvironmentSecrets(values=values)  # type: ignore[attr-defined]
    items = asked(stage)
    assert items["secrets configured"].verdict == "pass"
    assert "hunter2" not in repr(items)


def test_monitoring_names_what_is_missing(stage: Stage) -> None:
    found = asked(stage)["monitoring and alerting"]
    assert found.verdict == "fail"
    assert found.evidence == "missing: a metric source block of its name, limits ([[trigger]]), environment.notifier, verification.enabled"


def test_a_platform_that_does_not_answer_is_not_told_and_keeps_nothing_else(stage: Stage) -> None:
    stage.on_staging("1.0.0")
    stage.production.fail("observe", error=TransientError("The engine is silent.", next="start it."))
    items = asked(stage)
    assert (items["configuration reviewed"].verdict, items["configuration reviewed"].evidence) == ("cannot tell", "The engine is silent.")
    assert items["health checks verified"].verdict == "pass"


def test_looking_acts_on_nothing(stage: Stage) -> None:
    stage.on_staging("1.0.0")
    before = [list(target.acts) for target in stage.targets.values()], stage.house.store.rollouts(), stage.house.store.leases()
    asked(stage)
    assert ([target.acts for target in stage.targets.values()], stage.house.store.rollouts(), stage.house.store.leases()) == before


def test_an_unknown_environment_is_refused(stage: Stage) -> None:
    with pytest.raises(InvalidSettings, match="Unknown environment"):
        go_through(stage.house, "producton")


@pytest.mark.processes
def test_checks_count_when_a_trusted_key_signed_what_they_said(stage: Stage) -> None:
    keyring = Keyring.made_in(stage.environments)
    release = stage.published("1.0.0")
    blocks = stage.house.blocks._blocks  # type: ignore[attr-defined]
    blocks["signing-key", "default"] = keyring.stranger
    sign_tests(stage.house, release, CHECKS, None)
    assert asked(stage)["tests pass"].verdict == "cannot tell"
    release = stage.published("1.1.0")
    blocks["signing-key", "default"] = keyring.mine
    sign_tests(stage.house, release, CHECKS, None)
    items = asked(stage)
    assert [items[name].verdict for name in ("tests pass", "security scan clean")] == ["pass", "pass"]


@pytest.mark.parametrize(
    ("flaws", "verdict", "told"),
    [
        ((), "cannot tell", "staging-1: inspection: "),
        (("docs",), "cannot tell", "1 medium found"),
        (("404 with traceback",), "fail", "high found, 1 waived"),
    ],
)
def test_a_scan_is_clean_when_strangers_saw_nothing_high_either(
    stage: Stage, edit_environment: Callable[[str, str, str], None], flaws: tuple[str, ...], verdict: str, told: str
) -> None:
    until = stage.house.store.now().date() + timedelta(days=1)
    waiver = f'[[inspection.waiver]]\nrule = "stack-trace"\nreason = "old"\nowner = "Ann"\nuntil = "{until}"\n'
    edit_environment("staging", "smoke = false", f'smoke = false\ninspect = true\n[inspection]\nfails_at = "high"\n{waiver}')
    older = stage.published("0.9.0")
    assert asked(stage)["security scan clean"].evidence == f"{older.id} was never inspected in production nor in staging"
    with flawed_server(*flaws) as place:
        stage.targets["staging"].public_url = place.url
        stage.on_staging("1.0.0")
    item = asked(stage)["security scan clean"]
    assert item.verdict == verdict  # without a signed build nobody can tell of that half
    assert told in item.evidence


def test_the_command_shows_every_item_and_ends_with_1_when_one_fails(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cli.house.LocalBlocks.of", lambda _: stage.house.blocks)
    assert run(["preflight", "production", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["environment"], told["ready"], len(told["items"])) == ("production", False, 13)
    assert run(["preflight", "producton"]) == 2


def test_the_command_ends_with_0_when_nothing_fails(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cli.house.LocalBlocks.of", lambda _: stage.house.blocks)
    monkeypatch.setattr("cli.preflight.go_through", lambda *_: (Item("backup strategy", "cannot tell", "unseen", "look."),))
    assert run(["preflight"]) == 0
    assert "cannot tell  backup strategy  unseen" in capsys.readouterr().out


@pytest.mark.prefect
def test_a_run_leaves_the_table_and_fails_when_an_item_does(stage: Stage) -> None:
    with temporary_settings({PREFECT_API_URL: prefect_server().api_url}), get_client(sync_client=True) as client:
        with blocks_from(stage.house.blocks):
            state = preflight("production", return_state=True)
        assert state.is_failed()
        assert state.message is not None
        assert state.message.startswith("Production is not ready: ")
        (table,) = (one for one in client.read_artifacts() if one.key == "preflight-production")
    assert len(json.loads(str(table.data))) == 13
