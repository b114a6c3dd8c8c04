import io
import tarfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import docker
import pytest

from blocks.registry import OciRegistry
from delivery.application import Application, Hook, LoadTest, MigrationSettings, Named, Service, Smoke
from delivery.errors import InvalidSettings, TransientError
from delivery.image import ImageRef
from delivery.source import Semver, Sha, Source
from deployments.processes import free_ports
from deployments.stage import Registry
from tasks.publish import publish, tag_staging

SHA = Sha("0123456789abcdef0123456789abcdef01234567")
SOURCE = Source(
    repository="https://example.org/app.git",
    sha=SHA,
    path="/nowhere",
    author="Ada Example",
    committed_at=datetime(2025, 6, 1, 10, tzinfo=UTC),
    on_main=True,
    last_tag=Semver(1, 0, 0),
    commits_since_tag=2,
    commits=("Two", "One"),
)
API = Service(name="api", kind="web", context="api", dockerfile="api/Dockerfile", port=8000, routes=("/",), health="/health")
WORKER = Service(name="worker", kind="worker", context="api", dockerfile="api/Dockerfile.worker", ready=("true",))
APPLICATION = Application(
    application=Named("app"),
    service=(API, WORKER),
    migrations=MigrationSettings("api"),
    smoke=(Smoke("api", "/"),),
    load=LoadTest(rate=10, seconds=1, paths=("/",)),
    hook=(Hook("cache", ("promote",), "api", ("true",)),),
)
IMAGES = {"api": "greenroom.local/app-api:x", "worker": "greenroom.local/app-worker:x"}
VERSION = Semver(1, 1, 0)


class Shelf:
    """A registry that remembers names; its first answers may be 503."""

    def __init__(self, failures: int = 0) -> None:
        self.names: dict[str, set[str]] = {}
        self.failures = failures

    def push(self, local: str, *, repository: str, tags: Sequence[str]) -> ImageRef:
        if self.failures:
            self.failures -= 1
            raise TransientError("The registry answered 503.", next="wait")
        self.names.setdefault(repository, set()).update(tags)
        return ImageRef("ghcr.io", f"team/{repository}", f"sha256:{local.encode().hex():0<64.64}")

    def tag(self, image: ImageRef, tags: Sequence[str]) -> None:
        self.names.setdefault(image.repository, set()).update(tags)

    def is_ready(self) -> None:
        return


def test_every_image_gets_the_names_of_its_version_and_latest_on_main_only() -> None:
    shelf = Shelf()
    publish(IMAGES, SOURCE, APPLICATION, VERSION, shelf)
    assert shelf.names == {name: {"v1.1.0", "v1.1.0-01234567", "latest"} for name in ("app-api", "app-worker")}
    branch = Shelf()
    publish(IMAGES, replace(SOURCE, on_main=False), APPLICATION, VERSION, branch)
    assert branch.names["app-api"] == {"v1.1.0", "v1.1.0-01234567"}


def test_the_release_carries_all_that_travels_from_here_on() -> None:
    release = publish(IMAGES, SOURCE, APPLICATION, VERSION, Shelf(), evidence={"ruff": "ruff passed in 0.1 s"})
    assert release.id == "v1.1.0-01234567"
    assert release.created_at == SOURCE.committed_at
    assert release.commits == ("Two", "One")
    assert release.services == (API, WORKER)
    assert release.images["api"].repository == "team/app-api"
    assert (release.migrations, release.smoke, release.load) == (APPLICATION.migrations, APPLICATION.smoke, APPLICATION.load)
    assert release.hooks == APPLICATION.hook
    assert release.evidence == {"ruff": "ruff passed in 0.1 s"}


def test_publishing_again_gives_the_same_release() -> None:
    shelf = Shelf()
    assert publish(IMAGES, SOURCE, APPLICATION, VERSION, shelf) == publish(IMAGES, SOURCE, APPLICATION, VERSION, shelf)


def test_a_registry_that_is_silent_for_a_moment_is_asked_again() -> None:
    assert publish(IMAGES, SOURCE, APPLICATION, VERSION, Shelf(failures=1)).images.keys() == IMAGES.keys()


def test_a_service_without_an_image_is_refused_before_anything_is_pushed() -> None:
    shelf = Shelf()
    with pytest.raises(InvalidSettings, match="no image of worker"):
        publish({"api": IMAGES["api"]}, SOURCE, APPLICATION, VERSION, shelf)
    assert shelf.names == {}


def test_staging_names_are_added_once_staging_runs_it() -> None:
    shelf = Shelf()
    tag_staging(publish(IMAGES, SOURCE, APPLICATION, VERSION, shelf), shelf)
    assert shelf.names["team/app-worker"] == {"staging-latest", "staging-v1.1.0"}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    server = Registry(tmp_path, free_ports(["registry"])["registry"])
    server.start()
    yield server
    server.stop()


@pytest.mark.docker
def test_a_real_registry_takes_all_services_side_by_side(registry: Registry) -> None:
    engine = docker.from_env()
    images = {}
    for service in ("api", "worker"):
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            archive.addfile(tarfile.TarInfo(f"{service}-{uuid.uuid4().hex}"))
        images[service] = f"greenroom.test/publish-{service}:{uuid.uuid4().hex[:8]}"
        repository, _, tag = images[service].rpartition(":")
        engine.api.import_image_from_data(content.getvalue(), repository=repository, tag=tag)
    try:
        there = OciRegistry(host=registry.address, namespace="team", insecure=True)
        release = publish(images, SOURCE, APPLICATION, VERSION, there)
        tag_staging(release, there)
        assert release.images["api"].digest != release.images["worker"].digest
        pulled = engine.images.pull(f"{registry.address}/team/app-api", tag="staging-v1.1.0")
        assert f"{registry.address}/team/app-api@{release.images['api'].digest}" in pulled.attrs["RepoDigests"]
    finally:
        for name in images.values():
            engine.images.remove(engine.images.get(name).id, force=True)
        engine.close()
