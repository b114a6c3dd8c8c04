"""An engine that dies and comes back under a rollout, and one whose disk is full: an engine of the test's own."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from bench.stand import Stand, token, web, worker
from blocks.engine import Engine
from blocks.targets.docker import DockerTarget
from delivery.errors import DeliveryError, TransientError
from delivery.release import Release
from tests.blocks.targets.own_engine import DOCKERD, OwnEngine, own_engine
from tests.blocks.targets.place import Place, until

pytestmark = [
    pytest.mark.docker,
    pytest.mark.exhaustive,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which(DOCKERD), reason="only root may start an engine of its own"),
]

NETWORK = "here"


@dataclass
class Elsewhere(Place):
    """A place on the test's own engine, behind the stand's Traefik."""

    engine: OwnEngine


@pytest.fixture
def elsewhere(stand: Stand) -> Iterator[Elsewhere]:
    with own_engine() as engine:
        yield place_on(engine, stand)


def place_on(engine: OwnEngine, stand: Stand, **changes: Any) -> Elsewhere:
    client = engine.client()
    client.networks.create(NETWORK)
    client.close()
    name = stand.environment()
    target = stand.target(name, docker_host=engine.host, network=NETWORK, **changes)
    return Elsewhere(stand, name, target, engine)


def again_until_it_answers(act: Callable[[], object]) -> None:
    """As the retry policies do: connections to the engine that died are of no use any more."""

    def works() -> bool:
        try:
            act()
        except TransientError:
            return False
        return True

    until(works)


def ids(target: DockerTarget) -> dict[str, str]:
    return {found.name: found.id for found in target._replicas.everything() if found.runs}


def test_a_rollout_goes_on_after_its_engine_was_killed_and_users_notice_nothing(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, target, engine = elsewhere, elsewhere.target, elsewhere.engine
    services = (web(replicas=2), worker(settings={"JOB_SECONDS": "0.05"}))
    blue = place.go_live(place.release("1.0.0", *services))
    green = place.release("1.1.0", *services)
    target.prepare(green, place.token)
    before = ids(target)

    _dies_at_the_first_start(engine, monkeypatch)
    with pytest.raises(TransientError):
        target.launch(green, variables={}, token=place.token)
    assert {place.ask()["version"] for _ in range(4)} == {"1.0.0"}
    for act in (target.observe, lambda: target.check(green), lambda: target.retire(green, keep_remains=False, token=place.token)):
        with pytest.raises(TransientError, match="did not answer"):
            act()
    engine.start()
    again_until_it_answers(lambda: target.launch(green, variables={}, token=place.token))
    target.shift(green, percent=50, rest=blue, token=place.token)

    engine.kill()
    assert {place.ask()["version"] for _ in range(4)} == {"1.0.0", "1.1.0"}
    with pytest.raises(TransientError, match="did not answer"):
        target.shift(green, percent=100, rest=blue, token=place.token)
    engine.start()
    again_until_it_answers(lambda: target.shift(green, percent=100, rest=blue, token=place.token))
    target.promote(green, place.token)
    target.drain(blue, place.token)
    assert before.items() <= {**ids(target), **_worker_of(blue, before)}.items(), "nobody was made anew"
    target.retire(blue, keep_remains=False, token=place.token)
    standing = target.observe()
    assert (standing.weights, standing.present) == ({green.id: 100}, {green.id})
    assert target.check(green).well, target.check(green).sentence()


def _worker_of(release: Release, known: dict[str, str]) -> dict[str, str]:
    """It was drained."""
    return {name: id_ for name, id_ in known.items() if f"-worker-{release.id}" in name}


def _dies_at_the_first_start(engine: OwnEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Engine.start

    def start(self: Engine, container: str) -> None:
        monkeypatch.setattr(Engine, "start", real)
        engine.kill()
        real(self, container)

    monkeypatch.setattr(Engine, "start", start)


def test_an_engine_without_room_is_told_before_and_when_its_disk_is_full_after_all(stand: Stand) -> None:
    with own_engine(disk_mb=48) as engine:
        place = place_on(engine, stand)
        release = place.release("1.0.0")
        with pytest.raises(DeliveryError, match=r"has 0\.0 GiB free, expected at least 2 GiB"):
            place.target.prepare(release, place.token)
        careless = place.stand.target(place.name, docker_host=engine.host, network=NETWORK, minimum_free_gib=0)
        with pytest.raises(DeliveryError, match="no space left on device") as full:
            careless.prepare(release, token(place.name))
        assert not isinstance(full.value, TransientError), "trying again makes no room"
        assert "room" in full.value.next
