"""A Docker engine of a test's own, beside the machine's: it may be killed, started again, and given a small disk."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
from docker.errors import DockerException

from deployments.processes import wait_until

DOCKERD = shutil.which("dockerd") or "/usr/sbin/dockerd"


class OwnEngine:
    """Its data, its containerd, its bridge and its networks (10.213.0.0/16, no NAT) have nothing to do with the machine's.

    An engine that is told to have no bridge (`--bridge=none`) removes docker0, which is the machine's engine's: hence one of its own.
    """

    def __init__(self, folder: Path, data: Path) -> None:
        self._folder = folder
        self._bridge = f"gr{secrets.token_hex(4)}"
        self._data = data
        self._process: subprocess.Popen[bytes] | None = None
        self.host = f"unix://{folder}/sock"

    def start(self) -> None:
        if not Path("/sys/class/net", self._bridge).exists():
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("addr", "add", "10.212.255.1/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
        settings = self._folder / "daemon.json"
        settings.write_text("{}")
        options = {
            "config-file": settings,
            "data-root": self._data,
            "exec-root": self._folder / "exec",
            "pidfile": self._folder / "pid",
            "host": self.host,
            "bridge": self._bridge,
            "iptables": "false",
            "ip6tables": "false",
            "live-restore": "true",
            "default-address-pool": "base=10.213.0.0/16,size=24",
        }
        # What one that was killed wrote down: those pids belong to nobody, or to somebody else, by now.
        for pid in (self._folder / "pid", self._folder / "exec" / "containerd" / "containerd.pid"):
            pid.unlink(missing_ok=True)
        with (self._folder / "log").open("ab") as log:
            command = [DOCKERD, *(f"--{name}={value}" for name, value in options.items())]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_until(self._answers, what="an engine", seconds=90, explain=lambda: (self._folder / "log").read_text()[-600:])

    def kill(self) -> None:
        """The engine dies at once; what it started lives on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.host)

    def _answers(self) -> bool:
        with contextlib.suppress(DockerException, OSError), contextlib.closing(self.client()) as client:
            return bool(client.ping())
        return False

    def close(self) -> None:
        """Nothing that it started is left."""
        if self._process is None:
            return
        if self._process.poll() is not None:
            self.start()
        with contextlib.closing(self.client()) as client:
            for container in client.containers.list(all=True, ignore_removed=True):
                container.remove(force=True, v=True)
            client.networks.prune()
        self._process.terminate()
        self._process.wait(60)
        pid = self._folder / "exec" / "containerd" / "containerd.pid"
        if pid.exists():
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(pid.read_text()), signal.SIGTERM)
        _ip("link", "delete", self._bridge)


def _ip(*words: str) -> None:
    subprocess.run([shutil.which("ip") or "/sbin/ip", *words], check=True)


@contextlib.contextmanager
def own_engine(*, disk_mb: int | None = None) -> Iterator[OwnEngine]:
    """With `disk_mb` its data lie on a file system of that size."""
    folder = Path(tempfile.mkdtemp(prefix="gr-engine-"))  # short, since a socket's path must be
    data = folder / "data"
    data.mkdir()
    if disk_mb is not None:
        subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", f"size={disk_mb}m", "tmpfs", str(data)], check=True)
    engine = OwnEngine(folder, data)
    machines = Path("/sys/class/net/docker0")
    was_there = machines.exists()
    try:
        engine.start()
        assert machines.exists() == was_there, "the machine's own bridge was touched"
        yield engine
    finally:
        engine.close()
        # An engine mounts its own data once more, for itself.
        while f" {data} " in Path("/proc/self/mounts").read_text():
            subprocess.run(["/bin/umount", "--recursive", str(data)], check=True)
        shutil.rmtree(folder)
