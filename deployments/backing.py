"""PostgreSQL and Redis of one environment, and PostgreSQL for Prefect: made by the demo and the tests, never by a rollout."""

import io
import os
import secrets
import shutil
import socket
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import docker
from docker.errors import APIError, ImageNotFound, NotFound
from docker.models.containers import Container
from pydantic import SecretStr

from delivery.errors import DeliveryError
from deployments.base_images import ensure_base_images
from deployments.machine import engine_client
from deployments.processes import free_ports, wait_until

LOOPBACK = "127.0.0.1"
POSTGRES = "postgres:15-bookworm"
REDIS = "redis:7-bookworm"
STAGE_LABEL = "greenroom.stage"
# Whose it is, by the folder that holds its passwords: without that folder nobody can use it any more.
FOLDER_LABEL = "greenroom.folder"


QUICK_AND_FORGETFUL = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
# As a queue: every accepted job is in the append-only file, and nothing is thrown away when memory is short.
REDIS_CONFIGURATION = """bind * -::*
protected-mode no
dir /data
save ""
appendonly yes
maxmemory-policy noeviction
"""


@dataclass(frozen=True)
class Backing:
    """How to reach the backing services of one environment: by `db` and `redis` inside its network, by ports on loopback."""

    network: str
    user: str
    database: str
    database_password: SecretStr
    redis_password: SecretStr
    database_port: int
    redis_port: int

    def database_url(self, *, inside: bool, driver: str = "postgresql+asyncpg") -> SecretStr:
        """SQLAlchemy's URL of the database, for containers in the network (`inside`) or for processes of this machine."""
        host = "db:5432" if inside else f"{LOOPBACK}:{self.database_port}"
        return SecretStr(f"{driver}://{self.user}:{self.database_password.get_secret_value()}@{host}/{self.database}")

    def redis_url(self, *, inside: bool) -> SecretStr:
        """The URL of Redis' database 0, for containers in the network (`inside`) or for processes of this machine."""
        host = "redis:6379" if inside else f"{LOOPBACK}:{self.redis_port}"
        return SecretStr(f"redis://:{self.redis_password.get_secret_value()}@{host}/0")


class StageContainers:
    """Containers with volumes on a network of their own, made by the set-up, never by a rollout.

    Passwords are kept in a file below `state` that only its owner may read, and reach the containers as files: neither their
    environment nor their arguments show them. `durable=False` trades safety against a power cut for speed (tests).
    """

    aliases: ClassVar[tuple[str, ...]]

    def __init__(self, name: str, state: Path, *, database: str, user: str, durable: bool = True) -> None:
        self._name = name
        self._folder = state / "backing" / name
        self._labels = {STAGE_LABEL: name, FOLDER_LABEL: str(state.resolve())}
        self._database = database
        self._user = user
        self._durable = durable

    @cached_property
    def _engine(self) -> docker.DockerClient:
        return engine_client(timeout_seconds=60)

    @property
    def network(self) -> str:
        """The network of these containers; an environment's replicas join its one."""
        return f"greenroom-{self._name}"

    @property
    def container_names(self) -> tuple[str, ...]:
        return tuple(f"{self.network}-{alias}" for alias in self.aliases)

    def stop(self) -> None:
        """Stop the containers; their data stays."""
        for name in self.container_names:
            container = self._container(name)
            if container is not None:
                container.stop(timeout=30)

    def remove(self, *, volumes: bool) -> None:
        """Remove the containers and the network, with `volumes` also the data and the passwords.

        DeliveryError when other containers are still in the network; what belongs to this class is gone even then.
        """
        for name in self.container_names:
            container = self._container(name)
            if container is not None:
                container.remove(force=True, v=True)
        if volumes:
            for name in self.container_names:
                try:
                    self._engine.volumes.get(name).remove()
                except NotFound:
                    continue
            shutil.rmtree(self._folder, ignore_errors=True)
        self._remove_network()

    def _prepare(self) -> None:
        self._refuse_volumes_without_passwords()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._ensure_network()

    def _start_postgres(self) -> tuple[Container, SecretStr]:
        """The started container and its password; `_wait_for_postgres` waits until it accepts work."""
        password = kept_secret(self._folder / "database-password", secrets.token_urlsafe)
        container = self._ensure_container(
            "db",
            image=ensure_base_images((POSTGRES,))[POSTGRES],
            command=["postgres", "-c", "max_connections=200", *(() if self._durable else QUICK_AND_FORGETFUL)],
            environment={
                "POSTGRES_USER": self._user,
                "POSTGRES_DB": self._database,
                "POSTGRES_PASSWORD_FILE": "/etc/greenroom/password",
                "POSTGRES_FSYNC": "on" if self._durable else "off",
            },
            volume_at="/var/lib/postgresql/data",
            port="5432/tcp",
            file=("password", password),
        )
        return container, password

    def _wait_for_postgres(self, container: Container) -> None:
        asks = ["pg_isready", "--quiet", "--host", LOOPBACK, "--username", self._user, "--dbname", self._database]
        _wait_for_container(container, lambda: container.exec_run(asks).exit_code == 0)

    def _remove_network(self) -> None:
        try:
            network = self._engine.networks.get(self.network)
        except NotFound:
            return
        guests = sorted(container.name or "" for container in network.containers)
        if guests:
            raise DeliveryError(
                f"The network {self.network} is still used by {', '.join(guests)}.", next="remove these containers, then it"
            )
        network.remove()

    def _refuse_volumes_without_passwords(self) -> None:
        names = {volume.name for volume in self._engine.volumes.list(filters={"name": self.network})}
        if self.container_names[0] in names and not (self._folder / "database-password").exists():
            raise DeliveryError(
                f"The volume {self.container_names[0]} holds a database whose password is not in {self._folder}.",
                next=f"bring that folder back, or give the data up with `docker volume rm {self.container_names[0]}`",
            )

    def _ensure_network(self) -> None:
        if not self._engine.networks.list(names=[f"^{self.network}$"]):
            self._engine.networks.create(self.network, driver="bridge", check_duplicate=True, labels=self._labels)

    def _container(self, name: str) -> Container | None:
        try:
            return self._engine.containers.get(name)
        except NotFound:
            return None

    def _ensure_container(
        self,
        alias: str,
        *,
        image: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        volume_at: str,
        port: str,
        file: tuple[str, SecretStr],
    ) -> Container:
        name = f"{self.network}-{alias}"
        container = self._container(name)
        try:
            if container is None:
                container = self._engine.containers.create(
                    image,
                    list(command),
                    name=name,
                    environment=dict(environment),
                    volumes={name: {"bind": volume_at, "mode": "rw"}},
                    # Chosen once: a port of the engine's choice changes with each restart.
                    ports={port: (LOOPBACK, free_ports((name,))[name])},
                    labels=self._labels,
                    restart_policy={"Name": "unless-stopped", "MaximumRetryCount": 0},  # type: ignore[arg-type]  # the stubs hide its type
                    network=self.network,
                    networking_config={
                        self.network: self._engine.api.create_endpoint_config(aliases=[alias]),
                    },
                    shm_size="128m",
                )
                container.put_archive("/", _archive_of(f"etc/greenroom/{file[0]}", file[1]))
            if container.status != "running":
                container.start()
        except (APIError, ImageNotFound) as error:
            raise DeliveryError(
                f"The container {name} cannot be started: {error.explanation}.", next=f"look at `docker logs {name}`"
            ) from error
        container.reload()
        return container


class BackingContainers(StageContainers):
    """PostgreSQL and Redis of one environment."""

    aliases = ("db", "redis")

    def __init__(
        self, environment: str, state: Path, *, database: str = "dealbrain", user: str = "dealbrain", durable: bool = True
    ) -> None:
        super().__init__(environment, state, database=database, user=user, durable=durable)

    def start(self) -> Backing:
        """Start what is not running, wait until both accept work, and tell how to reach them."""
        self._prepare()
        redis_password = kept_secret(self._folder / "redis-password", secrets.token_urlsafe)
        database, database_password = self._start_postgres()
        queue = self._ensure_container(
            "redis",
            image=ensure_base_images((REDIS,))[REDIS],
            command=["redis-server", "/etc/greenroom/redis.conf"],
            environment={},
            volume_at="/data",
            port="6379/tcp",
            file=("redis.conf", SecretStr(REDIS_CONFIGURATION + f"requirepass {redis_password.get_secret_value()}\n")),
        )
        backing = Backing(
            network=self.network,
            user=self._user,
            database=self._database,
            database_password=database_password,
            redis_password=redis_password,
            database_port=_published_port(database, "5432/tcp"),
            redis_port=_published_port(queue, "6379/tcp"),
        )
        self._wait_for_postgres(database)
        _wait_for_container(queue, lambda: _redis_answers(backing.redis_port, redis_password))
        return backing


class PrefectDatabase(StageContainers):
    """PostgreSQL for a Prefect server: on SQLite the server stands still for half a minute when several runs write at once."""

    aliases = ("db",)

    def __init__(self, state: Path, *, name: str = "prefect", durable: bool = True) -> None:
        super().__init__(name, state, database="prefect", user="prefect", durable=durable)

    def start(self) -> SecretStr:
        """Start it if it is not running, wait until it accepts work; the URL that Prefect's server takes."""
        self._prepare()
        database, password = self._start_postgres()
        self._wait_for_postgres(database)
        port = _published_port(database, "5432/tcp")
        return SecretStr(f"postgresql+asyncpg://{self._user}:{password.get_secret_value()}@{LOOPBACK}:{port}/{self._database}")


def _published_port(container: Container, port: str) -> int:
    try:
        return int((container.ports[port] or [])[0]["HostPort"])
    except (KeyError, IndexError):
        raise DeliveryError(
            f"The container {container.name} publishes no port for {port}; it is {container.status}.",
            next=f"look at `docker logs {container.name}`",
        ) from None


def _wait_for_container(container: Container, accepts_work: Callable[[], bool]) -> None:
    def alive_and_accepting() -> bool:
        container.reload()
        if container.status != "running":
            raise DeliveryError(
                f"The container {container.name} is {container.status}. {_end_of_log(container)}",
                next=f"look at `docker logs {container.name}`",
            )
        return accepts_work()

    wait_until(alive_and_accepting, what=container.name or "", seconds=60, explain=lambda: _end_of_log(container))


def _end_of_log(container: Container) -> str:
    lines = container.logs(tail=6).decode(errors="replace").splitlines()
    return f"Its log ends with: {' | '.join(lines)}"


def _redis_answers(port: int, password: SecretStr) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=2) as connection:
            connection.sendall(f"AUTH {password.get_secret_value()}\r\nPING\r\n".encode())
            answer = b""
            while answer.count(b"\r\n") < 2:
                received = connection.recv(256)
                if not received:
                    return False
                answer += received
    except OSError:
        return False
    return answer == b"+OK\r\n+PONG\r\n"


def _archive_of(path: str, content: SecretStr) -> bytes:
    # Readable by every user of the container: official images and ours run their servers as different ones.
    text = content.get_secret_value().encode()
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        entry = tarfile.TarInfo(path)
        entry.size = len(text)
        entry.mode = 0o444
        archive.addfile(entry, io.BytesIO(text))
    return target.getvalue()


def kept_secret(file: Path, make: Callable[[], str]) -> SecretStr:
    """The secret in `file`, made once and readable by its owner only."""
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return SecretStr(file.read_text())
    with os.fdopen(handle, "w") as target:
        target.write(make())
    return SecretStr(file.read_text())
