import http.client
import json
import os
import select
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from blocks.traefik_files import DynamicFiles
from deployments import traefik as traefik_module
from deployments.front import point_to, spread
from deployments.processes import ManagedProcess, free_ports, wait_until
from deployments.traefik import Traefik

USERS, FILES = "users", "production"

pytestmark = pytest.mark.processes


# ---- what the kernel does with new connections


@pytest.fixture
def listening() -> Iterator[list[socket.socket]]:
    """Two sockets on the same port, the older one first."""
    port = free_ports([USERS])[USERS]
    found = []
    for _ in range(2):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", port))
        one.listen(256)
        found.append(one)
    yield found
    for one in found:
        one.close()


def arrivals(listening: list[socket.socket]) -> list[int]:
    """How many of 64 new connections each socket got."""
    callers = [socket.create_connection(listening[0].getsockname()) for _ in range(64)]
    got = []
    for one in listening:
        count = 0
        while select.select([one], [], [], 0)[0]:
            one.accept()[0].close()
            count += 1
        got.append(count)
    for caller in callers:
        caller.close()
    return got


def test_the_kernel_spreads_connections_over_the_sockets_of_a_port(listening: list[socket.socket]) -> None:
    assert min(arrivals(listening)) > 0


@pytest.mark.parametrize("place", [0, 1])
def test_connections_go_to_one_socket_until_they_are_spread_again(listening: list[socket.socket], place: int) -> None:
    point_to(listening[1], place)
    assert arrivals(listening)[place] == 64
    spread(listening[0])
    assert min(arrivals(listening)) > 0


def test_a_socket_that_is_gone_makes_way_for_the_last_one(listening: list[socket.socket]) -> None:
    point_to(listening[1], 0)
    listening.pop(0).close()
    assert arrivals(listening) == [64]


# ---- two real instances


class House:
    """A pair of Traefik instances in front of a server that always answers."""

    def __init__(self, folder: Path, server: str) -> None:
        self._folder = folder
        self._ports = free_ports([USERS, "one", "two"])
        self.traefik = self.again()
        self.files = DynamicFiles(FILES, self.traefik.dynamic_directory, self.traefik.new_files_directory)
        self.document = json.dumps(
            {
                "http": {
                    "routers": {"all": {"entryPoints": [USERS], "rule": "PathPrefix(`/`)", "service": "all"}},
                    "services": {"all": {"loadBalancer": {"servers": [{"url": server}]}}},
                }
            }
        ).encode()

    def again(self) -> Traefik:
        """As a process that comes later sees it."""
        return Traefik(self._folder, {USERS: self._ports[USERS]}, self._ports["one"], second_admin_port=self._ports["two"])

    def open(self) -> None:
        self.traefik.start()
        with self.files.locked():
            self.files.publish(self.document)
        wait_until(lambda: self.shown() == 2, what="the routing", seconds=10)

    def shown(self) -> int:
        """How many instances have the route."""
        return sum(status(f"{url}/api/http/services/all@file") == "200" for url in self.traefik.admin_urls)

    def ask_until(self, done: Callable[[], bool], *, at_least: int = 60) -> Counter[str]:
        """What users get, each over a connection of his own, until `done` and at least so many times; gives up after 20 s."""
        told: Counter[str] = Counter()
        deadline = time.monotonic() + 20
        while (not done() or told.total() < at_least) and time.monotonic() < deadline:
            told[status(self.traefik.url(USERS))] += 1
        assert done()
        return told

    def restarted(self, instance: ManagedProcess, before: int | None) -> bool:
        return instance.pid() not in (None, before) and self.shown() == 2


def status(url: str) -> str:
    """Over a connection of its own."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=3)
    try:
        connection.request("GET", address.path or "/")
        return str(connection.getresponse().status)
    except (OSError, http.client.HTTPException) as broken:
        return type(broken).__name__
    finally:
        connection.close()


def kill(process: ManagedProcess) -> int:
    pid = process.pid()
    assert pid is not None
    watched = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    # All its threads, and so its sockets: its pid file's process counts as gone a little sooner.
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    assert poll.poll(5000)
    os.close(watched)
    return pid


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_address[1]}"
    serving.shutdown()
    serving.server_close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, server: str) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("pair"), server)
    try:
        house.open()
        yield house
    finally:
        house.traefik.stop()


@pytest.mark.parametrize("which", [0, 1])
def test_users_who_arrive_after_an_instance_was_killed_are_all_served_until_it_is_back(house: House, which: int) -> None:
    instance = house.traefik.instances[which]
    before = kill(instance)
    assert set(house.ask_until(lambda: house.restarted(instance, before))) == {"200"}


def test_who_waited_to_be_accepted_by_an_instance_that_dies_is_served_by_the_other_one(house: House) -> None:
    instance = house.traefik.instances[0]
    before = instance.pid()
    assert before is not None
    os.kill(before, signal.SIGSTOP)
    with ThreadPoolExecutor(24) as users:
        asked = [users.submit(status, house.traefik.url(USERS)) for _ in range(24)]
        # The ones that reached the other instance have their answer; who waits now waits for the frozen one.
        waiting = wait(asked, timeout=1).not_done
        kill(instance)
        assert {each.result() for each in asked} == {"200"}
    assert waiting
    house.ask_until(lambda: house.restarted(instance, before))


def test_an_instance_that_starts_among_broken_files_gets_users_only_when_they_are_mended(house: House) -> None:
    foreign = house.traefik.dynamic_directory / "foreign.yml"
    foreign.write_text("{{{")
    instance = house.traefik.instances[0]
    before = kill(instance)
    wait_until(lambda: instance.pid() not in (None, before), what="its restart", seconds=10)
    try:
        assert set(house.ask_until(lambda: True, at_least=200)) == {"200"}
        assert house.shown() == 1
    finally:
        foreign.unlink()
    assert set(house.ask_until(lambda: house.restarted(instance, before))) == {"200"}


@pytest.mark.parametrize("damage", ["", '{"http": {', None])
def test_the_supervisor_puts_a_broken_file_back_from_its_twin_and_no_user_notices(house: House, damage: str | None) -> None:
    if damage is None:
        house.files.first.unlink()
    else:
        house.files.first.write_text(damage)
    told = house.ask_until(lambda: house.files.first.exists() and house.files.first.read_bytes() == house.document)
    assert set(told) == {"200"}


def test_instances_outlive_their_supervisor_and_the_next_one_looks_after_them(house: House) -> None:
    pids = [instance.pid() for instance in house.traefik.instances]
    kill(house.traefik.process)
    later = house.again()
    later.start()
    assert [instance.pid() for instance in later.instances] == pids
    before = kill(later.instances[1])
    assert set(house.ask_until(lambda: house.restarted(later.instances[1], before))) == {"200"}


def test_another_configuration_replaces_one_instance_after_the_other_and_nobody_meets_one_without_routes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [instance.pid() for instance in house.traefik.instances]
    kill(house.traefik.process)
    monkeypatch.setattr(traefik_module, "LATENCY_BUCKETS", (0.1, 1.0))
    later = house.again()
    later.start()

    def replaced() -> bool:
        return house.shown() == 2 and not any(one.pid() in (None, old) for one, old in zip(later.instances, before, strict=True))

    # The first one's sockets are its own, since its supervisor died: who waits to be accepted when it closes them is lost.
    assert "404" not in house.ask_until(replaced)
    assert 'le="0.075"' not in httpx.get(f"{later.admin_urls[1]}/metrics", trust_env=False).text


def test_ending_it_leaves_nothing_behind_even_without_its_supervisor(tmp_path: Path, server: str) -> None:
    house = House(tmp_path, server)
    house.traefik.start()
    kill(house.traefik.process)
    house.traefik.stop()
    assert [instance.pid() for instance in house.traefik.instances] == [None, None]
    assert status(house.traefik.url(USERS)) == "ConnectionRefusedError"
