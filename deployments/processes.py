"""Long-lived processes that belong to one state directory: started once, found again by whoever comes later, ended exactly."""

import fcntl
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from delivery.errors import DeliveryError

# Below the range from which the kernel takes ports for outgoing connections, so that a port that is free now stays free.
PORTS = range(20_000, 32_000)
# A foreign session's settings must not reach the processes of this stage.
FOREIGN_SETTINGS = ("PREFECT_", "REGISTRY_", "TRAEFIK_")
# systemd's protocol wants the sockets at the numbers from 3 on, and the process' own number, which nobody knows before it exists.
_HAND_OVER = """
import os, sys
numbers = [int(number) for number in sys.argv[1].split(",")]
spare = max(numbers) + 4 + len(numbers)
for place, number in enumerate(numbers):
    os.dup2(number, spare + place, inheritable=False)
    os.close(number)
for place in range(len(numbers)):
    os.dup2(spare + place, 3 + place)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


def free_ports(names: Iterable[str]) -> dict[str, int]:
    """A free loopback port for each name, all different; each was bound once to be sure."""
    chosen: dict[str, int] = {}
    candidates = random.sample(PORTS, len(PORTS))
    for name in names:
        while name not in chosen:
            if not candidates:
                raise DeliveryError(f"No port between {PORTS[0]} and {PORTS[-1]} is free.", next="end what holds them")
            port = candidates.pop()
            if port_is_free(port):
                chosen[name] = port
    return chosen


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Could a server listen there now?"""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections that linger after a server's end do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def refuse_taken_port(port: int, purpose: str) -> None:
    """Raise DeliveryError, naming who listens where that can be seen, unless `port` is free on loopback."""
    if not port_is_free(port):
        raise DeliveryError(
            f"Port {port} for {purpose} is taken by {who_listens(port) or 'a process of somebody else'}.",
            next="end that process, or choose another port",
        )


def who_listens(port: int) -> str | None:
    """`process 123 (name)` of who listens on `port`, or None where nobody does or the kernel does not tell us."""
    inodes = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(handle.readlink()) in inodes for handle in (process / "fd").iterdir()):
                return f"process {process.name} ({(process / 'comm').read_text().strip()})"
        except OSError:
            continue
    return None


def wait_until(check: Callable[[], bool], *, what: str, seconds: float, explain: Callable[[], str] = lambda: "") -> None:
    """Ask `check` again and again, with growing pauses, until it is true; DeliveryError after `seconds`.

    `explain` adds what is known about the failure. A check may raise DeliveryError to give up at once.
    """
    deadline = time.monotonic() + seconds
    pause = 0.05
    while not check():
        if time.monotonic() > deadline:
            raise DeliveryError(f"{what} is not ready after {seconds:.0f} s. {explain()}".strip(), next="look at its log")
        time.sleep(pause)
        pause = min(pause * 1.5, 1.0)


@dataclass
class ManagedProcess:
    """One process with a pid file and a log below `state`; a second start finds the first.

    The pid file holds the process' birth as well, so that a number which the kernel gave to another process is never signalled,
    and a fingerprint of its arguments and `configuration` (the text it was started with), so that one that runs otherwise is seen.
    """

    name: str
    argv: Sequence[str]
    state: Path
    settings: Mapping[str, str]
    configuration: str = ""
    directory: Path | None = None
    patience_seconds: float = 20.0
    # Listening sockets by name, handed over as systemd does (sd_listen_fds(3)); whoever made them closes his own copies.
    sockets: Mapping[str, socket.socket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def log_file(self) -> Path:
        return self.state / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        return self.state / f"{self.name}.pid"

    @property
    def _fingerprint(self) -> str:
        return hashlib.sha256("\0".join((*self.argv, self.configuration)).encode()).hexdigest()[:16]

    def _noted(self) -> tuple[int, str, str] | None:
        try:
            number, born, fingerprint = self.pid_file.read_text().split()
        except (OSError, ValueError):
            return None
        return int(number), born, fingerprint

    def pid(self) -> int | None:
        """The process' number while it lives, else None."""
        if self._child is not None:
            self._child.poll()  # takes the exit status of our own child; else it would stay as a zombie
        noted = self._noted()
        return noted[0] if noted and _birth(noted[0]) == noted[1] else None

    def start(self, ready: Callable[[], bool], *, seconds: float, before: Callable[[], None] = lambda: None) -> None:
        """Start unless it runs, then wait until `ready`; `before` (ports, files) is called only before a real start.

        A process that ends, or is not ready within `seconds`, is ended and DeliveryError tells the last lines of its log. One that
        ran before is never ended by this, and refused when it runs with other arguments or another configuration.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        with (self.state / f"{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            fresh = self.pid() is None
            if fresh:
                before()
                self.launch()
            elif self.runs_otherwise():
                raise DeliveryError(
                    f"{self.name} runs already (process {self.pid()}) with other settings than asked for.",
                    next="stop it first, or use another state directory",
                )
            try:
                wait_until(lambda: self._still_lives() and ready(), what=self.name, seconds=seconds, explain=self.last_lines)
            except DeliveryError:
                if fresh:
                    self.stop()
                raise

    def runs_otherwise(self) -> bool:
        """Was it started with other arguments or another configuration than asked for now?"""
        noted = self._noted()
        return noted is not None and noted[2] != self._fingerprint

    def launch(self) -> None:
        """Start it, and neither look whether it runs already nor wait until it is ready; for whoever supervises it."""
        self.state.mkdir(parents=True, exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN_SETTINGS)}
        argv, numbers = [*self.argv], [one.fileno() for one in self.sockets.values()]
        if numbers:
            argv = [sys.executable, "-I", "-S", "-c", _HAND_OVER, ",".join(map(str, numbers)), *argv]
            environment |= {"LISTEN_FDS": str(len(numbers)), "LISTEN_FDNAMES": ":".join(self.sockets)}
        with self.log_file.open("ab") as log:
            # A session of its own: a Ctrl-C in the terminal and the end of its starter do not reach it.
            self._child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**environment, **self.settings},
                cwd=self.directory,
                start_new_session=True,
                pass_fds=numbers,
            )
        self.pid_file.write_text(f"{self._child.pid} {_birth(self._child.pid)} {self._fingerprint}\n")

    def _still_lives(self) -> bool:
        if self.pid() is None:
            raise DeliveryError(f"{self.name} ended while it started. {self.last_lines()}", next=f"look at {self.log_file}")
        return True

    def last_lines(self, count: int = 8) -> str:
        """The end of the log as one line, for a message."""
        try:
            lines = self.log_file.read_text(errors="replace").splitlines()[-count:]
        except OSError:
            return ""
        return f"Its log ends with: {' | '.join(line for line in lines if line.strip())}"

    def stop(self) -> None:
        """End it: SIGTERM, patience, SIGKILL; then whatever it started and left. Does nothing when it does not run."""
        pid = self.pid()
        if pid is not None:
            children = {child: _birth(child) for child in _children_of(pid)}
            _signal(pid, signal.SIGTERM)
            self._wait_for_end(self.patience_seconds)
            if self.pid() is not None:
                _signal(pid, signal.SIGKILL)
                self._wait_for_end(10)
            # Its own session, and the groups of children that got a session of their own (flow runs of a worker).
            left = {child for child, born in children.items() if born is not None and _birth(child) == born}
            for other in left | _session_of(pid):
                _signal(other, signal.SIGKILL)
        self.pid_file.unlink(missing_ok=True)

    def _wait_for_end(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.pid() is not None and time.monotonic() < deadline:
            time.sleep(0.05)


_THREADS = 17  # in what `_stat` returns


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on (index 0), or None when the process is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    # One whose first thread has ended holds its ports until the last one has.
    return None if fields[0] in "ZX" and int(fields[_THREADS]) <= 1 else fields


def _birth(pid: int) -> str | None:
    fields = _stat(pid)
    return fields[19] if fields else None


def _processes() -> dict[int, list[str]]:
    found = {int(path.name): _stat(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    return {pid: fields for pid, fields in found.items() if fields is not None}


def _children_of(pid: int) -> set[int]:
    return {child for child, fields in _processes().items() if int(fields[1]) == pid}


def _session_of(pid: int) -> set[int]:
    return {member for member, fields in _processes().items() if int(fields[3]) == pid}


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
