"""One Docker host with Traefik in front: containers side by side, users moved by weights."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from prefect.blocks.core import Block
from pydantic import Field, SecretStr, model_validator

from blocks.docker_backups import Backups
from blocks.docker_copies import Copies
from blocks.docker_health import ReplicaHealth
from blocks.docker_logins import login_in
from blocks.docker_replicas import AT_ONCE, Replicas, side_by_side
from blocks.docker_room import Room
from blocks.docker_routing import ReplicaRouting
from blocks.engine import Engine
from blocks.engine_facts import Found
from blocks.secrets import EnvironmentSecrets, redactor
from blocks.traefik import TraefikRoutes, require_name
from delivery.backup import Noted
from delivery.durations import Size
from delivery.environment import Capability, Standing
from delivery.errors import DeliveryError, InvalidSettings
from delivery.health import HealthReport
from delivery.ports import Address, BackingUp, Copying, Counting, LettingIn, RunResult, Target, Token
from delivery.release import Release
from delivery.rotation import Login

_TAIL_LINES = 2_000
# The exit code of coreutils' timeout, for a one-off command that was killed since it took too long.
TIMED_OUT = 124


class DockerTarget(Block):
    """One environment on one Docker host, behind Traefik on the same machine.

    What runs is known by the containers' labels, who has users by Traefik's API; nothing is remembered elsewhere. A container is
    touched only when its labels say that it belongs to this environment.
    """

    _block_type_slug = "docker-target"
    _block_type_name = "Docker target"

    environment: str = Field(description="Name of the environment, as in its file.")
    network: str = Field(description="The environment's Docker network, where its database and Redis answer.")
    traffic: TraefikRoutes = Field(description="Where Traefik's dynamic files lie and where its API answers.")
    public_url: str = Field(description="Where users arrive, for instance http://127.0.0.1:8000.")
    docker_host: str | None = Field(default=None, description="The engine's address. Default: DOCKER_HOST, else the local socket.")
    secrets: EnvironmentSecrets | None = Field(default=None, description="The environment's secret variables.")
    registry_user: str | None = Field(default=None, description="Who may pull, where the registry asks.")
    registry_password: SecretStr | None = Field(default=None, description="The password to pull with.")
    memory_limit_mb: int = Field(default=512, ge=16, description="Memory of each replica in MiB; swap is not used.")
    cpu_limit: float | None = Field(default=None, gt=0, description="CPUs of each replica. Default: all of the machine's.")
    minimum_free_gib: float = Field(default=2.0, ge=0, description="Free disk below which no release is prepared.")
    start_seconds: float = Field(default=120.0, gt=0, description="How long a replica may take until it is well.")
    postgresql_image: str | None = Field(
        default=None, description="A local image with pg_dump of the database's major version; without it no copies are made."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "DockerTarget":
        require_name("environment", self.environment)
        if self.traffic.environment != self.environment:
            raise InvalidSettings(
                f"traffic.environment: got {self.traffic.environment!r}, expected {self.environment!r}.", next="correct the block."
            )
        return self

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset(Capability) - (frozenset() if self.postgresql_image else {Capability.COPY_DATABASE, Capability.BACK_UP})

    @cached_property
    def _engine(self) -> Engine:
        return Engine(self.docker_host, self._redact)

    @cached_property
    def _replicas(self) -> Replicas:
        return Replicas(
            engine=self._engine,
            traffic=self.traffic,
            environment=self.environment,
            network=self.network,
            secrets=self.secrets,
            memory_limit_mb=self.memory_limit_mb,
            cpu_limit=self.cpu_limit,
            start_seconds=self.start_seconds,
            login=(self.registry_user, self.registry_password) if self.registry_user and self.registry_password else None,
        )

    @cached_property
    def _copies(self) -> Copies:
        if self.postgresql_image is None:
            raise InvalidSettings(
                f"The docker-target block of {self.environment} has no postgresql_image.", next="name an image with pg_dump in it."
            )
        return Copies(self._replicas, self.postgresql_image)

    @cached_property
    def _room(self) -> Room:
        return Room(self._engine, self.minimum_free_gib)

    @cached_property
    def _health(self) -> ReplicaHealth:
        return ReplicaHealth(self._replicas)

    @cached_property
    def _routing(self) -> ReplicaRouting:
        return ReplicaRouting(self._replicas)

    def _redact(self, text: str) -> str:
        hidden = list(self.secrets.reveal().values()) if self.secrets else []
        return redactor([*hidden, *([self.registry_password] if self.registry_password else [])])(text)

    # ---- looking

    def observe(self) -> Standing:
        """Shares from Traefik's API, replicas from the engine. A release counts as running while each of its web services has a replica
        that runs: one replica less is no reason to keep users waiting on their way back.
        """
        webs: dict[str, dict[str, bool]] = {}
        containers = self._replicas.everything()
        for found in containers:
            if found.label("kind") != "web":
                continue
            services = webs.setdefault(found.label("release"), {})
            services[found.label("service")] = services.get(found.label("service"), False) or found.runs
        return Standing(
            weights=self.traffic.live_weights(),
            running=frozenset(release for release, services in webs.items() if all(services.values())),
            fence=self.traffic.state().fence,
            # A release's network goes last: whoever died before that leaves a release that is nothing but a network.
            present=frozenset(found.label("release") for found in containers) | self._replicas.networked(),
        )

    def repair(self) -> bool:
        """Puts the routing's files back where they are missing or broken; True when it had to."""
        return self.traffic.repair()

    def addresses(self, release: Release) -> Sequence[Address]:
        """Of each web replica that runs; reachable from this machine only."""
        services = {service.name: service for service in release.services if service.takes_requests}
        return tuple(
            Address(service=found.label("service"), replica=found.name, url=self._replicas.url(services[found.label("service")], found))
            for found in self._replicas.of(release)
            if found.runs and found.label("service") in services
        )

    def check(self, release: Release, patterns: Sequence[str] = ()) -> HealthReport:
        """Asks every replica. Memory is known from the second look of this process on, CPU (the share of the limit, or of all CPUs, since
        the look before) from the third. A replica that has ended by itself counts as a restart that it would need.
        """
        present = self._replicas.of(release)
        with_users = self.traffic.state().weights.get(release.id, 0) > 0
        return self._health.check(release, present, patterns, with_users=with_users)

    # ---- preparing

    def prepare(self, release: Release, token: Token) -> None:
        self.traffic.claim(token)
        self._replicas.require_network()
        missing = self._replicas.missing_images(release)
        self._room.make_for(release, missing)
        side_by_side(self._replicas.pull, missing)
        self._replicas.ensure_network(release)

    def run_once(
        self,
        release: Release,
        service: str,
        command: Sequence[str],
        *,
        variables: Mapping[str, str],
        timeout: timedelta,
        token: Token,
    ) -> RunResult:
        """A command that was under way when its starter died is waited for, not run beside itself. One that takes longer than
        `timeout` is killed and counts as failed with exit code 124.
        """
        self.traffic.claim(token)
        declared = release.service(service)
        act = hashlib.sha256(json.dumps([*command]).encode()).hexdigest()[:10]
        labels = self._replicas.labels(release, declared) | {"kind": "once", "fence": str(token.fence)}
        name = f"gr-{self.environment}-once-{release.id}-{service}-{act}"
        blueprint = self._replicas.blueprint(
            release, declared, name, labels, self._replicas.variables_of(release, declared, variables), command=command
        )
        container = self._under_way(name)
        if container is None:
            container = self._replicas.make(blueprint, token)
            if len(release.services) > 1 and (own := self._engine.network(self._replicas.network_of(release.id))):
                self._engine.connect(container, own, [])
            self._engine.start(container)
        code = self._engine.wait(container, seconds=timeout.total_seconds())
        if code is None:
            self._engine.kill(container)
        tail = [line for line in self._engine.log(container, tail=_TAIL_LINES).splitlines() if line.strip()]
        if code is None:
            tail.append(f"killed: it took longer than {timeout.total_seconds():g} s")
        self._engine.remove(container)
        return RunResult(exit_code=TIMED_OUT if code is None else code, tail=tuple(tail))

    def _under_way(self, name: str) -> str | None:
        """The one-off container of a starter that died, if it still runs; one that has ended is removed: nobody read its result."""
        found = self._engine.container(name)
        if found is None:
            return None
        self._replicas.refuse_foreign(found)
        if found.runs:
            return found.id
        self._engine.remove(found.id)
        return None

    # ---- trying on a copy

    def copy_database(self, release: Release, *, variables: Mapping[str, str], timeout: timedelta, token: Token) -> str:
        self.traffic.claim(token)
        return self._copies.make(release, variables=variables, timeout=timeout, token=token)

    def run_on_copy(
        self,
        release: Release,
        service: str,
        command: Sequence[str],
        *,
        copy: str,
        variables: Mapping[str, str],
        timeout: timedelta,
        token: Token,
    ) -> RunResult:
        self.traffic.claim(token)
        return self._copies.run(release, service, command, copy=copy, variables=variables, timeout=timeout, token=token)

    def launch_on_copy(self, release: Release, *, copy: str, variables: Mapping[str, str], token: Token) -> Sequence[Address]:
        self.traffic.claim(token)
        return self._copies.launch(release, copy=copy, variables=variables, token=token)

    def ask_copy(
        self, release: Release, question: str, *, copy: str, variables: Mapping[str, str], timeout: timedelta, token: Token
    ) -> str:
        self.traffic.claim(token)
        return self._copies.ask(release, question, copy=copy, variables=variables, timeout=timeout, token=token)

    def files_of(
        self, release: Release, service: str, wanted: Callable[[str, str], bool], *, token: Token
    ) -> Iterator[tuple[str, bytes | None]]:
        self.traffic.claim(token)
        return self._copies.files(release, service, wanted, token=token)

    def drop_copy(self, release: Release, copy: str, *, variables: Mapping[str, str], token: Token) -> None:
        self.traffic.claim(token)
        self._copies.clear()
        self._copies.drop(release, copy, variables=variables, token=token)

    def sweep_copies(self, release: Release, *, variables: Mapping[str, str], token: Token) -> None:
        self.traffic.claim(token)
        self._copies.sweep(release, variables=variables, token=token)

    # ---- backups

    @property
    def _backups(self) -> Backups:
        return Backups(self._replicas, self._copies.image)

    def dump_database(
        self, release: Release, take: Callable[[bytes], object], *, variables: Mapping[str, str], timeout: timedelta, token: Token
    ) -> Noted:
        self.traffic.claim(token)
        return self._backups.dump(release, take, variables=variables, timeout=timeout)

    def try_dump(self, release: Release, pieces: Iterable[bytes], size: int, *, variables: Mapping[str, str], timeout: timedelta) -> Noted:
        return self._backups.restore(release, pieces, size, variables=variables, timeout=timeout)

    def copies_left(self, release: Release, *, variables: Mapping[str, str]) -> Sequence[str]:
        return self._backups.left(release, variables=variables)

    def drop_left(self, release: Release, copy: str, *, variables: Mapping[str, str]) -> None:
        self._backups.drop(release, copy, variables=variables)

    def table_sizes(self, release: Release, *, variables: Mapping[str, str]) -> Mapping[str, Size]:
        return self._backups.sizes(release, variables=variables)

    def login_of(self, release: Release, *, variables: Mapping[str, str]) -> Login | None:
        return login_in(self._backups, release, variables=variables)

    # ---- starting

    def launch(self, release: Release, *, variables: Mapping[str, str], token: Token) -> None:
        """A replica that runs as wanted is kept, any other is made anew: so it also brings back replicas that have died. Traefik is told
        where they are now, and sends users to each when this returns. Raises `DeliveryError` with the last lines of a replica that does
        not get well.
        """
        self.traffic.claim(token)
        wanted = self._replicas.wanted(release, variables, token)
        self._routing.forget_the_dead(token)
        self._replicas.bring_up(release, wanted, token)
        if release.id in self.traffic.state().releases:
            self._routing.route(token, lambda shares: shares, known=(release,))
            self.traffic.wait_until_served(release.id, token)

    # ---- moving users

    def shift(self, release: Release, *, percent: int, rest: Release | None, token: Token) -> None:
        """Workers of who gets a share are ready before the weights move; workers of who has none any more, and is not live, finish
        their jobs after users have moved: the way back never waits for them.
        """
        if not 0 <= percent <= 100 or (rest is None and percent not in (0, 100)):
            raise InvalidSettings(
                f"Got {percent} % for {release.id} and {'nobody' if rest is None else rest.id} for the others, expected shares of 100.",
                next="name who gets the rest.",
            )
        self.traffic.claim(token)
        wanted = {release.id: percent} | ({rest.id: 100 - percent} if rest else {})
        getting = [one for one in (release, rest) if one and wanted[one.id]]
        # The live release's workers run already, and if one has died, users do not wait for it on their way back.
        live = self.traffic.state().live
        for one in getting:
            if one.id != live:
                self._replicas.start_workers(one, token)
        alone = rest is None and percent == 0
        state = self._routing.route(
            token,
            lambda shares: {id_: share for id_, share in shares.items() if id_ != release.id} if alone else wanted,
            known=tuple(one for one in (release, rest) if one),
            without=release.id if alone else None,
        )
        for one in getting:
            if one.id == live:
                self._replicas.start_workers(one, token)
        self._stop_workers(token, spare={*state.shares, state.live})

    def promote(self, release: Release, token: Token) -> None:
        self.traffic.claim(token)
        self._replicas.start_workers(release, token)
        self._routing.route(token, lambda _: {release.id: 100}, known=(release,), live=release.id)

    def drain(self, release: Release, token: Token) -> None:
        """Its workers finish their jobs and leave. Requests in flight need no waiting here: Traefik has confirmed that it sends no new
        ones, its web replicas stay up and answer what they have begun, and `retire` waits for them as long as they are declared to take.
        """
        self.traffic.claim(token)
        self._refuse_share(release, "drained")
        self._stop_workers(token, only=release.id)

    def retire(self, release: Release, *, keep_remains: bool, token: Token) -> None:
        """Only what Traefik confirms to have no share. SIGTERM goes in reverse order of the services, so that none loses whom it calls
        while it answers its last requests; leaving the routing, and removing what has stopped, happens beside that.
        """
        self.traffic.claim(token)
        self._refuse_share(release, "retired")
        containers = self._replicas.of(release, every=True)
        order = [service.name for service in reversed(release.services)]
        with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="docker") as others:
            beside: list[Future[object]] = [others.submit(self._routing.route, token, lambda shares: shares, known=(), without=release.id)]
            for name in [*order, *sorted({found.label("service") for found in containers} - {*order})]:
                own = [found for found in containers if found.label("service") == name]
                side_by_side(lambda found: self._stop(found, token), own)
                if not keep_remains:
                    beside += [others.submit(self._engine.remove, found.id) for found in own]
        for act in beside:
            act.result()
        self._replicas.remove_network(release)

    def _stop(self, found: Found, token: Token) -> None:
        self.traffic.require(token)
        if found.has_processes:
            self._engine.stop(found.id, seconds=int(found.label("drain") or 30))

    def _stop_workers(self, token: Token, *, spare: Iterable[str | None] = (), only: str | None = None) -> None:
        """SIGTERM to every running worker of the releases in question, and the time that each may take to finish its job."""
        spared = {*spare}
        workers = [
            found
            for found in self._replicas.of_kind("worker")
            if found.has_processes and found.label("release") not in spared and only in (None, found.label("release"))
        ]
        side_by_side(lambda found: self._stop(found, token), workers)

    def _refuse_share(self, release: Release, what: str) -> None:
        """Both what Traefik does and what it was told count: whoever may still have users is left alone."""
        share = max(self.traffic.live_weights().get(release.id, 0), self.traffic.state().weights.get(release.id, 0))
        if share:
            raise DeliveryError(
                f"{release.id} has {share} % of {self.environment}'s users and cannot be {what}.",
                next="shift its users to another release first.",
            )

    # ---- remains

    def collect_logs(self, release: Release, folder: Path) -> Sequence[Path]:
        folder.mkdir(parents=True, exist_ok=True)

        def save(found: Found) -> Path:
            file = folder / f"{found.name}.log"
            file.write_text(self._engine.log(found.id, timestamps=True))
            return file

        return tuple(side_by_side(save, [found for found in self._replicas.of(release, every=True) if found.state != "created"]))


_: type[Target] = DockerTarget
__: type[Copying] = DockerTarget
___: type[BackingUp] = DockerTarget
____: type[Counting] = DockerTarget
_____: type[LettingIn] = DockerTarget
