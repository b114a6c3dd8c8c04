"""Where a scenario happens, as data that travels to other processes, and what the product's parts are made of there."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.stand import web, worker
from blocks.metrics import TraefikMetrics
from blocks.secrets import EnvironmentSecrets
from blocks.targets.docker import DockerTarget
from blocks.traefik import TraefikRoutes
from delivery.application import Service, Smoke
from delivery.environment import Deadlines, Environment, Identity, Proving, Traffic, WatchSettings
from delivery.image import ImageRef
from delivery.release import Release, release_id
from delivery.source import Semver, Sha
from delivery.triggers import Trigger

ENTRY_POINT = "users"
TTL = timedelta(seconds=3)
GOOD, ALSO_GOOD, BAD = "1.0.0", "1.1.0", "1.2.0"  # the third looks well, and says FATAL in its log
VERSIONS = (GOOD, ALSO_GOOD, BAD)
REPLICAS = {"api": 2, "worker": 1}
DRAIN_SECONDS = 8  # slow requests take three


@dataclass(frozen=True)
class Place:
    """One environment on one stand. `images` maps `<version>/<role>` to a pinned reference."""

    environment: str
    network: str
    url: str
    dynamic_dir: str
    work_dir: str
    admin_url: str
    journal_url: str
    orders_dsn: str
    images: Mapping[str, str]
    folder: str
    effects: str

    def target(self) -> DockerTarget:
        return DockerTarget(
            environment=self.environment,
            network=self.network,
            public_url=self.url,
            memory_limit_mb=96,
            start_seconds=30,
            secrets=EnvironmentSecrets(values={"ORDERS_DSN": self.orders_dsn}),
            traffic=TraefikRoutes(
                environment=self.environment,
                dynamic_dir=Path(self.dynamic_dir),
                work_dir=Path(self.work_dir),
                admin_url=self.admin_url,
                entry_point=ENTRY_POINT,
            ),
        )

    def metrics(self) -> TraefikMetrics:
        return TraefikMetrics(admin_url=self.admin_url, environment=self.environment)

    def policy(self) -> Environment:
        """Two shares, a second each; blue need not stay warm, so that each scenario also retires somebody."""
        return Environment(
            environment=Identity(self.environment, target=self.environment),
            traffic=Traffic(steps=(50, 100), watch_seconds=1, bake_seconds=1, hold_seconds=0),
            watch=WatchSettings(interval_seconds=0.3, window_seconds=4, minimum_requests=5, blind_seconds=8, log_patterns=("FATAL",)),
            deadlines=Deadlines(prepare_seconds=30, migrate_seconds=30, launch_seconds=30, step_seconds=20),
            prove=Proving(smoke=True),
            trigger=(Trigger("log_pattern", threshold=0, for_seconds=0),),
        )

    def release(self, version: str) -> Release:
        services = _services(version)
        parsed = Semver.parse(version)
        sha = Sha(version.encode().hex().ljust(40, "0")[:40])
        return Release(
            id=release_id(parsed, sha),
            application="little",
            version=parsed,
            sha=sha,
            author="Ann",
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            services=services,
            images={service.name: ImageRef.parse(self.images[f"{version}/{service.kind}"]) for service in services},
            smoke=(Smoke("api", "/health", contains="connected"),),
        )


def _services(version: str) -> tuple[Service, ...]:
    says = {"SAYS": "FATAL: it only looks well"} if version == BAD else {}
    api = web("api", replicas=REPLICAS["api"], drain_seconds=DRAIN_SECONDS, variables=("ORDERS_DSN",), settings=says)
    return (api, worker(replicas=REPLICAS["worker"], drain_seconds=DRAIN_SECONDS, settings={"JOB_SECONDS": "0.2"}))
