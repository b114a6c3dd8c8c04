"""A stand for benches and tests: Traefik, a registry and a network of their own, and images of a little application.

Everything is on loopback, has names of its own, and is gone after `close`.
"""

import secrets
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import docker

from blocks.metrics import TraefikMetrics
from blocks.secrets import EnvironmentSecrets
from blocks.targets.docker import DockerTarget
from blocks.traefik import TraefikRoutes
from delivery.application import Service
from delivery.image import ImageRef
from delivery.ports import Token
from delivery.release import Release, release_id
from delivery.source import Semver, Sha
from deployments.base_images import ensure_base_images
from deployments.machine import engine_client
from deployments.processes import free_ports
from deployments.stage import Registry, Traefik

LITTLE = Path(__file__).parent / "little"
ENTRY_POINT = "users"
Role = Literal["web", "worker"]


class Stand:
    """One for a whole bench or run of tests; each environment on it has a name of its own."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(["registry", ENTRY_POINT, "admin"])
        self.folder = folder
        self.name = f"stand-{secrets.token_hex(3)}"
        self.registry = Registry(folder, ports["registry"])
        self.traefik = Traefik(folder, {ENTRY_POINT: ports[ENTRY_POINT]}, ports["admin"])
        self.engine: docker.DockerClient = engine_client()
        self._images: dict[tuple[str, Role], ImageRef] = {}
        self._environments: list[str] = []

    def open(self) -> None:
        self.registry.start()
        self.traefik.start()
        self.engine.networks.create(self.name)

    def close(self) -> None:
        """Ends and removes exactly what this stand made."""
        for environment in self._environments:
            self.clear(environment)
        self.engine.networks.get(self.name).remove()
        self.traefik.stop()
        self.registry.stop()
        for image in self._images.values():
            self.engine.images.remove(str(image), force=True)
        self.engine.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        """Where users arrive."""
        return self.traefik.url(ENTRY_POINT)

    def image(self, version: str, role: Role = "web") -> ImageRef:
        """The little application as this version, built and pushed once."""
        if (version, role) not in self._images:
            base = ensure_base_images(["python:3.11-slim-bookworm"])["python:3.11-slim-bookworm"]
            name = f"{self.registry.address}/{self.name}-{role}"
            arguments = {"BASE": base, "VERSION": version, "ROLE": role}
            self.engine.images.build(path=str(LITTLE), tag=f"{name}:{version}", buildargs=arguments, rm=True)
            self.engine.images.push(name, tag=version)
            pushed = self.engine.images.get(f"{name}:{version}").attrs["RepoDigests"]
            found = next(text for text in pushed if text.startswith(name))
            self.engine.images.remove(f"{name}:{version}")
            self._images[version, role] = ImageRef.parse(found)
        return self._images[version, role]

    def environment(self) -> str:
        """A name that nobody has."""
        name = f"{self.name}-{len(self._environments)}"
        self._environments.append(name)
        return name

    def target(self, environment: str, *, secret_values: Mapping[str, str] | None = None, **changes: Any) -> DockerTarget:
        fields: dict[str, Any] = {
            "environment": environment,
            "network": self.name,
            "public_url": self.url,
            "memory_limit_mb": 64,
            "start_seconds": 30,
            "secrets": EnvironmentSecrets(values=dict(secret_values)) if secret_values else None,
            "traffic": TraefikRoutes(
                environment=environment,
                dynamic_dir=self.traefik.dynamic_directory,
                work_dir=self.traefik.new_files_directory,
                admin_url=self.traefik.admin_url,
                entry_point=ENTRY_POINT,
            ),
        }
        return DockerTarget(**(fields | changes))

    def metrics(self, environment: str) -> TraefikMetrics:
        return TraefikMetrics(admin_url=self.traefik.admin_url, environment=environment)

    def release(self, version: str, services: tuple[Service, ...], *, claimed: str | None = None) -> Release:
        """A release of the little application; with `claimed` it says that it is another version than its images answer."""
        parsed = Semver.parse(claimed or version)
        sha = Sha(version.encode().hex().ljust(40, "0")[:40])
        return Release(
            id=release_id(parsed, sha),
            application="little",
            version=parsed,
            sha=sha,
            author="Ann",
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            services=services,
            images={service.name: self.image(version, service.kind) for service in services},
        )

    def clear(self, environment: str) -> None:
        """Nothing of the environment is left, whatever state it was in."""
        # The twin first, since a whole one would keep the routes.
        for file in (f"{environment}~.yml", f"{environment}.yml"):
            (self.traefik.dynamic_directory / file).unlink(missing_ok=True)
        for container in self.engine.containers.list(
            all=True, filters={"label": f"greenroom.environment={environment}"}, ignore_removed=True
        ):
            container.remove(force=True, v=True)
        for network in self.engine.networks.list(filters={"label": f"greenroom.environment={environment}"}):
            network.remove()


def token(environment: str, fence: int = 1) -> Token:
    return Token(environment=environment, rollout=f"{environment}-{fence}", fence=fence)


def web(name: str = "api", *, replicas: int = 1, routes: tuple[str, ...] = ("/",), **changes: Any) -> Service:
    """A web service of the little application."""
    fields: dict[str, Any] = {"port": 8000, "health": "/health", "drain_seconds": 10} | changes
    return Service(name, "web", ".", "Dockerfile", replicas=replicas, routes=routes, **fields)


def worker(name: str = "worker", *, replicas: int = 1, **changes: Any) -> Service:
    """A worker of the little application; it is ready once it takes jobs."""
    fields: dict[str, Any] = {"ready": ("test", "-e", "/tmp/ready"), "drain_seconds": 10} | changes  # noqa: S108  inside the container
    return Service(name, "worker", ".", "Dockerfile", replicas=replicas, **fields)
