"""The house as a terminal opens it: with the blocks of the local file, so that it stands when Prefect's server does not run."""

from collections.abc import Iterator
from contextlib import contextmanager

from blocks.settings import settings
from flows.assembly import House, LocalBlocks, blocks_from, open_house


@contextmanager
def open_local_house() -> Iterator[House]:
    """Raises `InvalidSettings` when the blocks file cannot be used."""
    with blocks_from(LocalBlocks.of(settings())), open_house() as house:
        yield house
