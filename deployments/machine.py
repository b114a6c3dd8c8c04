"""What must be on the machine before anything else: Debian packages and a Docker engine that answers.

`python -m deployments.machine` looks first and installs only what is missing; `--check` prints what it would do. An engine that
answers is used as it is, whoever brought it.
"""

import argparse
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import DockerException

from delivery.errors import DeliveryError

log = logging.getLogger("greenroom")

SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
DAEMON_SETTINGS = Path("/etc/docker/daemon.json")
ENGINE_START_SECONDS = 60
INSTALL_SECONDS = 1800


@dataclass(frozen=True)
class Need:
    """Something that must be here: present in whatever form `is_there` accepts, else brought by Debian's `packages`."""

    name: str
    packages: tuple[str, ...]
    why: str
    is_there: Callable[[], bool]
    # Daemons that the package would start by itself and that must not run as a service of the machine.
    services: tuple[str, ...] = ()


def program(*names: str) -> Callable[[], bool]:
    """Is one of these programs on the PATH (the system folders included)?"""
    return lambda: any(shutil.which(name, path=SYSTEM_PATH) for name in names)


def chromium() -> Path:
    """The browser that tests and the demo look at pages with, there or not: CHROMIUM_PATH, else Debian's."""
    return Path(os.environ.get("CHROMIUM_PATH") or "/usr/bin/chromium")


def machine_state_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Where things that belong to the machine, not to one installation, keep logs and memory: XDG_STATE_HOME/greenroom."""
    home = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "greenroom"


def engine_client(*, timeout_seconds: int = 60) -> docker.DockerClient:
    """A client of the engine at DOCKER_HOST or /var/run/docker.sock; raises DeliveryError when none answers."""
    client = None
    try:
        client = docker.from_env(timeout=timeout_seconds)
        client.ping()
    except (DockerException, OSError) as error:
        if client is not None:
            client.close()
        if _may_not_reach_the_socket():
            raise DeliveryError(
                "A Docker engine runs but this user may not reach its socket.",
                next="run `sudo usermod -aG docker $USER` and log in again",
            ) from error
        raise DeliveryError(
            f"No Docker engine answers at {os.environ.get('DOCKER_HOST', '/var/run/docker.sock')} ({type(error).__name__}).",
            next="run `make setup`, or start the engine",
        ) from error
    return client


def engine_answers() -> bool:
    """Does a Docker engine answer a ping?"""
    try:
        engine_client(timeout_seconds=10).close()
    except DeliveryError:
        return False
    return True


def _may_not_reach_the_socket() -> bool:
    socket = Path("/var/run/docker.sock")
    return "DOCKER_HOST" not in os.environ and socket.exists() and not os.access(socket, os.W_OK)


NEEDS = (
    Need(
        name="Docker engine",
        packages=("docker.io", "iptables"),
        why="runs the images; builds them",
        is_there=lambda: engine_answers() or program("dockerd")(),
    ),
    Need(
        name="registry",
        packages=("docker-registry",),
        why="keeps images on loopback",
        is_there=program("docker-registry"),
        services=("docker-registry",),
    ),
    Need(name="mmdebstrap", packages=("mmdebstrap",), why="makes base images offline", is_there=program("mmdebstrap")),
    Need(
        name="Chromium",
        packages=("chromium",),
        why="end-to-end tests; looks at the demo's report",
        is_there=lambda: chromium().exists(),
    ),
    Need(name="git", packages=("git",), why="reads the source", is_there=program("git")),
    Need(name="ssh-keygen", packages=("openssh-client",), why="signs approvals", is_there=program("ssh-keygen")),
    Need(
        name="CA certificates",
        packages=("ca-certificates",),
        why="TLS",
        is_there=Path("/etc/ssl/certs/ca-certificates.crt").exists,
    ),
)

# What only the tests want, beside all that.
TESTS_NEED = (
    Need(
        name="Prometheus",
        packages=("prometheus",),
        why="the metric source of that name is tested against the real one",
        is_there=program("prometheus"),
        services=("prometheus",),
    ),
)


def missing_needs(needs: Sequence[Need] = NEEDS) -> list[Need]:
    """Those needs that are not there in any form."""
    return [need for need in needs if not need.is_there()]


def install(needs: Sequence[Need]) -> None:
    """Install the Debian packages of `needs`; raises DeliveryError, naming them, where that cannot be done."""
    packages = [package for need in needs for package in need.packages]
    by_hand = f"install {', '.join(need.name for need in needs)} by hand"
    if shutil.which("apt-get", path=SYSTEM_PATH) is None:
        raise DeliveryError(f"Missing: {', '.join(packages)}; this is no Debian, so they cannot be installed here.", next=by_hand)
    command = f"sudo apt-get install --no-install-recommends {' '.join(packages)}"
    root = _root_prefix(command)
    if not all(_has_candidate(package) for package in packages):
        _apt(root, "update", next_step="make `sudo apt-get update` work")
    try:
        _apt(root, "install", "--yes", "--no-install-recommends", *packages, next_step=f"run `{command}`")
    except DeliveryError:
        # Lists that are older than the mirror name files that are gone.
        _apt(root, "update", next_step="make `sudo apt-get update` work")
        _apt(root, "install", "--yes", "--no-install-recommends", *packages, next_step=f"run `{command}`")
    if _systemd_runs():
        for service in (service for need in needs for service in need.services):
            subprocess.run([*root, "systemctl", "disable", "--now", service], check=False, capture_output=True)


def _root_prefix(command: str) -> list[str]:
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], check=False, capture_output=True).returncode == 0:
        return [sudo, "-n"]
    raise DeliveryError("This needs root, and sudo asks for a password.", next=f"run `{command}`, then this again")


def _has_candidate(package: str) -> bool:
    asked = subprocess.run(["apt-cache", "policy", package], check=False, capture_output=True, text=True)
    return "Candidate:" in asked.stdout and "Candidate: (none)" not in asked.stdout


def _apt(root: Sequence[str], *arguments: str, next_step: str) -> None:
    # RUNLEVEL=1: packages do not start their daemons; what must run is started on purpose.
    argv = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-q"]
    argv += ["-o", "DPkg::Lock::Timeout=300", *arguments]
    done = subprocess.run(argv, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=INSTALL_SECONDS)
    if done.returncode != 0:
        last = " | ".join(done.stdout.strip().splitlines()[-6:])
        raise DeliveryError(f"apt-get {arguments[0]} ended with {done.returncode}: {last}", next=next_step)


def ensure_engine(state: Path | None = None) -> str:
    """Start the Docker engine unless one answers; returns one sentence on what was found or done.

    Under systemd the unit is started, elsewhere `dockerd`, detached, with its log and pid file in `state`. Raises DeliveryError
    with the last lines of its log when it does not answer within a minute.
    """
    if engine_answers():
        return "a Docker engine answers"
    if "DOCKER_HOST" in os.environ:
        raise DeliveryError(f"DOCKER_HOST is {os.environ['DOCKER_HOST']} and nothing answers there.", next="start that engine, or unset it")
    if _may_not_reach_the_socket():
        engine_client()  # refuses with the reason and the next step
    root = _root_prefix("sudo systemctl start docker")
    wrote = _write_daemon_settings(root)
    if _systemd_runs():
        subprocess.run([*root, "systemctl", "start", "docker"], check=False, capture_output=True, timeout=120)
        _wait_for_engine(lambda: _journal_of_docker(root))
        return "the Docker engine was started by systemd" + wrote
    dockerd = shutil.which("dockerd", path=SYSTEM_PATH)
    if dockerd is None:
        raise DeliveryError("No Docker engine answers and dockerd is not installed.", next="run `make setup`")
    _forget_dead_engine(root)
    state = state or machine_state_directory()
    state.mkdir(parents=True, exist_ok=True)
    output = state / "dockerd.log"
    with output.open("ab") as sink:
        # Without SIGHUP and without our terminal: the engine outlives the command that started it.
        process = subprocess.Popen(
            [*root, dockerd],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PATH": SYSTEM_PATH},
        )
    (state / "dockerd.pid").write_text(f"{process.pid}\n")
    try:
        _wait_for_engine(lambda: output.read_text(errors="replace"), process)
    except DeliveryError:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        raise
    return f"the Docker engine was started (process {process.pid}, log {output})" + wrote


def _forget_dead_engine(root: Sequence[str], run: Path = Path("/var/run")) -> None:
    """Pid files of an engine that was killed: where its number has gone to another process, a new engine would take that for itself."""
    for file, name in ((run / "docker.pid", "dockerd"), (run / "docker" / "containerd" / "containerd.pid", "containerd")):
        try:
            owner = (Path("/proc") / file.read_text().strip() / "comm").read_text().strip()
        except OSError:
            owner = ""
        if owner != name:
            subprocess.run([*root, "rm", "--force", str(file)], check=True)


def _write_daemon_settings(root: Sequence[str]) -> str:
    """Containers must survive a restart of the engine; a file that somebody else wrote is left alone."""
    if DAEMON_SETTINGS.exists():
        return ""
    settings = json.dumps({"live-restore": True, "storage-driver": "overlay2"}, indent=2) + "\n"
    subprocess.run([*root, "mkdir", "-p", str(DAEMON_SETTINGS.parent)], check=True)
    subprocess.run([*root, "tee", str(DAEMON_SETTINGS)], input=settings, text=True, check=True, stdout=subprocess.DEVNULL)
    return f"; {DAEMON_SETTINGS} written (live-restore)"


def _wait_for_engine(read_log: Callable[[], str], process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + ENGINE_START_SECONDS
    pause = 0.1
    while time.monotonic() < deadline:
        if engine_answers():
            return
        if process is not None and process.poll() is not None:
            break
        time.sleep(pause)
        pause = min(pause * 1.6, 2.0)
    last = read_log().strip().splitlines()[-6:]
    blamed = "iptables" in "".join(last).lower()
    raise DeliveryError(
        f"The Docker engine does not answer. Its log ends with: {' | '.join(last)}",
        next=(
            "try `sudo update-alternatives --set iptables /usr/sbin/iptables-legacy` and start it again"
            if blamed
            else "correct what the log names, then run `make setup` again"
        ),
    )


def _journal_of_docker(root: Sequence[str]) -> str:
    argv = [*root, "journalctl", "--unit", "docker", "--lines", "20", "--no-pager", "--output", "cat"]
    return subprocess.run(argv, check=False, capture_output=True, text=True).stdout


def _systemd_runs() -> bool:
    return Path("/run/systemd/system").is_dir()


def prepare_machine(needs: Sequence[Need] = NEEDS, *, state: Path | None = None) -> list[str]:
    """Install what is missing and start the engine; returns one sentence per thing done or found."""
    missing = missing_needs(needs)
    done = []
    if missing:
        packages = ", ".join(package for need in missing for package in need.packages)
        log.info("installing %s", packages)
        install(missing)
        done.append(f"installed {packages}")
    still = missing_needs(missing)
    if still:
        raise DeliveryError(
            f"Installed without error, yet not found: {', '.join(need.name for need in still)}.",
            next="look where the package put its program; PATH must lead there",
        )
    done.append(ensure_engine(state))
    return done


def report(needs: Sequence[Need] = NEEDS) -> list[tuple[str, str, str]]:
    """Rows of (name, there or missing, what would be done), and one for the running engine."""
    rows = [
        (need.name, "there", "") if need.is_there() else (need.name, "missing", f"apt-get install {' '.join(need.packages)}")
        for need in needs
    ]
    answers = engine_answers()
    rows.append(("Docker engine answers", "yes" if answers else "no", "" if answers else "start it"))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the machine, or with --check only say what would be done; exit code 2 when a person is needed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="say what would be done and change nothing")
    parser.add_argument("--tests", action="store_true", help="also what only the tests want")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    needs = (*NEEDS, *TESTS_NEED) if options.tests else NEEDS
    if options.check:
        for name, found, deed in report(needs):
            print(f"{name:<24}{found:<10}{deed}".rstrip())
        return 0
    try:
        for sentence in prepare_machine(needs):
            print(sentence)
    except DeliveryError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
