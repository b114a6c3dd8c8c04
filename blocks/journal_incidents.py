"""The journal's incidents: what people and monitors say, one row per word, and no row is ever changed."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, RowMapping, insert, select

from blocks.database import Database
from blocks.journal_rows import all_rows, one, plain, readable, told
from blocks.journal_tables import incident_facts, rollouts
from delivery.errors import InvalidSettings
from delivery.record import IncidentFact


class Incidents:
    """The part of `SqlJournal` that keeps what is reported of failures in production."""

    _database: Database

    def open_incident(
        self,
        environment: str,
        *,
        text: str,
        by: str,
        detected_at: datetime | None = None,
        impact_started_at: datetime | None = None,
        rollout: str | None = None,
        key: str | None = None,
    ) -> IncidentFact:
        """Idempotent per key. Without `detected_at` it was noticed now. Refuses impossible times, and a rollout of another environment."""

        def word(connection: Connection, now: datetime) -> dict[str, Any]:
            at = detected_at or now
            _require_past(at, now, "it was noticed")
            if impact_started_at and impact_started_at > at:
                raise InvalidSettings(
                    f"Users suffered from {readable(impact_started_at)}, and it was noticed at {readable(at)}: expected the other order.",
                    next="correct the times.",
                )
            _require_rollout(connection, rollout, environment)
            return {"kind": "opened", "environment": environment, "at": at, "rollout": rollout, "impact_started_at": impact_started_at}

        return self._say(word, by=by, text=text, key=key)

    def close_incident(self, incident: int, *, by: str, restored_at: datetime | None = None, text: str = "") -> IncidentFact:
        """Without `restored_at` it is over now. Closed again, the newer word counts."""

        def word(connection: Connection, now: datetime) -> dict[str, Any]:
            opened, at = _opening(connection, incident), restored_at or now
            _require_past(at, now, "it was over")
            began = opened["impact_started_at"] or opened["at"]
            if at < began:
                raise InvalidSettings(
                    f"Incident {incident} began at {readable(began)}: got {readable(at)} for its end, expected a later time.",
                    next="correct the time.",
                )
            return {"incident": incident, "kind": "restored", "environment": opened["environment"], "at": at}

        return self._say(word, by=by, text=text)

    def attribute_incident(self, incident: int, rollout: str | None, *, by: str, text: str = "") -> IncidentFact:
        """Blames it on a rollout, or on none; the newest word counts, and the metrics of the past change with it."""

        def word(connection: Connection, now: datetime) -> dict[str, Any]:
            environment = _opening(connection, incident)["environment"]
            _require_rollout(connection, rollout, environment)
            return {"incident": incident, "kind": "attributed", "environment": environment, "at": now, "rollout": rollout}

        return self._say(word, by=by, text=text)

    def incident_facts(self, environment: str | None = None) -> Sequence[IncidentFact]:
        """Every word, in the order in which they were said."""
        query = select(incident_facts).order_by(incident_facts.c.number)
        if environment is not None:
            query = query.where(incident_facts.c.environment == environment)
        return [_fact_in(row) for row in self._database.read(lambda connection: all_rows(connection, query))]

    def _say(self, word: Callable[[Connection, datetime], dict[str, Any]], *, by: str, text: str, key: str | None = None) -> IncidentFact:
        """Writes one row. Its key is there even when nobody gave one, so that a commit that got lost on its way back is found again."""
        called = key or f"said/{uuid4()}"

        def write(connection: Connection) -> IncidentFact:
            if found := one(connection, select(incident_facts).where(incident_facts.c.key == called)):
                return _fact_in(found)
            now = self._database.now(connection)
            row = word(connection, now) | {"by": plain(by), "text": told(text), "key": called, "written_at": now}
            return _fact_in(connection.execute(insert(incident_facts).values(row).returning(incident_facts)).mappings().one())

        return self._database.write(write)


def _opening(connection: Connection, incident: int) -> RowMapping:
    """The row that opened the incident."""
    query = select(incident_facts).where(incident_facts.c.number == incident, incident_facts.c.kind == "opened")
    if found := one(connection, query):
        return found
    query = select(incident_facts.c.number).where(incident_facts.c.kind == "opened").order_by(incident_facts.c.number.desc()).limit(5)
    known = [str(number) for number in connection.execute(query).scalars()]
    raise InvalidSettings(
        f"Unknown incident: got {incident}, expected one that was opened: {', '.join(known) or 'there is none yet'}.", next="correct it."
    )


def _require_rollout(connection: Connection, rollout: str | None, environment: str) -> None:
    if rollout is None or one(connection, select(rollouts.c.id).where(rollouts.c.id == rollout, rollouts.c.environment == environment)):
        return
    query = select(rollouts.c.id).where(rollouts.c.environment == environment).order_by(rollouts.c.number.desc()).limit(5)
    known = connection.execute(query).scalars().all()
    raise InvalidSettings(
        f"Unknown rollout: got {rollout[:80]!r}, expected one of {environment}: {', '.join(known) or 'there is none yet'}.",
        next="correct it.",
    )


def _require_past(at: datetime, now: datetime, what: str) -> None:
    if at > now:
        raise InvalidSettings(
            f"When {what}: got {readable(at)}, expected a time that is not after now ({readable(now)}).", next="correct it."
        )


def _fact_in(row: RowMapping) -> IncidentFact:
    return IncidentFact(
        number=row["number"],
        incident=row["incident"] or row["number"],
        kind=row["kind"],
        environment=row["environment"],
        at=row["at"],
        by=row["by"],
        text=row["text"],
        rollout=row["rollout"],
        impact_started_at=row["impact_started_at"],
    )
