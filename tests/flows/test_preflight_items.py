"""Each item of the checklist, turned: what would make it fail, and what nobody can tell, from journals that say so."""

import json
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from blocks.metrics import TraefikMetrics
from blocks.secrets import EnvironmentSecrets
from blocks.webhook import WebhookNotifier
from cli.main import run
from delivery.approval import Approval
from delivery.backup import Backup
from delivery.check import CheckResult
from delivery.errors import DeliveryError
from delivery.journal import Evidence, Journal
from delivery.plan import StepKind, plan_rollout
from delivery.preflight import Item
from delivery.release import Release
from delivery.scan import Finding, Severity
from flows.preflight import go_through, preflight
from flows.promote import plan_for
from tasks.report_inspection import facts_of
from tests.flows.conftest import Stage
from tests.samples import a_release
from tests.signing import AT
from tests.tasks.small_server import serving

Edit = Callable[[str, str, str], None]
LOADED = a_release("1.0.0", smoke=())
CLEAN = CheckResult("inspection", passed=True, seconds=1.0)
BANDIT = {"bandit": "bandit passed in 1.0 s"}
VALUES = {"REDIS_URL": "redis://redis/0", "DATABASE_URL": "postgresql://app:hunter2@db/app"}


def asked(stage: Stage, name: str, environment: str = "production") -> Item:
    return next(item for item in go_through(stage.house, environment) if item.name == name)


def verdict(stage: Stage, name: str, environment: str = "production") -> str:
    return asked(stage, name, environment).verdict


def told(
    stage: Stage,
    release: Release,
    environment: str = "staging",
    *,
    sick: Collection[StepKind] = (),
    facts: Mapping[StepKind, Mapping[str, object]] | None = None,
    kinds: Collection[StepKind] = (),
) -> None:
    """The journal of a rollout whose steps said so; `kinds` are all that ended before it was left, when they are named."""
    store, target = stage.house.store, stage.targets[environment]
    plan = plan_rollout(release, stage.house.environment(environment), capabilities=target.capabilities, blue=store.live(environment))
    lease = store.acquire(environment, holder="a test", purpose="a test", ttl=timedelta(seconds=60))
    journal = Journal(store.log_of(store.open_rollout(lease, plan, by="a test"), lease))
    while (step := journal.next_step()) and (not kinds or step.kind in kinds):
        journal.started(step)
        kept = (facts or {}).get(step.kind, {})
        journal.finished(step, Evidence(well=step.kind not in sick, summary=f"{step.name} was seen", facts=kept))
    if not kinds:
        journal.close()
    store.give_up(lease)


def test_a_break_that_nobody_foresaw_is_not_told_and_repeats_no_text(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("postgresql://app:hunter2@db/app")

    monkeypatch.setattr("flows.preflight.examine_environment", breaks)
    items = {item.name: item for item in go_through(stage.house, "production")}
    assert len(items) == 13
    item = items["configuration reviewed"]
    assert (item.verdict, item.evidence) == ("cannot tell", "could not be looked at (RuntimeError)")
    assert "hunter2" not in repr(items)


def test_the_images_are_told_by_service(stage: Stage) -> None:
    release = stage.published("1.0.0")
    assert asked(stage, "images build") == Item("images build", "pass", f"{release.id} is published by digest: api, worker")


def test_a_configuration_that_somebody_rejected_is_not_reviewed(stage: Stage) -> None:
    store, release = stage.house.store, stage.on_staging("1.0.0")
    plan = plan_for(stage.house, release, stage.house.environment("production"), "normal")
    request = store.open_request(plan, key="a test", expires_at=store.now() + timedelta(hours=1))
    store.decide(request.number, Approval("Bea", "reject", "not so", "cli", AT))
    assert verdict(stage, "configuration reviewed") == "cannot tell"


def test_a_configuration_does_not_count_while_its_target_serves_something_else(stage: Stage) -> None:
    stage.bring(stage.on_staging("1.0.0"), "production")
    stage.production.weights = {}
    item = asked(stage, "configuration reviewed")
    assert item.verdict == "fail"
    assert "serves nothing, the journal says v1.0.0-" in item.evidence


def test_secrets_that_the_platform_keeps_cannot_be_told(stage: Stage) -> None:
    item = asked(stage, "secrets configured")
    assert (item.verdict, item.evidence) == ("cannot tell", "the target's block has no secrets; the platform may have its own")


def test_signed_releases_without_a_key_fail_where_secrets_are_asked_for(stage: Stage, edit_environment: Edit) -> None:
    edit_environment("production", "required = false", "required = true")
    item = asked(stage, "secrets configured")
    assert (item.verdict, "There is no block signing-key/default" in item.evidence) == ("fail", True)


def test_a_notifier_that_is_named_and_not_there_fails(stage: Stage, edit_environment: Edit) -> None:
    edit_environment("production", "[approval]", 'notifier = "team"\n[approval]')
    item = asked(stage, "secrets configured")
    assert (item.verdict, "team" in item.evidence) == ("fail", True)


def test_a_weak_key_among_the_secrets_fails_and_is_not_shown(stage: Stage) -> None:
    stage.published("1.0.0")
    stage.production.secrets = EnvironmentSecrets(values=VALUES)  # type: ignore[attr-defined]
    assert verdict(stage, "secrets configured") == "pass"
    stage.production.secrets = EnvironmentSecrets(values={**VALUES, "SECRET_KEY": "changeme"})  # type: ignore[attr-defined]
    item = asked(stage, "secrets configured")
    assert (item.verdict, "SECRET_KEY" in item.evidence, "changeme" in repr(item)) == ("fail", True, False)


def test_a_release_without_migrations_needs_no_test_of_them(stage: Stage) -> None:
    release = a_release("1.0.0", migrations=None, review=None, load=None, smoke=())
    stage.house.store.save_release(release)
    assert asked(stage, "migrations tested") == Item("migrations tested", "pass", f"{release.id} carries none")


@pytest.mark.parametrize(("item", "kind"), [("migrations tested", StepKind.MIGRATE), ("health checks verified", StepKind.CHECK)])
def test_a_step_that_ended_badly_fails_until_it_ends_well(stage: Stage, item: str, kind: StepKind) -> None:
    release = stage.published("1.0.0")
    told(stage, release, sick={kind})
    bad = asked(stage, item)
    assert (bad.verdict, bad.evidence) == ("fail", f"staging-1: {kind} was seen")
    assert bad.next
    told(stage, release)
    assert asked(stage, item) == Item(item, "pass", f"staging-2: {kind} was seen")


def test_a_rollout_that_has_not_come_to_a_step_hides_no_older_word_on_it(stage: Stage) -> None:
    release = stage.published("1.0.0")
    told(stage, release, sick={StepKind.CHECK})
    told(stage, release, kinds={StepKind.PREPARE})
    assert asked(stage, "health checks verified").evidence == "staging-1: check was seen"


def test_what_an_environment_that_comes_after_has_shown_counts_for_nothing(stage: Stage) -> None:
    release = stage.published("1.0.0")
    told(stage, release, "production")
    assert verdict(stage, "health checks verified") == "pass"
    assert verdict(stage, "health checks verified", "staging") == "fail"


def test_a_baseline_is_a_load_test_that_ended_well(stage: Stage, edit_environment: Edit) -> None:
    release = stage.published("0.9.0")
    assert asked(stage, "performance baseline").evidence == f"{release.id} has no load test"
    stage.house.store.save_release(LOADED)
    assert asked(stage, "performance baseline").evidence == f"step load of {LOADED.id} has never ended in staging"
    edit_environment("staging", "smoke = false", "smoke = false\nload = true")
    stage.targets["staging"].public_url = "http://127.0.0.1:9"
    told(stage, LOADED, sick={StepKind.LOAD})
    assert verdict(stage, "performance baseline") == "fail"
    told(stage, LOADED)
    assert verdict(stage, "performance baseline") == "pass"


@pytest.mark.parametrize(
    ("signed", "kept", "well", "verdict", "evidence"),
    [
        (BANDIT, CLEAN, True, "pass", "signed: bandit found nothing high; staging-1: inspect was seen"),
        (BANDIT, CLEAN, False, "fail", "staging-1: inspect was seen"),
        (BANDIT, None, True, "fail", "v1.0.0-100aaaaa was never inspected in production nor in staging"),
        (BANDIT, CheckResult("inspection", passed=True, seconds=1.0, not_scanned="502"), True, "fail", "staging-1: inspect was seen"),
        (
            BANDIT,
            CheckResult("inspection", passed=True, seconds=1.0, findings=(Finding("i", "trace", Severity.HIGH, "/", "answers"),)),
            True,
            "fail",
            "staging-1: inspect was seen",
        ),
        ({"bandit": "bandit passed in 1.0 s: 1 high found"}, CLEAN, True, "fail", "bandit passed in 1.0 s: 1 high found"),
    ],
)
def test_a_security_scan_is_clean_when_both_halves_are(
    stage: Stage,
    edit_environment: Edit,
    monkeypatch: pytest.MonkeyPatch,
    signed: dict[str, str],
    kept: CheckResult | None,
    *,
    well: bool,
    verdict: str,
    evidence: str,
) -> None:
    edit_environment("staging", "smoke = false", "smoke = false\ninspect = true")
    monkeypatch.setattr("flows.preflight.signed_facts", lambda *_, **__: signed)
    stage.targets["staging"].public_url = "http://127.0.0.1:9"
    facts = {StepKind.INSPECT: facts_of(kept, asked=1, pages_left_out=())} if kept else {}
    told(stage, stage.published("1.0.0"), sick=() if well else {StepKind.INSPECT}, facts=facts)
    item = asked(stage, "security scan clean")
    assert (item.verdict, item.evidence) == (verdict, evidence)
    assert bool(item.next) is (verdict == "fail")


def test_monitoring_passes_when_metrics_answer_limits_are_set_and_somebody_is_told(stage: Stage, edit_environment: Edit) -> None:
    stage.published("1.0.0")
    limit = '[[trigger]]\nmetric = "error_rate"\nthreshold = 0.04\nfor_seconds = 30\n[verification]\nenabled = true\n'
    edit_environment("production", "[approval]", f'notifier = "webhook-notifier/team"\n{limit}[approval]')
    blocks = stage.house.blocks._blocks  # type: ignore[attr-defined]
    blocks["webhook-notifier", "team"] = WebhookNotifier(url="http://127.0.0.1:9/hook")
    with serving({"/metrics": (200, "# nothing was counted yet\n")}) as url:
        blocks["traefik-metrics", "production"] = TraefikMetrics(admin_url=url, environment="production")
        item = asked(stage, "monitoring and alerting")
        assert item == Item(item.name, "pass", "metrics answer; limits on error_rate; webhook-notifier/team is told")
    blocks["traefik-metrics", "production"] = TraefikMetrics(admin_url="http://127.0.0.1:9", environment="production")
    assert verdict(stage, "monitoring and alerting") == "cannot tell"


def test_backups_that_never_came_back_fail(stage: Stage) -> None:
    backup = Backup("staging-1", "staging-1.dump", 9, "0" * 64, 1.0, ("0001",), {"orders": 2})
    told(stage, stage.published("1.0.0"), "production", facts={StepKind.MIGRATE: backup.facts()})
    item = asked(stage, "backup strategy")
    assert (item.verdict, item.evidence) == ("fail", "there are backups, and none was ever brought back")


def test_the_platforms_snapshots_cannot_be_told(stage: Stage, edit_environment: Edit) -> None:
    assert asked(stage, "backup strategy").evidence == "none was taken here yet"
    edit_environment("production", "[prove]", '[backup]\nhook = ["/usr/local/bin/snapshot"]\n[prove]')
    item = asked(stage, "backup strategy")
    assert (item.verdict, item.evidence) == ("cannot tell", "snapshots are the platform's, by backup.hook")


def test_a_way_back_and_runbooks_are_pages_that_exist(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = "docs/runbooks/rolled-back.md; the release before stays warm for 15 min, later it comes by digest"
    assert asked(stage, "rollback plan") == Item("rollback plan", "pass", told)
    assert verdict(stage, "runbooks") == "pass"
    pages = tmp_path / "docs" / "runbooks"
    pages.mkdir(parents=True)
    for page in ("live", "untouched", "needs-human"):
        (pages / f"{page}.md").touch()
    monkeypatch.setattr("flows.preflight.HOME", tmp_path)
    assert [asked(stage, name).evidence for name in ("rollback plan", "runbooks")] == [
        "docs/runbooks/rolled-back.md is missing",
        "missing: docs/runbooks/rolled-back.md",
    ]
    assert verdict(stage, "runbooks") == "fail"
    assert verdict(stage, "rollback plan") == "fail"


def test_a_run_ends_well_when_nothing_fails_and_else_says_each_next_step(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    del stage
    body = preflight.fn.__wrapped__  # type: ignore[attr-defined]  # as Prefect calls it, without a run
    unknown, bad = Item("team trained", "cannot tell", "unseen", "look."), Item("runbooks", "fail", "missing", "write one.")
    monkeypatch.setattr("flows.preflight.go_through", lambda *_: (unknown,))
    assert body("production") == "Production has nothing against it: 0 fail, 1 cannot be told, 0 pass."
    monkeypatch.setattr("flows.preflight.go_through", lambda *_: (unknown, bad))
    with pytest.raises(DeliveryError, match="Production is not ready: 1 fail") as refused:
        body("production")
    assert refused.value.next == "runbooks: write one."


def test_the_command_prints_the_next_step_under_its_item(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cli.house.LocalBlocks.of", lambda _: stage.house.blocks)
    items = (Item("images build", "pass", "published"), Item("runbooks", "fail", "missing", "write one."))
    monkeypatch.setattr("cli.preflight.go_through", lambda *_: items)
    assert run(["preflight"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "pass         images build  published",
        "fail         runbooks      missing",
        "                           Next: write one.",
        "Production is not ready: 1 fail, 0 cannot be told, 1 pass.",
    ]
    assert run(["preflight", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ready"] is False
