"""States that no verb leaves by itself: what died, froze, vanished, lost its network or its name; each verb goes on from there."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from docker.models.containers import Container

from bench.stand import token, web, worker
from blocks.engine import Engine
from blocks.registry_pause import with_pauses
from delivery.errors import DeliveryError, InvalidSettings, TransientError
from delivery.image import ImageRef
from delivery.release import Release
from tests.blocks.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.blocks.targets.place import Place, remove_image, until

pytestmark = pytest.mark.docker

QUICK_JOBS = {"JOB_SECONDS": "0.05"}


def two(place: Place, version: str = "1.0.0") -> Release:
    return place.release(version, web(replicas=2), worker(settings=QUICK_JOBS))


def ids(place: Place, **labels: str) -> list[str]:
    return [str(container.id) for container in place.containers(**labels)]


def status_of(container: Container) -> str:
    container.reload()
    return str(container.status)


def hosts_with_users(place: Place, asked: int = 8) -> set[str]:
    return {place.ask()["host"] for _ in range(asked)}


# what died or froze


def test_one_replica_that_ended_and_one_that_was_frozen_are_made_anew_and_get_users(place: Place) -> None:
    release = place.go_live(two(place))
    ended, frozen = place.containers(service="api")
    frozen.pause()
    ended.stop(timeout=5)
    try:
        assert "api-1 is paused" in place.target.check(release).sentence()
        place.target.launch(release, variables={}, token=place.token)
    finally:
        if frozen.id in ids(place):
            frozen.unpause()
    assert place.target.check(release).well, place.target.check(release).sentence()
    now = place.containers(service="api")
    assert {container.id for container in now}.isdisjoint({ended.id, frozen.id})
    assert hosts_with_users(place) == {str(container.short_id) for container in now}


def test_a_frozen_worker_is_woken_when_its_release_gets_its_users_back(place: Place) -> None:
    blue = place.go_live(two(place))
    green = place.release("1.1.0", web(), worker(settings=QUICK_JOBS))
    place.launch(green)
    place.target.shift(green, percent=50, rest=blue, token=place.token)
    frozen = place.containers(release=blue.id, service="worker")[0]
    frozen.pause()
    place.target.shift(green, percent=0, rest=blue, token=place.token)
    assert status_of(frozen) == "running"


def test_a_frozen_worker_finishes_its_job_when_its_release_is_drained(place: Place) -> None:
    services = (web(), worker(settings={"JOB_SECONDS": "0.5"}))
    blue = place.go_live(place.release("1.0.0", *services))
    place.go_live(place.release("1.1.0", *services), blue)
    frozen = place.containers(release=blue.id, service="worker")[0]
    frozen.pause()
    place.target.drain(blue, place.token)
    assert status_of(frozen) == "exited"
    said = frozen.logs().decode().split("\n")
    assert said.count("began a job") == said.count("finished a job")


def test_a_replica_that_was_made_and_never_started_is_started(place: Place) -> None:
    release = place.release("1.0.0")
    place.target.prepare(release, place.token)
    with pytest.MonkeyPatch.context() as dying:
        dying.setattr(Engine, "start", _die)
        with pytest.raises(KeyboardInterrupt):
            place.target.launch(release, variables={}, token=place.token)
    made = place.containers()[0]
    assert made.status == "created"
    place.target.launch(release, variables={}, token=place.token)
    assert [(container.id, container.status) for container in place.containers()] == [(made.id, "running")]


def test_replicas_of_another_rollout_are_taken_over_as_they_are(place: Place) -> None:
    release = two(place)
    place.launch(release)
    before = ids(place)
    place.target.launch(release, variables={}, token=token(place.name, fence=5))
    assert ids(place) == before


def test_a_replica_that_starts_over_and_over_is_sick_and_is_ended_by_retiring(place: Place) -> None:
    release = place.release("1.0.0")
    place.launch(release)
    looping = place.containers()[0]
    looping.update(restart_policy={"Name": "always"})
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{place.target.addresses(release)[0].url}/crash").raise_for_status()
    until(lambda: int(_inspected(looping)["RestartCount"]) > 0)
    report = place.target.check(release)
    assert report.restarts > 0 or not report.well
    place.target.retire(release, keep_remains=True, token=place.token)
    assert status_of(looping) == "exited"


def _inspected(container: Container) -> dict[str, Any]:
    container.reload()
    attributes: dict[str, Any] = container.attrs
    return attributes


def _die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


# stopping


def test_a_replica_that_does_not_end_is_killed_after_its_grace(place: Place) -> None:
    blue = place.go_live(place.release("1.0.0", web(drain_seconds=1)))
    place.go_live(place.release("1.1.0"), blue)
    busy = place.containers(release=blue.id)[0]
    with something_slow(place, blue):
        place.target.retire(blue, keep_remains=True, token=place.token)
    assert _inspected(busy)["State"]["ExitCode"] == 137


@contextmanager
def something_slow(place: Place, release: Release) -> Iterator[None]:
    """A request that is answered long after any grace; nobody waits for the answer."""
    url = httpx.URL(place.target.addresses(release)[0].url)
    with socket.create_connection((url.host, url.port or 80)) as connection:
        connection.sendall(b"GET /slow?seconds=60 HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: httpx.get(f"{url}/busy").json()["slow"] > 0)
        yield


@pytest.mark.parametrize("keep_remains", [True, False])
def test_a_container_that_vanishes_while_its_release_is_retired_is_fine(
    place: Place, monkeypatch: pytest.MonkeyPatch, *, keep_remains: bool
) -> None:
    release = two(place)
    place.launch(release)
    real = Engine.stop

    def stop(engine: Engine, container: str, *, seconds: int) -> None:
        place.stand.engine.containers.get(container).remove(force=True)
        real(engine, container, seconds=seconds)

    monkeypatch.setattr(Engine, "stop", stop)
    place.target.retire(release, keep_remains=keep_remains, token=place.token)
    assert [container.status for container in place.containers() if container.status == "running"] == []


def test_a_replica_that_vanishes_while_it_is_looked_at_is_sick_and_no_error(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    release = place.release("1.0.0")
    place.launch(release)
    gone = place.containers()[0]
    real = Engine.log

    def log(engine: Engine, container: str, **options: Any) -> str:
        gone.remove(force=True)
        return real(engine, container, **options)

    monkeypatch.setattr(Engine, "log", log)
    assert "api-0 does not exist" in place.target.check(release, ("FATAL",)).sentence()


# names that are taken


def test_a_network_of_somebody_else_is_neither_used_nor_removed(place: Place) -> None:
    release = two(place)
    place.target.prepare(release, place.token)
    name = f"gr-{place.name}-{release.id}"
    place.stand.engine.networks.get(name).remove()
    foreign = place.stand.engine.networks.create(name)
    try:
        with pytest.raises(DeliveryError, match=f"The network {name} is somebody else's"):
            place.target.launch(release, variables={}, token=place.token)
        place.target.retire(release, keep_remains=False, token=place.token)
        foreign.reload()
    finally:
        foreign.remove()


def test_a_one_off_command_does_not_touch_a_container_of_somebody_else(place: Place) -> None:
    release = place.release("1.0.0")
    place.target.prepare(release, place.token)
    names: list[str] = []
    with pytest.MonkeyPatch.context() as looking:
        looking.setattr(Engine, "create", lambda _, blueprint: names.append(blueprint.name) or _die())
        with pytest.raises(KeyboardInterrupt):
            _run(place, release)
    foreign = place.stand.engine.containers.create(str(release.images["api"]), name=names[0])
    try:
        with pytest.raises(DeliveryError, match=f"{names[0]} belongs to a container that is not"):
            _run(place, release)
        foreign.reload()
    finally:
        foreign.remove()


def _run(place: Place, release: Release) -> None:
    place.target.run_once(release, "api", ["true"], variables={}, timeout=timedelta(seconds=9), token=place.token)


# networks


def test_a_network_that_is_there_without_containers_is_taken_and_goes_with_its_release(place: Place) -> None:
    release = two(place)
    place.target.prepare(release, place.token)
    assert len(_networks(place)) == 1
    place.target.launch(release, variables={}, token=place.token)
    assert len(_networks(place)) == 1
    place.target.retire(release, keep_remains=False, token=place.token)
    assert _networks(place) == []


def _networks(place: Place) -> list[str]:
    listed = place.stand.engine.networks.list(filters={"label": f"greenroom.environment={place.name}"})
    return [str(network.name) for network in listed]


@pytest.mark.parametrize("which", ["the environment's", "its own"])
def test_a_replica_that_lost_a_network_gets_it_back_and_goes_on(place: Place, which: str) -> None:
    release = place.go_live(two(place))
    before = ids(place)
    lost = place.containers(service="api")[0]
    name = place.stand.name if which == "the environment's" else f"gr-{place.name}-{release.id}"
    place.stand.engine.networks.get(name).disconnect(lost)
    place.target.launch(release, variables={}, token=place.token)
    assert ids(place) == before
    assert name in _inspected(lost)["NetworkSettings"]["Networks"]
    assert len(hosts_with_users(place)) == 2


def test_a_worker_that_waits_for_users_gets_its_lost_network_back(place: Place) -> None:
    release = two(place)
    place.launch(release)
    waiting = place.containers(service="worker")[0]
    place.stand.engine.networks.get(place.stand.name).disconnect(waiting)
    place.target.launch(release, variables={}, token=place.token)
    place.target.shift(release, percent=100, rest=None, token=place.token)
    assert place.stand.name in _inspected(place.containers(service="worker")[0])["NetworkSettings"]["Networks"]
    assert place.containers(service="worker")[0].status == "running"


def test_a_release_is_not_launched_without_its_environments_network(place: Place) -> None:
    target = place.stand.target(place.name, network="nowhere")
    with pytest.raises(InvalidSettings, match="no Docker network nowhere"):
        target.launch(place.release("1.0.0"), variables={}, token=place.token)
    assert place.containers() == []


# images and registries


def without_its_image(place: Place, release: Release) -> None:
    """As after a clean-up by hand: its containers have ended, its image is gone."""
    place.target.retire(release, keep_remains=True, token=place.token)
    for image in set(release.images.values()):
        remove_image(place.stand, image)


def test_a_release_whose_image_is_gone_is_launched_again(place: Place) -> None:
    release = place.release("1.0.0")
    place.launch(release)
    without_its_image(place, release)
    place.target.launch(release, variables={}, token=place.token)
    assert place.target.check(release).well


def test_a_release_whose_image_and_registry_are_gone_is_launched_once_the_registry_is_back(place: Place) -> None:
    release = place.release("1.0.0")
    place.launch(release)
    without_its_image(place, release)
    place.stand.registry.stop()
    try:
        with pytest.raises(TransientError, match="could not pull"):
            place.target.launch(release, variables={}, token=place.token)
    finally:
        place.stand.registry.start()
    assert [container.status for container in place.containers()] == ["exited"], "nothing was removed for want of an image"
    place.target.launch(release, variables={}, token=place.token)
    assert place.target.check(release).well


@pytest.fixture
def shaky(place: Place) -> Iterator[FaultProxy]:
    with fault_proxy(place.stand.registry.address) as proxy:
        yield proxy


def through(place: Place, proxy: FaultProxy) -> Release:
    """A release whose images are only known behind the proxy, and are not here."""
    release = place.release("1.0.0")
    image = release.images["api"]
    there = ImageRef(proxy.address, image.repository, image.digest)
    remove_image(place.stand, image)
    return replace(release, images={"api": there})


@pytest.fixture
def release(place: Place, shaky: FaultProxy) -> Iterator[Release]:
    release = through(place, shaky)
    yield release
    remove_image(place.stand, release.images["api"])


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_registry_in_trouble_is_worth_another_try(place: Place, shaky: FaultProxy, release: Release, status: int) -> None:
    shaky.faults.append(Fault("GET|HEAD", "/manifests/", status, times=99))
    with pytest.raises(TransientError, match="could not pull"):
        place.target.prepare(release, place.token)
    shaky.faults.clear()
    place.target.prepare(release, place.token)
    assert place.stand.engine.images.get(str(release.images["api"])).id


def test_a_registry_that_asks_for_a_pause_gets_it(
    place: Place, shaky: FaultProxy, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        shaky.faults.clear()

    monkeypatch.setattr("blocks.engine.with_pauses", partial(with_pauses, sleep=sleep))
    shaky.faults.append(Fault("GET|HEAD", "/manifests/", 429, times=99, headers=(("Retry-After", "1"),)))
    place.target.prepare(release, place.token)
    assert naps == [1.0]


def test_a_registry_that_refuses_the_login_is_not_asked_again(place: Place, shaky: FaultProxy, release: Release) -> None:
    shaky.faults.append(Fault("GET|HEAD", "/manifests/", 403, times=99))
    with pytest.raises(DeliveryError) as refused:
        place.target.prepare(release, place.token)
    assert not isinstance(refused.value, TransientError)


def test_a_registry_that_ends_the_connection_in_the_middle_of_a_layer_costs_time_only(
    place: Place, shaky: FaultProxy, release: Release
) -> None:
    shaky.faults.append(Fault("GET", "/blobs/", 0, times=1, cut_after=64))
    place.target.prepare(release, place.token)
    assert any("/blobs/" in path for _, path, _ in shaky.asked)
    assert place.stand.engine.images.get(str(release.images["api"])).id


def test_a_registry_that_is_too_slow_is_worth_another_try(
    place: Place, shaky: FaultProxy, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocks.engine._REQUEST_SECONDS", 1)
    shaky.faults.append(Fault("GET|HEAD", "/manifests/|/blobs/", 0, times=1, seconds=8))
    with pytest.raises(TransientError, match="took too long to pull"):
        place.stand.target(place.name).prepare(release, place.token)
    place.target.prepare(release, place.token)
    assert place.stand.engine.images.get(str(release.images["api"])).id
