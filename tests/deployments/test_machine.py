import os
import shutil
import subprocess
from pathlib import Path

import pytest

from delivery.errors import DeliveryError
from deployments import machine
from deployments.machine import Need, engine_answers, ensure_engine, install, missing_needs, report
from deployments.processes import wait_until


def a_need(*, there: bool, package: str = "thing") -> Need:
    return Need(name=f"the {package}", packages=(package,), why="a test", is_there=lambda: there)


def test_only_what_is_not_there_in_any_form_is_missing() -> None:
    there, missing = a_need(there=True), a_need(there=False, package="other")
    assert missing_needs([there, missing]) == [missing]


def test_the_dry_run_says_what_would_be_installed_and_what_is_there() -> None:
    rows = report([a_need(there=True), a_need(there=False, package="other")])
    assert rows[0] == ("the thing", "there", "")
    assert rows[1] == ("the other", "missing", "apt-get install other")
    assert rows[2][0] == "Docker engine answers"


def test_where_nothing_can_be_installed_the_refusal_names_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SYSTEM_PATH", str(tmp_path))
    with pytest.raises(DeliveryError, match=r"thing.*no Debian.*Next: install the thing by hand"):
        install([a_need(there=False)])


def test_an_engine_that_docker_host_names_is_never_started_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    assert not engine_answers()
    with pytest.raises(DeliveryError, match=r"nothing answers there.*Next: start that engine"):
        ensure_engine(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_each_need_says_why_and_has_a_name_of_its_own() -> None:
    assert len({need.name for need in machine.NEEDS}) == len(machine.NEEDS)
    assert all(need.why and need.packages for need in machine.NEEDS)


@pytest.mark.docker
def test_an_engine_that_answers_is_used_as_it_is(tmp_path: Path) -> None:
    assert ensure_engine(tmp_path) == "a Docker engine answers"
    assert list(tmp_path.iterdir()) == []


def test_the_pid_file_of_a_dead_engine_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "docker.pid"
    file.write_text(f"{os.getpid()}\n")  # the number of a killed engine that now belongs to somebody else
    machine._forget_dead_engine((), run=tmp_path)
    assert not file.exists()


def test_the_pid_file_of_a_living_engine_is_kept(tmp_path: Path) -> None:
    named_like_it = tmp_path / "dockerd"
    shutil.copy("/bin/sleep", named_like_it)
    file = tmp_path / "docker.pid"
    with subprocess.Popen([named_like_it, "60"]) as engine:
        try:
            file.write_text(f"{engine.pid}\n")
            wait_until(lambda: Path(f"/proc/{engine.pid}/comm").read_text().strip() == "dockerd", what="its name", seconds=10)
            machine._forget_dead_engine((), run=tmp_path)
            assert file.exists()
        finally:
            engine.kill()
