"""Traefik on loopback, with the file provider: one instance, or two that share their entry points."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delivery.errors import DeliveryError
from deployments.backing import LOOPBACK
from deployments.processes import ManagedProcess, refuse_taken_port
from deployments.programs import answers, program

# Seconds; fine where web services live, so that a p99 is worth its name.
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0)


class Traefik:
    """Traefik with the file provider. A target writes into `new_files_directory` and renames into `dynamic_directory`.

    With a `second_admin_port` two instances serve the same entry points, and a supervisor (`deployments.front`) keeps both up: the death
    of one costs the requests that it was answering, and no others.
    """

    def __init__(self, state: Path, entry_points: Mapping[str, int], admin_port: int, *, second_admin_port: int | None = None) -> None:
        self._folder = state / "traefik"
        self._entry_points = dict(entry_points)
        self._admin_ports = (admin_port,) if second_admin_port is None else (admin_port, second_admin_port)
        names = ("traefik",) if second_admin_port is None else ("traefik-1", "traefik-2")
        self._instances = tuple(self._instance(name, port) for name, port in zip(names, self._admin_ports, strict=True))
        self._process = self._instances[0] if second_admin_port is None else self._supervisor()

    def _instance(self, name: str, admin_port: int) -> ManagedProcess:
        return ManagedProcess(
            name=name,
            argv=(program("traefik"), f"--configFile={self._folder / f'{name}.yml'}"),
            state=self._folder,
            settings={},
            configuration=json.dumps(traefik_configuration(self._entry_points, admin_port, self.dynamic_directory), indent=1),
        )

    def _supervisor(self) -> ManagedProcess:
        told = {
            "state": str(self._folder),
            "watched": str(self.dynamic_directory),
            "folder": str(self.new_files_directory),
            "entry_points": {name: [LOOPBACK, port] for name, port in self._entry_points.items()},
            "instances": [
                {"name": instance.name, "argv": [*instance.argv], "configuration": instance.configuration, "admin_url": url}
                for instance, url in zip(self._instances, self.admin_urls, strict=True)
            ],
        }
        return ManagedProcess(
            name="traefik-front",
            argv=(sys.executable, "-m", "deployments.front", str(self._folder / "front.json")),
            state=self._folder,
            settings={},
            configuration=json.dumps(told, indent=1),
            directory=Path(__file__).parents[1],
        )

    @property
    def dynamic_directory(self) -> Path:
        """Watched by Traefik: files appear here by rename only."""
        return self._folder / "dynamic"

    @property
    def new_files_directory(self) -> Path:
        """Not watched, on the same file system: a file is written here first."""
        return self._folder / "new"

    @property
    def admin_url(self) -> str:
        """`/api/http/services/...` says what is live, `/metrics` counts, `/ping` answers; of the first instance."""
        return self.admin_urls[0]

    @property
    def admin_urls(self) -> tuple[str, ...]:
        """Of every instance."""
        return tuple(f"http://{LOOPBACK}:{port}" for port in self._admin_ports)

    @property
    def process(self) -> ManagedProcess:
        """What `start` started: Traefik itself, or the supervisor of two."""
        return self._process

    @property
    def instances(self) -> tuple[ManagedProcess, ...]:
        """The Traefik processes."""
        return self._instances

    def url(self, entry_point: str) -> str:
        """Where users of the environment with this entry point arrive."""
        return f"http://{LOOPBACK}:{self._entry_points[entry_point]}"

    def start(self) -> None:
        """Start it and wait until its API and its metrics answer, those of each instance; what was live before is live again.

        A supervisor that has died is started anew, and finds its instances at work.
        """
        self._process.start(self._answers, seconds=30, before=self._prepare)

    def _answers(self) -> bool:
        return all(answers(f"{url}/api/version") and answers(f"{url}/metrics") for url in self.admin_urls)

    def _prepare(self) -> None:
        if not any(instance.pid() for instance in self._instances):
            for name, port in (*self._entry_points.items(), *(("admin", port) for port in self._admin_ports)):
                refuse_taken_port(port, f"Traefik's entry point {name}")
        for folder in (self.dynamic_directory, self.new_files_directory):
            folder.mkdir(parents=True, exist_ok=True)
        for instance in self._instances:
            (self._folder / f"{instance.name}.yml").write_text(instance.configuration)
        (self._folder / "front.json").write_text(self._process.configuration)
        admin = self.new_files_directory / "admin.yml"
        admin.write_text(json.dumps(ADMIN_ROUTES, indent=1))
        admin.replace(self.dynamic_directory / "admin.yml")

    def stop(self) -> None:
        """The instances finish what they answer, and end; also those whose supervisor has died."""
        self._process.stop()
        for instance in self._instances:
            instance.stop()


ADMIN_ROUTES: dict[str, Any] = {
    "http": {
        "routers": {
            "admin-api": {"entryPoints": ["admin"], "rule": "PathPrefix(`/api`)", "service": "api@internal"},
            "admin-metrics": {"entryPoints": ["admin"], "rule": "Path(`/metrics`)", "service": "prometheus@internal"},
        }
    }
}


def traefik_configuration(entry_points: Mapping[str, int], admin_port: int, dynamic: Path) -> dict[str, Any]:
    """Traefik's static configuration; JSON is YAML as well. Durations carry their unit."""
    if "admin" in entry_points:
        raise DeliveryError("An entry point is called admin; that name is Traefik's own here.", next="choose another name")
    life = {"requestAcceptGraceTimeout": "1s", "graceTimeOut": "10s"}
    public = {
        name: {
            "address": f"{LOOPBACK}:{port}",
            "asDefault": True,
            "transport": {"lifeCycle": life, "respondingTimeouts": {"readTimeout": "60s", "idleTimeout": "180s"}},
        }
        for name, port in entry_points.items()
    }
    return {
        "entryPoints": {**public, "admin": {"address": f"{LOOPBACK}:{admin_port}"}},
        "api": {"insecure": False, "dashboard": False},
        "ping": {"entryPoint": "admin"},
        # Traefik collects changes for 2 s by default: too slow for a shift that somebody waits for.
        "providers": {"providersThrottleDuration": "0.1s", "file": {"directory": str(dynamic), "watch": True}},
        # Connections to replicas end here before the application's own keep-alive (75 s) ends them: no request meets a closing one.
        "serversTransport": {
            "maxIdleConnsPerHost": 200,
            "forwardingTimeouts": {"dialTimeout": "3s", "responseHeaderTimeout": "0s", "idleConnTimeout": "30s"},
        },
        "metrics": {
            "prometheus": {
                "manualRouting": True,
                "addServicesLabels": True,
                "addEntryPointsLabels": True,
                "buckets": list(LATENCY_BUCKETS),
            }
        },
        # Its warnings are about the second file of each environment, which is passed over on purpose.
        "log": {"level": "ERROR", "format": "common", "noColor": True},
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
    }
