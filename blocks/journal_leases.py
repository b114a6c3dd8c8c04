"""The journal's leases: one holder per environment, and a fencing token that only rises."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, select, update
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from blocks.database import Database
from blocks.journal_rows import all_rows, one, plain, readable
from blocks.journal_tables import leases
from delivery.errors import EnvironmentBusy, StaleFence, TransientError
from delivery.record import Lease


class Leases:
    """The part of `SqlJournal` that says who may act on an environment."""

    _database: Database

    def acquire(self, environment: str, *, holder: str, purpose: str, ttl: timedelta) -> Lease:
        """Raises `EnvironmentBusy` in less than a second when somebody holds it, the asking holder included; raises the fence otherwise."""
        taken: list[Lease] = []  # by tries whose commit got lost on its way back

        def take(connection: Connection) -> Lease:
            row = locked(self._database, connection, environment)
            now = self._database.now(connection)
            if any(_is(row, lease) for lease in taken):
                return _lease_in(row)
            if row["expires_at"] > now:
                raise EnvironmentBusy(
                    f"{environment.capitalize()} is busy: {row['purpose']} by {row['holder']} since {readable(row['since'])}.",
                    next="wait for it, or look at `greenroom status`.",
                )
            lease = Lease(environment, plain(holder), plain(purpose), fence=row["fence"] + 1, since=now, expires_at=now + ttl)
            _store_lease(connection, lease)
            taken.append(lease)
            return lease

        return self._database.write(take)

    def renew(self, lease: Lease, *, ttl: timedelta) -> Lease:
        """Raises `StaleFence` when the lease went to somebody else or was given up. One that expired unseen comes back to life."""

        def prolong(connection: Connection) -> Lease:
            _require_holder(locked(self._database, connection, lease.environment), lease)
            renewed = replace(lease, expires_at=self._database.now(connection) + ttl)
            _store_lease(connection, renewed)
            return renewed

        return self._database.write(prolong)

    def give_up(self, lease: Lease) -> None:
        """Idempotent; a lease that went to somebody else stays theirs. The row stays, so that the fence never goes down."""

        def leave(connection: Connection) -> None:
            if _is(locked(self._database, connection, lease.environment), lease):
                _store_lease(connection, replace(lease, holder="", expires_at=self._database.now(connection)))

        self._database.write(leave)

    def leases(self) -> Sequence[Lease]:
        """Those that are held and those whose holder vanished (`expires_at` has passed by `now()`); not those that were given up."""
        query = select(leases).where(leases.c.holder != "").order_by(leases.c.environment)
        return [_lease_in(row) for row in self._database.read(lambda connection: all_rows(connection, query))]


def locked(database: Database, connection: Connection, environment: str) -> RowMapping:
    """The environment's row, locked until the end of the transaction, made if it is not there."""
    query = select(leases).where(leases.c.environment == environment).with_for_update()
    if found := one(connection, query):
        return found
    now = database.now(connection)
    row = {"environment": environment, "holder": "", "purpose": "", "fence": 0, "since": now, "expires_at": now}
    make = insert_sqlite if database.is_sqlite else insert_postgresql
    connection.execute(make(leases).values(row).on_conflict_do_nothing())
    return connection.execute(query).mappings().one()


def require_mine(row: RowMapping, lease: Lease, *, now: datetime, waited: bool = False) -> None:
    """Raises `StaleFence` when the lease is somebody else's or has expired; with `waited` an expired one that nobody took may be renewed
    any moment, which is worth another try.
    """
    _require_holder(row, lease)
    if row["expires_at"] <= now:
        if waited:
            raise TransientError(
                f"The lease on {lease.environment} ran out while the journal's database was away.", next="try again: its keeper renews it."
            )
        raise StaleFence(
            f"The lease on {lease.environment} expired at {readable(row['expires_at'])}.",
            next="stop at once; `greenroom status` shows who goes on.",
        )


def _is(row: RowMapping, lease: Lease) -> bool:
    return bool(row["holder"] == lease.holder and row["fence"] == lease.fence)


def _require_holder(row: RowMapping, lease: Lease) -> None:
    if not _is(row, lease):
        whom = f"went to {row['holder']} ({row['purpose']})" if row["holder"] else "was given up"
        raise StaleFence(
            f"The lease on {lease.environment} {whom}; ours had fence {lease.fence}, theirs has {row['fence']}.",
            next="stop at once; `greenroom status` shows who goes on.",
        )


def _store_lease(connection: Connection, lease: Lease) -> None:
    values = {"holder": lease.holder, "purpose": lease.purpose, "fence": lease.fence, "since": lease.since, "expires_at": lease.expires_at}
    connection.execute(update(leases).where(leases.c.environment == lease.environment).values(values))


def _lease_in(row: RowMapping) -> Lease:
    return Lease(row["environment"], row["holder"], row["purpose"], row["fence"], row["since"], row["expires_at"])
