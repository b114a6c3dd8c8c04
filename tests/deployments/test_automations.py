"""An alert's event reaches a real Prefect server and sets off what is registered there; what people changed stays theirs."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.events.schemas.automations import Automation, AutomationCore
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks.prefect_events import PrefectEvents
from delivery.alert_news import Phase, news_of
from delivery.alerts import Alert, AlertKind
from deployments.automations import REACTIONS, Reaction, fingerprint, save_automations
from flows.parameters import EnvironmentName
from tests.delivery.test_alerts import OPEN
from tests.prefect_stage import prefect_server

LONGEST_SECONDS = 60.0


def test_every_kind_of_alert_sets_something_off_and_only_once() -> None:
    kinds = [kind for reaction in REACTIONS for kind in reaction.kinds]
    assert sorted(kinds) == sorted(AlertKind)


def test_the_fingerprint_is_of_what_it_does_and_not_of_the_order_in_which_it_is_told() -> None:
    one = REACTIONS[0].automation(UUID(int=1))
    told = AutomationCore.model_validate_json(one.model_dump_json())
    assert fingerprint(told) == fingerprint(one)
    assert fingerprint(REACTIONS[0].automation(UUID(int=2))) != fingerprint(one)
    assert fingerprint(replace(REACTIONS[0], kinds=REACTIONS[0].kinds[:1]).automation(UUID(int=1))) != fingerprint(one)


@flow
def look(environment: EnvironmentName | None = None) -> None:
    """A flow that nobody runs here: only who asked for it counts."""


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    server = prefect_server()
    with temporary_settings({PREFECT_API_URL: server.api_url}), get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def reactions(client: SyncPrefectClient) -> Iterator[tuple[Reaction, ...]]:
    """The ones that come with Greenroom, on a deployment of the test's own and under names of its own."""
    mark = uuid4().hex[:8]
    flow_id = client.create_flow(look)
    client.create_deployment(flow_id, name=mark, parameter_openapi_schema=look_schema(), enforce_parameter_schema=True)
    yield tuple(replace(one, name=f"{one.name} {mark}", deployment=f"look/{mark}") for one in REACTIONS)
    for automation in client.read_automations():
        if automation.name.endswith(mark):
            client.delete_automation(automation.id)


def look_schema() -> dict[str, object]:
    from prefect.utilities.callables import parameter_schema  # noqa: PLC0415

    return {**parameter_schema(look).model_dump(), "additionalProperties": False}


def there(client: SyncPrefectClient, reaction: Reaction) -> Automation:
    [found] = client.read_automations_by_name(reaction.name)
    return found


def runs_of(client: SyncPrefectClient, reaction: Reaction, *, expected: int) -> Sequence[FlowRun]:
    """Those that the automation asked for, as soon as there are as many."""
    deployment = client.read_deployment_by_name(reaction.deployment)
    wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]))
    until = time.monotonic() + LONGEST_SECONDS
    while len(found := client.read_flow_runs(flow_run_filter=wanted)) < expected and time.monotonic() < until:
        time.sleep(0.2)
    return found


def post(alert: Alert, phase: Phase = Phase.OPENED) -> None:
    [news] = [one for one in news_of([alert], (), escalate=None, now=alert.since) if one.phase is phase]
    PrefectEvents().post(f"{news.event_key} {uuid4()}", news.document(None))


@pytest.mark.prefect
def test_an_alert_that_is_told_runs_what_is_registered_with_its_environment(
    client: SyncPrefectClient, reactions: tuple[Reaction, ...]
) -> None:
    recovers, looks = reactions
    save_automations(client, [looks])
    post(replace(OPEN[0], kind=AlertKind.DATABASE_LOST, environment="staging"))
    [run] = runs_of(client, looks, expected=1)
    assert run.parameters == {"environment": "staging"}
    save_automations(client, [recovers])
    post(replace(OPEN[0], kind=AlertKind.NEEDS_HUMAN))
    run = next(run for run in runs_of(client, recovers, expected=2) if not run.parameters)
    assert run.created_by is None or run.created_by.type == "AUTOMATION"


@pytest.mark.prefect
def test_registering_twice_changes_nothing(client: SyncPrefectClient, reactions: tuple[Reaction, ...]) -> None:
    assert save_automations(client, reactions).count("is new") == 2
    before = [there(client, one) for one in reactions]
    assert save_automations(client, reactions).count("was there.") == 2
    assert [there(client, one) for one in reactions] == before


@pytest.mark.prefect
def test_what_greenroom_changes_is_changed_and_what_is_switched_off_stays_off(
    client: SyncPrefectClient, reactions: tuple[Reaction, ...]
) -> None:
    first = reactions[0]
    save_automations(client, [first])
    client.pause_automation(there(client, first).id)
    assert save_automations(client, [first]).endswith("was there, switched off.")
    fewer = replace(first, kinds=(AlertKind.NEEDS_HUMAN,))
    assert save_automations(client, [fewer]).endswith("is changed.")
    found = there(client, first)
    assert (found.enabled, getattr(found.trigger, "expect", None)) == (False, {"greenroom.alert.needs-human"})
    assert save_automations(client, [fewer]).endswith("was there, switched off.")


@pytest.mark.prefect
def test_what_a_person_edited_is_left_alone(client: SyncPrefectClient, reactions: tuple[Reaction, ...]) -> None:
    first = reactions[0]
    save_automations(client, [first])
    found = there(client, first)
    edited = found.model_copy(update={"trigger": found.trigger.model_copy(update={"threshold": 3})})
    client.update_automation(found.id, AutomationCore.model_validate(edited.model_dump(exclude={"id", "owner_resource"})))
    assert save_automations(client, [replace(first, kinds=(AlertKind.NEEDS_HUMAN,))]).endswith(
        "was changed by a person, and is left alone."
    )
    assert getattr(there(client, first).trigger, "threshold", None) == 3
