"""What is, after a scenario: read from engine, Traefik, files, journal, database and the users' answers; nothing is remembered."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import psycopg

from blocks.journal import SqlJournal
from blocks.targets.docker import DockerTarget
from delivery.environment import Standing
from delivery.journal import Entry
from delivery.record import RolloutRecord
from tests.chaos.real.effects import Effect, read_effects
from tests.chaos.real.load import Seen
from tests.chaos.real.place import Place
from tests.chaos.real.stand import ChaosStand


@dataclass(frozen=True)
class Replica:
    """One container that carries the environment's label."""

    id: str
    name: str
    state: str
    release: str
    service: str
    kind: str
    image: str

    @property
    def runs(self) -> bool:
        return self.state == "running"


@dataclass(frozen=True)
class World:
    """`effects` and `answers` are those of the scenario, `history` all effects of the environment."""

    place: Place
    stand: ChaosStand
    journal: SqlJournal
    target: DockerTarget
    answers: Sequence[Seen]
    since: int  # where the scenario's effects begin in the log

    @cached_property
    def history(self) -> list[Effect]:
        return read_effects(Path(self.place.effects))

    @cached_property
    def effects(self) -> list[Effect]:
        return read_effects(Path(self.place.effects), self.since)

    @cached_property
    def replicas(self) -> list[Replica]:
        return replicas_of(self.stand, self.place.environment)

    @cached_property
    def networks(self) -> list[str]:
        """The releases that have a network of their own."""
        listed = self.stand.engine.networks.list(filters={"label": f"greenroom.environment={self.place.environment}"})
        return sorted((network.attrs["Labels"] or {}).get("greenroom.release", "") for network in listed)

    @cached_property
    def standing(self) -> Standing:
        return self.target.observe()

    @cached_property
    def rollouts(self) -> Sequence[RolloutRecord]:
        """Newest first."""
        return self.journal.rollouts(environment=self.place.environment, limit=500)

    @property
    def recent(self) -> Sequence[RolloutRecord]:
        """Those that the scenario may have touched; the ones before were looked at when they were new."""
        return self.rollouts[:4]

    @cached_property
    def live(self) -> str | None:
        found = self.journal.live(self.place.environment)
        return found.id if found else None

    def entries(self, rollout: str) -> Sequence[Entry]:
        return self.journal.entries(rollout)

    @cached_property
    def orders(self) -> Mapping[str, int]:
        """How often each acknowledged or failed order of the scenario is in the database."""
        asked = [seen.order for seen in self.answers if seen.kind == "order"]
        with psycopg.connect(self.stand.orders.url("orders")) as connection:
            rows = connection.execute("SELECT id, count(*) FROM orders WHERE id = ANY(%s) GROUP BY id", (asked,)).fetchall()
        return {str(order): int(count) for order, count in rows}

    @cached_property
    def sampled(self) -> Counter[str]:
        """The versions that twelve users meet now, each over a connection of their own."""
        found: Counter[str] = Counter()
        for number in range(12):
            answer = httpx.get(f"{self.place.url}/sample/{number}", timeout=5, trust_env=False, headers={"Connection": "close"})
            found[str(answer.json().get("version")) if answer.status_code == 200 else str(answer.status_code)] += 1
        return found

    def snapshot(self) -> dict[str, Any]:
        """What must not change when there is nothing to do."""
        folder, name = Path(self.place.work_dir), self.place.environment
        files = [folder / f"{name}.state.json", Path(self.place.dynamic_dir) / f"{name}.yml"]
        return {
            "replicas": sorted((one.name, one.id, one.state) for one in replicas_of(self.stand, name)),
            "files": [file.read_text() if file.exists() else None for file in files],
            "entries": sum(len(self.entries(record.id)) for record in self.journal.rollouts(environment=name, limit=500)),
            "weights": self.target.traffic.live_weights(),
        }


def replicas_of(stand: ChaosStand, environment: str) -> list[Replica]:
    listed: list[dict[str, Any]] = stand.engine.api.containers(all=True, filters={"label": f"greenroom.environment={environment}"})
    return [
        Replica(
            id=one["Id"],
            name=one["Names"][0].removeprefix("/"),
            state=one["State"],
            release=one["Labels"].get("greenroom.release", ""),
            service=one["Labels"].get("greenroom.service", ""),
            kind=one["Labels"].get("greenroom.kind", ""),
            image=one["Image"],
        )
        for one in listed
    ]


def weights_in(effect: Effect) -> dict[str, int]:
    weights: dict[str, int] = effect.facts.get("weights", {})
    return weights


def routing_file(place: Place) -> Path:
    return Path(place.dynamic_dir) / f"{place.environment}.yml"


def state_file(place: Place) -> Path:
    return Path(place.work_dir) / f"{place.environment}.state.json"


def written_weights(place: Place) -> dict[str, int]:
    """As the dynamic file says."""
    services = (json.loads(routing_file(place).read_text()).get("http") or {}).get("services") or {}
    children = [child for service in services.values() for child in service.get("weighted", {}).get("services", ())]
    return {child["name"].split(".", 2)[2]: child.get("weight", 0) for child in children}
