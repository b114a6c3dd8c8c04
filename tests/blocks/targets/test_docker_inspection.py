"""The example as its users reach it, behind a real Traefik: sound as it is, and turned back when its routes let strangers in."""

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from bench.stand import Stand
from blocks.replica_metrics import ReplicaMetrics
from delivery.environment import ApprovalPolicy, Deadlines, Proving, Traffic
from delivery.journal import Closed, Ending, Progress
from delivery.plan import StepKind, plan_rollout
from delivery.release import Release
from delivery.scan import Severity
from delivery.way_back import evidence_of
from deployments.backing import BackingContainers
from tasks.lease import LeaseKeeper
from tasks.report_inspection import result_of
from tasks.rollout import Means, walk_rollout
from tests.memory_journal import MemoryJournal
from tests.samples import an_environment
from tests.system.apart import Apart

pytestmark = pytest.mark.docker

STAGING: Mapping[str, str] = {"ENVIRONMENT": "staging", "LOG_LEVEL": "WARNING"}
BOTH = ("api", "web")


@pytest.fixture(scope="module")
def apart(stand: Stand, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    folder, name = tmp_path_factory.mktemp("inspected"), stand.environment()
    containers = BackingContainers(name, folder, durable=False)
    try:
        yield Apart(stand, name, containers.start(), folder)
    finally:
        stand.clear(name)
        containers.remove(volumes=True)


def rolled_out(apart: Apart, journal: MemoryJournal, release: Release, folder: Path, variables: Mapping[str, str] = STAGING) -> Closed:
    name = apart.target.environment
    environment = an_environment(
        name,
        approval=ApprovalPolicy("automatic"),
        traffic=Traffic(steps=(100,), watch_seconds=0, bake_seconds=0, hold_seconds=0),
        prove=Proving(smoke=True, inspect=True),
        deadlines=Deadlines(),
        variables=variables,
    )
    plan = plan_rollout(release, environment, capabilities=apart.target.capabilities, blue=journal.live(name))
    with LeaseKeeper(journal, name, holder="a test", purpose="a rollout", ttl=timedelta(seconds=60)) as keeper:
        rollout = journal.open_rollout(keeper.lease, plan, by="ann")
        return walk_rollout(journal, keeper, rollout, Means(apart.target, None, folder), stop=threading.Event())


def test_the_example_is_sound_from_outside_and_goes_back_when_strangers_would_reach_its_inside(apart: Apart, tmp_path: Path) -> None:
    journal, name = MemoryJournal(time.monotonic), apart.target.environment
    apart.repository.commit_release("1.0.0")
    sound = apart.release("1.0.0", services=BOTH)
    journal.save_release(sound)
    closed = rolled_out(apart, journal, sound, tmp_path)
    assert closed.ending is Ending.LIVE, closed.message
    progress = Progress.of(entry.event for entry in journal.entries(journal.rollouts(environment=name)[0].id))
    evidence = evidence_of(progress, StepKind.INSPECT)
    assert evidence is not None
    assert (result := result_of(evidence)) is not None
    assert result.findings == (), evidence.summary

    # What nobody reaches from outside is still told to those who ask each replica.
    assert ReplicaMetrics(apart.target.addresses).requests(sound)["api"]

    apart.repository.commit_release("1.1.0")
    open_door = apart.release("1.1.0", recorded=("0001",), services=BOTH)
    routes = ("/api", "/health", "/metrics", "/docs", "/openapi.json")
    api, web = open_door.services
    open_door = replace(open_door, services=(replace(api, routes=routes), web))
    journal.save_release(open_door)
    closed = rolled_out(apart, journal, open_door, tmp_path, {**STAGING, "ENVIRONMENT": "development"})
    assert closed.ending is Ending.ROLLED_BACK, closed.message
    assert "v1.1.0 was turned back: inspection: medium private-path: GET /docs is answered to everybody (and 2 more)" in closed.message
    assert apart.target.observe().live == sound.id
    progress = Progress.of(entry.event for entry in journal.entries(journal.rollouts(environment=name)[0].id))
    evidence = evidence_of(progress, StepKind.INSPECT)
    assert evidence is not None
    assert (result := result_of(evidence)) is not None
    assert [(one.place, one.severity) for one in result.findings if one.severity is not Severity.LOW] == [
        ("GET /docs", Severity.MEDIUM),
        ("GET /metrics", Severity.MEDIUM),
        ("GET /openapi.json", Severity.MEDIUM),
    ]
