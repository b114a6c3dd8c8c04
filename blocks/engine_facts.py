"""What an engine tells of containers and images, and how it is told of one to make, as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from delivery.image import ImageRef

LABEL = "greenroom"


@dataclass(frozen=True)
class Found:
    """One container as the engine lists it. `state` is Docker's: created, running, exited, …; `image` is what it was made from, as it
    was named then; `addresses` maps networks to addresses while it runs; `networks` maps those that it belongs to, by name, to their
    ids (empty where it never ran).
    """

    id: str
    name: str
    state: str
    image: str
    image_id: str
    labels: Mapping[str, str]
    addresses: Mapping[str, str]
    networks: Mapping[str, str]

    @property
    def runs(self) -> bool:
        return self.state == "running"

    @property
    def has_processes(self) -> bool:
        """Running, frozen by somebody, or between two starts: there is something to stop."""
        return self.state in ("running", "paused", "restarting")

    def label(self, name: str) -> str:
        return self.labels.get(f"{LABEL}.{name}", "")


@dataclass(frozen=True)
class StoredImage:
    """One image as the engine lists it: all its names (with tags and with digests), seconds since 1970 of its making, bytes."""

    id: str
    names: frozenset[str]
    created: int
    size: int


@dataclass(frozen=True)
class Ended:
    """How a container stopped running."""

    exit_code: int
    out_of_memory: bool

    def sentence(self) -> str:
        return f"exited with code {self.exit_code}" + (", killed for want of memory" if self.out_of_memory else "")


@dataclass(frozen=True)
class Usage:
    """One look at a container's resources: bytes, CPU nanoseconds since its start, and how many CPUs it may use."""

    memory: float
    memory_limit: float
    cpu_ns: float
    cpus: float


@dataclass(frozen=True)
class Blueprint:
    """A container as it should be. It gets no new privileges, no capabilities, and nothing to write to but /tmp. An image that is only a
    name is one that this machine has.
    """

    name: str
    image: ImageRef | str
    labels: Mapping[str, str]
    environment: Mapping[str, str] = field(repr=False)
    network: str
    memory_mb: int
    cpus: float | None
    stop_seconds: int
    command: Sequence[str] | None = None


def labelled(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels with the prefix that all of ours carry."""
    return {f"{LABEL}.{name}": value for name, value in labels.items()}


def found_in(listed: Mapping[str, Any]) -> Found:
    """One line of the engine's list of containers."""
    networks = listed.get("NetworkSettings", {}).get("Networks", {})
    return Found(
        id=listed["Id"],
        name=listed["Names"][0].removeprefix("/"),
        state=listed["State"],
        image=listed["Image"],
        image_id=listed["ImageID"],
        labels=listed.get("Labels") or {},
        networks={name: (endpoint or {}).get("NetworkID", "") for name, endpoint in networks.items()},
        addresses={name: endpoint["IPAddress"] for name, endpoint in networks.items() if endpoint and endpoint.get("IPAddress")},
    )
