import base64
import hashlib
import io
import json
import logging
import tarfile
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import docker
import httpx
import pytest
from pydantic import SecretStr, ValidationError

from blocks.registry import OciRegistry
from delivery.errors import DeliveryError, InvalidSettings, TransientError
from delivery.image import ImageRef
from deployments.processes import free_ports
from deployments.stage import Registry
from tasks.publish import push_image
from tests.blocks.fault_proxy import Fault, fault_proxy

PASSWORD = "secret-word"
MANIFEST = b'{"schemaVersion": 2}'
DIGEST = "sha256:" + hashlib.sha256(MANIFEST).hexdigest()
MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"


class Imitation(ThreadingHTTPServer):
    """Enough of a registry for one manifest: it asks for a login (`basic`, `bearer`, or none) and keeps what it is given."""

    def __init__(self, challenge: str) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.challenge = challenge
        self.manifest = MANIFEST
        self.named: dict[str, tuple[str, bytes]] = {}
        self.scopes: list[str] = []
        self.failures = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Imitation
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        login = self.headers.get("Authorization", "")
        good = "Basic " + base64.b64encode(b"me:secret-word").decode()
        if self.path.startswith("/token"):
            self.server.scopes.append(self.path)
            self.answer(200, json.dumps({"token": "t0ken"}).encode()) if login == good else self.answer(401)
        elif self.server.failures:
            self.server.failures -= 1
            self.answer(503)
        elif self.server.challenge == "basic" and login != good:
            self.answer(401, headers={"WWW-Authenticate": 'Basic realm="here"'})
        elif self.server.challenge == "bearer" and login != "Bearer t0ken":
            challenge = f'Bearer realm="http://{self.server.host}/token",service="here",scope="repository:team/app:pull,push"'
            self.answer(401, headers={"WWW-Authenticate": challenge})
        elif self.command == "PUT":
            self.server.named[self.path.rpartition("/")[2]] = (self.headers["Content-Type"], body)
            self.answer(201)
        elif self.path == "/v2/":
            self.answer(200)
        else:
            self.answer(200, self.server.manifest, {"Content-Type": MEDIA_TYPE, "Docker-Content-Digest": DIGEST})

    do_GET = do_PUT = do_HEAD = handle_any  # noqa: N815

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def imitation(request: pytest.FixtureRequest) -> Iterator[Imitation]:
    server = Imitation(getattr(request, "param", "none"))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def block(server: Imitation, password: str = PASSWORD) -> OciRegistry:
    return OciRegistry(host=server.host, namespace="team", username="me", password=SecretStr(password), insecure=True)


@pytest.mark.parametrize("imitation", ["none", "basic", "bearer"], indirect=True)
def test_further_names_are_put_with_the_very_bytes_of_the_manifest(imitation: Imitation) -> None:
    block(imitation).tag(ImageRef(imitation.host, "team/app", DIGEST), ["staging-latest", "staging-v1.0.0"])
    assert imitation.named == {"staging-latest": (MEDIA_TYPE, MANIFEST), "staging-v1.0.0": (MEDIA_TYPE, MANIFEST)}


@pytest.mark.parametrize("imitation", ["bearer"], indirect=True)
def test_one_token_is_asked_for_with_the_scope_that_the_registry_named(imitation: Imitation) -> None:
    block(imitation).tag(ImageRef(imitation.host, "team/app", DIGEST), ["a", "b", "c"])
    assert imitation.scopes == ["/token?service=here&scope=repository%3Ateam%2Fapp%3Apull%2Cpush"]


@pytest.mark.parametrize("imitation", ["basic", "bearer"], indirect=True)
def test_a_refused_login_says_where_to_look_and_not_what_was_sent(imitation: Imitation) -> None:
    with pytest.raises(DeliveryError, match="refused the login") as refused:
        block(imitation, "wrong-secret").is_ready()
    assert not isinstance(refused.value, TransientError)
    assert "oci-registry block" in refused.value.next
    assert "wrong-secret" not in str(refused.value)


@pytest.mark.parametrize("imitation", ["none", "basic", "bearer"], indirect=True)
def test_a_registry_that_answers_is_ready(imitation: Imitation) -> None:
    block(imitation).is_ready()


def test_an_answer_503_is_worth_another_try(imitation: Imitation) -> None:
    imitation.failures = 1
    with pytest.raises(TransientError, match="503"):
        block(imitation).is_ready()
    block(imitation).is_ready()


def test_a_registry_that_is_not_there_is_worth_another_try() -> None:
    port = free_ports(["registry"])["registry"]
    with pytest.raises(TransientError, match=f"127.0.0.1:{port} did not answer"):
        OciRegistry(host=f"127.0.0.1:{port}", insecure=True).is_ready()


def test_bytes_that_are_not_the_digests_are_never_given_a_name(imitation: Imitation) -> None:
    imitation.manifest = b'{"schemaVersion": 2, "config": "another"}'
    with pytest.raises(DeliveryError, match="other bytes"):
        block(imitation).tag(ImageRef(imitation.host, "team/app", DIGEST), ["latest"])
    assert imitation.named == {}


def test_an_image_of_another_registry_gets_no_name_here(imitation: Imitation) -> None:
    with pytest.raises(InvalidSettings, match="is not in"):
        block(imitation).tag(ImageRef("ghcr.io", "team/app", DIGEST), ["latest"])


@pytest.mark.parametrize("tag", ["", "a/b", "../x", "a b", "x" * 129])
def test_what_is_no_tag_is_refused(imitation: Imitation, tag: str) -> None:
    with pytest.raises(InvalidSettings, match="Not a tag"):
        block(imitation).tag(ImageRef(imitation.host, "team/app", DIGEST), [tag])


@pytest.mark.parametrize("fields", [{"host": "http://ghcr.io"}, {"host": "ghcr.io/me"}, {"host": "ghcr.io", "namespace": "Me/App"}])
def test_a_block_that_cannot_be_meant_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        OciRegistry(**fields)


def test_the_password_is_hidden_in_the_block() -> None:
    assert "secret-word" not in repr(OciRegistry(host="ghcr.io", username="me", password=SecretStr("secret-word")))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    server = Registry(tmp_path_factory.mktemp("registry"), free_ports(["registry"])["registry"])
    server.start()
    yield server
    server.stop()


@pytest.fixture
def local_image() -> Iterator[str]:
    """An image of one file, like no other."""
    name = f"greenroom.test/registry:{uuid.uuid4().hex[:12]}"
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        text = uuid.uuid4().bytes
        member = tarfile.TarInfo("file")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    engine = docker.from_env()
    engine.api.import_image_from_data(content.getvalue(), repository="greenroom.test/registry", tag=name.rpartition(":")[2])
    image_id = engine.images.get(name).id
    yield name
    engine.images.remove(image_id, force=True)
    engine.close()


def digest_of(registry: Registry, repository: str, tag: str) -> str:
    with httpx.Client(trust_env=False) as client:
        accept = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
        return client.head(f"http://{registry.address}/v2/{repository}/manifests/{tag}", headers=accept).headers["Docker-Content-Digest"]


@pytest.mark.docker
def test_a_push_gives_all_names_to_one_digest_and_may_be_repeated(registry: Registry, local_image: str) -> None:
    there = OciRegistry(host=registry.address, namespace="team", insecure=True)
    tags = ["v1.2.3", "v1.2.3-0123abcd", "latest"]
    image = there.push(local_image, repository="app-api", tags=tags)
    assert str(image).startswith(f"{registry.address}/team/app-api@sha256:")
    assert {digest_of(registry, "team/app-api", tag) for tag in tags} == {image.digest}
    assert there.push(local_image, repository="app-api", tags=tags) == image
    there.tag(image, ["staging-latest"])
    assert digest_of(registry, "team/app-api", "staging-latest") == image.digest


@pytest.mark.docker
def test_what_was_pushed_can_be_pulled_by_its_digest(registry: Registry, local_image: str) -> None:
    image = OciRegistry(host=registry.address, insecure=True).push(local_image, repository="pulled", tags=["v1"])
    engine = docker.from_env()
    local = engine.images.get(local_image).id
    assert engine.images.pull(f"{image.registry}/{image.repository}", tag=image.digest).id == local
    engine.close()


@pytest.mark.docker
def test_an_image_that_is_not_on_this_machine_is_refused(registry: Registry) -> None:
    with pytest.raises(DeliveryError, match="not on this machine") as refused:
        OciRegistry(host=registry.address, insecure=True).push("greenroom.test/none:none", repository="app", tags=["v1"])
    assert not isinstance(refused.value, TransientError)


@pytest.mark.docker
@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/manifests/v1"), ("HEAD", "/manifests/v1"), ("GET", "/manifests/sha256"), ("PUT", "/manifests/latest")]
)
def test_a_registry_that_answers_503_twice_is_asked_again_visibly_and_the_push_succeeds(
    registry: Registry, local_image: str, method: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with fault_proxy(registry.address) as proxy, caplog.at_level(logging.WARNING):
        # The engine asks for the manifest once itself, before it sends it.
        proxy.faults.append(Fault(method, path, 503, times=2))
        there = OciRegistry(host=proxy.address, insecure=True)
        image = push_image("api", local_image, "shaky", ("v1", "latest"), there)
        answers = [status for verb, asked, status in proxy.asked if verb == method and path in asked]
    assert answers[:2] == [503, 503]
    assert {digest_of(registry, "shaky", tag) for tag in ("v1", "latest")} == {image.digest}
    tries = [record for record in caplog.records if record.name == "greenroom.retry"]
    assert len(tries) == 2
    assert all("503" in record.getMessage() for record in tries)


@pytest.mark.docker
@pytest.mark.parametrize("status", [401, 403])
def test_a_registry_that_refuses_is_not_asked_again(registry: Registry, local_image: str, status: int) -> None:
    with fault_proxy(registry.address) as proxy:
        proxy.faults.append(Fault("POST", "/blobs/uploads/", status, times=99))
        there = OciRegistry(host=proxy.address, username="me", password=SecretStr("wrong-secret"), insecure=True)
        with pytest.raises(DeliveryError) as refused:
            push_image("api", local_image, "refused", ("v1",), there)
    assert not isinstance(refused.value, TransientError)
    assert "oci-registry block" in refused.value.next
    assert "wrong-secret" not in str(refused.value)
