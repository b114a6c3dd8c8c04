"""The containers of one environment on a Docker host: how they are named, labelled and made, started side by side, and waited for."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import httpx
from pydantic import SecretStr

from blocks.engine import Engine
from blocks.engine_facts import Blueprint, Ended, Found
from blocks.http import shared_client
from blocks.secrets import EnvironmentSecrets
from blocks.traefik import TraefikRoutes, require_name
from delivery.application import Service
from delivery.errors import DeliveryError, InvalidSettings, TransientError
from delivery.image import ImageRef
from delivery.ports import Token
from delivery.release import Release

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 8
PROBE_SECONDS = 5.0
_FIRST_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.02, 0.1
_LOOK_EVERY_SECONDS = 0.25


@dataclass(frozen=True)
class Wanted:
    """One replica as the release wants it."""

    service: Service
    number: int
    blueprint: Blueprint

    @property
    def label(self) -> str:
        return f"{self.service.name}-{self.number}"


@dataclass(frozen=True)
class Replicas:
    """Known by their labels. None is made or removed, and no worker started, unless the token still counts."""

    engine: Engine
    traffic: TraefikRoutes
    environment: str
    network: str
    secrets: EnvironmentSecrets | None
    memory_limit_mb: int
    cpu_limit: float | None
    start_seconds: float
    login: tuple[str, SecretStr] | None = None

    # ---- names, labels, settings

    def name_of(self, release: Release, service: Service, number: int) -> str:
        """The same replica has the same name each time: two starters cannot both make it."""
        return f"gr-{self.environment}-{service.name}-{release.id}-{number}"

    def network_of(self, release: str) -> str:
        """The name of the network that the services of one release share."""
        return f"gr-{self.environment}-{release}"

    def require_network(self) -> str:
        """The id of the environment's own network. Raises `InvalidSettings` when there is none."""
        if (found := self.engine.network(self.network)) is None:
            raise InvalidSettings(
                f"There is no Docker network {self.network}, where {self.environment}'s database and Redis should be.",
                next=f"create it with its database and Redis, or correct the docker-target block of {self.environment}.",
            )
        return found

    def ensure_network(self, release: Release) -> str | None:
        """Where the services of one release find one another by name, so that a colour talks to its own colour. One alone needs none."""
        if len(release.services) == 1:
            return None
        return self.engine.create_network(self.network_of(release.id), {"environment": self.environment, "release": release.id})

    def remove_network(self, release: Release) -> None:
        """Its own network; while something is in it, it stays."""
        self.engine.remove_network(self.network_of(release.id), {"environment": self.environment, "release": release.id})

    def networked(self) -> frozenset[str]:
        """The releases that have a network of their own."""
        return frozenset(labels.get("release", "") for labels in self.engine.networks({"environment": self.environment}))

    def missing_images(self, release: Release) -> list[ImageRef]:
        """Those of its images that are not here."""
        images = dict.fromkeys(release.images[service.name] for service in release.services)
        return [image for image in images if not self.engine.has_image(image)]

    def pull(self, image: ImageRef) -> None:
        """Brings an image here with the environment's login."""
        self.engine.pull(image, self.login)

    def labels(self, release: Release, service: Service) -> dict[str, str]:
        """Whose the container is, what it does, and how many seconds it may take to stop."""
        return {
            "environment": self.environment,
            "release": release.id,
            "service": service.name,
            "kind": service.kind,
            "drain": str(service.drain_seconds),
        }

    def variables_of(self, release: Release, service: Service, variables: Mapping[str, str]) -> dict[str, SecretStr]:
        """Exactly the service's own settings and what it declares, from the environment's secrets or variables. None else gets in."""
        secrets = self.secrets.given(release.secrets) if self.secrets else {}
        missing = [name for name in service.variables if name not in secrets and name not in variables]
        if missing:
            raise InvalidSettings(
                f"Service {service.name} needs {', '.join(missing)}, and {self.environment} has no such variable or secret.",
                next=f"add it to [variables] of {self.environment}.toml, or to the environment's secrets.",
            )
        declared = {name: secrets.get(name) or SecretStr(variables[name]) for name in service.variables}
        return {name: SecretStr(value) for name, value in service.settings.items()} | declared

    def blueprint(
        self,
        release: Release,
        service: Service,
        name: str,
        labels: Mapping[str, str],
        variables: Mapping[str, SecretStr],
        *,
        command: Sequence[str] | None = None,
    ) -> Blueprint:
        """Raises `InvalidSettings` when the service's name is none. `command` replaces what the image would run."""
        require_name("service", service.name)
        return Blueprint(
            name=name,
            image=release.images[service.name],
            labels=labels,
            environment={name: value.get_secret_value() for name, value in variables.items()},
            network=self.network,
            memory_mb=self.memory_limit_mb,
            cpus=self.cpu_limit,
            stop_seconds=service.drain_seconds,
            command=command,
        )

    def wanted(self, release: Release, variables: Mapping[str, str], token: Token) -> list[Wanted]:
        """All replicas of all its services. Raises `InvalidSettings` for a variable that nobody gives."""
        before = self._images_before(release)
        return [
            self._wanted(release, service, number, variables, token, before=before.get(service.name, ""))
            for service in release.services
            for number in range(service.replicas)
        ]

    def _images_before(self, release: Release) -> dict[str, str]:
        """By service the images that this release replaces, which the way back needs even when nothing runs from them any more."""
        live = self.traffic.state().live
        found = [one for one in self.everything() if one.label("release") == live and one.label("kind") != "once"]
        if live == release.id:
            return {one.label("service"): one.label("before") for one in found}
        return {one.label("service"): one.image for one in found}

    def _wanted(
        self, release: Release, service: Service, number: int, variables: Mapping[str, str], token: Token, *, before: str
    ) -> Wanted:
        name = self.name_of(release, service, number)
        blueprint = self.blueprint(release, service, name, {}, self.variables_of(release, service, variables))
        config = json.dumps(
            [str(blueprint.image), sorted(blueprint.environment.items()), self.network, self.memory_limit_mb, self.cpu_limit, service.port]
        )
        labels = self.labels(release, service) | {
            "replica": str(number),
            "fence": str(token.fence),
            "before": before,
            "config": hashlib.sha256(config.encode()).hexdigest()[:32],
        }
        return Wanted(service, number, replace(blueprint, labels=labels))

    def of(self, release: Release, *, every: bool = False) -> list[Found]:
        """The release's replicas; with `every` its one-off containers too."""
        found = self.engine.containers({"environment": self.environment, "release": release.id})
        return [one for one in found if every or one.label("kind") != "once"]

    def everything(self) -> list[Found]:
        """Every container of the environment, in any state."""
        return self.engine.containers({"environment": self.environment})

    def of_kind(self, kind: str) -> list[Found]:
        """Of every release of the environment: `web`, `worker` or `once`."""
        return self.engine.containers({"environment": self.environment, "kind": kind})

    def url(self, service: Service, found: Found) -> str:
        """Where it answers, from this machine and from Traefik."""
        return f"http://{found.addresses.get(self.network, '')}:{service.port}"

    def refuse_foreign(self, found: Found) -> None:
        """Raises `DeliveryError` when a container has one of our names and is not ours."""
        if found.label("environment") != self.environment:
            raise DeliveryError(
                f"The name {found.name} belongs to a container that is not {self.environment}'s.", next="rename or remove that container."
            )

    # ---- starting

    def bring_up(self, release: Release, wanted: Sequence[Wanted], token: Token) -> None:
        """Creates what is not there as wanted, starts the web replicas side by side and waits until each is well. Raises
        `DeliveryError` with the last lines of one that does not get well; then the others are no longer waited for.
        """
        present = {found.name: found for found in self.of(release)}
        networks = {self.network: self.require_network()}
        if own := self.ensure_network(release):
            networks[self.network_of(release.id)] = own
        has_users = release.id in self.traffic.state().shares
        gave_up = threading.Event()

        def bring_up(one: Wanted) -> None:
            try:
                container = self._ensure(one, present.get(one.blueprint.name), networks, token, has_users=has_users)
                if one.service.takes_requests:
                    self.engine.start(container)
                    self.wait_until_well(one, container, gave_up)
            except BaseException:
                gave_up.set()
                raise

        side_by_side(bring_up, wanted)

    def _ensure(self, one: Wanted, found: Found | None, networks: Mapping[str, str], token: Token, *, has_users: bool) -> str:
        """The container as wanted, and in these networks (ids by name): kept and completed, or made anew."""
        if found is not None:
            same = found.label("config") == one.blueprint.labels["config"]
            # By its id: remains of a release that was turned back still name the network that went with it.
            fits = all(found.networks.get(name) in (None, "", id_) for name, id_ in networks.items())
            # A worker that has finished its jobs may take new ones later, and so may one that somebody froze; a web replica has died.
            lives = found.state in ("running", "created") or (not one.service.takes_requests and found.state in ("exited", "paused"))
            if same and fits and lives:
                self._connect(one, found.id, {name: id_ for name, id_ in networks.items() if name not in found.networks}, token)
                return found.id
            if found.runs and has_users:
                raise DeliveryError(
                    f"{one.label} of {found.label('release')} runs with other settings than it should have now, and has users.",
                    next="release a new version with the new settings; containers with users are never replaced.",
                )
            self._require_image(one.blueprint.image)
            self.traffic.require(token)
            self.engine.remove(found.id)
        container = self.make(one.blueprint, token)
        self._connect(one, container, {name: id_ for name, id_ in networks.items() if name != self.network}, token)
        return container

    def make(self, blueprint: Blueprint, token: Token) -> str:
        """A new container, not started, whose image is pulled when it is not here any more. Raises `DeliveryError` when somebody else's
        container has the name.
        """
        self._require_image(blueprint.image)
        self.traffic.require(token)
        try:
            return self.engine.create(blueprint)
        except TransientError:
            if other := self.engine.container(blueprint.name):
                self.refuse_foreign(other)
            raise

    def _require_image(self, image: ImageRef | str) -> None:
        if isinstance(image, ImageRef) and not self.engine.has_image(image):
            self.pull(image)

    def _connect(self, one: Wanted, container: str, networks: Mapping[str, str], token: Token) -> None:
        for name, network in networks.items():
            self.traffic.require(token)
            self.engine.connect(container, network, [] if name == self.network else [one.service.name])

    def wait_until_well(self, one: Wanted, container: str, gave_up: threading.Event) -> None:
        """Asks its health path, soon and then less often, until it answers 200."""
        began, pause, looked = time.monotonic(), _FIRST_POLL_SECONDS, 0.0
        address = self.engine.address(container, self.network)
        said = "it had no address"
        while not gave_up.is_set():
            if address:
                try:
                    url = f"http://{address}:{one.service.port}{one.service.health}"
                    answer = shared_client().get(url, timeout=PROBE_SECONDS)
                    if answer.status_code == 200:
                        return
                    said = f"it answered {answer.status_code}"
                except httpx.HTTPError as silent:
                    said = f"it did not answer ({type(silent).__name__})"
            waited = time.monotonic() - began
            if waited - looked > _LOOK_EVERY_SECONDS:
                looked = waited
                if ended := self.engine.ended(container):
                    raise self._did_not_start(one, container, ended.sentence())
                address = address or self.engine.address(container, self.network)
            if waited > self.start_seconds:
                raise self._did_not_start(one, container, f"is not well after {self.start_seconds:g} s: {said}")
            gave_up.wait(pause)
            pause = min(1.5 * pause, _LONGEST_POLL_SECONDS)

    def _did_not_start(self, one: Wanted, container: str, how: str) -> DeliveryError:
        lines = self.engine.log(container, tail=20).strip() or "(it printed nothing)"
        return DeliveryError(
            f"{one.label} {how}. Its last lines:\n{lines}", next="look at what it needs to start: its variables, its database."
        )

    def start_workers(self, release: Release, token: Token) -> None:
        """Started and ready: from now on they take jobs. Those that run while their release has users were ready when it got them."""
        workers = [(service, number) for service in release.services if not service.takes_requests for number in range(service.replicas)]
        if not workers:
            return
        present = {found.name: found for found in self.of(release)}
        has_users = release.id in self.traffic.state().shares

        def start(one: tuple[Service, int]) -> None:
            service, number = one
            found = present.get(self.name_of(release, service, number))
            if found is None:
                raise DeliveryError(f"{service.name}-{number} of {release.id} does not exist.", next="launch the release first.")
            if found.runs and has_users:
                return
            if not found.runs:
                self.traffic.require(token)
                wake = self.engine.unpause if found.state == "paused" else self.engine.start
                wake(found.id)
            self._wait_until_ready(service, number, found)

        side_by_side(start, workers)

    def _wait_until_ready(self, service: Service, number: int, found: Found) -> None:
        began, pause = time.monotonic(), 0.1
        while True:
            # Asking costs a process inside the container; nothing is ready at once.
            time.sleep(pause)
            ended: Ended | None = self.engine.ended(found.id)
            if ended is None and self.engine.execute(found.id, service.ready) == 0:
                return
            if ended or time.monotonic() - began > self.start_seconds:
                how = ended.sentence() if ended else f"is not ready after {self.start_seconds:g} s"
                lines = self.engine.log(found.id, tail=20).strip()
                raise DeliveryError(f"{service.name}-{number} {how}. Its last lines:\n{lines}", next="look at what it needs to start.")
            pause = min(1.5 * pause, 0.5)


def side_by_side(act: Callable[[T], R], things: Sequence[T]) -> list[R]:
    """All of them at once, all of them to their end; then the first error, if there was one."""
    if len(things) <= 1:
        return [act(thing) for thing in things]
    with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(things)), thread_name_prefix="docker") as pool:
        futures = [pool.submit(act, thing) for thing in things]
    return [future.result() for future in futures]
