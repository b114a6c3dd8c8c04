"""Runs that are cancelled, killed or started again, with a real Prefect server."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Pending

from delivery.errors import DeliveryError
from delivery.journal import Ending
from delivery.plan import plan_rollout
from deployments.api import FlowRun, PrefectApi
from flows.assembly import blocks_from
from flows.recover import close_unanswered_requests
from flows.rollback import rollback
from flows.rollout import finish_abandoned, run_rollout
from flows.telling import Telling
from tests.flows.conftest import Stage
from tests.flows.test_gate import Runs, runs  # noqa: F401  the fixture
from tests.prefect_stage import prefect_server
from tests.simulated_target import Killed

BACK = "Production is back on v1.0.0. v1.1.0 was turned back: the rollout was cancelled"


def at(stage: Stage, verb: str, when: str, act: Callable[[], None]) -> None:
    """Once, when production's platform is at a verb."""
    left = [act]

    def spoil(name: str, moment: str) -> None:
        if (name, moment) == (verb, when) and left:
            left.pop()()

    stage.production.spoil = spoil


def cancelled_under_way(runs: Runs) -> str:  # noqa: F811
    """A promotion of v1.1.0 that gets SIGTERM, as Prefect cancels, while half of the users are with it."""
    stage = runs.stage
    stage.bring(stage.on_staging("1.0.0"), "production")
    run_id = runs.ask(stage.on_staging("1.1.0"))
    at(stage, "shift", "after", lambda: os.kill(os.getpid(), signal.SIGTERM))
    runs.answer(run_id, "approve", "Bea")
    return run_id


@pytest.mark.prefect
def test_a_cancelled_run_ends_when_its_users_are_back_and_leaves_the_rest(runs: Runs) -> None:  # noqa: F811
    run_id, stage = cancelled_under_way(runs), runs.stage
    run = runs.api.run(run_id)
    assert run.state == "FAILED"
    assert run.message.startswith(f"{BACK}. Next: nothing")
    record = stage.house.store.rollouts(environment="production")[0]
    assert record.ended_at is None
    assert stage.house.store.leases() == []
    assert stage.production.weights[record.blue or ""] == 100
    assert record.release in stage.production.observe().running
    assert finish_abandoned(stage.house) == (BACK,)
    assert record.release not in stage.production.observe().running
    assert stage.house.store.rollout(record.id).ending is Ending.ROLLED_BACK


@pytest.mark.prefect
def test_a_cancelled_run_that_is_started_again_changes_nothing(runs: Runs) -> None:  # noqa: F811
    run_id, stage = cancelled_under_way(runs), runs.stage
    finish_abandoned(stage.house)
    close_unanswered_requests(stage.house)
    assert stage.house.store.request(1).closed == "carried out as production-2: ROLLED_BACK"
    acts = list(stage.production.acts)
    run = runs.go_on(run_id)
    assert (run.state, run.message.partition(" Next:")[0]) == ("FAILED", f"{BACK}.")
    assert stage.production.acts == acts


@pytest.mark.prefect
def test_a_killed_run_whose_rollout_was_recovered_changes_nothing_when_it_is_started_again(runs: Runs) -> None:  # noqa: F811
    stage = runs.stage
    stage.bring(stage.on_staging("1.0.0"), "production")
    run_id = runs.ask(stage.on_staging("1.1.0"))
    at(stage, "shift", "after", die)
    with suppress(Killed):
        runs.answer(run_id, "approve", "Bea")
    [message] = finish_abandoned(stage.house)
    acts = list(stage.production.acts)
    run = runs.go_on(run_id)
    assert run.state == "FAILED"
    assert run.message.startswith(message)
    assert stage.production.acts == acts


def die() -> None:
    raise Killed


@pytest.mark.prefect
def test_a_run_that_waits_for_people_survives_a_restart_of_the_server(runs: Runs) -> None:  # noqa: F811
    release = runs.stage.on_staging("1.0.0")
    run_id = runs.ask(release)
    prefect_server().stop()
    prefect_server().start()
    assert runs.api.run(run_id).waits_for_a_person
    run = runs.answer(run_id, "approve", "Bea")
    assert (run.state, run.message) == ("COMPLETED", "Production runs v1.0.0.")


@pytest.mark.prefect
def test_a_rollout_under_way_survives_a_restart_of_the_server(runs: Runs) -> None:  # noqa: F811
    stage = runs.stage
    run_id = runs.ask(stage.on_staging("1.0.0"))

    def restart() -> None:
        prefect_server().stop()
        prefect_server().start()

    at(stage, "shift", "before", restart)
    run = runs.answer(run_id, "approve", "Bea")
    assert (run.state, run.message) == ("COMPLETED", "Production runs v1.0.0.")
    assert stage.house.store.rollouts(environment="production")[0].ending is Ending.LIVE


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: prefect_server().api_url}), get_client(sync_client=True) as client:
        yield client


def executed(client: SyncPrefectClient, stage: Stage, flow: Flow[Any, Any], run_id: UUID) -> FlowRun:
    """As a worker's process would: from the first line."""
    client.set_flow_run_state(run_id, Pending(), force=True)
    with blocks_from(stage.house.blocks):
        run_flow(flow, flow_run=client.read_flow_run(run_id), return_type="state")
    return PrefectApi(prefect_server().api_url).run(str(run_id))


@pytest.mark.prefect
def test_a_finished_rollback_that_is_started_again_does_not_go_back_further(client: SyncPrefectClient, stage: Stage) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        stage.bring(stage.published(version), "production")
    parameters = {"environment": "production", "reason": "it is slow", "by": "Bea"}
    deployment = client.create_deployment(client.create_flow(rollback), name="rollback")
    run_id = client.create_flow_run_from_deployment(deployment, parameters=parameters).id
    for _ in range(2):
        run = executed(client, stage, rollback, run_id)
        assert (run.state, run.message) == ("COMPLETED", "Production runs v1.1.0.")
    assert len(stage.house.store.rollouts(environment="production")) == 4


def test_a_plan_that_was_made_before_another_release_went_live_is_not_carried_out(stage: Stage) -> None:
    policy, capabilities = stage.house.environment("production"), stage.production.capabilities
    late = plan_rollout(stage.published("1.1.0"), policy, capabilities=capabilities, blue=None)
    stage.bring(stage.published("1.0.0"), "production")
    acts = list(stage.production.acts)
    with Telling() as telling, pytest.raises(DeliveryError, match=r"v1\.0\.0 is live now, and the plan was made while nothing was"):
        run_rollout(stage.house, late, by="Ann", telling=telling)
    assert stage.production.acts == acts
