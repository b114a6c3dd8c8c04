"""Two installations cannot have the same environments on one engine, and a killed test does not keep them for ever."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.demo.installation import HOME, USUAL_PORTS
from deployments.machine import engine_client
from deployments.processes import free_ports
from tests.blocks.fault_proxy import fault_proxy
from tests.system.claims import NamesTakenError, clear_names, new_installation

pytestmark = pytest.mark.docker

# Begins an installation as these tests do, and waits for its end with a database up.
OTHERS = """
import sys, time
from pathlib import Path
from deployments.backing import PrefectDatabase
from deployments.demo.installation import USUAL_PORTS
from deployments.processes import free_ports
from tests.blocks.fault_proxy import fault_proxy
from tests.system.claims import new_installation
with fault_proxy("127.0.0.1:9") as proxy:
    installation = new_installation(Path(sys.argv[1]), Path(sys.argv[2]), proxy, free_ports(USUAL_PORTS))
    PrefectDatabase(installation.folder, durable=False).start()
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def others(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Tests of somebody else that have the names."""
    try:
        clear_names(tmp_path)
    except NamesTakenError as taken:
        pytest.skip(str(taken))
    arguments = [sys.executable, "-c", OTHERS, str(tmp_path / "others"), str(tmp_path)]
    with subprocess.Popen(arguments, cwd=HOME, env={**os.environ, "PYTHONPATH": str(HOME)}, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            process.kill()


def test_names_are_refused_while_their_tests_live_and_free_once_these_were_killed(others: subprocess.Popen[str], tmp_path: Path) -> None:
    with fault_proxy("127.0.0.1:9") as proxy:
        ports = free_ports(USUAL_PORTS)
        with pytest.raises(NamesTakenError, match="greenroom-prefect"):
            new_installation(tmp_path / "ours", tmp_path, proxy, ports)

        others.send_signal(signal.SIGKILL)
        others.wait()
        ours = new_installation(tmp_path / "ours", tmp_path, proxy, ports)

        left = [
            name for name in (one.name or "" for one in engine_client().containers.list(all=True)) if name.startswith("greenroom-prefect")
        ]
        ours.stop(remove=True)
    assert left == []
