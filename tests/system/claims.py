"""Who has the environments' names on this engine: one installation at a time, and what a killed test left behind is nobody's."""

import fcntl
import shutil
from collections.abc import Mapping
from pathlib import Path

from delivery.errors import DeliveryError
from deployments.backing import FOLDER_LABEL
from deployments.demo.installation import ENVIRONMENTS, USUAL_PORTS, LocalInstallation
from deployments.machine import engine_client
from deployments.stage import Registry
from tests.blocks.fault_proxy import FaultProxy

ENVIRONMENT_FILES = Path(__file__).parent / "environments"
# Locked for as long as the tests that made the installation live; the kernel gives the lock back when they are killed.
HELD = "held-by-tests"
NETWORKS = ("greenroom-prefect", *(f"greenroom-{environment}" for environment in ENVIRONMENTS))


class NamesTakenError(DeliveryError):
    """A demo, or other tests, are at it on this engine."""


class ProxiedRegistry(Registry):
    """The registry, reached through a proxy that can answer wrongly."""

    def __init__(self, state: Path, port: int, proxy: FaultProxy) -> None:
        super().__init__(state, port)
        self._proxy = proxy

    @property
    def address(self) -> str:
        return self._proxy.address


class TestInstallation(LocalInstallation):
    """Held by the process that made it; whoever comes after its death may take everything away."""

    __test__ = False

    def hold(self) -> None:
        self._lock = (self.folder / HELD).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def stop(self, *, remove: bool) -> None:
        super().stop(remove=remove)
        self._lock.close()


def clear_names(cache: Path) -> None:
    """Removes what belonged to dead tests. NamesTakenError when a living installation has the environments' names."""
    for dead in abandoned_folders():
        installation_in(dead, cache, dict.fromkeys(USUAL_PORTS, 0)).stop(remove=True)
    if others := _taken_names():
        raise NamesTakenError(
            f"Another installation uses the environments' names on this engine ({', '.join(others)}).",
            next="end it (`make demo-down`), or remove them with `docker rm --force` and `docker network rm`.",
        )


def new_installation(folder: Path, cache: Path, proxy: FaultProxy, ports: Mapping[str, int]) -> LocalInstallation:
    """Not started yet. Its environment files are a copy that tests may change. Raises what `clear_names` raises."""
    clear_names(cache)
    installation = installation_in(folder, cache, ports)
    shutil.copytree(ENVIRONMENT_FILES, installation.environments)
    installation.registry = ProxiedRegistry(folder, ports["registry"], proxy)
    return installation


def installation_in(folder: Path, cache: Path, ports: Mapping[str, int]) -> TestInstallation:
    folder.mkdir(parents=True, exist_ok=True)
    installation = TestInstallation(
        folder=folder, repository=folder / "dealbrain", environments=folder / "environments", cache=cache, durable=False, ports=ports
    )
    installation.hold()
    return installation


def abandoned_folders() -> list[Path]:
    """The installations that have the names, if the tests of every one are dead, or its folder is gone and with it every password."""
    engine = engine_client()
    networks = [network for network in engine.networks.list() if network.name in NETWORKS]
    owners = {str(network.attrs["Labels"].get(FOLDER_LABEL, "")) for network in networks}
    engine.close()
    folders = [Path(owner) for owner in sorted(owners)]
    dead = [folder for folder in folders if folder.is_absolute() and (not folder.exists() or _was_held(folder / HELD))]
    return dead if dead == folders else []


def _was_held(file: Path) -> bool:
    if not file.exists():  # a demo's: somebody may come back to it
        return False
    with file.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _taken_names() -> list[str]:
    """Containers and networks of these environments: nobody but another installation can have made them."""
    engine = engine_client()
    found = [container.name or "" for container in engine.containers.list(all=True, ignore_removed=True)]
    found += [network.name or "" for network in engine.networks.list()]
    engine.close()
    ours = (*NETWORKS, *(f"gr-{environment}-" for environment in ENVIRONMENTS))
    return sorted(name for name in found if name.startswith(ours))
