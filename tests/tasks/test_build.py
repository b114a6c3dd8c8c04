import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from delivery.application import Application, Named, Service
from delivery.errors import DeliveryError, InvalidSettings
from delivery.source import Semver, Source
from deployments.base_images import ensure_base_images
from tasks.build import Builder, BuildKit, ClassicBuilder, build_image, build_images, choose_builder, recipe_of
from tasks.source import checkout
from tests.tasks.repository import Repository

UPSTREAM = "python:3.11-slim-bookworm"
DOCKERFILE = "FROM scratch\nCOPY . /\nARG VERSION\nENV RELEASE_VERSION=${VERSION}\n"
VERSION = Semver(1, 2, 3)


@pytest.fixture
def name() -> Iterator[str]:
    """The name of an application whose images are removed afterwards."""
    made = f"test{uuid.uuid4().hex[:8]}"
    yield made
    engine = docker.from_env()
    for image in engine.images.list(filters={"reference": f"greenroom.local/{made}-*"}):
        engine.images.remove(image.id, force=True)
    engine.close()


def application(name: str = "app", **bases: str) -> Application:
    api = Service(name="api", kind="worker", context="api", dockerfile="api/Dockerfile", ready=("true",))
    return Application(application=Named(name), service=(api,), bases=bases)


def check_out(tmp_path: Path, **files: str) -> Source:
    repository = Repository(tmp_path / "repository")
    sha = repository.commit("One", **files)
    # A Dockerfile has no ending, so it cannot be one of `files`.
    return checkout.plain(str(repository.path), sha, work_dir=tmp_path / "work")


def check_out_image(tmp_path: Path, dockerfile: str, **files: str) -> Source:
    repository = Repository(tmp_path / "repository")
    (repository.path / "api").mkdir()
    (repository.path / "api" / "Dockerfile").write_text(dockerfile)
    sha = repository.commit("One", **files)
    return checkout.plain(str(repository.path), sha, work_dir=tmp_path / "work")


def labels_of(image: str) -> dict[str, str]:
    engine = docker.from_env()
    labels: dict[str, str] = engine.images.get(image).labels
    engine.close()
    return labels


def test_the_recipe_carries_version_commit_and_the_commits_time_and_maps_the_bases(tmp_path: Path) -> None:
    source = check_out_image(tmp_path, DOCKERFILE)
    declared = application(PYTHON_BASE=UPSTREAM, NODE_BASE="node:24")
    recipe = recipe_of(
        declared.service[0], source, declared, VERSION, files=Path(source.path), base_images={UPSTREAM: "greenroom/python:3.11"}
    )
    assert recipe.arguments == {
        "PYTHON_BASE": "greenroom/python:3.11",
        "NODE_BASE": "node:24",
        "VERSION": "1.2.3",
        "COMMIT": str(source.sha),
        "CREATED": "2025-06-01T10:00:00Z",
    }
    assert recipe.tag == f"greenroom.local/app-api:v1.2.3-{source.sha.short}"
    assert recipe.labels["org.opencontainers.image.revision"] == str(source.sha)
    assert "org.opencontainers.image.source" not in recipe.labels  # a path of this machine is nobody's business


def test_a_service_without_its_dockerfile_in_the_commit_is_refused(tmp_path: Path) -> None:
    source = check_out(tmp_path, api__app_py="a = 1\n")
    declared = application()
    with pytest.raises(InvalidSettings, match="'api/Dockerfile' is not in commit"):
        recipe_of(declared.service[0], source, declared, VERSION, files=Path(source.path), base_images={})


@pytest.mark.parametrize("link", ["api", "api/Dockerfile"])
def test_a_dockerfile_or_context_that_leads_out_of_the_repository_is_refused(tmp_path: Path, link: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "Dockerfile").write_text(DOCKERFILE)
    repository = Repository(tmp_path / "repository")
    (repository.path / link).parent.mkdir(exist_ok=True)
    (repository.path / link).symlink_to(tmp_path / "outside" / ("Dockerfile" if link.endswith("Dockerfile") else ""))
    source = checkout.plain(str(repository.path), repository.commit("A link"), work_dir=tmp_path / "work")
    declared = application()
    with pytest.raises(InvalidSettings, match=f"service api: '{link}' leads out of the repository"):
        recipe_of(declared.service[0], source, declared, VERSION, files=Path(source.path), base_images={})


@pytest.mark.docker
def test_an_image_holds_the_commit_and_nothing_that_checks_left(name: str, tmp_path: Path) -> None:
    source = check_out_image(tmp_path, DOCKERFILE, api__app_py="a = 1\n")
    (Path(source.path) / "api" / "junk.txt").touch()
    images = build_images(source, application(name), VERSION, work_dir=tmp_path / "work")
    engine = docker.from_env()
    container = engine.containers.create(images["api"], command=["none"])
    try:
        assert b"a = 1" in b"".join(container.get_archive("/app.py")[0])
        with pytest.raises(docker.errors.NotFound):
            container.get_archive("/junk.txt")
    finally:
        container.remove()
        engine.close()
    assert list((tmp_path / "work" / "builds").iterdir()) == []


@pytest.mark.docker
@pytest.mark.parametrize("builder", [choose_builder, ClassicBuilder], ids=["chosen", "classic"])
def test_every_builder_makes_the_same_promises(name: str, tmp_path: Path, builder: type[Builder]) -> None:
    source = check_out_image(tmp_path, DOCKERFILE, api__app_py="a = 1\n")
    declared = application(name)
    recipe = recipe_of(declared.service[0], source, declared, VERSION, files=Path(source.path), base_images={})
    assert build_image.plain("api", recipe, builder(), tmp_path / "build.log") == ("api", recipe.tag)
    assert labels_of(recipe.tag) == dict(recipe.labels)
    assert (tmp_path / "build.log").read_text()


@pytest.mark.docker
@pytest.mark.parametrize("builder", [choose_builder, ClassicBuilder], ids=["chosen", "classic"])
def test_a_failing_build_names_the_service_and_its_last_lines(name: str, tmp_path: Path, builder: type[Builder]) -> None:
    source = check_out_image(tmp_path, "FROM scratch\nCOPY no-such-file /\n")
    declared = application(name)
    recipe = recipe_of(declared.service[0], source, declared, VERSION, files=Path(source.path), base_images={})
    with pytest.raises(DeliveryError, match="The image of api was not built:") as refused:
        build_image.plain("api", recipe, builder(), tmp_path / "build.log")
    assert "no-such-file" in refused.value.what
    assert str(tmp_path / "build.log") in refused.value.next


@pytest.mark.docker
def test_an_extra_ca_is_there_while_building_and_not_in_the_image(name: str, tmp_path: Path) -> None:
    builder = choose_builder()
    if not isinstance(builder, BuildKit):
        pytest.skip("No docker command line here drives BuildKit.")
    base = ensure_base_images([UPSTREAM])[UPSTREAM]
    dockerfile = "ARG BASE\nFROM ${BASE}\nRUN --mount=type=secret,id=ca sha256sum < /run/secrets/ca > /sum\n"
    source = check_out_image(tmp_path, dockerfile)
    ca = tmp_path / "ca.crt"
    ca.write_text(f"certificate {uuid.uuid4().hex}\n")
    images = build_images(
        source, application(name, BASE=UPSTREAM), VERSION, work_dir=tmp_path / "work", base_images={UPSTREAM: base}, extra_ca=ca
    )
    engine = docker.from_env()
    try:
        shown = engine.containers.run(images["api"], ["cat", "/sum"], remove=True, entrypoint="")
        assert shown.split()[0] != b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        history = str(engine.images.get(images["api"]).history())
        assert ca.read_text().strip() not in history
        with pytest.raises(docker.errors.ContainerError):
            engine.containers.run(images["api"], ["test", "-s", "/run/secrets/ca"], remove=True, entrypoint="")
    finally:
        engine.close()
