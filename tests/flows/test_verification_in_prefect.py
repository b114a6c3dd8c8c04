"""The flow as a worker runs it, against a real Prefect server: one message per run, one artifact that is refreshed."""

from collections.abc import Iterator
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.assembly import blocks_from
from flows.verification import canary_verification
from tests.flows.conftest import Stage
from tests.flows.test_verification import Shop, shop, two_releases
from tests.prefect_stage import prefect_server

pytestmark = pytest.mark.prefect
THREE = "GET /health: it answered 503, expected 200 (3 times in a row)."
__all__ = ["shop"]  # a fixture of the neighbour's


@pytest.fixture
def client(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncPrefectClient]:
    server = prefect_server()
    monkeypatch.setenv("GREENROOM_UI_URL", server.url)
    with temporary_settings({PREFECT_API_URL: server.api_url}), get_client(sync_client=True) as client, blocks_from(stage.house.blocks):
        yield client


def look(client: SyncPrefectClient) -> tuple[str, str]:
    run = client.create_flow_run(canary_verification, parameters={"environment": "production", "now": True})  # type: ignore[arg-type]
    state: Any = run_flow(canary_verification, flow_run=run, return_type="state", parameters=run.parameters)  # type: ignore[arg-type]
    return state.type.value, state.message


def artifacts(client: SyncPrefectClient) -> list[Artifact]:
    return client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["production-verification"])))


def test_each_run_ends_with_a_sentence_and_refreshes_one_table(stage: Stage, client: SyncPrefectClient, shop: Shop) -> None:
    first, second = two_releases(stage)
    assert look(client) == ("COMPLETED", "Production is well.")
    shop.broken = {second.id}
    assert look(client) == ("COMPLETED", "Production fails, 1 in a row so far: GET /health.")
    [table] = artifacts(client)
    assert "| sick: GET /health | it answered 503, expected 200. |" in str(table.data)
    assert look(client)[1].startswith("Production fails, and people are told")
    assert look(client) == ("COMPLETED", f"Production runs v1.0.0. It went back by itself: {THREE}")
    assert stage.production.live == first.id
    [table] = artifacts(client)
    assert f"**Go back**: {THREE}" in str(table.data)
    assert look(client) == ("COMPLETED", "Production is well again.")
    [table] = artifacts(client)
    assert "# Production is well" in str(table.data)


def test_what_cannot_be_asked_is_a_failed_run_with_its_sentence(stage: Stage, client: SyncPrefectClient, shop: Shop) -> None:
    two_releases(stage)
    stage.production.public_url = None
    kind, message = look(client)
    assert (kind, message.partition(".")[0]) == ("FAILED", "Production cannot be verified: its target has no public_url")
    assert shop.asked == 0
