"""The local stage: what the demo, the tests and the benches need around a release on one machine.

An OCI registry, Traefik, a Prefect server with a worker, and the backing PostgreSQL and Redis of an environment. Everything
listens on loopback only, keeps its files below the state directory it is given, is started once however often one asks, and
ends exactly what it started.
"""

import base64
import json
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from deployments.backing import LOOPBACK, Backing, BackingContainers, kept_secret
from deployments.processes import ManagedProcess, free_ports, refuse_taken_port
from deployments.programs import answers, loopback_client, program
from deployments.traefik import Traefik, traefik_configuration

__all__ = [
    "Backing",
    "BackingContainers",
    "PrefectServer",
    "PrefectWorker",
    "Registry",
    "Traefik",
    "free_ports",
    "registry_configuration",
    "traefik_configuration",
]


class Registry:
    """Debian's OCI registry on loopback; deleting is allowed. `storage` may outlive the state: known layers need no second push."""

    def __init__(self, state: Path, port: int, *, storage: Path | None = None) -> None:
        self._folder = state / "registry"
        self._storage = storage or self._folder / "data"
        self._port = port
        self._process = ManagedProcess(
            name="registry",
            argv=(program("docker-registry"), "serve", str(self._folder / "config.yml")),
            state=self._folder,
            settings={},
            configuration=json.dumps(registry_configuration(self._folder / "data", port), indent=1),
        )

    @property
    def address(self) -> str:
        """`127.0.0.1:port`, the first part of an image's name there."""
        return f"{LOOPBACK}:{self._port}"

    @property
    def process(self) -> ManagedProcess:
        return self._process

    def start(self) -> None:
        """Start it and wait until it answers `GET /v2/`."""
        self._process.start(lambda: answers(f"http://{self.address}/v2/"), seconds=20, before=self._prepare)

    def _prepare(self) -> None:
        refuse_taken_port(self._port, "the registry")
        (self._folder / "config.yml").write_text(self._process.configuration)

    def stop(self) -> None:
        self._process.stop()


def registry_configuration(storage: Path, port: int) -> dict[str, Any]:
    """The registry's configuration; JSON is YAML as well."""
    return {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}},
        "http": {"addr": f"{LOOPBACK}:{port}"},
    }


class PrefectServer:
    """A Prefect server on loopback with the older UI (Resume is a button) and no telemetry.

    `database` starts its PostgreSQL and gives the URL; without it SQLite below `state`/prefect does, which is enough for one run at a time.
    """

    def __init__(
        self,
        state: Path,
        port: int,
        *,
        database: Callable[[], SecretStr] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = state / "prefect"
        self._port = port
        self._database = database
        self._settings = dict(settings or {})
        self._process = ManagedProcess(
            name="prefect-server",
            argv=(sys.executable, "-m", "prefect", "server", "start", "--host", LOOPBACK, "--port", str(port)),
            state=self._folder,
            settings={},
        )

    @property
    def url(self) -> str:
        """Where people open the UI."""
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def api_url(self) -> str:
        return f"{self.url}/api"

    @property
    def process(self) -> ManagedProcess:
        return self._process

    def client_settings(self) -> dict[str, str]:
        """The environment variables by which flows, workers and commands find this server."""
        return {
            "PREFECT_API_URL": self.api_url,
            "PREFECT_UI_URL": self.url,
            "PREFECT_HOME": str(self._folder),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }

    def start(self) -> None:
        """Start it and wait until it is healthy (a first start makes the database and takes some ten seconds)."""
        self._folder.mkdir(parents=True, exist_ok=True)
        url = self._database() if self._database else SecretStr(f"sqlite+aiosqlite:///{self._folder / 'prefect.db'}")
        self._process.settings = {
            **self.client_settings(),
            "PREFECT_SERVER_UI_V2_ENABLED": "false",
            "PREFECT_SERVER_UI_API_URL": self.api_url,
            "PREFECT_API_DATABASE_CONNECTION_URL": url.get_secret_value(),
            "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",  # else old runs stay for ever
            # Else the key that encrypts secret blocks lies beside them in the database.
            "PREFECT_SERVER_ENCRYPTION_KEY": kept_secret(self._folder / "encryption-key", _fernet_key).get_secret_value(),
            **self._settings,
        }
        self._process.start(self.ready, seconds=120, before=lambda: refuse_taken_port(self._port, "the Prefect server"))

    def ready(self) -> bool:
        """Does it answer that it is healthy?"""
        return answers(f"{self.api_url}/health")

    def stop(self) -> None:
        self._process.stop()


class PrefectWorker:
    """A worker of one process work pool; the pool is made when it is missing. Flow runs start in `directory`."""

    def __init__(
        self,
        state: Path,
        server: PrefectServer,
        pool: str,
        *,
        directory: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._server = server
        self._pool = pool
        self._name = f"{pool}-worker"
        argv = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--name", self._name]
        self._process = ManagedProcess(
            name=f"prefect-worker-{pool}",
            # The type is said although the pool has one: without it a worker whose server is away ends at once.
            argv=(*argv, "--type", "process", "--install-policy", "never"),
            state=state / "prefect",
            settings={
                **server.client_settings(),
                "PREFECT_WORKER_QUERY_SECONDS": "1",
                "PREFECT_WORKER_PREFETCH_SECONDS": "10",
                "PREFECT_WORKER_HEARTBEAT_SECONDS": "10",
                **(settings or {}),
            },
            directory=directory,
        )

    @property
    def process(self) -> ManagedProcess:
        return self._process

    def start(self) -> None:
        """Start it and wait until the server sees it online."""
        started = time.time()
        already = self._process.pid() is not None
        self._process.start(lambda: self._online(since=0 if already else started), seconds=90)

    def _online(self, since: float) -> bool:
        with loopback_client() as client:
            try:
                answer = client.post(f"{self._server.api_url}/work_pools/{quote(self._pool)}/workers/filter", json={})
            except httpx.HTTPError:
                return False
        if answer.status_code != 200:
            return False
        ours = [worker for worker in answer.json() if worker["name"] == self._name and worker["status"] == "ONLINE"]
        return any(_timestamp(worker["last_heartbeat_time"]) >= since - 1 for worker in ours)

    def stop(self) -> None:
        self._process.stop()


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
