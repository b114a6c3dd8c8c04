"""Releases and environments as tests need them: small, valid, different where it matters."""

from datetime import UTC, datetime

from delivery.application import Hook, LoadTest, MigrationSettings, Service, Smoke
from delivery.environment import Deadlines, Environment, Identity, JudgeSettings, Proving, Traffic, WatchSettings
from delivery.image import ImageRef
from delivery.plan import Plan, plan_rollout
from delivery.release import Release, release_id
from delivery.revisions import MigrationReview, ReviewedRevision
from delivery.source import Semver, Sha
from delivery.triggers import Trigger

ERROR_RATE = Trigger("error_rate", threshold=0.05, for_seconds=45)


def a_release(version: str = "1.1.0", **changes: object) -> Release:
    """An API with two replicas and a worker. Each version has a commit of its own."""
    parsed = Semver.parse(version)
    sha = Sha(f"{parsed.major:x}{parsed.minor:x}{parsed.patch:x}".ljust(40, "a"))
    services = (
        Service("api", "web", ".", "Dockerfile", replicas=2, port=8000, routes=("/api", "/health"), health="/health", drain_seconds=5),
        Service("worker", "worker", ".", "Dockerfile", ready=("true",), drain_seconds=5),
    )
    fields: dict[str, object] = {
        "id": release_id(parsed, sha),
        "application": "dealbrain",
        "version": parsed,
        "sha": sha,
        "author": "Ann",
        "created_at": datetime(2026, 7, 1, 10, tzinfo=UTC),
        "services": services,
        "images": {name: ImageRef("127.0.0.1:5000", f"dealbrain-{name}", "sha256:" + "0" * 64) for name in ("api", "worker")},
        "migrations": MigrationSettings("api"),
        "review": MigrationReview(("0002",), (ReviewedRevision("0002", ("0001",), "0" * 64, "Prices", "SELECT 1", ()),)),
        "smoke": (Smoke("api", "/api/listings"),),
        "load": LoadTest(rate=50, seconds=1, paths=("/api/listings",)),
        "hooks": (Hook("cache", ("promote", "rollback"), "api", ("hook", "{event}", "{version}")),),
        "commits": ("Faster lists",),
    }
    return Release(**{**fields, **changes})  # type: ignore[arg-type]


def an_environment(name: str = "production", **changes: object) -> Environment:
    """Quick steps, watched with a window small enough for a test's story."""
    fields: dict[str, object] = {
        "environment": Identity(name, target=name),
        "traffic": Traffic(steps=(10, 50, 100), watch_seconds=120, bake_seconds=60, hold_seconds=900),
        "watch": WatchSettings(interval_seconds=5, window_seconds=30, minimum_requests=50, blind_seconds=60),
        "deadlines": Deadlines(prepare_seconds=5, migrate_seconds=5, launch_seconds=5, step_seconds=5),
        "judge": JudgeSettings(enabled=False),  # stories about absolute limits; those about the judge switch it on
        "prove": Proving(smoke=False, load=False),
        "trigger": (ERROR_RATE,),
    }
    return Environment(**{**fields, **changes})  # type: ignore[arg-type]


def a_plan(release: Release, blue: Release | None, target: object, environment: Environment | None = None, **changes: object) -> Plan:
    return plan_rollout(release, environment or an_environment(), capabilities=target.capabilities, blue=blue, **changes)  # type: ignore[attr-defined]
