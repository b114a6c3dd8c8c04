"""An environment of its own for each test."""

from collections.abc import Iterator

import pytest

from bench.stand import Stand
from tests.blocks.targets.place import SECRET, Place, bring_back


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
