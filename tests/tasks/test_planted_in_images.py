"""Whatever the machine that builds knows, and whatever its checks have left lying about: none of it is in an image."""

import gzip
import io
import json
import shlex
import tarfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import docker
import pytest

from delivery.application import Application, Named, Service
from delivery.source import Semver
from deployments.base_images import ensure_base_images
from tasks.build import Builder, BuildKit, ClassicBuilder, build_images, choose_builder
from tasks.source import checkout
from tests.planted_secrets import SECRETS, found_in, spelled
from tests.tasks.repository import Repository

pytestmark = pytest.mark.docker

UPSTREAM = "python:3.11-slim-bookworm"
# As careless as can be: all that a build can see goes into a layer.
GREEDY = """\
ARG PYTHON_BASE
FROM ${PYTHON_BASE}
COPY . /app
RUN env > /env.txt; cat /proc/*/environ /proc/*/cmdline > /processes.txt; ls -R /run > /run.txt; true
"""
ADDRESS = f"https://me:{quote(SECRETS['a Git token'])}@git.example.org/shop.git"
# The build's own secret is read by a command, as an installer reads a certificate.
READS_ITS_SECRET = "RUN --mount=type=secret,id=ca sha256sum /run/secrets/ca > /sum && test -s /run/secrets/ca\n"
CONTROLS = {
    "a variable of the image": "ENV TOKEN=%s\n",
    "a label": "LABEL token=%s\n",
    "a layer that a later one takes back": "RUN echo %s > /token\nRUN rm /token\n",
    "the history": "RUN test -n %s\n",
}


@pytest.fixture
def name() -> Iterator[str]:
    made = f"test{uuid.uuid4().hex[:8]}"
    yield made
    engine = docker.from_env()
    for image in engine.images.list(filters={"reference": f"greenroom.local/{made}-*"}):
        engine.images.remove(image.id, force=True)
    engine.close()


@pytest.fixture
def knowing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """This process and its work directory hold every secret in every spelling; what they hold, as one text."""
    everything = "\n".join(spelling for secret in SECRETS.values() for spelling in spelled(secret).values())
    for number, secret in enumerate(SECRETS.values()):
        monkeypatch.setenv(f"PLANTED_{number}", secret)
    work = tmp_path / "work"
    work.mkdir()
    for file in (work / "blocks.toml", work / "tool.log"):
        file.write_text(everything)
    return everything


def built(name: str, dockerfile: str, tmp_path: Path, left_by_checks: str, *, extra_ca: Path | None = None) -> str:
    """The image of a service, as the pipeline builds it from a commit of a repository whose address holds a password."""
    repository = Repository(tmp_path / "repository")
    (repository.path / "api").mkdir()
    (repository.path / "api" / "Dockerfile").write_text(dockerfile)
    source = checkout.plain(str(repository.path), repository.commit("One", api__app_py="a = 1\n"), work_dir=tmp_path / "work")
    source = replace(source, repository=ADDRESS)
    for file in ("api/.env", ".env", "api/reports.xml"):
        (Path(source.path) / file).write_text(left_by_checks)
    service = Service(name="api", kind="worker", context="api", dockerfile="api/Dockerfile", ready=("true",))
    application = Application(application=Named(name), service=(service,), bases={"PYTHON_BASE": UPSTREAM})
    bases = {UPSTREAM: ensure_base_images([UPSTREAM])[UPSTREAM]}
    return build_images(source, application, Semver(1, 2, 3), work_dir=tmp_path / "work", base_images=bases, extra_ca=extra_ca)["api"]


def own_parts(image: str) -> Iterator[tuple[str, bytes]]:
    """Everything of an image that its base does not have: its configuration, its history, and each file of each layer."""
    engine = docker.from_env()
    try:
        found = engine.images.get(image)
        base = engine.images.get(ensure_base_images([UPSTREAM])[UPSTREAM]).attrs["RootFS"]["Layers"]
        yield "its configuration", json.dumps(found.attrs, ensure_ascii=False).encode()
        yield "its history", json.dumps(found.history(), ensure_ascii=False).encode()
        saved = io.BytesIO(b"".join(found.save()))
    finally:
        engine.close()
    with tarfile.open(fileobj=saved) as whole:
        manifest = json.loads(_member(whole, "manifest.json"))[0]
        yield "what is saved of its configuration", _member(whole, manifest["Config"])
        for number, layer in enumerate(manifest["Layers"][len(base) :], 1):
            data = _member(whole, layer)
            with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)) as files:
                for member in files:
                    yield f"layer {number}, name", member.name.encode()
                    yield f"layer {number}, {member.name}", _member(files, member.name) if member.isfile() else b""


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None, name
    return file.read()


def found_of(image: str) -> list[str]:
    return [f"{where}: {what}" for where, data in own_parts(image) for what in found_in(data)]


@pytest.mark.parametrize("builder", [choose_builder, ClassicBuilder], ids=["chosen", "classic"])
def test_nothing_that_the_builder_knows_is_in_an_image_however_greedy_its_dockerfile(
    name: str, knowing: str, builder: Callable[[], Builder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.build.choose_builder", builder)
    dockerfile = GREEDY + (READS_ITS_SECRET if isinstance(builder(), BuildKit) else "")
    image = built(name, dockerfile, tmp_path, knowing, extra_ca=tmp_path / "work" / "tool.log")
    parts = dict(own_parts(image))
    assert any(where.endswith("app/app.py") for where in parts)
    assert any(where.endswith("env.txt") and b"PATH=" in data for where, data in parts.items())
    assert b"git.example.org/shop.git" in parts["its configuration"]
    assert found_of(image) == []


@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS)
def test_a_secret_that_a_dockerfile_bakes_in_is_found_by_the_same_search(name: str, control: str, tmp_path: Path) -> None:
    token = SECRETS["a plain token"]
    image = built(name, GREEDY + control % shlex.quote(token), tmp_path, "nothing")
    assert any(found.endswith("a plain token, as it is") for found in found_of(image))
