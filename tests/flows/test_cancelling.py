import threading
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Cancelling, Crashed, Running

from flows.cancelling import stopped_when_cancelled
from tests.prefect_stage import prefect_server


@flow
def some_flow() -> None: ...


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: prefect_server().api_url}), get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def run_id(client: SyncPrefectClient) -> UUID:
    return client.create_flow_run(some_flow, state=Running()).id


@pytest.mark.prefect
@pytest.mark.parametrize("state", [Cancelling(), Cancelled()], ids=["asked for", "done already, and no signal came"])
def test_a_run_that_is_cancelled_stops_its_rollout_without_any_signal(client: SyncPrefectClient, run_id: UUID, state: State[None]) -> None:
    stop = threading.Event()
    with stopped_when_cancelled(run_id, stop, every=0.1):
        client.set_flow_run_state(run_id, state, force=True)
        assert stop.wait(30)


@pytest.mark.prefect
def test_a_run_that_others_call_crashed_goes_on_until_somebody_cancels_it(client: SyncPrefectClient, run_id: UUID) -> None:
    stop = threading.Event()
    with stopped_when_cancelled(run_id, stop, every=0.1):
        client.set_flow_run_state(run_id, Crashed(), force=True)
        assert not stop.wait(1.5)
        client.set_flow_run_state(run_id, Cancelled(), force=True)
        assert stop.wait(30)


def test_without_a_run_nothing_is_asked() -> None:
    stop = threading.Event()
    threads = threading.active_count()
    with stopped_when_cancelled(None, stop):
        assert threading.active_count() == threads
    assert not stop.is_set()


def test_a_server_that_does_not_answer_stops_nothing() -> None:
    stop = threading.Event()
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), stopped_when_cancelled(uuid4(), stop, every=0.01):
        assert not stop.wait(0.5)
