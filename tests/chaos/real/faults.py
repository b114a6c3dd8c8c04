"""What can go wrong beside a kill: replicas, images, names, files, the registry; and what no pipeline can hide, told apart."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from delivery.errors import DeliveryError
from deployments.processes import port_is_free
from tests.blocks.fault_proxy import Fault
from tests.chaos.real.lane import Happened, Lane, Story
from tests.chaos.real.place import Place
from tests.chaos.real.processes import Running
from tests.chaos.real.world import routing_file, state_file

WATCHING = "watch-50/journal Started"
LAUNCHING = "launch/journal Started"
PROMOTING = "promote/journal Started"
PROVING = "smoke/journal Started"
REGISTRY = r"/v2/.+/manifests/"
TRAEFIK_READS_SECONDS = 0.7
ENDED = ("LIVE", "ROLLED_BACK", "UNTOUCHED")


def stories() -> list[Story]:
    return [
        Story("image removed before it is launched", "fault", _meanwhile(LAUNCHING, _remove_image)),
        Story("name taken by a foreign container", "fault", _name_taken),
        Story("green replica killed before it has users", "fault", _meanwhile(PROVING, _kill_green)),
        Story("green worker killed while it has users", "fault", _meanwhile(WATCHING, _kill_worker)),
        Story("dynamic file cut in half", "fault", _meanwhile(WATCHING, _spoil(routing_file, _half))),
        Story("dynamic file replaced by garbage", "fault", _meanwhile(WATCHING, _spoil(routing_file, _garbage))),
        Story("dynamic file emptied", "fault", _meanwhile(WATCHING, _spoil(routing_file, _nothing))),
        Story("dynamic file deleted", "fault", _meanwhile(WATCHING, _delete)),
        Story("state file cut in half", "fault", _meanwhile(WATCHING, _spoil(state_file, _half))),
        Story("a broken file of somebody else in the watched folder for 6 s", "fault", stranger(6)),
        Story("registry answers 429 twice", "registry", _registry(429, 2)),
        Story("registry answers 500 twice", "registry", _registry(500, 2)),
        Story("registry answers 500 for ever", "registry", _registry(500, 1000)),
        Story("registry is slow", "registry", _slow_registry),
        Story("journal's database frozen for 10 s while green has half", "journal", _journal_away(WATCHING, "pause")),
        Story("journal's database frozen for 10 s before launch", "journal", _journal_away(LAUNCHING, "pause")),
        Story("journal's database stopped for 10 s while green has half", "journal", _journal_away(WATCHING, "stop")),
        Story("journal's database frozen for 10 s at the promotion", "journal", _journal_away(PROMOTING, "pause")),
    ]


def apart() -> list[Story]:
    """Faults that cost requests whoever deploys: each with the same fault without a rollout as its control."""
    return [
        Story("green replica killed while it has users", "apart", _meanwhile(WATCHING, _kill_green), "replica"),
        Story("blue replica killed while green has half", "apart", _meanwhile(WATCHING, _kill_blue), "replica"),
        Story("Traefik killed and restarted while green has half", "apart", _meanwhile(WATCHING, kill_traefik), "proxy"),
        Story("Traefik killed and restarted at the promotion", "apart", _meanwhile(PROMOTING, kill_traefik), "proxy"),
        Story("the orders' database frozen for 5 s", "apart", _meanwhile(WATCHING, _orders_away), "database"),
    ]


def controls() -> dict[str, Callable[[Lane], object]]:
    """The same faults while nothing is rolled out."""
    return {"replica": _kill_blue, "proxy": kill_traefik, "database": _orders_away}


Act = Callable[[Lane, str], object]


def _meanwhile(name: str, act: Act) -> Callable[[Lane], Happened]:
    """A rollout waits at a point, something happens, it goes on."""

    def tell(lane: Lane) -> Happened:
        happened = Happened()
        version = lane.next_good
        lane.forget(version)
        walker = lane.start("walk", version, point=lane.point(name, strike="wait"))
        happened.expect(walker.wait_until_struck(), f"the point {name} was not reached")
        happened.struck_at = time.monotonic()
        act(lane, version)
        walker.let_go()
        _finish(lane, walker, happened)
        return happened

    return tell


def _finish(lane: Lane, walker: Running, happened: Happened) -> None:
    told = walker.wait()
    happened.remark = str(told.get("message") or told.get("what") or "")[:200]
    if told.get("ending") in ENDED:
        happened.recovered_at = told["ended_at"]
    lane.recover(happened)


def _remove_image(lane: Lane, version: str) -> None:
    for role in ("web", "worker"):
        lane.stand.forget_image(lane.place.images[f"{version}/{role}"])


def _kill_green(lane: Lane, version: str) -> None:
    lane.kill_replica(version)


def _kill_blue(lane: Lane, _: str = "") -> None:
    lane.kill_replica(lane.live)


def _kill_worker(lane: Lane, version: str) -> None:
    lane.kill_replica(version, "worker")


def _delete(lane: Lane, _: str) -> None:
    routing_file(lane.place).unlink()
    time.sleep(TRAEFIK_READS_SECONDS)


def _spoil(file_of: Callable[[Place], Path], change: Callable[[bytes], bytes]) -> Act:
    def spoil(lane: Lane, _: str) -> None:
        file = file_of(lane.place)
        file.write_bytes(change(file.read_bytes()))
        time.sleep(TRAEFIK_READS_SECONDS)

    return spoil


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _garbage(_: bytes) -> bytes:
    return b"\x00{]garbage"


def _nothing(_: bytes) -> bytes:
    return b""


def _name_taken(lane: Lane) -> Happened:
    happened = Happened()
    version = lane.next_good
    lane.forget(version)
    name = f"gr-{lane.place.environment}-api-{lane.place.release(version).id}-0"
    image = lane.place.images[f"{lane.live}/web"]
    foreign = lane.stand.engine.containers.create(image, name=name, labels={"greenroom.chaos": lane.stand.name})
    try:
        happened.struck_at = time.monotonic()
        _finish(lane, lane.start("walk", version), happened)
        foreign.reload()
        happened.expect(foreign.status == "created", "the foreign container was touched")
    finally:
        foreign.remove(force=True)
    return happened


def stranger(seconds: float) -> Callable[[Lane], Happened]:
    """One broken file keeps Traefik from reading any: what is written then is not what users meet."""

    def tell(lane: Lane) -> Happened:
        happened = Happened()
        version = lane.next_good
        lane.forget(version)
        file = Path(lane.place.dynamic_dir) / "zz-somebody-else.yml"
        walker = lane.start("walk", version, point=lane.point(WATCHING, strike="wait"))
        try:
            happened.expect(walker.wait_until_struck(), f"the point {WATCHING} was not reached")
            happened.struck_at = time.monotonic()
            file.write_text("{ this is no: [configuration")
            walker.let_go()
            until = time.monotonic() + seconds
            while walker.lives and time.monotonic() < until:
                time.sleep(0.1)
            # A walker that believed what it wrote is at its end by now: whoever tidies up after it does so as well.
            if not walker.lives:
                lane.recover(happened, within=seconds)
            time.sleep(max(0.0, until - time.monotonic()))
        finally:
            file.unlink(missing_ok=True)
        _finish(lane, walker, happened)
        return happened

    return tell


def _registry(status: int, times: int) -> Callable[[Lane], Happened]:
    def tell(lane: Lane) -> Happened:
        happened = Happened()
        proxy, version = lane.stand.registry_proxy, lane.next_good
        lane.forget_images(version)
        proxy.faults.append(Fault("GET|HEAD", REGISTRY, status, times, headers=(("Retry-After", "1"),) if status == 429 else ()))
        happened.struck_at = time.monotonic()
        walker = lane.start("walk", version)
        try:
            _finish(lane, walker, happened)
        finally:
            proxy.faults.clear()
        return happened

    return tell


def _slow_registry(lane: Lane) -> Happened:
    happened = Happened()
    proxy, version = lane.stand.registry_proxy, lane.next_good
    lane.forget_images(version)
    proxy.faults.append(Fault("GET|HEAD", "/v2/", status=0, times=1000, seconds=1.5))
    happened.struck_at = time.monotonic()
    try:
        _finish(lane, lane.start("walk", version), happened)
    finally:
        proxy.faults.clear()
    return happened


def _journal_away(name: str, how: str) -> Callable[[Lane], Happened]:
    def away(lane: Lane, _version: str) -> None:
        container = lane.stand.journals.container
        container.pause() if how == "pause" else container.kill("SIGKILL")

    def tell(lane: Lane) -> Happened:
        happened = Happened()
        version = lane.next_good
        lane.forget(version)
        walker = lane.start("walk", version, point=lane.point(name, strike="wait"))
        happened.expect(walker.wait_until_struck(), f"the point {name} was not reached")
        container = lane.stand.journals.container
        happened.struck_at = time.monotonic()
        try:
            away(lane, version)
            walker.let_go()
            time.sleep(10)
        finally:
            container.unpause() if how == "pause" else container.start()
        _until(lane.stand.journals.accepts, 30)
        _finish(lane, walker, happened)
        return happened

    return tell


def kill_traefik(lane: Lane, _: str = "") -> None:
    """SIGKILL, and started again at once."""
    traefik = lane.stand.traefik
    pid = traefik.process.pid()
    if pid is None:
        raise DeliveryError("Traefik does not run.", next="look at its log.")
    os.kill(pid, signal.SIGKILL)
    ports = [urlsplit(url).port or 0 for url in (lane.stand.url, traefik.admin_url)]
    # Its threads let go of its sockets one after another.
    _until(lambda: traefik.process.pid() is None and all(map(port_is_free, ports)), 5)
    traefik.start()


def _orders_away(lane: Lane, _: str = "") -> None:
    container = lane.stand.orders.container
    container.pause()
    time.sleep(5)
    container.unpause()


def _until(check: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not check() and time.monotonic() < until:
        time.sleep(0.05)
