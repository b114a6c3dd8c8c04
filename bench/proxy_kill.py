"""Kills of Traefik under an open loop of requests: how many fail with one instance, how many with two?

`python -m bench.proxy_kill --rate 200 --requests 2000 --kills 3`. Four runs one after the other: one Traefik that is started again at once
when it is found dead, and the supervised pair; each with a new connection per request, and with kept-alive ones. Behind it is a server of
its own process that answers after `--work-ms`. Every request is a POST, since clients (this load's too) send a GET again by themselves when
its connection breaks, and nobody would see what was lost. The instances of a pair are killed in turn. The last line is one JSON object; per
run:

* requests, failed, and by_error how they failed: `connection` (refused, reset, or closed without an answer), `404` (a Traefik that had
  not read its routes), `502`, …;
* in_flight: how many of the failed ones were under way between an instance's SIGKILL and the end of its last thread, dying_ms, when the
  kernel closes its connections: nothing but a repetition could have saved them;
* p99_ms: from when a request was due;
* cpu_ms_per_request: of all processes of the front, the supervisor included, over the run and its restarts;
* idle_cpu_percent, rss_mb: of the same processes, over two seconds without requests before the run.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import select
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

import httpx

from blocks.traefik_files import DynamicFiles
from deployments.processes import free_ports, wait_until
from deployments.traefik import Traefik
from tasks.load import Answer, Request, open_loop, percentile

USERS = "users"
_IDLE_SECONDS = 2.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Asked:
    """What the command line asked for."""

    rate: float
    requests: int
    kills: int
    work_ms: float

    @property
    def seconds(self) -> float:
        return self.requests / self.rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second")
    parser.add_argument("--requests", type=int, default=2000, help="of each run")
    parser.add_argument("--kills", type=int, default=3, help="of each run")
    parser.add_argument("--work-ms", type=float, default=5.0, help="how long the server behind Traefik takes for an answer")
    asked = Asked(**vars(parser.parse_args()))
    found: dict[str, object] = {"rate": asked.rate, "kills": asked.kills, "work_ms": asked.work_ms}
    with serving(asked.work_ms) as server:
        for pair in (False, True):
            for kept_alive in (False, True):
                name = f"{'pair' if pair else 'single'}_{'kept_alive' if kept_alive else 'new_connections'}"
                with tempfile.TemporaryDirectory(prefix="greenroom-bench-") as folder:
                    found[name] = run(Path(folder), server, asked, pair=pair, kept_alive=kept_alive)
                print(f"  {name}: {found[name]}", flush=True)
    print(json.dumps({**found, "load_average": [round(minutes, 1) for minutes in os.getloadavg()], "cpus": os.cpu_count()}))


def run(folder: Path, server: str, asked: Asked, *, pair: bool, kept_alive: bool) -> dict[str, object]:
    """One front, one load, its kills; returns the figures named above."""
    ports = free_ports([USERS, "one", "two"])
    traefik = Traefik(folder, {USERS: ports[USERS]}, ports["one"], second_admin_port=ports["two"] if pair else None)
    traefik.start()
    try:
        _route(traefik, server)
        idle_before, used = time.monotonic(), _cpu_seconds(traefik)
        time.sleep(_IDLE_SECONDS)
        idle = (_cpu_seconds(traefik) - used) / (time.monotonic() - idle_before)
        memory = sum(_rss_bytes(pid) for pid in _pids(traefik))
        with Spent(traefik) as spent, contextlib.nullcontext() if pair else restarting(traefik):
            answers, zero, killed = _load(traefik, asked, kept_alive=kept_alive)
    finally:
        traefik.stop()
    failed = [answer for answer in answers if answer.failed]
    p99 = percentile(sorted(answer.latency_ms for answer in answers), 0.99)
    return {
        "requests": len(answers),
        "failed": len(failed),
        "in_flight": sum(any(answer.start <= gone - zero and answer.end >= kill - zero for kill, gone in killed) for answer in failed),
        "dying_ms": [round(1000 * (gone - kill)) for kill, gone in killed],
        "by_error": dict(Counter(answer.error or str(answer.status) for answer in failed)),
        "p99_ms": None if p99 is None else round(p99, 1),
        "cpu_ms_per_request": round(1000 * spent.seconds / len(answers), 2),
        "idle_cpu_percent": round(100 * idle, 1),
        "rss_mb": round(memory / 2**20),
    }


def _route(traefik: Traefik, server: str) -> None:
    document = {
        "http": {
            "routers": {"all": {"entryPoints": [USERS], "rule": "PathPrefix(`/`)", "service": "all"}},
            "services": {"all": {"loadBalancer": {"servers": [{"url": server}]}}},
        }
    }
    files = DynamicFiles("bench", traefik.dynamic_directory, traefik.new_files_directory)
    with files.locked():
        files.publish(json.dumps(document).encode())

    def shown() -> bool:
        return all(httpx.get(f"{url}/api/http/services/all@file", trust_env=False).status_code == 200 for url in traefik.admin_urls)

    wait_until(shown, what="the route", seconds=10)


def _load(traefik: Traefik, asked: Asked, *, kept_alive: bool) -> tuple[list[Answer], float, list[tuple[float, float]]]:
    """The answers, when the load began, and for each kill when it was and when the process had ended, on this machine's steady clock."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_ask, args=(traefik.url(USERS), asked, kept_alive, there), daemon=True)
    process.start()
    zero: float = here.recv()
    killed = []
    for number in range(asked.kills):
        time.sleep(max(0.0, zero + asked.seconds * (number + 0.5) / asked.kills - time.monotonic()))
        victim = traefik.instances[number % len(traefik.instances)].pid()
        if victim is not None:
            killed.append(_kill(victim))
    answers = [Answer(*fields) for fields in here.recv()]
    process.join()
    return answers, zero, killed


def _kill(pid: int) -> tuple[float, float]:
    watched = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    poll.poll(5000)
    os.close(watched)
    return began, time.monotonic()


def _ask(url: str, asked: Asked, kept_alive: bool, answers: Connection) -> None:  # noqa: FBT001  a process' arguments have no names
    headers = {} if kept_alive else {"Connection": "close"}
    answers.send(time.monotonic())
    found = asyncio.run(open_loop(asked.rate, asked.seconds, lambda number: Request(f"{url}/{number}", method="POST", headers=headers)))
    answers.send([astuple(answer) for answer in found])


@contextlib.contextmanager
def restarting(traefik: Traefik) -> Iterator[None]:
    """One instance without a supervisor, started again within some hundredths of a second: the best that a plain restart can do."""
    stop = threading.Event()

    def keep() -> None:
        while not stop.wait(0.02):
            if traefik.process.pid() is None:
                traefik.start()

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        yield
    finally:
        stop.set()
        keeper.join()


@contextlib.contextmanager
def serving(work_ms: float) -> Iterator[str]:
    """A server in a process of its own; yields where."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(work_ms / 1000, there), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(work_seconds: float, port: Connection) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(work_seconds)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        writer.close()

    async def forever() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())


class Spent:
    """CPU seconds of the front's processes between entering and leaving, with those of processes that were killed in between."""

    def __init__(self, traefik: Traefik) -> None:
        self._traefik = traefik
        self._seen: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._begun = _spent_by(_pids(self._traefik))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.seconds = sum(spent - self._begun.get(pid, 0.0) for pid, spent in self._seen.items())

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            self._seen |= _spent_by(_pids(self._traefik))


def _pids(traefik: Traefik) -> Sequence[int]:
    pids = {pid for one in (*traefik.instances, traefik.process) if (pid := one.pid()) is not None}
    return sorted(pids)


def _cpu_seconds(traefik: Traefik) -> float:
    return sum(_spent_by(_pids(traefik)).values())


def _spent_by(pids: Sequence[int]) -> dict[int, float]:
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found[pid] = (int(fields[11]) + int(fields[12])) / _TICKS
    return found


def _rss_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0


if __name__ == "__main__":
    main()
