"""The request, the gate and the last look, as far as they need no Prefect server."""

from collections.abc import Callable

import pytest

from delivery.approval import Approval, PromotionRequest
from delivery.errors import DeliveryError, InvalidSettings, NotApproved
from delivery.journal import Ending, Opened
from delivery.record import RolloutRecord
from delivery.release import Release
from flows.promote import ask, carry_out, gate, pending_here, require_same_world
from flows.rollout import closed_rollout_of
from flows.telling import Telling
from tests.flows.conftest import Stage


def asked(stage: Stage, release: Release, *, key: str = "run-1", kind: str = "normal") -> PromotionRequest:
    return ask(stage.house, release.id, "production", kind, key=key)  # type: ignore[arg-type]


def say(stage: Stage, request: PromotionRequest, decision: str, person: str = "Bea") -> PromotionRequest:
    word = Approval(person, decision, "because", "cli", stage.house.store.now())  # type: ignore[arg-type]
    return stage.house.store.decide(request.number, word)


def pass_gate(stage: Stage, request: PromotionRequest) -> tuple[str, ...]:
    with Telling() as telling:
        return gate(stage.house, request, telling)


def carry(stage: Stage, request: PromotionRequest) -> RolloutRecord:
    with Telling() as telling:
        return carry_out(stage.house, request, telling, approved_by=("Bea",))


def test_a_run_that_is_started_again_finds_its_request(stage: Stage) -> None:
    release = stage.on_staging("1.0.0")
    first = asked(stage, release)
    (stage.environments / "production.toml").unlink()  # the file was read once and is frozen in the request
    assert asked(stage, release) == first


def test_another_run_asks_anew_and_supersedes(stage: Stage) -> None:
    release = stage.on_staging("1.0.0")
    first, second = asked(stage, release), asked(stage, release, key="run-2")
    assert second.number > first.number
    with pytest.raises(NotApproved, match=f"Production is unchanged. Request {first.number} is closed: superseded by"):
        pass_gate(stage, stage.house.store.request(first.number))


def test_a_release_that_never_lived_in_staging_is_refused(stage: Stage) -> None:
    release = stage.published("1.0.0")
    with pytest.raises(InvalidSettings, match="has never been live in staging"):
        asked(stage, release)


def test_an_unknown_release_is_refused_naming_the_known(stage: Stage) -> None:
    known = stage.on_staging("1.0.0")
    with pytest.raises(InvalidSettings, match=f"Unknown release.*{known.id}"):
        ask(stage.house, "v9.9.9-3f2a1bc9", "production", "normal", key="run-1")


def test_an_approval_in_the_journal_opens_the_gate(stage: Stage) -> None:
    request = say(stage, asked(stage, stage.on_staging("1.0.0")), "approve")
    assert pass_gate(stage, request) == ("Bea",)


def test_a_hotfix_passes_where_the_environment_allows_it(stage: Stage) -> None:
    assert pass_gate(stage, asked(stage, stage.on_staging("1.0.0"), kind="hotfix")) == ("policy",)


def test_the_live_release_gets_other_settings_as_a_rollout_of_its_own_however_often(
    stage: Stage, edit_environment: Callable[[str, str, str], None]
) -> None:
    release = stage.on_staging("1.0.0")
    carry(stage, asked(stage, release))
    with pytest.raises(InvalidSettings, match="already runs"):
        asked(stage, release, key="run-2")
    today = stage.house.store.now().date()
    edit_environment("production", "[provenance]", f'[secrets.URL]\nowner = "Bea"\nversion = 2\ncreated = "{today}"\n[provenance]')
    for number in (2, 3):
        record = carry(stage, asked(stage, release, key=f"settings {number}", kind="config"))
        assert (record.ending, record.release) == (Ending.LIVE, f"{release.id}-r{number}")
    live = stage.house.store.live("production")
    assert live is not None
    assert (live.build, live.secrets) == (release.id, {"URL": 2})


def test_other_settings_ask_nothing_about_migrations_that_nobody_brings(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    release = stage.on_staging("1.0.0")
    carry(stage, asked(stage, release))

    def refuse(*_: object) -> None:
        raise InvalidSettings("Its migrations were not read from there on.", next="publish it again.")

    monkeypatch.setattr("flows.promote.require_admission", refuse)
    monkeypatch.setattr("flows.promote.admission", refuse)
    request = asked(stage, release, key="settings", kind="config")
    assert pending_here(stage.house, request.plan) is None
    with pytest.raises(InvalidSettings, match="were not read"):
        asked(stage, stage.on_staging("1.0.1"), key="code", kind="config")


def test_why_it_is_done_stays_with_the_request_and_its_rollout(stage: Stage) -> None:
    first = carry(stage, asked(stage, stage.on_staging("1.0.0")))
    release = stage.on_staging("1.0.1")
    request = ask(stage.house, release.id, "production", "config", key="run-2", planned=False, remediates=first.id)
    record = carry(stage, request)
    opening = stage.house.store.entries(record.id)[0].event
    assert isinstance(opening, Opened)
    assert (opening.plan.kind, opening.plan.planned, opening.plan.remediates) == ("config", False, first.id)
    assert record.kind == "config"


def test_a_remedy_for_what_never_was_is_refused(stage: Stage) -> None:
    release = stage.on_staging("1.0.0")
    with pytest.raises(InvalidSettings, match="Unknown rollout: got 'production-7'"):
        ask(stage.house, release.id, "production", "hotfix", key="run-1", remediates="production-7")
    assert not stage.house.store.requests(environment="production")


def test_a_remedy_for_another_environment_is_refused(stage: Stage) -> None:
    release = stage.on_staging("1.0.0")
    with pytest.raises(InvalidSettings, match="staging-1 was in staging, expected a rollout of production"):
        ask(stage.house, release.id, "production", "hotfix", key="run-1", remediates="staging-1")


def test_a_rejection_ends_the_request_with_its_reason(stage: Stage) -> None:
    request = say(stage, asked(stage, stage.on_staging("1.0.0")), "reject")
    with pytest.raises(NotApproved, match=r"Production is unchanged\. Request 1 for v1\.0\.0 ended: Bea rejected it: because\."):
        pass_gate(stage, request)
    assert stage.house.store.request(request.number).closed == "Bea rejected it: because"


def test_a_rejected_release_can_be_asked_for_again(stage: Stage) -> None:
    release = stage.on_staging("1.0.0")
    say(stage, asked(stage, release), "reject")
    again = say(stage, asked(stage, release, key="run-2"), "approve", "Cem")
    assert pass_gate(stage, again) == ("Cem",)


def test_the_authors_own_approval_does_not_open_the_gate(stage: Stage) -> None:
    request = say(stage, asked(stage, stage.on_staging("1.0.0")), "approve", "ann")
    with pytest.raises(DeliveryError, match="Only a run of promote can wait"):
        pass_gate(stage, request)


def test_what_was_approved_is_carried_out_once(stage: Stage) -> None:
    release = stage.on_staging("1.0.0")
    request = asked(stage, release)
    with Telling() as telling:
        record = carry_out(stage.house, request, telling, approved_by=("Bea",))
        assert (record.ending, record.by) == (Ending.LIVE, "Bea")
        acts = list(stage.production.acts)
        assert carry_out(stage.house, request, telling, approved_by=("Bea",)) == record
    assert closed_rollout_of(stage.house, request) == record
    assert stage.production.acts == acts
    assert stage.house.store.request(request.number).closed == f"carried out as {record.id}: LIVE"


def test_an_approval_does_not_count_once_another_release_is_live(stage: Stage) -> None:
    request = asked(stage, stage.on_staging("1.0.0"))
    stage.bring(stage.published("1.0.1"), "production")
    with Telling() as telling, pytest.raises(NotApproved, match=r"v1\.0\.1 is live now, and the approval was given while nothing was"):
        carry_out(stage.house, request, telling, approved_by=("Bea",))
    assert stage.production.live == stage.house.store.live("production").id  # type: ignore[union-attr]


def test_a_changed_environment_file_does_not_change_what_was_approved(stage: Stage, edit_environment: object) -> None:
    release = stage.on_staging("1.0.0")
    request = asked(stage, release)
    edit_environment("production", "steps = [50, 100]", "steps = [100]")  # type: ignore[operator]
    require_same_world(stage.house, request)
    assert request.plan.environment.traffic.steps == (50, 100)


def test_an_approval_does_not_count_once_the_plan_would_differ(stage: Stage) -> None:
    request = asked(stage, stage.on_staging("1.0.0"))
    stage.production.capabilities = frozenset()
    with pytest.raises(InvalidSettings, match="cannot split traffic"):
        require_same_world(stage.house, request)


def test_a_release_that_nobody_could_watch_is_refused_before_anybody_is_asked(stage: Stage, edit_environment: object) -> None:
    stage.bring(stage.published("1.0.0"), "production")
    edit_environment("production", "watch_seconds = 0", "watch_seconds = 60")  # type: ignore[operator]
    with pytest.raises(InvalidSettings, match="there is no block traefik-metrics/production"):
        asked(stage, stage.on_staging("1.1.0"))
    assert not stage.house.store.requests(environment="production")


def test_people_are_told_how_a_request_ended(stage: Stage) -> None:
    request = say(stage, asked(stage, stage.on_staging("1.0.0")), "reject")
    with pytest.raises(NotApproved):
        pass_gate(stage, request)
    waiting = [(key, text) for _, key, text, _ in stage.house.store.unsent_notices()]
    assert waiting == [("production/request-1", "Production is unchanged. Request 1 for v1.0.0 ended: Bea rejected it: because.")]
