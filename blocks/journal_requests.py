"""The journal's promotion requests, each with its frozen plan and what people said to it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, RowMapping, insert, select, update

from blocks.database import Database
from blocks.documents import canonical, fingerprint, from_document
from blocks.journal_leases import locked
from blocks.journal_rows import TAMPERED, all_rows, one, plain, readable, told
from blocks.journal_tables import approvals, requests
from delivery.approval import Approval, PromotionRequest
from delivery.errors import DeliveryError, InvalidSettings
from delivery.plan import Plan


class Requests:
    """The part of `SqlJournal` that keeps promotion requests and approvals."""

    _database: Database

    def open_request(self, plan: Plan, *, key: str, expires_at: datetime) -> PromotionRequest:
        """Idempotent per key. The stored plan carries the request's number, and `plan_hash` is the fingerprint of just that plan. Open
        requests of the same environment and release are closed as superseded.
        """
        environment = plan.environment.name

        def write(connection: Connection) -> int:
            locked(self._database, connection, environment)  # one at a time per environment
            if found := one(connection, select(requests.c.number).where(requests.c.key == key)):
                return int(found["number"])
            row = {
                "key": key,
                "environment": environment,
                "release_id": plan.release.id,
                "plan": "",
                "plan_hash": "",
                "opened_at": self._database.now(connection),
                "expires_at": expires_at,
            }
            number = int(connection.execute(insert(requests).values(row).returning(requests.c.number)).scalar_one())
            frozen = replace(plan, request=number)
            stored = {"plan": canonical(frozen), "plan_hash": fingerprint(frozen)}
            connection.execute(update(requests).where(requests.c.number == number).values(stored))
            older = (
                requests.c.number != number,
                requests.c.environment == environment,
                requests.c.release_id == plan.release.id,
                requests.c.closed.is_(None),
            )
            connection.execute(update(requests).where(*older).values(closed=f"superseded by request {number}"))
            return number

        return self.request(self._database.write(write))

    def request(self, number: int) -> PromotionRequest:
        def look(connection: Connection) -> PromotionRequest:
            return _requests_in(connection, [_request_row(connection, number)])[0]

        return self._database.read(look)

    def requests(self, *, environment: str | None = None, open_only: bool = False) -> Sequence[PromotionRequest]:
        """Newest first. Open are those that nobody closed; one past its expiry is still listed, since somebody must close it."""
        query = select(requests).order_by(requests.c.number.desc())
        if environment is not None:
            query = query.where(requests.c.environment == environment)
        if open_only:
            query = query.where(requests.c.closed.is_(None))
        return self._database.read(lambda connection: _requests_in(connection, all_rows(connection, query)))

    def decide(self, number: int, approval: Approval) -> PromotionRequest:
        """Adds one person's word, at the database's time (not `approval.at`). Refused: a closed or expired request, a second word."""
        said: list[datetime] = []  # by tries whose commit got lost on its way back
        person_key = " ".join(approval.person.casefold().split())

        def write(connection: Connection) -> None:
            row = _request_row(connection, number, lock=True)
            now = self._database.now(connection)
            condition = (approvals.c.request == number) & (approvals.c.person_key == person_key)
            if earlier := one(connection, select(approvals).where(condition)):
                if earlier["at"] in said:
                    return
                raise InvalidSettings(
                    f"{earlier['person']} has already said {earlier['decision']} to request {number}, and a second word changes nothing.",
                    next="ask for the release again to start over.",
                )
            if not person_key:
                raise InvalidSettings("An approval needs a person: got no name.", next="give your name.")
            if row["closed"] is not None:
                raise InvalidSettings(f"Request {number} is closed: {row['closed']}.", next="ask for the release again.")
            if now >= row["expires_at"]:
                raise InvalidSettings(f"Request {number} expired at {readable(row['expires_at'])}.", next="ask for the release again.")
            connection.execute(
                insert(approvals).values(
                    request=number,
                    person=plain(approval.person),
                    person_key=plain(person_key),
                    decision=approval.decision,
                    reason=told(approval.reason),
                    channel=approval.channel,
                    at=now,
                    signature=plain(approval.signature),
                )
            )
            said.append(now)

        self._database.write(write)
        return self.request(number)

    def close_request(self, number: int, reason: str) -> None:
        """Idempotent: the first reason stays."""

        def write(connection: Connection) -> None:
            _request_row(connection, number)
            still_open = (requests.c.number == number) & requests.c.closed.is_(None)
            connection.execute(update(requests).where(still_open).values(closed=told(reason)))

        self._database.write(write)


def _request_row(connection: Connection, number: int, *, lock: bool = False) -> RowMapping:
    query = select(requests).where(requests.c.number == number)
    if found := one(connection, query.with_for_update() if lock else query):
        return found
    raise InvalidSettings(f"There is no request {number}.", next="`greenroom status` lists the open ones.")


def _requests_in(connection: Connection, rows: Sequence[RowMapping]) -> list[PromotionRequest]:
    numbers = [row["number"] for row in rows]
    words: dict[int, list[Approval]] = {number: [] for number in numbers}
    for row in all_rows(connection, select(approvals).where(approvals.c.request.in_(numbers)).order_by(approvals.c.number)):
        word = Approval(row["person"], row["decision"], row["reason"], row["channel"], row["at"], row["signature"])
        words[row["request"]].append(word)
    return [
        PromotionRequest(
            number=row["number"],
            key=row["key"],
            plan=_plan_in(row),
            plan_hash=row["plan_hash"],
            opened_at=row["opened_at"],
            expires_at=row["expires_at"],
            approvals=tuple(words[row["number"]]),
            closed=row["closed"],
        )
        for row in rows
    ]


def _plan_in(row: RowMapping) -> Plan:
    # Of the text as it was stored: a plan that an older Greenroom wrote has fewer fields than one has today.
    if hashlib.sha256(row["plan"].encode()).hexdigest() != row["plan_hash"]:
        raise DeliveryError(f"The plan of request {row['number']} was changed: its hash does not fit.", next=TAMPERED)
    return from_document(Plan, json.loads(row["plan"]))
