"""What the simulated platform runs: releases, each with its replicas, and the ways in which a call to it goes wrong."""

from dataclasses import dataclass, field

from delivery.errors import DeliveryError
from tests.simulated_target import Running


@dataclass
class Replica:
    state: str = "absent"  # absent, up, stopping, stopped, dead
    life: int = 0


@dataclass
class Colour(Running):
    """A release's replicas."""

    replicas: list[Replica] = field(default_factory=list)

    def look(self) -> None:
        self.up = any(replica.state == "up" for replica in self.replicas)
        self.died = any(replica.state == "dead" for replica in self.replicas)

    @property
    def is_there(self) -> bool:
        return any(replica.state != "absent" for replica in self.replicas)


@dataclass(frozen=True)
class Breakage:
    """How a call goes wrong: `before` it has done anything, `half` way, `after` all of it, or `lost`: it seems to have worked."""

    how: str
    error: DeliveryError
