"""The journal's rollouts as stories for the delivery metrics: of a hundred thousand entries the few that tell something, read at once."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, ColumnElement, Connection, cast, func, or_, select, type_coerce
from sqlalchemy.dialects.postgresql import JSONB

from blocks.database import Database
from blocks.journal_tables import entries, rollouts
from delivery.dora_facts import Mark, Story
from delivery.journal import Ending
from delivery.plan import StepKind
from delivery.source import Commit

_STEPS, _TURNS = ("Started", "Finished"), ("TurnedBack", "Promoted")


class Stories:
    """The part of `SqlJournal` that tells what rollouts came to."""

    _database: Database

    def stories(self, environment: str | None = None) -> Sequence[Story]:
        """Every rollout, oldest first. Reads the entries in one go, and of each only what `delivery.dora_facts` asks for."""

        def look(connection: Connection) -> list[Story]:
            return _stories(connection, environment, is_sqlite=self._database.is_sqlite)

        return self._database.read(look)


def _stories(connection: Connection, environment: str | None, *, is_sqlite: bool) -> list[Story]:
    step, well = _step_and_well(is_sqlite=is_sqlite)
    here = () if environment is None else (entries.c.rollout == rollouts.c.id, rollouts.c.environment == environment)
    asked = select(entries.c.rollout, entries.c.at, entries.c.kind, step.label("step"), well.label("well")).where(
        *here, entries.c.kind.in_((*_STEPS, *_TURNS))
    )
    told = asked.add_columns(entries.c.sequence).subquery()
    telling = or_(
        told.c.kind.in_(_TURNS),
        told.c.step.like(f"{StepKind.SHIFT.value}-%"),
        told.c.step == StepKind.RESTORE.value,
        told.c.well.is_(False),
    )
    marks: dict[str, list[Mark]] = {}
    for rollout, at, kind, name, is_well in connection.execute(
        select(told.c.rollout, told.c.at, told.c.kind, told.c.step, told.c.well).where(telling).order_by(told.c.rollout, told.c.sequence)
    ):
        marks.setdefault(rollout, []).append(Mark(at, kind, name, is_well))
    query = (
        select(rollouts, entries.c.payload)
        .where(entries.c.rollout == rollouts.c.id, entries.c.sequence == 1, *here[1:])
        .order_by(rollouts.c.opened_at, rollouts.c.number)
    )
    return [
        _story(row, json.loads(row["payload"])["plan"], tuple(marks.get(row["id"], ()))) for row in connection.execute(query).mappings()
    ]


def _step_and_well(*, is_sqlite: bool) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """What the database itself reads from an entry's JSON; NULL where the event has no such field."""
    if is_sqlite:
        well = func.json_extract(entries.c.payload, "$.evidence.well")
        return func.json_extract(entries.c.payload, "$.step"), type_coerce(well, Boolean)
    document = cast(entries.c.payload, JSONB)
    return document["step"].astext, cast(document["evidence"]["well"].astext, Boolean)


def _story(row: Any, plan: dict[str, Any], marks: tuple[Mark, ...]) -> Story:
    """Read by hand: thousands of plans as values would take seconds, and only a few fields count."""
    release = plan["release"]
    return Story(
        id=row["id"],
        environment=row["environment"],
        service=release["application"],
        release=row["release_id"],
        blue=row["blue_id"],
        kind=row["kind"],
        opened_at=row["opened_at"],
        marks=marks,
        commits=tuple(Commit(change["sha"], datetime.fromisoformat(change["committed_at"])) for change in release.get("changes", ())),
        planned=plan.get("planned", True),
        remediates=plan.get("remediates"),
        ending=Ending(row["ending"]) if row["ending"] else None,
    )
