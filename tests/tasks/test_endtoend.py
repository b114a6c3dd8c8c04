import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import docker
import pytest

from delivery.application import Application, Backing, EndToEnd, MigrationSettings, Named, Service
from delivery.errors import DeliveryError
from delivery.source import Semver, Source
from deployments.base_images import ensure_base_images
from tasks.build import build_images
from tasks.endtoend import BORN, LABEL, end_to_end, sweep
from tasks.source import checkout
from tests.tasks.repository import Repository

UPSTREAM = "python:3.11-slim-bookworm"
# Serves what its migration left in the backing service, so that the whole chain is seen from outside.
SERVER = """\
import http.server, os, urllib.request
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = urllib.request.urlopen("http://store:9000/state").read()
        text += (os.environ.get("GREETING", "") + os.environ.get("OTHER", "")).encode()
        self.send_response(200); self.end_headers(); self.wfile.write(text)
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Page).serve_forever()
"""
STORE = """\
import http.server
state = b"empty"
class Store(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(state)
    def do_PUT(self):
        global state
        state = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200); self.end_headers()
http.server.ThreadingHTTPServer(("0.0.0.0", 9000), Store).serve_forever()
"""
MIGRATE = "import urllib.request as u; u.urlopen(u.Request('http://store:9000/state', method='PUT', data=b'migrated')).read()"
READY = "import urllib.request as u; u.urlopen('http://127.0.0.1:9000/state').read()"
ANSWER = (
    "import os, urllib.request as u; open(os.environ['JUNIT_FILE'], 'w').write('<testsuites/>'); "
    "text = u.urlopen(os.environ['BASE_URL']).read(); print(text); assert text == b'migrated hello', text"
)


@pytest.fixture(scope="module")
def base() -> str:
    return ensure_base_images([UPSTREAM])[UPSTREAM]


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


class Scene:
    """A commit, its application, and the images built of it."""

    def __init__(self, tmp_path: Path, base: str) -> None:
        repository = Repository(tmp_path / "repository")
        for folder, code in {"api": SERVER, "store": STORE}.items():
            (repository.path / folder).mkdir()
            (repository.path / folder / "main.py").write_text(code)
            text = 'ARG BASE\nFROM ${BASE}\nCOPY main.py /\nUSER 10001\nSTOPSIGNAL SIGKILL\nCMD ["python3", "/main.py"]\n'
            (repository.path / folder / "Dockerfile").write_text(text)
        self.work_dir = tmp_path / "work"
        self.name = f"test{uuid.uuid4().hex[:8]}"
        self.source: Source = checkout.plain(str(repository.path), repository.commit("One"), work_dir=self.work_dir)
        self.base_images = {UPSTREAM: base}
        self.images: Mapping[str, str] = {}

    def application(self, *, test: str = ANSWER, migrate: str = MIGRATE, server: str = "api") -> Application:
        api = Service(
            name="api",
            kind="web",
            context=server,
            dockerfile=f"{server}/Dockerfile",
            port=8000,
            routes=("/",),
            health="/",
            variables=("GREETING",),
        )
        store = Service(name="store", kind="worker", context="store", dockerfile="store/Dockerfile", ready=("true",))
        self.images = build_images(
            self.source,
            Application(application=Named(self.name), service=(api, store), bases={"BASE": UPSTREAM}),
            Semver(1, 0, 0),
            work_dir=self.work_dir,
            base_images=self.base_images,
        )
        return Application(
            application=Named(self.name),
            service=(api,),
            migrations=MigrationSettings("api", upgrade=("python3", "-c", migrate)),
            backing=(Backing("store", "store:1", 9000, ready=("python3", "-c", READY)),),
            e2e=EndToEnd((sys.executable, "-c", test), "api", settings={"GREETING": " hello", "OTHER": " not for it"}),
        )

    def run(self, application: Application) -> object:
        bases = {**self.base_images, "store:1": self.images["store"]}
        return end_to_end(self.images, self.source, application, work_dir=self.work_dir, base_images=bases)

    def left(self, engine: docker.DockerClient) -> list[object]:
        mine = {"label": f"{LABEL}={self.source.sha}"}
        return [*engine.containers.list(all=True, filters=mine, ignore_removed=True), *engine.networks.list(filters=mine)]


@pytest.fixture
def scene(tmp_path: Path, base: str, engine: docker.DockerClient) -> Iterator[Scene]:
    made = Scene(tmp_path, base)
    yield made
    for image in engine.images.list(filters={"reference": f"greenroom.local/{made.name}-*"}):
        engine.images.remove(image.id, force=True)


def test_an_application_without_such_tests_has_no_answer(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    source = checkout.plain(str(repository.path), repository.commit("One"), work_dir=tmp_path / "work")
    assert end_to_end({}, source, Application(application=Named("app"), service=()), work_dir=tmp_path / "work") is None


@pytest.mark.docker
def test_the_tests_meet_the_images_migrated_and_with_their_own_variables_only(scene: Scene, engine: docker.DockerClient) -> None:
    result = scene.run(scene.application())
    assert getattr(result, "passed", False)
    kept = scene.work_dir / "reports" / str(scene.source.sha) / "e2e.junit.xml"
    assert getattr(result, "kept", ()) == (str(kept),)
    assert kept.read_text() == "<testsuites/>"
    assert scene.left(engine) == []


@pytest.mark.docker
def test_a_failing_spec_is_named_and_the_services_logs_are_kept(scene: Scene, engine: docker.DockerClient) -> None:
    failing = "print('  1) [critical] \\u203a e2e/critical.spec.ts:3:1 \\u203a a visitor adds a listing'); raise SystemExit(1)"
    with pytest.raises(DeliveryError, match=r"e2e failed:\n  1\) \[critical\] . e2e/critical.spec.ts:3:1") as refused:
        scene.run(scene.application(test=failing))
    assert "e2e.log" in refused.value.next
    logs = scene.work_dir / "logs" / str(scene.source.sha)
    assert {"e2e-api.log", "e2e-store.log", "e2e-migrate.log"} <= {file.name for file in logs.iterdir()}
    assert scene.left(engine) == []


@pytest.mark.docker
def test_a_failing_migration_is_told_with_its_last_words(scene: Scene, engine: docker.DockerClient) -> None:
    with pytest.raises(DeliveryError, match=r"ended with 1:(.|\n)*ValueError: column holds nulls"):
        scene.run(scene.application(migrate="raise ValueError('column holds nulls')"))
    assert scene.left(engine) == []


@pytest.mark.docker
def test_a_service_that_ends_is_told_at_once(scene: Scene, engine: docker.DockerClient) -> None:
    application = scene.application()
    scene.images = {**scene.images, "api": scene.base_images[UPSTREAM]}  # its command is a shell, which ends
    with pytest.raises(DeliveryError, match="e2e failed: api ended"):
        scene.run(application)
    assert scene.left(engine) == []


@pytest.mark.docker
def test_what_a_killed_run_left_is_removed_after_an_hour_and_not_before(engine: docker.DockerClient, base: str) -> None:
    mark = uuid.uuid4().hex[:8]

    def leave(age_seconds: float) -> tuple[str, str]:
        labels = {LABEL: mark, BORN: str(int(time.time() - age_seconds))}
        network = engine.networks.create(f"greenroom-e2e-test-{mark}-{int(age_seconds)}", labels=labels)
        container = engine.containers.create(base, ["true"], labels=labels, network=network.name)
        return container.id, network.id

    old, young = leave(3700), leave(60)
    sweep(engine)
    try:
        assert [c.id for c in engine.containers.list(all=True, filters={"label": f"{LABEL}={mark}"}, ignore_removed=True)] == [young[0]]
        assert [n.id for n in engine.networks.list(filters={"label": f"{LABEL}={mark}"})] == [young[1]]
    finally:
        engine.containers.get(young[0]).remove(force=True)
        engine.networks.get(young[1]).remove()
    assert old != young
