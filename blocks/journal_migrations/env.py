"""Alembic's entry, called by `SqlJournal.migrate` with a connection whose transaction is already open and locked."""

from alembic import context

from blocks.journal_tables import TABLES

VERSION_TABLE = "greenroom_journal_version"

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=TABLES,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
