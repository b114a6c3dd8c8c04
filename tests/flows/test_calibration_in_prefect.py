"""The flow as a worker runs it, against a real Prefect server and real time."""

from collections.abc import Callable
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from delivery.release import Release
from flows.assembly import blocks_from
from flows.calibration import calibration
from tests.flows.conftest import Stage
from tests.flows.test_calibration import live
from tests.prefect_stage import prefect_server

__all__ = ["live"]  # a fixture of the neighbour's


@pytest.mark.prefect
def test_a_run_ends_with_what_is_known(stage: Stage, live: Release, edit_environment: Callable[[str, str, str], None]) -> None:
    assert stage.house.store.live("production") == live
    edit_environment("production", "[prove]", "[judge]\nlook_seconds = 0.1\n[prove]")
    with (
        temporary_settings({PREFECT_API_URL: prefect_server().api_url}),
        get_client(sync_client=True) as client,
        blocks_from(stage.house.blocks),
    ):
        run = client.create_flow_run(calibration, parameters={"looks": 10})  # type: ignore[arg-type]
        state: Any = run_flow(calibration, flow_run=run, return_type="state", parameters=run.parameters)  # type: ignore[arg-type]
    assert state.type.value == "COMPLETED"
    assert state.message.startswith("Production: 10 looks of 0.1 s at two halves are known; errors come in clumps")
