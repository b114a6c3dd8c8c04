"""An environment of its own for each test."""

from collections.abc import Iterator

import pytest

from bench.stand import Stand
from deployments.backing import BackingContainers
from tests.blocks.targets.place import SECRET, Place, bring_back
from tests.system.apart import Apart


@pytest.fixture(autouse=True)
def shared_images(stand: Stand) -> Iterator[None]:
    """What a test removes comes back for those who share the stand."""
    yield
    bring_back(stand)


@pytest.fixture
def place(stand: Stand) -> Iterator[Place]:
    name = stand.environment()
    yield Place(stand, name, stand.target(name, secret_values={"TOKEN": SECRET}))
    stand.clear(name)


@pytest.fixture(scope="module")
def apart(stand: Stand, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    folder, name = tmp_path_factory.mktemp("apart"), stand.environment()
    containers = BackingContainers(name, folder, durable=False)
    try:
        yield Apart(stand, name, containers.start(), folder)
    finally:
        stand.clear(name)
        containers.remove(volumes=True)
