"""A small supervisor of Traefik instances that share their entry points, so that the death of one costs almost nothing.

Each instance has listening sockets of its own on the same ports (SO_REUSEPORT), and the kernel spreads new connections over them. This
process makes the sockets, keeps a copy, and hands them over (Traefik supports systemd's protocol). When an instance dies, a filter of one
instruction tells the kernel to give every new connection to the other one, and those that had reached the dead one's socket and were
accepted by nobody are carried over. Traefik listens before it has read its routes and would answer 404 meanwhile: so the filter stays
until the instance that was started in its place shows that it has read.

It keeps no state: when it dies its copies go, the instances serve on, the kernel closes the sockets of one that dies then, and the next
supervisor finds them by their pid files. It also puts broken files of the routing back from their twins, since an instance that starts
would read them. `python -m deployments.front CONFIGURATION`.
"""

import contextlib
import ctypes
import http.client
import json
import logging
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from blocks.traefik_files import mend_all
from deployments.processes import ManagedProcess
from deployments.relay import relay

log = logging.getLogger("greenroom.front")

# Not in Python's socket module; include/uapi/asm-generic/socket.h.
_ATTACH_FILTER, _DETACH_FILTER = 51, 68
_RETURN = 0x06  # BPF_RET | BPF_K
_BACKLOG = 1024
_BUSY_SECONDS, _IDLE_SECONDS = 0.02, 0.5
_ASK_SECONDS = 0.5
# One that lives so long has started well; one that died sooner is started again a little later each time.
_WELL_SECONDS, _LONGEST_PAUSE_SECONDS = 5.0, 5.0
_START_SECONDS = 30.0
# An instance that answers nobody for so long, while another one serves, is ended: the kernel goes on sending it half of the users.
_FROZEN_SECONDS = 10.0


class Stage(Enum):
    DOWN = auto()
    STARTING = auto()
    SERVING = auto()
    LEAVING = auto()


@dataclass
class Instance:
    """One Traefik: its process, where its own API answers, and what the supervisor knows about it."""

    process: ManagedProcess
    admin_url: str
    stage: Stage = Stage.DOWN
    since: float = 0.0
    heard: float = 0.0
    deaths: int = 0
    not_before: float = 0.0
    death: int | None = None  # a file descriptor that gets readable when the process ends
    sockets: dict[str, socket.socket] = field(default_factory=dict)

    @property
    def gone(self) -> bool:
        """Has the whole process ended, and closed what it held? Else a socket of its own would go later, and make way for that of the
        instance which is started in its place.
        """
        if self.death is None:
            return self.process.pid() is None
        poll = select.poll()
        poll.register(self.death, select.POLLIN)
        return bool(poll.poll(0))

    def answers(self, *paths: str) -> bool:
        return all(_answers(self.admin_url, path) for path in paths)


class Front:
    """Keeps the instances up. One of them at a time is down, starting or leaving while another one serves."""

    def __init__(self, instances: Sequence[Instance], entry_points: Mapping[str, tuple[str, int]], watched: Path, folder: Path) -> None:
        self._instances = instances
        self._entry_points = entry_points
        self._watched = watched
        self._folder = folder
        self._stopping = False
        self._seen: object = None
        # Whose sockets the kernel has, in its own order: one that goes makes way for the last one.
        self._places: list[Instance] = []

    def run(self) -> None:
        """Until SIGTERM or SIGINT; then the instances finish what they answer, and end."""
        waker, woken = socket.socketpair()
        waker.setblocking(False)
        signal.set_wakeup_fd(waker.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        for instance in self._instances:
            self._adopt(instance)
        while not self._stopping:
            self._look(time.monotonic())
            self._sleep(woken)
        for instance in self._instances:
            for one in instance.sockets.values():
                one.close()
            _send(instance, signal.SIGTERM)
        for instance in self._instances:
            instance.process.stop()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _sleep(self, woken: socket.socket) -> None:
        """Until an instance ends, a signal comes, or it is time to look."""
        busy = any(instance.stage is not Stage.SERVING for instance in self._instances)
        poll = select.poll()
        for number in (woken.fileno(), *(instance.death for instance in self._instances if instance.death is not None)):
            poll.register(number, select.POLLIN)
        poll.poll(1000 * (_BUSY_SECONDS if busy else _IDLE_SECONDS))

    def _look(self, now: float) -> None:
        for instance in self._instances:
            if instance.stage is not Stage.DOWN and instance.gone:
                self._bury(instance, now)
        self._mend()
        for instance in self._instances:
            if instance.stage is Stage.STARTING:
                self._welcome(instance, now)
            elif instance.stage is Stage.SERVING:
                self._visit(instance, now)
        if all(instance.stage in (Stage.DOWN, Stage.SERVING) for instance in self._instances):
            due = [one for one in self._instances if one.stage is Stage.DOWN and one.not_before <= now]
            if due:
                self._start(due[0], now)
        self._carry_over()

    # ---- connections

    def _steer(self) -> None:
        """Tells the kernel, for every entry point, who gets new connections: all alike when all serve, else one that does."""
        serving = [place for place, one in enumerate(self._places) if one.stage is Stage.SERVING]
        everybody = len(serving) in (0, len(self._places))
        held = next((one.sockets for one in self._places if one.sockets), {})
        for one in held.values():
            if everybody:
                spread(one)
            else:
                point_to(one, serving[0])

    def _carry_over(self) -> None:
        """Connections that had reached an instance which is not there (yet) go to one that is."""
        if any(one.stage is Stage.SERVING for one in self._instances):
            for instance in self._instances:
                if instance.stage in (Stage.DOWN, Stage.STARTING):
                    for name, one in instance.sockets.items():
                        with contextlib.suppress(BlockingIOError):
                            while True:
                                relay(one.accept()[0], self._entry_points[name])

    # ---- one instance

    def _adopt(self, instance: Instance) -> None:
        """One that runs since before this supervisor: its sockets are its own, and whether connections pass it by, nobody knows; the next
        start of one mends that.
        """
        if instance.process.pid() is not None:
            log.info("%s runs already, as process %s", instance.process.name, instance.process.pid())
            self._places.append(instance)
            self._watch(instance, time.monotonic())

    def _start(self, instance: Instance, now: float) -> None:
        try:
            if not instance.sockets:
                self._places.append(instance)
                self._steer()
                for name, address in self._entry_points.items():
                    instance.sockets[name] = _listen(address)
                # Again, for the case that nobody's socket was at hand before.
                self._steer()
            instance.process.sockets = instance.sockets
            instance.process.launch()
        except OSError as broken:
            log.warning("%s cannot be started: %s", instance.process.name, broken)
            self._bury(instance, now)
            return
        self._watch(instance, now)
        log.info("%s started, as process %s", instance.process.name, instance.process.pid())

    def _watch(self, instance: Instance, now: float) -> None:
        instance.stage, instance.since, instance.heard = Stage.STARTING, now, now
        noted = instance.process.pid()
        # Gone already: the next look finds that out.
        with contextlib.suppress(ProcessLookupError):
            instance.death = os.pidfd_open(noted) if noted is not None else None

    def _welcome(self, instance: Instance, now: float) -> None:
        """It gets users once its API answers: that is a route of the directory's too, and the directory is read as a whole."""
        if instance.answers("/api/version", "/metrics"):
            instance.stage, instance.since, instance.heard = Stage.SERVING, now, now
            self._steer()
            log.info("%s serves", instance.process.name)
        elif now - instance.since > _START_SECONDS:
            log.warning("%s does not answer %s s after its start and is started again", instance.process.name, _START_SECONDS)
            _send(instance, signal.SIGKILL)

    def _visit(self, instance: Instance, now: float) -> None:
        another = any(one is not instance and one.stage is Stage.SERVING for one in self._instances)
        if instance.process.runs_otherwise():
            if another:
                log.info("%s runs with an older configuration and is replaced", instance.process.name)
                instance.stage = Stage.LEAVING
                self._steer()
                _send(instance, signal.SIGTERM)
        elif now - instance.heard >= 1 and instance.answers("/ping"):
            instance.heard = now
        elif now - instance.heard > _FROZEN_SECONDS and another:
            log.warning("%s has not answered for %s s and is ended", instance.process.name, _FROZEN_SECONDS)
            _send(instance, signal.SIGKILL)

    def _bury(self, instance: Instance, now: float) -> None:
        short = instance.stage is not Stage.LEAVING and now - instance.since < _WELL_SECONDS
        instance.deaths = instance.deaths + 1 if short else 0
        pause = min(_LONGEST_PAUSE_SECONDS, 0.1 * 2**instance.deaths) if short else 0.0
        instance.stage, instance.not_before = Stage.DOWN, now + pause
        if instance.death is not None:
            os.close(instance.death)
            instance.death = None
        if len(instance.sockets) < len(self._entry_points):
            self._forget(instance)
        self._steer()
        self._carry_over()
        log.warning("%s has ended; it is started again in %.1f s. %s", instance.process.name, pause, instance.process.last_lines(2))

    def _forget(self, instance: Instance) -> None:
        """Its sockets have gone with it, since nobody here had a copy (of each)."""
        for one in instance.sockets.values():
            one.close()
        instance.sockets.clear()
        if instance in self._places:
            place = self._places.index(instance)
            self._places[place] = self._places[-1]
            self._places.pop()

    # ---- the files

    def _mend(self) -> None:
        """Looks at names, sizes and times only, unless one has changed."""
        try:
            with os.scandir(self._watched) as found:
                seen = sorted((one.name, one.stat().st_size, one.stat().st_mtime_ns, one.inode()) for one in found)
            if seen == self._seen:
                return
            for name in mend_all(self._watched, self._folder):
                log.warning("a file of %s's routing was broken and is mended from its twin", name)
            self._seen = seen
        except OSError as broken:
            log.warning("the files in %s cannot be looked after: %s", self._watched, broken)


def point_to(one: socket.socket, place: int) -> None:
    """Every new connection to the port of this listening socket goes to the socket at this place among all that listen there, counted
    from 0 in the order in which they came.

    The kernel asks a filter of classic BPF, here of one instruction, which needs no privilege. It stays with the port until `spread` or
    the last socket's end; a place that there is not means any. Raises `OSError`.
    """
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN, 0, 0, place))
    one.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(instruction)))


def spread(one: socket.socket) -> None:
    """New connections go to all listening sockets of this one's port alike."""
    # There is none to take away where none was attached.
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)


def _listen(address: tuple[str, int]) -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # As Traefik has it; both share what is set here.
        one.setblocking(False)
        one.bind(address)
        one.listen(_BACKLOG)
    except OSError:
        one.close()
        raise
    return one


def _send(instance: Instance, number: signal.Signals) -> None:
    if (pid := instance.process.pid()) is not None:
        os.kill(pid, number)


def _answers(url: str, path: str) -> bool:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_ASK_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def front_of(configuration: Mapping[str, Any]) -> Front:
    """From what `deployments.traefik` writes: entry_points, state, watched, folder; instances of name, argv, configuration, admin_url."""
    state = Path(configuration["state"])
    instances = [
        Instance(
            ManagedProcess(one["name"], one["argv"], state, settings={}, configuration=one["configuration"], patience_seconds=13),
            one["admin_url"],
        )
        for one in configuration["instances"]
    ]
    points = {name: (str(host), int(port)) for name, (host, port) in configuration["entry_points"].items()}
    return Front(instances, points, Path(configuration["watched"]), Path(configuration["folder"]))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    front_of(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))).run()
