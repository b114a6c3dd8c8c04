"""A real engine, a real Traefik, a real registry, and an application of a few lines."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Self

import httpx
import pytest

from bench.stand import Stand, token, web, worker
from blocks.engine import Engine
from blocks.targets import TARGETS
from blocks.targets.docker import TIMED_OUT, DockerTarget
from delivery.environment import Capability
from delivery.errors import DeliveryError, InvalidSettings, StaleFence
from delivery.image import ImageRef
from delivery.release import Release
from tasks.load import Answer, Request, open_loop
from tests.blocks.targets.place import SECRET, Place, until

pytestmark = pytest.mark.docker


class Users:
    """An open loop of requests in the background; `answers` after leaving."""

    def __init__(self, stand: Stand, rate: float) -> None:
        self.answers: list[Answer] = []
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(stand.url, rate))

    def _ask(self, url: str, rate: float) -> None:
        self.answers = asyncio.run(open_loop(rate, None, lambda number: Request(f"{url}/{number}"), stop=self._leaving))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join()

    @property
    def failed(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.failed]


def test_the_target_is_known_and_can_everything() -> None:
    assert DockerTarget in TARGETS
    assert Capability.SPLIT_TRAFFIC in DockerTarget.model_construct().capabilities


def test_launching_twice_is_launching_once(place: Place) -> None:
    release = place.release("1.0.0", web(replicas=2), worker())
    place.launch(release)
    first = [container.id for container in place.containers()]
    place.launch(release)
    assert [container.id for container in place.containers()] == first
    assert len(first) == 3


def test_a_launched_release_is_well_and_has_no_users(place: Place) -> None:
    release = place.release("1.0.0", web(replicas=2), worker())
    place.launch(release)
    assert place.target.check(release).well, place.target.check(release).sentence()
    standing = place.target.observe()
    assert standing.weights == {}
    assert standing.running == {release.id}


def test_workers_take_no_jobs_before_their_release_has_users(place: Place) -> None:
    release = place.release("1.0.0", web(), worker())
    place.launch(release)
    assert [container.status for container in place.containers(service="worker")] == ["created"]
    place.target.shift(release, percent=100, rest=None, token=place.token)
    assert [container.status for container in place.containers(service="worker")] == ["running"]


def test_no_request_fails_while_users_move_over_and_back_and_the_old_release_goes(place: Place) -> None:
    blue = place.go_live(place.release("1.0.0", web(replicas=2)))
    green = place.release("1.1.0", web(replicas=2))
    with Users(place.stand, rate=100) as users:
        place.launch(green)
        for percent in (10, 50, 0, 50, 100):
            place.target.shift(green, percent=percent, rest=blue, token=place.token)
        place.target.promote(green, place.token)
        place.target.drain(blue, place.token)
        place.target.retire(blue, keep_remains=False, token=place.token)
    assert len(users.answers) > 50
    assert users.failed == []
    assert place.containers(release=blue.id) == []


def test_half_of_the_requests_go_to_each_release_and_are_counted(place: Place) -> None:
    blue = place.go_live(place.release("1.0.0"))
    green = place.release("1.1.0")
    place.launch(green)
    place.target.shift(green, percent=50, rest=blue, token=place.token)
    answered = [place.ask()["version"] for _ in range(20)]
    assert sorted(answered) == ["1.0.0"] * 10 + ["1.1.0"] * 10
    counted = place.stand.metrics(place.name).scrape([blue, green])
    assert counted[green.id].by_code == {200: 10}
    assert counted[blue.id].errors == 0
    assert counted[green.id].buckets[float("inf")] == 10


def test_a_request_in_flight_is_answered_when_its_release_is_retired(place: Place) -> None:
    blue = place.go_live(place.release("1.0.0"))
    green = place.release("1.1.0")
    place.launch(green)
    with ThreadPoolExecutor(1) as users:
        slow = users.submit(place.ask, "/slow?seconds=3")
        replica = place.target.addresses(blue)[0].url
        until(lambda: httpx.get(f"{replica}/busy").json()["slow"] > 0)
        place.target.shift(green, percent=100, rest=blue, token=place.token)
        place.target.promote(green, place.token)
        place.target.retire(blue, keep_remains=False, token=place.token)
        assert slow.result()["version"] == "1.0.0"


def test_a_worker_finishes_its_job_when_its_release_is_drained(place: Place) -> None:
    services = (web(), worker(settings={"JOB_SECONDS": "1"}))
    blue = place.go_live(place.release("1.0.0", *services))
    green = place.go_live(place.release("1.1.0", *services), blue)
    old = place.containers(release=blue.id, service="worker")[0]
    assert old.status == "running", "the way back needs blue's workers until blue is drained"
    place.target.drain(blue, place.token)
    said = old.logs().decode().split("\n")
    assert said.count("began a job") == said.count("finished a job")
    assert place.containers(release=blue.id, service="worker")[0].status == "exited"
    assert place.containers(release=green.id, service="worker")[0].status == "running"
    assert blue.id in place.target.observe().running, "its web replicas stay warm"


def test_a_release_that_lost_its_users_has_its_workers_stopped_unless_it_is_live(place: Place) -> None:
    services = (web(), worker(settings={"JOB_SECONDS": "0.1"}))
    blue = place.go_live(place.release("1.0.0", *services))
    green = place.release("1.1.0", *services)
    place.launch(green)
    place.target.shift(green, percent=50, rest=blue, token=place.token)
    place.target.shift(green, percent=0, rest=blue, token=place.token)
    states = {container.labels["greenroom.release"]: container.status for container in place.containers(service="worker")}
    assert states == {blue.id: "running", green.id: "exited"}


def test_a_token_that_is_too_low_changes_nothing(place: Place) -> None:
    blue = place.go_live(place.release("1.0.0"))
    green = place.release("1.1.0")
    place.target.prepare(green, token(place.name, fence=7))
    once = {"variables": {}, "timeout": timedelta(seconds=5), "token": token(place.name, fence=6)}
    for act in (
        lambda: place.target.prepare(green, token(place.name, fence=6)),
        lambda: place.target.launch(green, variables={}, token=token(place.name, fence=6)),
        lambda: place.target.run_once(green, "api", ["true"], **once),  # type: ignore[arg-type]
        lambda: place.target.shift(green, percent=100, rest=blue, token=token(place.name, fence=6)),
        lambda: place.target.promote(green, token(place.name, fence=6)),
        lambda: place.target.drain(blue, token(place.name, fence=6)),
        lambda: place.target.retire(blue, keep_remains=False, token=token(place.name, fence=6)),
    ):
        with pytest.raises(StaleFence):
            act()
    standing = place.target.observe()
    assert standing.weights == {blue.id: 100}
    assert standing.fence == 7
    assert place.containers(release=green.id) == []


def test_a_replica_that_died_is_made_anew_and_gets_users_again(place: Place) -> None:
    release = place.go_live(place.release("1.0.0", web(replicas=2)))
    died = place.containers()[0]
    died.kill()
    until(lambda: died.id not in {container.id for container in place.containers() if container.status == "running"})
    report = place.target.check(release)
    assert report.restarts == 1
    assert "api-0 exited with code 137" in report.sentence()
    place.target.launch(release, variables={}, token=place.token)
    assert place.target.check(release).well
    hosts = {place.ask()["host"] for _ in range(4)}
    assert hosts == {str(container.short_id) for container in place.containers()}


def test_a_release_runs_while_each_of_its_services_has_a_replica(place: Place) -> None:
    release = place.go_live(place.release("1.0.0", web(replicas=2)))
    for container, still_runs in zip(place.containers(), (True, False), strict=True):
        container.stop(timeout=5)
        assert (release.id in place.target.observe().running) is still_runs


def test_a_new_replica_gets_no_users_by_getting_the_address_of_a_dead_one(place: Place) -> None:
    blue = place.go_live(place.release("1.0.0", web(replicas=2)))
    died = place.containers()[0]
    address = died.attrs["NetworkSettings"]["Networks"][place.stand.name]["IPAddress"]
    died.kill()
    green = place.release("1.1.0", web(replicas=2))
    place.launch(green)
    assert any(address in replica.url for replica in place.target.addresses(green)), "the engine gave it to nobody: nothing is shown"
    assert [place.ask()["version"] for _ in range(10)] == ["1.0.0"] * 10
    assert place.target.observe().weights == {blue.id: 100}


def test_a_release_with_users_is_neither_retired_nor_drained(place: Place) -> None:
    blue = place.go_live(place.release("1.0.0"))
    green = place.release("1.1.0")
    place.launch(green)
    place.target.shift(green, percent=10, rest=blue, token=place.token)
    for release, share in ((green, 10), (blue, 90)):
        with pytest.raises(DeliveryError, match=f"has {share} % of"):
            place.target.retire(release, keep_remains=False, token=place.token)
        with pytest.raises(DeliveryError, match=f"has {share} % of"):
            place.target.drain(release, place.token)
    assert place.target.observe().running == {blue.id, green.id}


def test_users_are_never_sent_to_a_release_that_does_not_run(place: Place) -> None:
    blue = place.go_live(place.release("1.0.0"))
    with pytest.raises(DeliveryError, match="has no replica that runs"):
        place.target.shift(place.release("1.1.0"), percent=50, rest=blue, token=place.token)
    assert place.target.observe().weights == {blue.id: 100}


def test_the_remains_of_a_release_are_kept_for_the_post_mortem_until_it_is_retired_for_good(place: Place, tmp_path: Path) -> None:
    release = place.release("1.0.0", web(), worker())
    place.launch(release)
    place.target.retire(release, keep_remains=True, token=place.token)
    assert {container.labels["greenroom.service"]: container.status for container in place.containers()} == {
        "api": "exited",
        "worker": "created",
    }
    assert place.containers(service="api")[0].attrs["State"]["ExitCode"] == 0
    assert (place.target.observe().running, place.target.observe().present) == (frozenset(), {release.id})
    files = place.target.collect_logs(release, tmp_path / "logs")
    assert "version 1.0.0 serves" in files[0].read_text()
    place.target.retire(release, keep_remains=False, token=place.token)
    assert place.containers() == []
    assert place.target.observe().present == frozenset()
    assert place.stand.engine.networks.list(filters={"label": f"greenroom.environment={place.name}"}) == []


def test_a_release_whose_remains_are_kept_can_get_users_after_all(place: Place) -> None:
    services = (web(), worker(settings={"JOB_SECONDS": "0.1"}))
    blue = place.go_live(place.release("1.0.0", *services))
    green = place.release("1.1.0", *services)
    for percent in (50, 100):  # the first time it is turned back, and the network of its services goes
        place.launch(green)
        place.target.shift(green, percent=percent, rest=blue, token=place.token)
        if percent == 50:
            place.target.shift(green, percent=0, rest=blue, token=place.token)
            place.target.retire(green, keep_remains=True, token=place.token)
    assert place.target.observe().weights[green.id] == 100
    assert [container.status for container in place.containers(release=green.id, service="worker")] == ["running"]


def test_the_first_release_can_be_taken_back_to_nothing(place: Place) -> None:
    release = place.release("1.0.0")
    place.launch(release)
    place.target.shift(release, percent=100, rest=None, token=place.token)
    place.target.shift(release, percent=0, rest=None, token=place.token)
    assert place.target.observe().weights == {}
    place.target.retire(release, keep_remains=False, token=place.token)
    assert place.containers() == []


def test_a_colour_talks_to_the_api_of_its_own_colour(place: Place) -> None:
    services = (web("api", routes=("/api",)), web("web", routes=("/",)))
    blue = place.go_live(place.release("1.0.0", *services))
    green = place.release("1.1.0", *services)
    place.launch(green)
    place.target.shift(green, percent=50, rest=blue, token=place.token)
    asked = [place.ask("/peer") for _ in range(6)]
    assert {(answer["version"], answer["peer"]) for answer in asked} == {("1.0.0", "1.0.0"), ("1.1.0", "1.1.0")}


def test_a_container_gets_exactly_the_declared_variables_and_few_rights(place: Place) -> None:
    release = place.release("1.0.0", web(variables=("TOKEN", "PLACE"), settings={"COLOUR": "green"}))
    place.launch(release, PLACE="here", NOBODY="asked")
    container = place.containers()[0]
    of_the_image = place.stand.engine.images.get(str(release.images["api"])).attrs["Config"]["Env"]
    given = set(container.attrs["Config"]["Env"]) - set(of_the_image)
    assert given == {f"TOKEN={SECRET}", "PLACE=here", "COLOUR=green"}
    host = container.attrs["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Memory"] == host["MemorySwap"] == 64 * 1024 * 1024
    assert SECRET not in str(container.labels)


def test_a_variable_that_nobody_gives_is_named_before_anything_starts(place: Place) -> None:
    release = place.release("1.0.0", web(variables=("TOKEN", "MISSING")))
    with pytest.raises(InvalidSettings, match="needs MISSING"):
        place.target.launch(release, variables={}, token=place.token)
    assert place.containers() == []


def test_a_replica_with_users_is_not_replaced_because_its_settings_changed(place: Place) -> None:
    release = place.go_live(place.release("1.0.0", web(variables=("PLACE",))), PLACE="here")
    with pytest.raises(DeliveryError, match="runs with other settings"):
        place.target.launch(release, variables={"PLACE": "there"}, token=place.token)
    assert place.ask()["version"] == "1.0.0"


def test_a_replica_without_users_is_replaced_when_its_settings_changed(place: Place) -> None:
    release = place.release("1.0.0", web(variables=("PLACE",)))
    place.launch(release, PLACE="here")
    place.launch(release, PLACE="there")
    assert ["PLACE=there" in container.attrs["Config"]["Env"] for container in place.containers()] == [True]


def test_a_container_of_somebody_else_is_left_alone(place: Place) -> None:
    release = place.release("1.0.0")
    place.target.prepare(release, place.token)
    name = f"gr-{place.name}-api-{release.id}-0"
    foreign = place.stand.engine.containers.create(str(release.images["api"]), name=name)
    try:
        with pytest.raises(DeliveryError, match=f"{name} belongs to a container that is not"):
            place.target.launch(release, variables={}, token=place.token)
        foreign.reload()
    finally:
        foreign.remove()


def test_another_version_than_the_shipped_one_is_told(place: Place) -> None:
    release = place.release("1.4.1", claimed="1.4.2")
    place.launch(release)
    assert "api answered version 1.4.1, expected 1.4.2." in place.target.check(release).sentence()


def test_a_sick_replica_says_what_it_does_not_reach(place: Place) -> None:
    release = place.go_live(place.release("1.0.0"))
    place.ask("/sick")
    report = place.target.check(release)
    sick = {result.name: result.detail for result in report.results if not result.well}
    assert sick == {
        "api-0 health": "api answered 503, expected 200.",
        "api-0 database": "api says database disconnected, expected connected.",
    }


def test_new_log_lines_with_a_pattern_are_reported_once_and_without_secrets(place: Place) -> None:
    release = place.go_live(place.release("1.0.0"))
    place.ask("/say", params={"text": f"FATAL: {SECRET} was wrong"})
    place.ask("/say", params={"text": "all is fine"})
    assert place.target.check(release, ("FATAL", "panic:")).log_matches == ("api: FATAL: *** was wrong",)
    assert place.target.check(release, ("FATAL", "panic:")).log_matches == ()
    place.ask("/say", params={"text": "panic: again"})
    assert place.target.check(release, ("FATAL", "panic:")).log_matches == ("api: panic: again",)


def test_memory_is_a_share_of_the_limit_and_cpu_is_known_after_it(place: Place) -> None:
    release = place.release("1.0.0")
    place.launch(release)
    place.target.check(release)
    memory = place.target.check(release).memory
    assert memory is not None
    assert 0 < memory < 1
    until(lambda: place.target.check(release).cpu is not None)


def test_a_replica_that_ends_at_start_is_shown_with_its_last_words(place: Place) -> None:
    release = place.release("1.0.0", web(settings={"START_SECONDS": "soon"}))
    place.target.prepare(release, place.token)
    with pytest.raises(DeliveryError, match=r"api-0 exited with code 1[^$]*could not convert string to float: 'soon'"):
        place.target.launch(release, variables={}, token=place.token)


def test_a_command_that_succeeds_tells_its_last_lines_without_secrets_and_leaves_nothing(place: Place) -> None:
    release = place.release("1.0.0", web(variables=("TOKEN",)))
    place.target.prepare(release, place.token)
    done = run_once(place, release, "import os; print('got', os.environ['TOKEN'])")
    assert done == (0, ("got ***",))
    assert place.containers() == []


def test_a_command_that_fails_is_a_value(place: Place) -> None:
    release = place.release("1.0.0")
    place.target.prepare(release, place.token)
    code, tail = run_once(place, release, "raise SystemExit('the table is missing')")
    assert (code, tail) == (1, ("the table is missing",))


def test_a_command_that_takes_too_long_is_killed(place: Place) -> None:
    release = place.release("1.0.0")
    place.target.prepare(release, place.token)
    code, tail = run_once(place, release, "import time; time.sleep(60)", seconds=1)
    assert code == TIMED_OUT
    assert tail == ("killed: it took longer than 1 s",)
    assert place.containers() == []


def test_a_command_whose_starter_died_is_waited_for_and_not_run_beside_itself(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    release = place.release("1.0.0")
    place.target.prepare(release, place.token)
    program = "import socket, time; time.sleep(2); print('done by', socket.gethostname())"
    with monkeypatch.context() as starter:
        starter.setattr(Engine, "wait", _die)
        with pytest.raises(KeyboardInterrupt):
            run_once(place, release, program)
    left_over = place.containers(kind="once")[0]
    assert run_once(place, release, program) == (0, (f"done by {left_over.short_id}",))
    assert place.containers() == []


def _die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def run_once(place: Place, release: Release, program: str, *, seconds: float = 20) -> tuple[int, tuple[str, ...]]:
    result = place.target.run_once(
        release, "api", ["python", "-S", "-c", program], variables={}, timeout=timedelta(seconds=seconds), token=place.token
    )
    return result.exit_code, result.tail


def test_an_image_that_is_not_here_is_pulled_by_its_digest(place: Place) -> None:
    release = place.release("1.0.0")
    place.stand.engine.images.remove(str(release.images["api"]), force=True)
    place.target.prepare(release, place.token)
    assert str(release.images["api"]) in place.stand.engine.images.get(str(release.images["api"])).attrs["RepoDigests"]


def test_an_image_that_the_registry_does_not_have_is_named(place: Place) -> None:
    known = place.release("1.0.0")
    lost = ImageRef(known.images["api"].registry, "nobody", "sha256:" + "0" * 64)
    with pytest.raises(DeliveryError, match="nobody@sha256:000"):
        place.target.prepare(replace(known, images={"api": lost}), place.token)


def test_a_network_that_does_not_exist_is_named(stand: Stand) -> None:
    name = stand.environment()
    with pytest.raises(InvalidSettings, match="no Docker network nowhere"):
        stand.target(name, network="nowhere").prepare(stand.release("1.0.0", (web(),)), token(name))


def test_a_disk_that_is_too_full_is_told_with_its_size(stand: Stand) -> None:
    name = stand.environment()
    with pytest.raises(DeliveryError, match=r"GiB free, expected at least 1e\+06 GiB"):
        stand.target(name, minimum_free_gib=1e6).prepare(stand.release("1.0.0", (web(),)), token(name))


def test_each_web_replica_can_be_reached_without_users(place: Place) -> None:
    release = place.release("1.0.0", web(replicas=2), worker())
    place.launch(release)
    addresses = place.target.addresses(release)
    assert [httpx.get(f"{address.url}/").json()["version"] for address in addresses] == ["1.0.0", "1.0.0"]
    assert {address.service for address in addresses} == {"api"}
