"""One stand (Traefik, registry, network, little images) for all tests that need an engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.stand import Stand


@pytest.fixture(scope="session")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    folder: Path = tmp_path_factory.mktemp("stand")
    stand = Stand(folder)
    try:
        stand.open()
        yield stand
    finally:
        stand.close()
