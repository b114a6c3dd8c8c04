"""The journal's rollouts: fenced, hash-chained entries, and a row for each rollout that says what they came to."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from blocks.database import Database
from blocks.documents import canonical, event_of
from blocks.journal_leases import locked, require_mine
from blocks.journal_releases import release_in, save
from blocks.journal_rows import TAMPERED, all_rows, one, plain, readable
from blocks.journal_tables import entries, releases, rollouts
from delivery.errors import DeliveryError, EnvironmentBusy, InvalidSettings
from delivery.journal import Closed, Ending, Entry, Event, EventLog, Finished, Opened, Promoted, TurnedBack, chained
from delivery.plan import Plan
from delivery.record import Lease, RolloutRecord
from delivery.redaction import redacted, redacted_within
from delivery.release import Release

_LOOK = "look at `greenroom status`."
# A write that has taken as long has met a database that was away.
_AWAY_SECONDS = 1.0
# Users wait for what follows bad news; whoever brings it must still hold the lease when it learns that it cannot be written.
_BAD_NEWS_SECONDS = 3.0


class Rollouts:
    """The part of `SqlJournal` that keeps rollouts and their entries."""

    _database: Database

    def open_rollout(self, lease: Lease, plan: Plan, *, by: str) -> str:
        """Saves the plan's releases, writes the opening entry and returns the rollout's id (`production-7`). Idempotent per promotion
        request. Raises `EnvironmentBusy` when another rollout of the environment is open.
        """
        environment = plan.environment.name
        if environment != lease.environment:
            raise DeliveryError(
                f"The plan is for {environment}, the lease for {lease.environment}.", next="take the lease of the plan's environment."
            )
        opened: list[str] = []  # hashes written by tries whose commit got lost on its way back

        def write(connection: Connection) -> str:
            row = locked(self._database, connection, environment)
            if written := one(connection, select(entries.c.rollout).where(entries.c.hash.in_(opened))):
                return str(written["rollout"])
            now = self._database.now(connection)
            require_mine(row, lease, now=now)
            if plan.request is not None:
                asked = one(connection, select(rollouts.c.id).where(rollouts.c.request == plan.request))
                if asked:
                    return str(asked["id"])
            here = rollouts.c.environment == environment
            if under_way := one(connection, select(rollouts).where(here, rollouts.c.ended_at.is_(None))):
                raise EnvironmentBusy(
                    f"{plan.environment.title} has an open rollout: {under_way['id']} to {under_way['version']} by {under_way['by']}"
                    f" since {readable(under_way['opened_at'])}.",
                    next="let `recover` end it first; it looks every minute.",
                )
            for release in filter(None, (plan.release, plan.blue)):
                save(self._database, connection, release)
            number = (connection.execute(select(func.max(rollouts.c.number)).where(here)).scalar() or 0) + 1
            rollout = f"{environment}-{number}"
            connection.execute(
                insert(rollouts).values(
                    id=rollout,
                    environment=environment,
                    number=number,
                    release_id=plan.release.id,
                    blue_id=plan.blue.id if plan.blue else None,
                    version=str(plan.release.version),
                    kind=plan.kind,
                    by=plain(by),
                    request=plan.request,
                    opened_at=now,
                )
            )
            opened.append(_chain(connection, rollout, (Opened(plan, by=by),), fence=lease.fence, now=now))
            return rollout

        return self._database.write(write)

    def log_of(self, rollout: str, lease: Lease | None = None) -> EventLog:
        """For walking, with the lease whose fence each append must carry; for reading, without."""
        return _SqlLog(self, rollout, lease)

    def _append(self, rollout: str, lease: Lease, events: Sequence[Event]) -> None:
        """All events or none. Raises `StaleFence` when the lease is no longer held by the database's clock.

        A connection that is lost at COMMIT leaves open whether the entries are there: the next try looks for the hash they have. A lease
        that ran out while the database was away, and that nobody took, is waited for: its keeper renews it.
        """
        events = [_without_secrets(event) for event in events]
        written: list[str] = []
        began = time.monotonic()

        def write(connection: Connection) -> None:
            row = locked(self._database, connection, lease.environment)
            there = select(entries.c.sequence).where(entries.c.rollout == rollout, entries.c.hash.in_(written))
            if written and one(connection, there):
                return
            now = self._database.now(connection)
            require_mine(row, lease, now=now, waited=time.monotonic() - began > _AWAY_SECONDS)
            record = _record_in(_rollout_row(connection, rollout))
            if record.environment != lease.environment:
                raise DeliveryError(
                    f"Rollout {rollout} is not in {lease.environment}, whose lease was shown.", next="use the lease of its environment."
                )
            if record.ended_at is not None:
                raise DeliveryError(f"Rollout {rollout} has ended; nothing can follow.", next=_LOOK)
            written.append(_chain(connection, rollout, events, fence=lease.fence, now=now))
            if changes := _consequences(events, now):
                connection.execute(update(rollouts).where(rollouts.c.id == rollout).values(changes))

        self._database.write(write, patience_seconds=_BAD_NEWS_SECONDS if _is_bad_news(events) else None)

    def entries(self, rollout: str) -> Sequence[Entry]:
        """In the order they were written. Raises `InvalidSettings` for an unknown rollout."""
        return [
            Entry(row["sequence"], row["at"], row["fence"], event_of(json.loads(row["payload"])), row["hash"])
            for row in self._rows_of(rollout)
        ]

    def _rows_of(self, rollout: str) -> Sequence[RowMapping]:
        query = select(entries).where(entries.c.rollout == rollout).order_by(entries.c.sequence)

        def look(connection: Connection) -> Sequence[RowMapping]:
            _rollout_row(connection, rollout)
            return all_rows(connection, query)

        return self._database.read(look)

    def rollout(self, rollout: str) -> RolloutRecord:
        return _record_in(self._database.read(lambda connection: _rollout_row(connection, rollout)))

    def rollouts(self, *, environment: str | None = None, open_only: bool = False, limit: int = 50) -> Sequence[RolloutRecord]:
        """Newest first."""
        query = select(rollouts).order_by(rollouts.c.opened_at.desc(), rollouts.c.number.desc()).limit(limit)
        if environment is not None:
            query = query.where(rollouts.c.environment == environment)
        if open_only:
            query = query.where(rollouts.c.ended_at.is_(None))
        return [_record_in(row) for row in self._database.read(lambda connection: all_rows(connection, query))]

    def live(self, environment: str) -> Release | None:
        """What the newest promotion brought; None before the first."""
        return next(iter(self.lived(environment, newest=1)), None)

    def previous(self, environment: str) -> Release | None:
        """What was live before the live one came; where a rollback without a version goes.

        Promotions stack up; a rollback takes the stack down to the release it went back to. So after 1.0, 1.1, 1.2 and a rollback to 1.1
        the previous one is 1.0: a rollback never leads to a release that was rolled back from, nor to a newer one that it skipped.
        """
        return next(iter(self.lived(environment, newest=2)[1:]), None)

    def lived(self, environment: str, *, newest: int) -> Sequence[Release]:
        """The live one first, then those before it in the order in which they can be gone back through, each with the secrets that its
        newest promotion there gave it.
        """
        query = (
            select(rollouts.c.id, rollouts.c.release_id, rollouts.c.kind)
            .where(rollouts.c.environment == environment, rollouts.c.promoted_at.is_not(None))
            .order_by(rollouts.c.number)
        )

        def look(connection: Connection) -> list[Release]:
            promotions = all_rows(connection, query)
            brought = {row["release_id"]: row["id"] for row in promotions}
            stack = _stack((row["release_id"], row["kind"]) for row in promotions)
            return [_as_brought(connection, release, brought[release]) for release in stack[::-1][:newest]]

        return self._database.read(look)

    def verify_chain(self, rollout: str) -> None:
        """Raises `DeliveryError` naming the first entry whose hash does not fit, or what the rollout's row claims without an entry."""
        previous = ""
        events: list[Event] = []
        for expected, row in enumerate(self._rows_of(rollout), start=1):
            if row["sequence"] != expected:
                raise DeliveryError(f"Entry {expected} of rollout {rollout} is missing.", next=TAMPERED)
            due = _hash(previous, row, row["payload"])
            if (row["previous"], row["hash"]) != (previous, due):
                raise DeliveryError(f"Entry {expected} of rollout {rollout} was changed: its hash does not fit.", next=TAMPERED)
            events.append(event_of(json.loads(row["payload"])))
            if type(events[-1]).__name__ != row["kind"]:
                raise DeliveryError(f"Entry {expected} of rollout {rollout} was changed: its kind does not fit.", next=TAMPERED)
            previous = due
        record = self.rollout(rollout)
        told = next((event for event in events if isinstance(event, Closed)), None)
        claimed = Closed(record.ending, record.message or "") if record.ending else None
        was_promoted = any(isinstance(event, Promoted) for event in events)
        if not events or claimed != (replace(told, message=plain(told.message)) if told else None):
            raise DeliveryError(f"The end of rollout {rollout} does not fit its entries.", next=TAMPERED)
        if was_promoted != (record.promoted_at is not None):
            raise DeliveryError(f"The promotion of rollout {rollout} does not fit its entries.", next=TAMPERED)


class _SqlLog:
    """One rollout's entries as an `EventLog`."""

    def __init__(self, journal: Rollouts, rollout: str, lease: Lease | None) -> None:
        self._journal = journal
        self._rollout = rollout
        self._lease = lease

    def append(self, *events: Event) -> None:
        if self._lease is None:
            raise DeliveryError(f"Rollout {self._rollout} was opened for reading.", next="acquire the environment's lease first.")
        if events:
            self._journal._append(self._rollout, self._lease, events)  # noqa: SLF001  two halves of one thing

    def events(self) -> Sequence[Event]:
        return [entry.event for entry in self._journal.entries(self._rollout)]


def _is_bad_news(events: Iterable[Event]) -> bool:
    return any(isinstance(event, TurnedBack) or (isinstance(event, Finished) and not event.evidence.well) for event in events)


def _chain(connection: Connection, rollout: str, events: Iterable[Event], *, fence: int, now: datetime) -> str:
    """Writes entries after the last one and returns the last hash. The caller holds the environment's row."""
    query = select(entries.c.sequence, entries.c.hash).where(entries.c.rollout == rollout).order_by(entries.c.sequence.desc()).limit(1)
    last = one(connection, query)
    sequence, previous = (last["sequence"], last["hash"]) if last else (0, "")
    for number, event in enumerate(events, start=sequence + 1):
        row = {"rollout": rollout, "sequence": number, "at": now, "fence": fence, "kind": type(event).__name__, "previous": previous}
        payload = canonical(event)
        previous = _hash(previous, row, payload)
        connection.execute(insert(entries).values(**row, payload=payload, hash=previous))
    return str(previous)


def _hash(previous: str, row: dict[str, Any] | RowMapping, payload: str) -> str:
    """The chain covers the time too: who could shift it could make a release look quicker or an approval earlier than it was."""
    return chained(
        previous,
        rollout=row["rollout"],
        sequence=row["sequence"],
        fence=row["fence"],
        payload=f"{row['at'].isoformat()} {payload}",
    )


def _without_secrets(event: Event) -> Event:
    """Names and plans stay as they were decided; what was said freely is told without what this process knows to be secret."""
    match event:
        case Finished():
            document = json.loads(canonical(event))  # facts may be of any type: what is hidden is what would be written
            return event_of(document | {"evidence": redacted_within(document["evidence"])})
        case TurnedBack():
            return replace(event, reason=redacted(event.reason))
        case Closed():
            return replace(event, message=redacted(event.message))
        case _:
            return event


def _consequences(events: Iterable[Event], now: datetime) -> dict[str, Any]:
    """What the rollout's own row says about it after these events, so that a list of rollouts need not read their entries."""
    changes: dict[str, Any] = {}
    for event in events:
        if isinstance(event, Promoted):
            changes["promoted_at"] = now
        elif isinstance(event, Closed):
            changes |= {"ended_at": now, "ending": event.ending.value, "message": plain(event.message)}
    return changes


def _as_brought(connection: Connection, release: str, rollout: str) -> Release:
    opening = select(entries.c.payload).where(entries.c.rollout == rollout, entries.c.sequence == 1)
    secrets = json.loads(connection.execute(opening).scalar_one())["plan"]["release"].get("secrets", {})
    return replace(release_in(connection.execute(select(releases).where(releases.c.id == release)).mappings().one()), secrets=secrets)


def _stack(promotions: Iterable[tuple[str, str]]) -> list[str]:
    """Releases in the order in which they can be gone back through; the last one is live."""
    stack: list[str] = []
    for release, kind in promotions:
        if kind == "rollback" and release in stack:  # one that was rolled back from before is gone to as to a new one
            while stack[-1] != release:
                stack.pop()
        if not stack or stack[-1] != release:
            stack.append(release)
    return stack


def _rollout_row(connection: Connection, rollout: str) -> RowMapping:
    if found := one(connection, select(rollouts).where(rollouts.c.id == rollout)):
        return found
    newest = connection.execute(select(rollouts.c.id).order_by(rollouts.c.opened_at.desc()).limit(5)).scalars().all()
    raise InvalidSettings(
        f"Unknown rollout: got {rollout[:80]!r}, expected one that was opened: {', '.join(newest) or 'there is none yet'}.", next=_LOOK
    )


def _record_in(row: RowMapping) -> RolloutRecord:
    return RolloutRecord(
        id=row["id"],
        environment=row["environment"],
        release=row["release_id"],
        version=row["version"],
        blue=row["blue_id"],
        kind=row["kind"],
        by=row["by"],
        opened_at=row["opened_at"],
        promoted_at=row["promoted_at"],
        ended_at=row["ended_at"],
        ending=Ending(row["ending"]) if row["ending"] else None,
        message=row["message"],
    )
