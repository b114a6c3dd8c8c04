"""One environment on the stand, and the shortest ways to bring it somewhere."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from docker.errors import ImageNotFound
from docker.models.containers import Container

from bench.stand import Stand, token, web
from blocks.targets.docker import DockerTarget
from delivery.application import Service
from delivery.image import ImageRef
from delivery.ports import Token
from delivery.release import Release

SECRET = "a-secret-of-this-place"
PATIENCE = 20.0


@dataclass
class Place:
    """One environment with its target; `go_live` is the shortest way to a live release."""

    stand: Stand
    name: str
    target: DockerTarget

    @property
    def token(self) -> Token:
        return token(self.name)

    def release(self, version: str, *services: Service, **changes: Any) -> Release:
        return self.stand.release(version, services or (web(),), **changes)

    def launch(self, release: Release, **variables: str) -> None:
        self.target.prepare(release, self.token)
        self.target.launch(release, variables=variables, token=self.token)

    def go_live(self, release: Release, blue: Release | None = None, **variables: str) -> Release:
        self.launch(release, **variables)
        self.target.shift(release, percent=100, rest=blue, token=self.token)
        self.target.promote(release, self.token)
        return release

    def containers(self, **labels: str) -> list[Container]:
        wanted = {"environment": self.name, **labels}
        return sorted(
            self.stand.engine.containers.list(
                all=True, filters={"label": [f"greenroom.{key}={value}" for key, value in wanted.items()]}, ignore_removed=True
            ),
            key=lambda container: str(container.name),
        )

    def ask(self, path: str = "/", **options: Any) -> dict[str, Any]:
        """As a user."""
        answer = httpx.get(f"{self.stand.url}{path}", timeout=PATIENCE, **options)
        answer.raise_for_status()
        said: dict[str, Any] = answer.json()
        return said


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.05)


def is_here(stand: Stand, image: ImageRef) -> bool:
    try:
        stand.engine.images.get(str(image))
    except ImageNotFound:
        return False
    return True


def remove_image(stand: Stand, image: ImageRef) -> None:
    if is_here(stand, image):
        stand.engine.images.remove(str(image), force=True)


def bring_back(stand: Stand) -> None:
    """Pulls what a test removed of the images that all tests share."""
    for image in stand._images.values():
        if not is_here(stand, image):
            stand.engine.images.pull(f"{image.registry}/{image.repository}", tag=image.digest)
