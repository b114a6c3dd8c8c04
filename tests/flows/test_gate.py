"""The gate with a real Prefect server: the run suspends, people answer by REST, and it starts again from its first line."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Pending

from delivery.errors import InvalidSettings
from delivery.journal import Ending
from delivery.release import Release
from deployments.api import FlowRun, PrefectApi
from flows.assembly import blocks_from
from flows.promote import promote
from flows.recover import close_unanswered_requests, end_runs_that_wait_in_vain
from tests.flows.conftest import Stage
from tests.prefect_stage import prefect_server

pytestmark = pytest.mark.prefect


@dataclass
class Runs:
    """Runs of promote, executed here as a worker's process would: from the first line, each time."""

    client: SyncPrefectClient
    api: PrefectApi
    stage: Stage
    deployment: Any

    def ask(self, release: Release) -> str:
        run = self.client.create_flow_run_from_deployment(self.deployment, parameters={"release": release.id})
        self.go_on(str(run.id))
        return str(run.id)

    def go_on(self, run_id: str) -> FlowRun:
        self.client.set_flow_run_state(run_id, Pending(), force=True)
        try:
            with blocks_from(self.stage.house.blocks):
                run_flow(promote, flow_run=self.client.read_flow_run(run_id), return_type="state")  # type: ignore[arg-type]
        except Pause:
            pass
        return self.api.run(run_id)

    def answer(self, run_id: str, decision: str, person: str, reason: str = "because") -> FlowRun:
        self.api.resume(run_id, {"decision": decision, "approver": person, "reason": reason, "channel": "api"})
        return self.go_on(run_id)


@pytest.fixture
def runs(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    server = prefect_server()
    monkeypatch.setenv("GREENROOM_UI_URL", server.url)
    with temporary_settings({PREFECT_API_URL: server.api_url}), get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(promote), name="promote")
        yield Runs(client, PrefectApi(server.api_url), stage, deployment)


def test_an_approval_with_a_reason_brings_the_release_live(runs: Runs) -> None:
    release = runs.stage.on_staging("1.0.0")
    run_id = runs.ask(release)
    assert runs.api.run(run_id).waits_for_a_person
    assert runs.stage.production.acts == []
    run = runs.answer(run_id, "approve", "Bea", "it looks good")
    assert (run.state, run.message) == ("COMPLETED", "Production runs v1.0.0.")
    assert runs.stage.production.live == release.id
    (word,) = runs.stage.house.store.request(1).approvals
    assert (word.person, word.decision, word.reason, word.channel) == ("Bea", "approve", "it looks good", "api")


def test_a_rejection_ends_the_run_and_production_is_unchanged(runs: Runs) -> None:
    run_id = runs.ask(runs.stage.on_staging("1.0.0"))
    run = runs.answer(run_id, "reject", "Bea", "not on a Friday")
    assert run.state == "FAILED"
    assert run.message.startswith("Production is unchanged. Request 1 for v1.0.0 ended: Bea rejected it: not on a Friday.")
    assert runs.stage.production.acts == []


def test_a_malformed_answer_is_refused_and_the_run_goes_on_waiting(runs: Runs) -> None:
    run_id = runs.ask(runs.stage.on_staging("1.0.0"))
    with pytest.raises(InvalidSettings, match="'maybe' does not match"):
        runs.api.resume(run_id, {"decision": "maybe", "approver": "Bea"})
    with pytest.raises(InvalidSettings, match="approver"):
        runs.api.resume(run_id, {"decision": "approve"})
    assert runs.api.run(run_id).waits_for_a_person


def test_a_quorum_of_two_needs_two_persons(runs: Runs) -> None:
    file = runs.stage.environments / "production.toml"
    file.write_text(file.read_text().replace("quorum = 1", "quorum = 2"))
    run_id = runs.ask(runs.stage.on_staging("1.0.0"))
    assert runs.answer(run_id, "approve", "Bea").waits_for_a_person
    assert runs.answer(run_id, "approve", "bea ").waits_for_a_person  # the same person again
    assert runs.answer(run_id, "approve", "Ann").waits_for_a_person  # the author
    assert runs.answer(run_id, "approve", "Cem").state == "COMPLETED"
    (record,) = runs.stage.house.store.rollouts(environment="production")
    assert (record.ending, record.by) == (Ending.LIVE, "Bea, Cem")


def test_an_answer_after_the_expiry_does_not_count(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = runs.ask(runs.stage.on_staging("1.0.0"))
    expire(runs, monkeypatch)
    run = runs.answer(run_id, "approve", "Bea")
    assert run.state == "FAILED"
    assert "Request 1" in run.message
    assert "nobody approved it within 2 hours" in run.message
    assert runs.stage.production.acts == []


def test_a_run_that_nobody_answers_ends_with_a_sentence(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = runs.ask(runs.stage.on_staging("1.0.0"))
    expire(runs, monkeypatch)
    for _ in range(2):  # the second time changes nothing
        close_unanswered_requests(runs.stage.house)
        end_runs_that_wait_in_vain(runs.stage.house)
        run = runs.api.run(run_id)
        assert (run.state, run.message) == (
            "CANCELLED",
            "Production is unchanged. Request 1 ended: nobody approved it within 2 hours.",
        )


def test_a_finished_run_that_is_started_again_does_nothing_more(runs: Runs) -> None:
    run_id = runs.ask(runs.stage.on_staging("1.0.0"))
    runs.answer(run_id, "approve", "Bea")
    acts = list(runs.stage.production.acts)
    run = runs.go_on(run_id)
    assert (run.state, run.message) == ("COMPLETED", "Production runs v1.0.0.")
    assert runs.stage.production.acts == acts


def test_the_evidence_is_left_once_and_before_anybody_is_asked(runs: Runs) -> None:
    release = runs.stage.on_staging("1.0.0")
    run_id = runs.ask(release)
    assert [(artifact.key, release.version.tag in str(artifact.data)) for artifact in artifacts(runs, run_id)] == [
        ("production-request-1", True)
    ]
    runs.answer(run_id, "approve", "Bea")
    keys = sorted(str(artifact.key) for artifact in artifacts(runs, run_id))
    assert keys == ["production-1-progress", "production-1-report", "production-1-steps", "production-request-1"]


def test_the_runs_name_tells_what_it_waits_for(runs: Runs) -> None:
    run = runs.api.run(runs.ask(runs.stage.on_staging("1.0.0")))
    assert run.name == "v1.0.0 100aaaaa: production, request 1 waits for approval"


def artifacts(runs: Runs, run_id: str) -> list[Any]:
    found = runs.client.read_artifacts(limit=50)
    return [artifact for artifact in found if str(artifact.flow_run_id) == run_id]


def expire(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three hours pass for the journal."""
    kind = type(runs.stage.house.store)
    now = kind.now
    monkeypatch.setattr(kind, "now", lambda store: now(store) + timedelta(hours=3))
