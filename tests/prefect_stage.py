"""One Prefect server for all the tests that need one: started by the first, ended when the tests end."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from deployments.processes import free_ports
from deployments.stage import PrefectServer


@cache
def prefect_server() -> PrefectServer:
    folder = Path(tempfile.mkdtemp(prefix="greenroom-prefect-"))
    server = PrefectServer(folder, free_ports(["prefect"])["prefect"])
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.stop)
    server.start()
    return server
