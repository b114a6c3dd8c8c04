"""What the daily flow leaves, from whole rollouts on simulated platforms."""

import json
import re
from datetime import timedelta

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.assembly import blocks_from
from flows.metrics import artifacts_of, delivery_metrics
from tasks.delivery_report import delivered
from tests.flows.conftest import Stage
from tests.prefect_stage import prefect_server


def test_the_artifacts_equal_the_rollouts_counted_by_hand(stage: Stage) -> None:
    stage.bring(stage.on_staging("1.0.0"), "production")
    stage.bring(stage.on_staging("1.1.0"), "production")
    store = stage.house.store
    store.open_incident("production", text="orders are shown twice", by="Ann", rollout="production-2")
    found = delivered(store, days=7)
    assert [(told.seen.environment, tuple(one.id for one in told.seen.population)) for told in found] == [
        ("production", ("production-1", "production-2")),
        ("staging", ("staging-1", "staging-2")),
    ]
    assert [told.coverage for told in found] == ["pipeline and reported incidents", "pipeline only"]
    assert found[0].seen.still_failing == ("production-2",)
    assert len(found[0].weeks) == 12
    artifacts = {key: (kind, data) for key, kind, data, _ in artifacts_of(found)}
    assert set(artifacts) == {"delivery-metrics-production", "delivery-metrics-staging", "delivery-metrics"}
    kind, page = artifacts["delivery-metrics-production"]
    assert kind == "markdown"
    assert "| Change fail rate | 50.0 % (1 of 2) | < 15 % | **missed** |" in page
    kind, table = artifacts["delivery-metrics"]
    assert kind == "table"
    assert len(json.loads(table)) == 10


def test_keys_are_what_prefect_takes(stage: Stage) -> None:
    stage.bring(stage.on_staging("1.0.0"), "production")
    for key, kind, _, description in artifacts_of(delivered(stage.house.store, days=7)):
        assert re.fullmatch(r"[a-z0-9-]+", key)
        assert kind in ("markdown", "table")
        assert description


def test_a_blame_that_comes_late_changes_the_past(stage: Stage) -> None:
    stage.bring(stage.on_staging("1.0.0"), "production")
    store = stage.house.store
    fact = store.open_incident("production", text="slow", by="Ann")
    assert delivered(store, days=7)[0].seen.change_fail_rate().value == 0.0
    store.attribute_incident(fact.incident, "production-1", by="Bea")
    assert delivered(store, days=7)[0].seen.change_fail_rate().value == 1.0
    store.close_incident(fact.incident, by="Ann")
    (took,) = delivered(store, days=7)[0].seen.recoveries().times["impact"]
    assert timedelta(0) <= took < timedelta(minutes=1)


def test_the_flow_ends_with_what_is_met_and_missed(stage: Stage) -> None:
    del stage
    body = delivery_metrics.fn  # as Prefect calls it, without a run
    assert body().message == "No rollout has been told of yet."


@pytest.mark.prefect
def test_a_run_leaves_a_page_per_environment_and_one_table(stage: Stage) -> None:
    stage.bring(stage.on_staging("1.0.0"), "production")
    with temporary_settings({PREFECT_API_URL: prefect_server().api_url}), get_client(sync_client=True) as client:
        with blocks_from(stage.house.blocks):
            state = delivery_metrics(days=7, return_state=True)
        assert state.is_completed()
        assert state.message
        assert state.message.startswith("Production, dealbrain: ")
        run_id = state.state_details.flow_run_id
        left = {found.key: found for found in client.read_artifacts() if found.flow_run_id == run_id}
    assert {key: found.type for key, found in left.items()} == {
        "delivery-metrics-production": "markdown",
        "delivery-metrics-staging": "markdown",
        "delivery-metrics": "table",
    }
    assert str(left["delivery-metrics-production"].data).count("](data:image/svg+xml;base64,") == 4
