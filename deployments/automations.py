"""What Prefect does by itself when an alert opens: registered by `deployments.register`, which leaves alone what people changed."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from delivery.alerts import AlertKind

TAG, DEFINITION = "greenroom", "definition-"
# The name of the environment, filled in by Prefect when an event comes; the deployment's own schema then looks at it.
ITS_ENVIRONMENT: Mapping[str, Any] = {"__prefect_kind": "jinja", "template": "{{ event.resource['prefect.resource.name'] }}"}


@dataclass(frozen=True)
class Reaction:
    """When an alert of one of these kinds opens, `flow/deployment` is run."""

    name: str
    kinds: tuple[AlertKind, ...]
    deployment: str
    parameters: Mapping[str, Any]
    why: str

    def automation(self, deployment: UUID) -> AutomationCore:
        # All fields are named: Prefect's client leaves out what is not when it updates.
        core = AutomationCore(
            name=self.name,
            description=self.why,
            enabled=True,
            trigger=EventTrigger(
                type="event",
                expect={f"greenroom.alert.{kind}" for kind in self.kinds},
                match=ResourceSpecification.model_validate({"prefect.resource.id": "greenroom.environment.*"}),
                posture=Posture.Reactive,
                threshold=1,
            ),
            actions=[
                RunDeployment(
                    type="run-deployment", source="selected", deployment_id=deployment, parameters=dict(self.parameters), job_variables=None
                )
            ],
        )
        return core.model_copy(update={"tags": [TAG, f"{DEFINITION}{fingerprint(core)}"]})


REACTIONS = (
    Reaction(
        name="Greenroom: recover looks when a rollout has failed",
        kinds=(AlertKind.DEPLOYMENT_FAILED, AlertKind.NEEDS_HUMAN),
        deployment="recover/recover",
        parameters={},
        why="What a failed rollout left is tidied up at once, and not within a minute. Running it twice changes nothing.",
    ),
    Reaction(
        name="Greenroom: how the environment fares when users are hurt",
        kinds=(AlertKind.HEALTH_FAILED, AlertKind.ERROR_SPIKE, AlertKind.DEGRADED, AlertKind.DATABASE_LOST),
        deployment="health-overview/health-overview",
        parameters={"environment": ITS_ENVIRONMENT},
        why="The health overview is there for whoever comes to look. It changes nothing.",
    ),
)


def fingerprint(core: AutomationCore) -> str:
    """Of what it waits for and does: the same whether it comes from here or from a server."""
    kept = {"trigger": core.trigger.model_dump(mode="json"), "actions": [action.model_dump(mode="json") for action in core.actions]}
    return hashlib.sha256(json.dumps(_ordered(kept), sort_keys=True).encode()).hexdigest()[:16]


def _ordered(document: Any) -> Any:
    """Sets come back in any order, and ids and empty values as the server likes."""
    if isinstance(document, Mapping):
        return {key: _ordered(value) for key, value in document.items() if key != "id" and value not in (None, [], {})}
    if isinstance(document, list):
        return sorted((_ordered(one) for one in document), key=lambda one: json.dumps(one, sort_keys=True))
    return document


def save_automations(client: SyncPrefectClient, reactions: Iterable[Reaction] = REACTIONS) -> str:
    """Makes each, or changes it where it is still as an earlier registration left it; a switch that a person turned off stays off."""
    return "Automations: " + " ".join(f"{reaction.name} {_save(client, reaction)}." for reaction in reactions)


def _save(client: SyncPrefectClient, reaction: Reaction) -> str:
    flow, deployment = reaction.deployment.split("/")
    path = {"flow_name": flow, "deployment_name": deployment}
    known = client.request("GET", "/deployments/name/{flow_name}/{deployment_name}", path_params=path).json()
    wanted = reaction.automation(UUID(known["id"]))
    there = client.read_automations_by_name(reaction.name)
    if not there:
        client.create_automation(wanted)
        return "is new"
    found = there[0]
    marks = [tag.removeprefix(DEFINITION) for tag in found.tags if tag.startswith(DEFINITION)]
    if len(there) > 1 or marks != [fingerprint(found)]:
        return "was changed by a person, and is left alone"
    if fingerprint(found) == fingerprint(wanted):
        return "was there" if found.enabled else "was there, switched off"
    client.update_automation(found.id, wanted.model_copy(update={"enabled": found.enabled}))
    return "is changed"
