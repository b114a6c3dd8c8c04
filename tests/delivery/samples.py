"""Small valid values that tests vary: a release, an environment, a plan, and a journal in memory."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from delivery.application import Hook, LoadTest, MigrationSettings, Service, Smoke
from delivery.environment import Capability, Environment, Identity, Kind, Proving, Traffic
from delivery.image import ImageRef
from delivery.journal import Event, Journal, Opened
from delivery.plan import Plan, plan_rollout
from delivery.release import Release, release_id
from delivery.source import Semver, Sha

ALL = frozenset(Capability)


def a_release(version: str = "1.1.0", *, commit: str = "", image: str = "") -> Release:
    """Another version is another commit with another image unless they are given (one hex digit each)."""
    parsed = Semver.parse(version)
    digit = f"{sum(map(ord, version)) % 16:x}"
    sha = Sha((commit or digit) * 40)
    return Release(
        id=release_id(parsed, sha),
        application="dealbrain",
        version=parsed,
        sha=sha,
        author="Ann Author",
        created_at=datetime(2025, 11, 20, 12, 30, tzinfo=UTC),
        services=(
            Service("api", "web", "api", "api/Dockerfile", replicas=2, port=8000, routes=("/api",), health="/health"),
            Service("worker", "worker", "api", "api/Dockerfile.worker", ready=("true",), drain_seconds=45),
        ),
        images={
            name: ImageRef("127.0.0.1:5000", f"team/dealbrain-{name}", f"sha256:{(image or digit) * 64}") for name in ("api", "worker")
        },
        migrations=MigrationSettings(service="api"),
        smoke=(Smoke(service="api", path="/api/listings"),),
        load=LoadTest(rate=20, seconds=10, paths=("/api/listings",)),
        hooks=(Hook("cache", ("promote",), "api", ("true",)),),
        commits=("Show the warranty", "Ä Ω 🚀"),
    )


def an_environment(name: str = "production", *, steps: tuple[int, ...] = (10, 50, 100), load: bool = False) -> Environment:
    return Environment(
        environment=Identity(name=name, target="docker"),
        traffic=Traffic(steps=steps, watch_seconds=300, bake_seconds=600),
        prove=Proving(smoke=True, load=load),
    )


def a_plan(
    version: str = "1.1.0",
    *,
    blue: str | None = "1.0.0",
    kind: Kind = "normal",
    environment: Environment | None = None,
) -> Plan:
    return plan_rollout(
        a_release(version),
        environment or an_environment(),
        capabilities=ALL,
        blue=a_release(blue) if blue else None,
        kind=kind,
    )


class MemoryLog:
    """An `EventLog` in a list."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.written = list(events)

    def append(self, *events: Event) -> None:
        self.written.extend(events)

    def events(self) -> Sequence[Event]:
        return tuple(self.written)


def a_journal(plan: Plan | None = None) -> tuple[Journal, MemoryLog]:
    log = MemoryLog([Opened(plan or a_plan(), by="ann")])
    return Journal(log), log
