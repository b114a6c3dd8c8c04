"""Room on a Docker host's disk for a release: measured before anything is pulled, and made by removing images that nobody needs."""

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blocks.engine import Engine
from blocks.engine_facts import StoredImage
from delivery.errors import DeliveryError
from delivery.image import ImageRef
from delivery.release import Release

log = logging.getLogger("greenroom.docker")

GIB = 1024**3
# What unpacking takes beside the image itself.
ALLOWANCE = 1.2
# Of each repository the newest images stay, whoever uses them: the way back to one of them needs no registry.
KEPT = 5


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


@dataclass(frozen=True)
class Room:
    """`floor_gib` stays free whatever is pulled; `free_bytes` measures a folder's file system."""

    engine: Engine
    floor_gib: float
    free_bytes: Callable[[Path], int] = _free_bytes

    def make_for(self, release: Release, missing: Sequence[ImageRef]) -> None:
        """Returns when the engine's disk has room for the missing images, a fifth more, and the floor.

        An image that is not here is taken to be as large as the largest of its repository that is. What is too little is made more by
        removing this application's images that no container in any state was made from, the oldest first, and never the newest ones,
        one that a release here replaced, or one with a name of somebody else's. Raises `DeliveryError` when it is too little still. An
        engine whose data lie on another machine is not measured.
        """
        root = Path(self.engine.data_root())
        if not root.exists():
            return
        stored = self.engine.images()
        images = ALLOWANCE * sum(_likely_size(image, stored) for image in missing) / GIB
        wanted = self.floor_gib + images
        removed: list[StoredImage] = []
        if self._free_gib(root) < wanted:
            for image in self._unneeded(release, stored):
                if self.engine.remove_image(image):
                    log.info("removed the unused image %s to make room", ", ".join(sorted(image.names)))
                    removed.append(image)
                if self._free_gib(root) >= wanted:
                    break
        free = self._free_gib(root)
        if free < wanted:
            parts = f" ({self.floor_gib:g} GiB that stay free, {images:.1f} GiB for images)" if images else ""
            gone = f" {len(removed)} unused images of {release.application} were removed already." if removed else ""
            raise DeliveryError(
                f"{root} has {free:.1f} GiB free, expected at least {wanted:.3g} GiB for a release{parts}.{gone}",
                next="remove what you do not need (`docker system df` shows it), or give the engine more room.",
            )

    def _free_gib(self, root: Path) -> float:
        return self.free_bytes(root) / GIB

    def _unneeded(self, release: Release, stored: Sequence[StoredImage]) -> list[StoredImage]:
        containers = self.engine.containers({})
        used = {container.image_id for container in containers}
        spared = {container.label("before") for container in containers} | {str(image) for image in release.images.values()}
        own = {f"{image.registry}/{image.repository}" for image in release.images.values()}
        # What was built on this machine carries a local name until it is pushed.
        own |= {f"greenroom.local/{release.application}-{service.name}" for service in release.services}
        mine = sorted((image for image in stored if _repositories(image) <= own), key=lambda image: image.created, reverse=True)
        seen: dict[str, int] = {}
        unneeded = []
        for image in mine:
            newest = False
            for repository in _repositories(image):
                seen[repository] = seen.get(repository, 0) + 1
                newest = newest or seen[repository] <= KEPT
            if not newest and image.id not in used and not image.names & spared:
                unneeded.append(image)
        return unneeded[::-1]


def _likely_size(image: ImageRef, stored: Sequence[StoredImage]) -> int:
    repository = f"{image.registry}/{image.repository}"
    return max((one.size for one in stored if repository in _repositories(one)), default=0)


def _repositories(image: StoredImage) -> frozenset[str]:
    """`host:5000/team/api` of `host:5000/team/api:v1` and of `host:5000/team/api@sha256:…`."""
    return frozenset(name.split("@")[0] if "@" in name else name.rpartition(":")[0] for name in image.names)
