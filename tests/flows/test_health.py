"""The overview of a whole house: real Traefik pages and replica pages over HTTP, on a simulated platform."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks.metrics import TraefikMetrics
from cli.main import run
from delivery.application import Exposition
from delivery.ports import Address
from delivery.release import Release
from flows.assembly import House, LocalBlocks, blocks_from
from flows.health import health_overview, look_at
from tests.flows.conftest import Stage
from tests.prefect_stage import prefect_server
from tests.samples import a_release
from tests.simulated_target import VirtualClock
from tests.tasks.small_server import serving

GAUGES = {"database_pool": "shop_pool", "redis": "shop_redis", "queue_depth": "shop_jobs"}


@dataclass
class Front:
    """Traefik's page, and a replica's; every time it is asked, ten more requests were answered, two of them badly."""

    service: str
    asked: int = 0
    silent: bool = False

    def page(self, path: str) -> tuple[int, str]:
        if path == "/own":
            return 200, "shop_pool 3\nshop_redis 5\nshop_jobs 12\n"
        if path != "/metrics" or self.silent:
            return 503, ""
        self.asked += 1
        seconds = "traefik_service_request_duration_seconds_bucket"
        lines = [
            f'traefik_service_requests_total{{code="200",method="GET",service="{self.service}"}} {8 * self.asked}',
            f'traefik_service_requests_total{{code="503",method="GET",service="{self.service}"}} {2 * self.asked}',
            f'{seconds}{{code="200",method="GET",service="{self.service}",le="0.1"}} {10 * self.asked}',
            f'{seconds}{{code="200",method="GET",service="{self.service}",le="+Inf"}} {10 * self.asked}',
        ]
        return 200, "\n".join(lines) + "\n"


@contextmanager
def measured(stage: Stage) -> Iterator[tuple[House, Front]]:
    """Production has a release with users, whose application names its gauges."""
    release = _release()
    stage.house.store.save_release(release)
    stage.bring(release, "staging")
    stage.bring(release, "production")
    front = Front(f"production.api.{release.id}@file")
    with serving(front.page) as url:
        stage.production.urls[release.id] = [Address("api", "api-1", url)]
        known = {("docker-target", name): target for name, target in stage.targets.items()}
        source = TraefikMetrics(admin_url=url, environment="production")
        yield replace(stage.house, blocks=LocalBlocks({**known, ("traefik-metrics", "production"): source})), front


def _release() -> Release:
    bare = a_release("1.0.0", load=None, smoke=())
    api = replace(bare.services[0], metrics=Exposition(path="/own", gauges=GAUGES))
    return replace(bare, services=(api, *bare.services[1:]))


def test_requests_and_gauges_of_production_are_told_and_staging_says_that_it_is_not_measured(stage: Stage) -> None:
    with measured(stage) as (house, _):
        found, broken = look_at(house, None, seconds=10, clock=VirtualClock())
    assert broken == []
    told = {seen.environment: seen for seen in found}
    values = {figure.name: figure.value for figure in told["production"].figures}
    assert {name: values[name] for name in ("Requests", "5xx", "Database pool", "Redis", "Queue depth")} == {
        "Requests": 1.0,
        "5xx": 0.2,
        "Database pool": 3.0,
        "Redis": 5.0,
        "Queue depth": 12.0,
    }
    assert told["staging"].verdict == "unknown"
    assert "no metric source bears the name staging" in told["staging"].sentence()


def test_an_environment_whose_file_is_broken_keeps_no_other_from_being_looked_at(stage: Stage) -> None:
    with measured(stage) as (house, _):
        (stage.environments / "staging.toml").write_text("[environment]\nname = 3\n")
        found, broken = look_at(house, None, seconds=1, clock=VirtualClock())
    assert ([seen.environment for seen in found], len(broken)) == (["production"], 1)


def test_a_traefik_that_does_not_answer_is_unknown_and_its_gauges_are_still_told(stage: Stage) -> None:
    with measured(stage) as (house, front):
        front.silent = True
        (seen,), _ = look_at(house, ["production"], seconds=1, clock=VirtualClock())
    assert (seen.verdict, seen.value("Requests"), seen.value("Redis")) == ("unknown", None, 5.0)


def test_a_house_without_releases_is_idle(stage: Stage) -> None:
    del stage
    assert health_overview.fn().message == "Nothing is live in production. Nothing is live in staging."


def test_a_house_without_environments_is_idle(stage: Stage) -> None:
    for file in stage.environments.iterdir():
        file.unlink()
    assert health_overview.fn().message == "There is no environment yet."


def test_the_command_prints_the_rows_and_fails_when_nobody_knows(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with measured(stage) as (house, front):
        monkeypatch.setattr(LocalBlocks, "of", lambda _: house.blocks)
        assert run(["health", "production", "--seconds", "1"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("Production has no limit to be judged by: ")
        assert [line.split()[0] for line in lines[1:]] == ["Requests", "4xx", "5xx", "p50", "p95", "p99", "Database", "Redis", "Queue"]
        front.silent = True
        assert run(["health", "production", "--seconds", "1", "--json"]) == 1
        (document,) = json.loads(capsys.readouterr().out)["environments"]
        assert (document["verdict"], document["figures"][0]["value"]) == ("unknown", None)
        assert run(["health", "nowhere"]) == 2


@pytest.mark.prefect
def test_a_run_leaves_a_page_under_a_key_that_stays_with_the_looks_before(stage: Stage) -> None:
    with (
        measured(stage) as (house, _),
        temporary_settings({PREFECT_API_URL: prefect_server().api_url}),
        get_client(sync_client=True) as client,
        blocks_from(house.blocks),
    ):
        pages = []
        for _ in range(2):
            state = health_overview("production", seconds=1, return_state=True)
            assert state.is_completed()
            run_id = state.state_details.flow_run_id
            (left,) = (found for found in client.read_artifacts() if found.flow_run_id == run_id)
            assert (left.key, left.type) == ("health-production", "markdown")
            pages.append(str(left.data))
    assert [page.count("data:image/svg+xml") for page in pages] == [0, 3]
    assert "| Database pool | 3 |" in pages[1]
