"""The journal's verifications, and the holds on promotions that may follow from them. Rows are only ever added."""

import json
from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, insert, select

from blocks.database import Database
from blocks.documents import from_document, to_document
from blocks.journal_leases import locked
from blocks.journal_rows import all_rows, one, plain, told
from blocks.journal_tables import holds, verifications
from delivery.verification import Deed, Finding, Hold, Verification

HOLDER = "canary-verification"


class Verifications:
    """The part of `SqlJournal` that keeps what endpoints answered, and who holds promotions."""

    _database: Database

    def last_verification(self, environment: str) -> Verification | None:
        found = self._database.read(lambda connection: _last(connection, environment))
        return _verification_in(found) if found else None

    def telling_verifications(self, environment: str, limit: int = 50) -> Sequence[Verification]:
        """The newest of those that led to something, newest first."""
        query = select(verifications).where(verifications.c.environment == environment, verifications.c.deed != Deed.NOTHING.value)
        query = query.order_by(verifications.c.number.desc()).limit(limit)
        return [_verification_in(row) for row in self._database.read(lambda connection: all_rows(connection, query))]

    def add_verification(self, verification: Verification, *, key: str) -> bool:
        """Writes it, and a hold with it when its deed is to go back, all or nothing, at the database's time. False: somebody else has
        written that number, or a later one; theirs counts. Idempotent per key, which is the look's own.
        """
        environment = verification.environment

        def write(connection: Connection) -> bool:
            locked(self._database, connection, environment)  # one at a time per environment
            if one(connection, select(verifications.c.number).where(verifications.c.key == key)):
                return True
            last = _last(connection, environment)
            if verification.number != (last["number"] if last else 0) + 1:
                return False
            now = self._database.now(connection)
            row = {
                "environment": environment,
                "number": verification.number,
                "key": key,
                "at": now,
                "rollout": verification.rollout,
                "release_id": verification.release,
                "deed": verification.deed.value,
                "reason": told(verification.reason),
                "alerted": verification.alerted,
                "document": plain(_document(verification.findings)),
            }
            connection.execute(insert(verifications).values(row))
            if verification.deed is Deed.GO_BACK and _hold(connection, environment) is None:
                _say(self._database, connection, environment, held=True, by=HOLDER, reason=verification.reason)
            return True

        return self._database.write(write)

    def hold_on(self, environment: str) -> Hold | None:
        """What holds promotions to the environment; None when nothing does."""
        return self._database.read(lambda connection: _hold(connection, environment))

    def let_go_on(self, environment: str, *, by: str, reason: str) -> Hold | None:
        """Ends the hold on a person's word and returns what was ended; None, and nothing is written, when there was none."""
        seen: list[Hold] = []  # by tries whose commit got lost on its way back

        def write(connection: Connection) -> Hold | None:
            locked(self._database, connection, environment)
            if (found := _hold(connection, environment)) is None:
                return seen[-1] if seen else None
            _say(self._database, connection, environment, held=False, by=by, reason=reason)
            seen.append(found)
            return found

        return self._database.write(write)


def _say(database: Database, connection: Connection, environment: str, *, held: bool, by: str, reason: str) -> None:
    row = {"environment": environment, "at": database.now(connection), "held": held, "by": plain(by), "reason": told(reason)}
    connection.execute(insert(holds).values(row))


def _last(connection: Connection, environment: str) -> RowMapping | None:
    query = select(verifications).where(verifications.c.environment == environment).order_by(verifications.c.number.desc()).limit(1)
    return one(connection, query)


def _hold(connection: Connection, environment: str) -> Hold | None:
    query = select(holds).where(holds.c.environment == environment).order_by(holds.c.number.desc()).limit(1)
    found = one(connection, query)
    return Hold(environment, found["at"], found["held"], found["by"], found["reason"]) if found and found["held"] else None


def _verification_in(row: RowMapping) -> Verification:
    return Verification(
        environment=row["environment"],
        number=row["number"],
        at=row["at"],
        rollout=row["rollout"],
        release=row["release_id"],
        findings=tuple(from_document(Finding, each) for each in json.loads(row["document"])),
        deed=Deed(row["deed"]),
        reason=row["reason"],
        alerted=row["alerted"],
    )


def _document(findings: Sequence[Finding]) -> str:
    return json.dumps([to_document(each) for each in findings], sort_keys=True, ensure_ascii=False)
