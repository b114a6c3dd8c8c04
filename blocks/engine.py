"""A Docker engine, spoken to in the few words a target needs. Foreign errors end here.

The low-level client is used: one request per word, where the high-level one asks the engine again after each.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import docker
from docker.utils import kwargs_from_env
from docker.utils.socket import STDERR, frames_iter
from pydantic import SecretStr

from blocks.engine_errors import LateError, MissingError, refused, telling
from blocks.engine_facts import LABEL, Blueprint, Ended, Found, StoredImage, Usage, found_in, labelled
from blocks.engine_files import files_in
from blocks.registry_pause import pause_asked_by, with_pauses
from delivery.errors import DeliveryError, TransientError
from delivery.image import ImageRef

_REQUEST_SECONDS = 60
_LOG_BYTES = 10 * 1024 * 1024


class _Client(docker.APIClient):
    """The SDK waits for ever where it pulls: a registry that stalls would hold a rollout for as long. Here silence always has an end."""

    def _set_request_timeout(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {**kwargs, "timeout": kwargs.get("timeout") or self.timeout}


class Engine:
    """Each method is one act or one look; `TransientError` when the engine does not answer, `DeliveryError` when it refuses."""

    def __init__(self, docker_host: str | None, redact: Callable[[str], str]) -> None:
        self._redact = redact
        settings: dict[str, Any] = {"base_url": docker_host} if docker_host else {**kwargs_from_env()}
        with self._telling("ask the engine for its version"):
            self._api = _Client(**settings, version="auto", timeout=_REQUEST_SECONDS, max_pool_size=32)

    # ---- looks

    def containers(self, labels: Mapping[str, str]) -> list[Found]:
        """All containers that carry these labels, in any state, by name."""
        wanted = [f"{LABEL}.{name}={value}" for name, value in labels.items()]
        with self._telling("list containers"):
            listed = self._api.containers(all=True, filters={"label": wanted})
        return sorted((found_in(container) for container in listed), key=lambda found: found.name)

    def container(self, name: str) -> Found | None:
        with self._telling(f"look for container {name}"):
            listed = [found_in(one) for one in self._api.containers(all=True, filters={"name": name})]
        return next((found for found in listed if found.name == name), None)

    def address(self, container: str, network: str) -> str | None:
        """The container's address in the network; None when it does not run."""
        state = self._inspect(container)
        endpoint = state["NetworkSettings"]["Networks"].get(network) or {}
        return (endpoint.get("IPAddress") or None) if state["State"]["Running"] else None

    def ended(self, container: str) -> Ended | None:
        """How it ended; None while it runs or when it never did."""
        state = self._inspect(container)["State"]
        return None if state["Running"] or state["Status"] == "created" else Ended(int(state["ExitCode"]), bool(state["OOMKilled"]))

    def restarts(self, container: str) -> int:
        return int(self._inspect(container)["RestartCount"])

    def usage(self, container: str) -> Usage | None:
        """None when the container does not run."""
        with self._telling("read the use of resources"):
            stats: Any = self._api.stats(container, stream=False, one_shot=True)
        memory, cpu = stats.get("memory_stats", {}), stats.get("cpu_stats", {})
        if "usage" not in memory:
            return None
        details = memory.get("stats", {})
        # What the kernel only keeps as cache is no use of memory: it goes when room is needed (v1 and v2 of cgroups name it differently).
        cache = details.get("total_inactive_file", details.get("inactive_file", 0))
        return Usage(
            memory=float(memory["usage"] - cache),
            memory_limit=float(memory["limit"]),
            cpu_ns=float(cpu["cpu_usage"]["total_usage"]),
            cpus=float(cpu.get("online_cpus") or len(cpu["cpu_usage"].get("percpu_usage") or [0])),
        )

    def log(self, container: str, *, tail: int | None = None, since: float | None = None, timestamps: bool = False) -> str:
        """What it printed, redacted and bounded to the last 10 MB. `since` is in seconds since 1970."""
        with self._telling("read a log"):
            raw: bytes = self._api.logs(container, tail=tail if tail is not None else "all", since=since, timestamps=timestamps)
        return self._redact(raw[-_LOG_BYTES:].decode(errors="replace"))

    def working_directory(self, container: str) -> str:
        return str(self._inspect(container)["Config"].get("WorkingDir") or "/")

    def files(self, container: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes | None]]:
        """Those that are wanted by their paths; of a container that need not run. As `files_in` tells."""
        with self._telling("read a container's files"):
            yield from files_in(iter(self._api.export(container)), wanted)

    def has_image(self, image: ImageRef) -> bool:
        """Is exactly this content here?"""
        try:
            with self._telling(f"look for image {image}"):
                inspected: Any = self._api.inspect_image(str(image))  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
        except MissingError:
            return False
        return str(image) in (inspected.get("RepoDigests") or ())

    def images(self) -> list[StoredImage]:
        """All images that have a name."""
        with self._telling("list images"):
            listed: Any = self._api.images()
        stored = [
            StoredImage(
                id=image["Id"],
                names=frozenset(name for name in (*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())) if "<none>" not in name),
                created=int(image["Created"]),
                size=int(image["Size"]),
            )
            for image in listed
        ]
        return [image for image in stored if image.names]

    def data_root(self) -> str:
        with self._telling("ask where the engine keeps its data"):
            return str(self._api.info()["DockerRootDir"])

    def networks(self, labels: Mapping[str, str]) -> list[Mapping[str, str]]:
        """The labels of each network that carries these, by their names without the prefix."""
        with self._telling("list networks"):
            listed = self._api.networks(filters={"label": [f"{LABEL}.{name}={value}" for name, value in labels.items()]})
        return [{name.removeprefix(f"{LABEL}."): value for name, value in (network["Labels"] or {}).items()} for network in listed]

    def network(self, name: str) -> str | None:
        """The network's id; None when there is none of that name."""
        found = self._network(name)
        return str(found["Id"]) if found else None

    def _network(self, name: str) -> Mapping[str, Any] | None:
        with self._telling(f"look for network {name}"):
            listed: Any = self._api.networks(names=[name])
        return next((network for network in listed if network["Name"] == name), None)

    # ---- acts

    def pull(self, image: ImageRef, credentials: tuple[str, SecretStr] | None) -> None:
        """Brings exactly this content here, and makes sure that it is. A registry that asks for a pause gets it, up to a minute."""
        login = {"username": credentials[0], "password": credentials[1].get_secret_value()} if credentials else None
        with_pauses(lambda: self._pull(image, login), lambda: pause_asked_by(image.registry, image.repository, image.digest))
        if not self.has_image(image):
            raise DeliveryError(
                f"The engine pulled another image than {image}.", next="look at the registry: its content does not fit its digests."
            )

    def _pull(self, image: ImageRef, login: dict[str, str] | None) -> None:
        with self._telling(f"pull {image}"):
            stream = self._api.pull(f"{image.registry}/{image.repository}", tag=image.digest, auth_config=login, stream=True, decode=True)
            problems = [str(line["error"]) for line in stream if "error" in line]
        if problems:
            raise refused(f"pull {image}", self._redact(problems[-1]), status=0)

    def remove_image(self, image: StoredImage) -> bool:
        """Takes its names away, and with the last one its content. False when a container was made from it meanwhile."""
        for name in image.names:
            try:
                with contextlib.suppress(MissingError), self._telling(f"remove image {name}"):
                    self._api.remove_image(name)
            except TransientError as conflict:
                if "conflict" not in conflict.what:
                    raise
                return False
        return True

    def create_network(self, name: str, labels: Mapping[str, str]) -> str:
        """Idempotent. Raises `DeliveryError` for one of that name which does not carry these labels."""
        if existing := self._network(name):
            if not labelled(labels).items() <= (existing.get("Labels") or {}).items():
                raise DeliveryError(f"The network {name} is somebody else's.", next="rename or remove that network.")
            return str(existing["Id"])
        with self._telling(f"create network {name}"):
            made = self._api.create_network(name, driver="bridge", labels=labelled(labels), check_duplicate=True)
        return str(made["Id"])

    def remove_network(self, name: str, labels: Mapping[str, str]) -> None:
        """Does nothing when it is gone, still in use, or does not carry these labels."""
        found = self._network(name)
        if found is None or not labelled(labels).items() <= (found.get("Labels") or {}).items():
            return
        try:
            with self._telling(f"remove network {name}"):
                self._api.remove_network(found["Id"])
        except MissingError:
            return
        except DeliveryError as kept:
            if "active endpoints" not in kept.what:
                raise

    def create(self, blueprint: Blueprint) -> str:
        """A new container, not started. Returns its id."""
        with self._telling(f"create container {blueprint.name}"):
            host = self._api.create_host_config(
                network_mode=blueprint.network,
                read_only=True,
                tmpfs={"/tmp": "rw,nosuid,nodev,size=64m"},  # noqa: S108  inside the container
                cap_drop=["ALL"],
                security_opt=["no-new-privileges:true"],
                mem_limit=f"{blueprint.memory_mb}m",
                memswap_limit=f"{blueprint.memory_mb}m",
                nano_cpus=round(blueprint.cpus * 1e9) if blueprint.cpus else None,
                pids_limit=512,
                restart_policy={"Name": "no"},
                log_config=docker.types.LogConfig(type="json-file", config={"max-size": "5m", "max-file": "2"}),
            )
            made = self._api.create_container(
                str(blueprint.image),
                command=list(blueprint.command) if blueprint.command else None,
                environment=dict(blueprint.environment),
                name=blueprint.name,
                labels=labelled(blueprint.labels),
                host_config=host,
                networking_config={"EndpointsConfig": {blueprint.network: {}}},
                stop_timeout=blueprint.stop_seconds,
                # The engine client's proxy settings are not the application's.
                use_config_proxy=False,
            )
        return str(made["Id"])

    def connect(self, container: str, network: str, aliases: Sequence[str]) -> None:
        """Idempotent."""
        try:
            with self._telling(f"connect a container to {network}"):
                self._api.connect_container_to_network(container, network, aliases=list(aliases))
        except DeliveryError as already:
            if "already exists in network" not in already.what:
                raise

    def start(self, container: str) -> None:
        """Idempotent."""
        with self._telling("start a container"):
            self._api.start(container)

    def unpause(self, container: str) -> None:
        """Wakes what somebody froze. Idempotent."""
        try:
            with self._telling("wake a container"):
                self._api.unpause(container)
        except TransientError as awake:
            if "is not paused" not in awake.what:
                raise

    def stop(self, container: str, *, seconds: int) -> None:
        """SIGTERM, then up to `seconds` for it to finish, then SIGKILL. Idempotent; a container that is gone has stopped."""
        with contextlib.suppress(MissingError), self._telling("stop a container"):
            self._api.stop(container, timeout=seconds)

    def kill(self, container: str) -> None:
        """At once. A container that does not run any more is fine."""
        with contextlib.suppress(MissingError, TransientError), self._telling("kill a container"):
            self._api.kill(container)

    def remove(self, container: str) -> None:
        """Whatever state it is in. Idempotent."""
        with contextlib.suppress(MissingError):
            try:
                with self._telling("remove a container"):
                    self._api.remove_container(container, v=True, force=True)
            except TransientError as conflict:
                if "already in progress" not in conflict.what:
                    raise

    def wait(self, container: str, *, seconds: float) -> int | None:
        """Its exit code once it has ended; None when it has not after `seconds`."""
        try:
            with self._telling("wait for a container"):
                return int(self._api.wait(container, timeout=max(1, round(seconds)))["StatusCode"])
        except LateError:
            return None

    def execute(self, container: str, command: Sequence[str]) -> int:
        """A command's exit code inside a running container."""
        with self._telling("run a command in a container"):
            begun = self._api.exec_create(container, list(command))["Id"]
            self._api.exec_start(begun)
            return int(self._api.exec_inspect(begun)["ExitCode"] or 0)

    def converse(
        self,
        container: str,
        command: Sequence[str],
        variables: Mapping[str, str],
        *,
        give: Iterable[bytes],
        take: Callable[[bytes], object],
    ) -> tuple[int, str]:
        """A command inside a running container: `give` goes to its standard input, which stays open, its standard output comes to `take`
        as it is; its exit code, not 0 where nobody knows it, and the end of what it said on standard error.
        """
        doing = "run a command in a container"
        with self._telling(doing):
            begun = self._api.exec_create(container, list(command), stdin=True, environment=dict(variables))["Id"]
            stream: Any = self._api.exec_start(begun, socket=True)
        with contextlib.closing(stream):
            wire = getattr(stream, "_sock", stream)
            wire.settimeout(None)  # the container's own end bounds it
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended before it had read everything: its words tell why
                for piece in give:
                    wire.sendall(piece)
            said = bytearray()
            frames = frames_iter(stream, tty=False)  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
            while True:
                with self._telling(doing):
                    kind, piece = next(frames, (0, b""))
                if not piece:
                    break
                if kind == STDERR:
                    said = (said + piece)[-_LOG_BYTES:]
                else:
                    take(piece)
        with self._telling(doing):
            code = self._api.exec_inspect(begun)["ExitCode"]
        return (int(code) if code is not None else 1), self._redact(said.decode(errors="replace"))

    # ---- foreign words

    def _inspect(self, container: str) -> Any:
        with self._telling("look at a container"):
            return self._api.inspect_container(container)

    def _telling(self, doing: str) -> AbstractContextManager[None]:
        return telling(doing, self._redact)
