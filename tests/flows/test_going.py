"""Go or no-go, as a request meets it."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from delivery.approval import Approval, PromotionRequest
from delivery.errors import DeliveryError, NotApproved
from delivery.journal import Ending
from delivery.record import RolloutRecord
from delivery.release import Release
from flows.going import answers_for
from flows.promote import ask, carry_out
from flows.telling import Telling
from tests.flawed_server import FlawedServer, flawed_server
from tests.flows.conftest import Stage
from tests.signing import AT

pytestmark = pytest.mark.processes


def rule(stage: Stage, text: str) -> None:
    file = stage.environments / "production.toml"
    file.write_text(f"{file.read_text()}{text}")


def approved(stage: Stage, release: Release, kind: str = "normal") -> PromotionRequest:
    request = ask(stage.house, release.id, "production", kind, key=f"{kind} {release.id}")  # type: ignore[arg-type]
    return stage.house.store.decide(request.number, Approval("Bea", "approve", "fine", "cli", AT))


def carried_out(stage: Stage, request: PromotionRequest) -> RolloutRecord:
    with Telling() as telling:
        return carry_out(stage.house, request, telling, approved_by=("Bea",))


def require_no_go(stage: Stage, request: PromotionRequest, why: str) -> None:
    with pytest.raises(NotApproved, match=why):
        carried_out(stage, request)
    assert stage.production.acts == []
    assert why in str(stage.house.store.request(request.number).closed)


def after(stage: Stage, monkeypatch: pytest.MonkeyPatch, **time: float) -> None:
    kind = type(stage.house.store)
    now = kind.now
    monkeypatch.setattr(kind, "now", lambda store: now(store) + timedelta(**time))


def test_an_approved_release_that_has_not_soaked_begins_nothing(stage: Stage) -> None:
    rule(stage, "[go]\nsoak_seconds = 1800\n")
    require_no_go(stage, approved(stage, stage.on_staging("1.0.0")), "NO GO, soak: 0 of 30 min in staging")


def test_once_it_has_soaked_it_goes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    rule(stage, "[go]\nsoak_seconds = 1800\n")
    request = approved(stage, stage.on_staging("1.0.0"))
    after(stage, monkeypatch, minutes=31)
    assert carried_out(stage, request).ending is Ending.LIVE


def test_a_release_that_another_one_replaced_at_once_has_not_soaked(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    rule(stage, "[go]\nsoak_seconds = 1800\n")
    first = stage.on_staging("1.0.0")
    stage.on_staging("1.1.0")
    request = approved(stage, first)
    after(stage, monkeypatch, hours=1)
    require_no_go(stage, request, "NO GO, soak: 0 of 30 min in staging")


def test_a_freeze_that_is_declared_while_a_request_waits_holds_it_up(stage: Stage) -> None:
    request = approved(stage, stage.on_staging("1.0.0"))
    rule(stage, '[[go.freeze]]\nstarts = "2020-01-01T00:00:00Z"\nends = "2999-01-01T00:00:00Z"\nreason = "audit"\n')
    require_no_go(stage, request, "NO GO, freeze: audit, until 2999-01-01T00:00:00")


def test_a_hotfix_goes_where_the_rules_are_not_for_it(stage: Stage) -> None:
    rule(stage, '[go]\nsoak_seconds = 1800\nnot_for = ["hotfix"]\n')
    release = stage.on_staging("1.0.0")
    assert carried_out(stage, approved(stage, release, "hotfix")).ending is Ending.LIVE


def test_a_release_whose_evidence_is_broken_is_no_go_where_that_counts(stage: Stage) -> None:
    (stage.environments / "keys").mkdir()
    rule(stage, "[go]\nevidence = true\n")
    text = (stage.environments / "production.toml").read_text()
    (stage.environments / "production.toml").write_text(text.replace("required = false", "required = false\nkeys = []"))
    request = approved(stage, stage.on_staging("1.0.0"))
    assert [(answer.rule, answer.go) for answer in answers_for(stage.house, request)] == [("evidence", False)]
    require_no_go(stage, request, "NO GO, evidence: provenance api: nobody signed where it comes from")


INSPECTS = '[inspection]\nfails_at = "critical"\n'
WAIVER = """[[inspection.waiver]]
rule = "stack-trace"
reason = "the framework is replaced in spring"
owner = "Ann"
until = "{until}"
"""


@pytest.fixture
def inspected(stage: Stage) -> Iterator[FlawedServer]:
    """Staging has an address, is inspected there, and lets anything pass that is not critical; production takes nothing that is high."""
    staging = stage.environments / "staging.toml"
    staging.write_text(staging.read_text().replace("smoke = false", "smoke = false\ninspect = true") + INSPECTS)
    rule(stage, '[go]\nopen_findings = "high"\n')
    with flawed_server() as place:
        stage.targets["staging"].public_url = place.url
        yield place


def waive(stage: Stage, *, days: int) -> None:
    staging = stage.environments / "staging.toml"
    until = stage.house.store.now().date() + timedelta(days=days)
    staging.write_text(staging.read_text() + WAIVER.format(until=until))


def test_a_release_without_open_findings_goes(stage: Stage, inspected: FlawedServer) -> None:
    assert carried_out(stage, approved(stage, stage.on_staging("1.0.0"))).ending is Ending.LIVE
    assert inspected.seen


def test_a_high_finding_of_staging_is_a_no_for_production(stage: Stage, inspected: FlawedServer) -> None:
    inspected.flaws.add("404 with traceback")
    request = approved(stage, stage.on_staging("1.0.0"))
    require_no_go(stage, request, "NO GO, findings: high stack-trace is open in staging: GET /")


@pytest.mark.parametrize(("days", "go"), [(0, True), (-1, False)])
def test_what_is_waived_today_is_not_open(stage: Stage, inspected: FlawedServer, days: int, go: bool) -> None:  # noqa: FBT001
    inspected.flaws.add("404 with traceback")
    request = approved(stage, stage.on_staging("1.0.0"))
    waive(stage, days=days)
    assert [answer.go for answer in answers_for(stage.house, request)] == [go]


def test_a_medium_finding_and_what_was_mended_since_hold_nobody_up(stage: Stage, inspected: FlawedServer) -> None:
    inspected.flaws.add("404 with traceback")
    stage.on_staging("1.0.0")
    inspected.flaws = {"docs"}
    assert [answer.go for answer in answers_for(stage.house, approved(stage, stage.on_staging("1.1.0")))] == [True]


def test_what_went_back_to_a_release_does_not_make_its_inspection_forgotten(stage: Stage, inspected: FlawedServer) -> None:
    first = stage.on_staging("1.0.0")
    stage.on_staging("1.1.0")
    stage.bring(first, "staging", kind="rollback")
    asked = len(inspected.seen)
    assert [answer.go for answer in answers_for(stage.house, approved(stage, first))] == [True]
    assert len(inspected.seen) == asked


def test_a_release_that_nobody_inspected_is_no_go_where_findings_count(stage: Stage) -> None:
    rule(stage, '[go]\nopen_findings = "high"\n')
    require_no_go(stage, approved(stage, stage.on_staging("1.0.0")), "NO GO, findings: it was not inspected in staging")


def test_a_critical_alert_holds_a_release_up_until_the_quiet_hours_are_over(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    rule(stage, "[go]\nquiet_hours = 1\nnot_for = ['hotfix']\n")
    request = approved(stage, stage.on_staging("1.0.0"))
    assert [(answer.rule, answer.go) for answer in answers_for(stage.house, request)] == [("alerts", True)]
    refused = DeliveryError("The platform refused.", next="look.")
    stage.production.fail("launch", 1, refused)
    stage.bring(stage.published("0.9.0"), "production")  # no user met it: a warning holds nobody up
    assert [answer.go for answer in answers_for(stage.house, request)] == [True]
    stage.bring(stage.published("0.9.1"), "production")
    stage.stuck("0.9.2")
    [answer] = answers_for(stage.house, approved(stage, stage.on_staging("1.1.0")))
    assert not answer.go
    assert "critical, needs-human for 0 min: Production needs a person: step restore" in answer.what
    hotfix = approved(stage, stage.on_staging("1.1.1"), "hotfix")
    assert [answer.go for answer in answers_for(stage.house, hotfix)] == [True]
    stage.bring(stage.published("0.9.3"), "production")
    after(stage, monkeypatch, minutes=59)
    assert [answer.go for answer in answers_for(stage.house, approved(stage, stage.on_staging("1.2.0")))] == [False]
    after(stage, monkeypatch, minutes=2)
    assert [answer.go for answer in answers_for(stage.house, approved(stage, stage.on_staging("1.3.0")))] == [True]
