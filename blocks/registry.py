"""An OCI registry: images go there once, get all their names, and are known by their digest from then on.

Images are pushed by the Docker engine; names and digests go through the registry's own API
(https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md). Foreign errors end here.
"""

import contextlib
import hashlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import docker
import httpx
import requests
import urllib3
from docker.errors import APIError, DockerException, ImageNotFound
from prefect.blocks.core import Block
from pydantic import Field, SecretStr, field_validator

from blocks.engine_errors import is_refusal, may_pass
from blocks.registry_configuration import configurations_of
from blocks.registry_envelopes import Envelopes
from blocks.registry_pause import is_local, pause_asked_by, pause_in, with_pauses
from blocks.registry_shelf import MANIFESTS, delete_manifest, manifests_in
from delivery.errors import DeliveryError, InvalidSettings, TransientError
from delivery.image import ImageConfiguration, ImageRef, is_digest
from delivery.ports import Registry, RegistryAccess
from delivery.retention import Manifest

log = logging.getLogger("greenroom.registry")

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_HOST = re.compile(r"[a-z0-9.-]+(?::\d{1,5})?")
_NAMESPACE = re.compile(r"(?:[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
ANSWER_SECONDS = 30.0
PUSH_SECONDS = 900


class OciRegistry(Block):
    """A registry that speaks the OCI distribution API: GHCR, Docker Hub, ECR, or Debian's docker-registry on loopback."""

    _block_type_slug = "oci-registry"
    _block_type_name = "OCI registry"

    host: str = Field(description="Host and port as in image names: ghcr.io, or 127.0.0.1:5000.")
    namespace: str = Field(default="", description="What stands before the repository, for instance the account's name.")
    username: str | None = Field(default=None, description="Who pushes; nobody for a registry that does not ask.")
    password: SecretStr | None = Field(default=None, description="Password or token of that user.")
    insecure: bool = Field(default=False, description="Plain HTTP; only for a registry on loopback or in a network of your own.")

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, host: str) -> str:
        if not _HOST.fullmatch(host):
            raise ValueError("expected a host with or without a port, for instance ghcr.io or 127.0.0.1:5000")
        return host

    @field_validator("namespace")
    @classmethod
    def _is_a_namespace(cls, namespace: str) -> str:
        if not _NAMESPACE.fullmatch(namespace):
            raise ValueError("expected lower-case words with slashes between, for instance username or group/team")
        return namespace

    def push(self, local: str, *, repository: str, tags: Sequence[str]) -> ImageRef:
        """Pushes the engine's image `local` as `<namespace>/<repository>` under all `tags` and returns it by its digest.

        The first tag is pushed; the others are put beside it by the registry. May be repeated. Raises `TransientError` for what may pass.
        """
        if not tags:
            raise InvalidSettings("An image needs at least one tag.", next="name one.")
        for tag in tags:
            _require_tag(tag)
        name = self._name(repository)
        pushed = with_pauses(lambda: self._push(local, name, tags[0]), lambda: pause_asked_by(self.host, name, tags[0]))
        with self._session(name, "pull,push") as session:
            answered = session.digest_of(tags[0])
            if pushed is not None and pushed != answered:
                raise DeliveryError(
                    f"{self.host}/{name}:{tags[0]} has digest {answered}, but {pushed} was pushed: somebody else pushed the same name.",
                    next="look at who publishes this version, then publish again.",
                )
            session.name_also(answered, tags[1:])
        log.info("pushed %s/%s@%s as %s", self.host, name, answered, ", ".join(tags))
        return ImageRef(self.host, name, answered)

    def tag(self, image: ImageRef, tags: Sequence[str]) -> None:
        """Gives an image that is already there further names; nothing is uploaded. May be repeated."""
        if image.registry != self.host:
            raise InvalidSettings(f"{image} is not in {self.host}.", next="take the registry that the release was published to.")
        for tag in tags:
            _require_tag(tag)
        with self._session(image.repository, "pull,push") as session:
            session.name_also(image.digest, tags)
        log.info("%s is also %s", image, ", ".join(tags))

    def attach(self, image: ImageRef, envelope: bytes, *, predicate_type: str) -> None:
        """Puts a signed envelope beside the image, as a referrer and where cosign looks. May be repeated."""
        with self._session(image.repository, "pull,push") as session:
            self._envelopes(session, image).put(envelope, predicate_type=predicate_type)

    def attached(self, image: ImageRef) -> Sequence[bytes]:
        """The signed envelopes beside the image; nothing of them is verified."""
        with self._session(image.repository, "pull") as session:
            return self._envelopes(session, image).all()

    def attach_document(self, image: ImageRef, document: bytes, *, kind: str) -> None:
        """Puts a document of a media type beside the image, as a referrer. May be repeated."""
        with self._session(image.repository, "pull,push") as session:
            self._envelopes(session, image).put_document(document, kind=kind)

    def documents(self, image: ImageRef, kind: str) -> Sequence[bytes]:
        """The documents of a kind beside the image, by whomever."""
        with self._session(image.repository, "pull") as session:
            return self._envelopes(session, image).documents(kind)

    def configurations(self, image: ImageRef) -> Sequence[ImageConfiguration]:
        """How the image says that it is to be run, one per platform."""
        with self._session(image.repository, "pull") as session:
            return configurations_of(session.ask, image)

    def access(self) -> RegistryAccess:
        password = self.password.get_secret_value() if self.password is not None else ""
        return RegistryAccess(self.host, self.username or "", password, insecure=self.insecure)

    def is_ready(self) -> None:
        """Returns when the registry answers and takes the credentials; raises what is wrong otherwise."""
        with self._session("", "") as session:
            answer = session.ask("GET", "/v2/")
            if answer.status_code != httpx.codes.OK:
                raise _refusal(self.host, "is_ready", answer)

    def stored(self, repository: str) -> tuple[Manifest, ...]:
        """What lies in `<namespace>/<repository>` under a name, and what describes it. May be slow: two requests per name."""
        with self._session(self._name(repository), "pull") as session:
            return manifests_in(session.ask, self._name(repository), self.host)

    def remove(self, repository: str, digest: str) -> None:
        """Takes a manifest with all its names away; one that is gone is well. The room comes back with the registry's own collection."""
        with self._session(self._name(repository), "pull,delete") as session:
            delete_manifest(session.ask, self._name(repository), digest, self.host)

    def _name(self, repository: str) -> str:
        return "/".join(part for part in (self.namespace, repository) if part)

    def _envelopes(self, session: "_Session", image: ImageRef) -> Envelopes:
        if image.registry != self.host:
            raise InvalidSettings(f"{image} is not in {self.host}.", next="take the registry that the release was published to.")
        return Envelopes(session, self.host, image.repository, image.digest)

    def _push(self, local: str, name: str, tag: str) -> str | None:
        """The engine uploads what the registry lacks; returns the digest that it tells."""
        digest = None
        address = f"{self.host}/{name}"
        with self._engine_telling(local) as engine:
            engine.api.tag(local, address, tag)
            for event in engine.api.push(address, tag=tag, stream=True, decode=True, auth_config=self._engine_login()):
                if "error" in event:
                    raise _push_error(address, str(event["error"]))
                status = str(event.get("status", ""))
                if status.startswith("Retrying"):  # the engine's own patience with single layers
                    log.warning("push %s: layer %s: %s", address, event.get("id", "?"), status)
                digest = event.get("aux", {}).get("Digest", digest)
        return digest

    @contextlib.contextmanager
    def _engine_telling(self, local: str) -> Iterator[docker.DockerClient]:
        engine = None
        try:
            engine = docker.from_env(timeout=PUSH_SECONDS)
            yield engine
        except ImageNotFound:
            raise DeliveryError(f"The image {local} is not on this machine.", next="build it again.") from None
        except APIError as error:
            said = str(error.explanation or error)[:300]
            raise _push_error(self.host, said) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise TransientError(
                f"The Docker engine did not answer while pushing ({type(error).__name__}).", next="look at the engine."
            ) from None
        except DockerException as error:
            raise DeliveryError(f"No Docker engine answers ({type(error).__name__}).", next="start it; `make setup` does.") from None
        finally:
            if engine is not None:
                engine.close()

    def _engine_login(self) -> dict[str, str] | None:
        if self.username is None or self.password is None:
            return None
        return {"username": self.username, "password": self.password.get_secret_value(), "serveraddress": self.host}

    @contextlib.contextmanager
    def _session(self, repository: str, actions: str) -> "Iterator[_Session]":
        # A proxy of the network must not stand between this machine and itself.
        local = is_local(self.host)
        base = f"{'http' if self.insecure else 'https'}://{self.host}"
        with httpx.Client(base_url=base, timeout=ANSWER_SECONDS, trust_env=not local) as client:
            login = (self.username, self.password) if self.username is not None and self.password is not None else None
            yield _Session(client, self.host, repository, actions, login, insecure=self.insecure)


class _Session:
    """Requests about one repository, with the login that the registry asks for, asked for once."""

    def __init__(
        self,
        client: httpx.Client,
        host: str,
        repository: str,
        actions: str,
        login: tuple[str, SecretStr] | None,
        *,
        insecure: bool,
    ) -> None:
        self._client = client
        self._host = host
        self._repository = repository
        self._actions = actions
        self._login = login
        self._insecure = insecure
        self._authorization: httpx.Auth | dict[str, str] | None = None

    def digest_of(self, reference: str) -> str:
        """The digest behind a tag, as the registry tells it."""
        answer = self.ask("HEAD", self._manifest(reference), headers={"Accept": MANIFESTS})
        digest = answer.headers.get("Docker-Content-Digest", "")
        if answer.status_code != httpx.codes.OK or not is_digest(digest):
            raise _refusal(self._host, f"digest of {self._repository}:{reference}", answer)
        return str(digest)

    def name_also(self, digest: str, tags: Sequence[str]) -> None:
        """Puts the very bytes of the manifest under further names, so that the digest stays what it is."""
        if not tags:
            return
        manifest = self.ask("GET", self._manifest(digest), headers={"Accept": MANIFESTS})
        if manifest.status_code != httpx.codes.OK:
            raise _refusal(self._host, f"manifest of {self._repository}@{digest}", manifest)
        if f"sha256:{hashlib.sha256(manifest.content).hexdigest()}" != digest:
            raise DeliveryError(
                f"{self._host} gave other bytes for {self._repository}@{digest} than that digest has.",
                next="look at the registry's storage.",
            )
        for tag in tags:
            answer = self.ask(
                "PUT", self._manifest(tag), headers={"Content-Type": manifest.headers["Content-Type"]}, content=manifest.content
            )
            if not answer.is_success:
                raise _refusal(self._host, f"name {self._repository}:{tag}", answer)

    def ask(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, content: bytes | None = None) -> httpx.Response:
        """One request; when the registry asks who we are, it is told, and the request is made once more."""
        answer = self._send(method, path, headers, content)
        if answer.status_code == httpx.codes.UNAUTHORIZED and self._answer_challenge(answer):
            answer = self._send(method, path, headers, content)
        return answer

    def _send(self, method: str, path: str, headers: Mapping[str, str] | None, content: bytes | None) -> httpx.Response:
        asked = 0.0

        def send() -> httpx.Response:
            nonlocal asked
            asked = 0.0
            answer = self._send_once(method, path, headers, content)
            asked = pause_in(answer)
            if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error:
                raise TransientError(
                    f"The registry {self._host} answered {answer.status_code} to {method} {path}.", next="look at the registry's log."
                )
            return answer

        return with_pauses(send, lambda: asked)

    def _send_once(self, method: str, path: str, headers: Mapping[str, str] | None, content: bytes | None) -> httpx.Response:
        try:
            return self._client.request(
                method, path, headers={**(headers or {}), **self._login_header()}, content=content, auth=self._basic()
            )
        except httpx.HTTPError as error:
            raise TransientError(
                f"The registry {self._host} did not answer ({type(error).__name__}).", next="look at whether it runs and is reachable."
            ) from None

    def _login_header(self) -> dict[str, str]:
        return self._authorization if isinstance(self._authorization, dict) else {}

    def _basic(self) -> httpx.Auth | None:
        return self._authorization if isinstance(self._authorization, httpx.Auth) else None

    def _answer_challenge(self, answer: httpx.Response) -> bool:
        challenge = answer.headers.get("WWW-Authenticate", "")
        basic = httpx.BasicAuth(self._login[0], self._login[1].get_secret_value()) if self._login else None
        if challenge.lower().startswith("basic"):
            self._authorization = basic
            return basic is not None
        if not challenge.lower().startswith("bearer"):
            return False
        asked = dict(_PARAMETER.findall(challenge))
        realm = asked.get("realm", "")
        if urlsplit(realm).scheme != "https" and not self._insecure:
            raise DeliveryError(
                f"The registry {self._host} wants the login sent in the clear.", next="look at the registry; do not send it a password."
            )
        scope = asked.get("scope") or (f"repository:{self._repository}:{self._actions}" if self._repository else "")
        parameters = {"service": asked.get("service", ""), "scope": scope}
        try:
            told = self._client.get(realm, params={key: value for key, value in parameters.items() if value}, auth=basic)
        except httpx.HTTPError as error:
            raise TransientError(
                f"The token service of {self._host} did not answer ({type(error).__name__}).", next="look at whether it is reachable."
            ) from None
        if not told.is_success:
            raise _refusal(self._host, "login", told)
        document: dict[str, Any] = told.json()
        self._authorization = {"Authorization": f"Bearer {document.get('token') or document.get('access_token')}"}
        return True

    def _manifest(self, reference: str) -> str:
        return f"/v2/{self._repository}/manifests/{reference}"


def _require_tag(tag: str) -> None:
    if not _TAG.fullmatch(tag):
        raise InvalidSettings(f"Not a tag: got {tag[:80]!r}, expected letters, digits, dots, dashes.", next="correct it.")


def _refusal(host: str, asked: str, answer: httpx.Response) -> DeliveryError:
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error:
        return TransientError(f"The registry {host} answered {answer.status_code} to: {asked}.", next="look at the registry's log.")
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return DeliveryError(
            f"The registry {host} refused the login ({answer.status_code}) for: {asked}.",
            next="look at username and password of the oci-registry block; may that user push?",
        )
    return DeliveryError(f"The registry {host} answered {answer.status_code} to: {asked}.", next="look at the registry's log.")


def _push_error(address: str, said: str) -> DeliveryError:
    if is_refusal(said):
        return DeliveryError(
            f"Pushing to {address} was refused: {said[:300]}",
            next="look at username and password of the oci-registry block; may that user push?",
        )
    kind = TransientError if may_pass(said) else DeliveryError
    return kind(f"Pushing to {address} failed: {said[:300]}", next="look at the registry's log, and whether its disk has room.")


_: type[Registry] = OciRegistry
