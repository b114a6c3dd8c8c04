import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from delivery.errors import DeliveryError
from deployments.processes import ManagedProcess, free_ports, port_is_free, refuse_taken_port, wait_until

# The system call that ends one thread, not the process.
NUMBER_OF_EXIT = {"x86_64": 60, "aarch64": 93}[platform.machine()]
SLEEPER = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
STUBBORN = "import signal, pathlib, sys, time; signal.signal(15, signal.SIG_IGN); pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
PARENT = (
    "import pathlib, subprocess, sys, time;"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True);"
    "pathlib.Path(sys.argv[1]).write_text(str(child.pid)); time.sleep(60)"
)


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[ManagedProcess]:
    process = a_process(tmp_path, SLEEPER)
    yield process
    process.stop()


def a_process(state: Path, code: str, **more: object) -> ManagedProcess:
    return ManagedProcess(
        name="thing",
        argv=(sys.executable, "-c", code, str(state / "up")),
        state=state,
        settings={},
        **more,  # type: ignore[arg-type]
    )


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] not in "ZX"


def test_a_second_start_finds_the_first(sleeper: ManagedProcess, tmp_path: Path) -> None:
    sleeper.start((tmp_path / "up").exists, seconds=20)
    first = sleeper.pid()
    again = a_process(tmp_path, SLEEPER)
    again.start((tmp_path / "up").exists, seconds=20)
    assert again.pid() == first is not None


def test_it_is_ended_by_whoever_has_the_same_state_directory(sleeper: ManagedProcess, tmp_path: Path) -> None:
    sleeper.start((tmp_path / "up").exists, seconds=20)
    pid = sleeper.pid()
    assert pid
    a_process(tmp_path, SLEEPER).stop()
    assert not is_running(pid)
    assert not sleeper.pid_file.exists()


def test_a_process_that_ignores_the_request_is_killed_after_its_patience(tmp_path: Path) -> None:
    process = a_process(tmp_path, STUBBORN, patience_seconds=0.2)
    process.start((tmp_path / "up").exists, seconds=20)
    pid = process.pid()
    assert pid
    process.stop()
    assert not is_running(pid)


def test_children_with_a_session_of_their_own_are_ended_too(tmp_path: Path) -> None:
    process = a_process(tmp_path, PARENT)
    process.start(lambda: (tmp_path / "up").exists() and bool((tmp_path / "up").read_text()), seconds=20)
    child = int((tmp_path / "up").read_text())
    assert is_running(child)
    process.stop()
    wait_until(lambda: not is_running(child), what="the child's end", seconds=10)


def test_one_that_runs_with_other_settings_is_refused_and_left_running(sleeper: ManagedProcess, tmp_path: Path) -> None:
    sleeper.start((tmp_path / "up").exists, seconds=20)
    with pytest.raises(DeliveryError, match=r"other settings.*Next: stop it first"):
        a_process(tmp_path, SLEEPER, configuration="port: 2").start(lambda: True, seconds=1)
    assert sleeper.pid() is not None


def test_a_process_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    process = a_process(tmp_path, "import sys; sys.exit('no port left')")
    with pytest.raises(DeliveryError, match=r"thing ended while it started.*no port left"):
        process.start(lambda: False, seconds=20)


def test_a_number_that_now_belongs_to_another_process_is_never_signalled(tmp_path: Path) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        process = a_process(tmp_path, SLEEPER)
        process.pid_file.write_text(f"{bystander.pid} 1 0000")
        process.stop()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_foreign_settings_do_not_reach_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere")
    code = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(os.environ.get('PREFECT_API_URL', 'none')); time.sleep(60)"
    process = a_process(tmp_path, code)
    try:
        process.start(lambda: (tmp_path / "up").exists() and bool((tmp_path / "up").read_text()), seconds=20)
        assert (tmp_path / "up").read_text() == "none"
    finally:
        process.stop()


def test_a_taken_port_is_refused_with_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not port_is_free(port)
        with pytest.raises(DeliveryError, match=rf"Port {port} for a test is taken by process {os.getpid()}"):
            refuse_taken_port(port, "a test")


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(["a", "b", "c"])
    assert list(ports) == ["a", "b", "c"]
    assert len(set(ports.values())) == 3
    assert all(port_is_free(port) for port in ports.values())


def test_what_never_gets_ready_is_said_with_its_explanation() -> None:
    with pytest.raises(DeliveryError, match=r"the lamp is not ready after 0 s\. It is dark\."):
        wait_until(lambda: False, what="the lamp", seconds=0.1, explain=lambda: "It is dark.")


def test_a_process_lives_until_its_last_thread_has_ended(tmp_path: Path) -> None:
    # As a killed server does for some milliseconds, with its ports still taken: the first thread ends alone.
    lingering = a_process(
        tmp_path,
        "import ctypes, os, pathlib, sys, threading;"
        "threading.Thread(target=lambda: (pathlib.Path(sys.argv[1]).touch(), os.read(os.pipe()[0], 1))).start();"
        f"ctypes.CDLL(None).syscall({NUMBER_OF_EXIT}, 0)",
    )
    lingering.start((tmp_path / "up").exists, seconds=20)
    pid = lingering.pid()
    assert pid is not None
    wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z", what="its first thread's end", seconds=5)
    assert lingering.pid() == pid
    lingering.stop()
    assert lingering.pid() is None
