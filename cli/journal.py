"""The journal, opened for as long as a command runs."""

from collections.abc import Iterator
from contextlib import contextmanager

from blocks.journal import SqlJournal
from blocks.settings import Settings
from delivery.errors import InvalidSettings
from delivery.ports import JournalStore
from delivery.release import Release
from delivery.source import Semver


@contextmanager
def open_journal(settings: Settings) -> Iterator[SqlJournal]:
    """Its tables are made when they are missing: a fresh installation has an empty journal, not an error."""
    store = SqlJournal(settings.database_url)
    try:
        store.migrate()
        yield store
    finally:
        store.close()


def release_named(store: JournalStore, text: str) -> Release:
    """By id (`v1.4.2-3f2a1bc9`) or by version (`1.4.2`, `v1.4.2`). Raises `InvalidSettings` when there is none."""
    try:
        return store.release(text)
    except InvalidSettings:  # an id looks like a version with a suffix, so both are asked
        return store.release_of(Semver.parse(text))
