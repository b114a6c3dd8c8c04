"""What a revision's downgrade does and takes away, read as text when its release is published."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

from delivery.application import STRICT
from delivery.migrations import Finding, read_operations, squawk_objections
from delivery.old_version import OldVersion
from delivery.operations import BOOKKEEPING, LONGEST_SQL, Operation, Safety
from delivery.schema import Schema
from delivery.sql import Cursor, Statement, statements

_TRANSACTION = frozenset({"begin", "commit", "start", "end", "set"})
_KEEPS_ROWS = (("create", "index"), ("create", "unique", "index"), ("comment", "on"), ("drop", "index"), ("drop", "view"), ("drop", "type"))


@dataclass(frozen=True)
class Loss:
    """A table that a downgrade drops, or one of its columns. Names as PostgreSQL takes them, without `public.`."""

    __pydantic_config__ = STRICT

    table: str
    column: str = ""

    def __str__(self) -> str:
        return f"{self.table}.{self.column}" if self.column else self.table


@dataclass(frozen=True)
class Undoing:
    """The way back of one revision whose docstring says `reversible: yes`. `opaque` is what nobody can say of whether it loses anything."""

    __pydantic_config__ = STRICT

    operations: tuple[Operation, ...] = ()
    losses: tuple[Loss, ...] = ()
    opaque: str = ""

    @property
    def objections(self) -> tuple[Operation, ...]:
        """What the version that serves would notice. What only a copy can tell is settled there: a downgrade is always tried on one."""
        return tuple(one for one in self.operations if one.safety not in (Safety.SAFE, Safety.NEEDS_CLONE))


def read_undoing(upgrade: str | None, downgrade: str | None, *, schema: Schema, squawk: Sequence[Finding] | None) -> Undoing:
    """The rules over a downgrade, told as the second half of its upgrade: what that has made is new, and no version before it uses it.

    `schema` is the one before the upgrade, and stays as it is; `squawk` is about the downgrade alone. SQL is None when Alembic could not
    render it.
    """
    if downgrade is None:
        return Undoing(opaque="Python decides what it does")
    own, before = statements(downgrade), len(statements(upgrade or ""))
    both = read_operations(f"{upgrade or ''};\n{downgrade}", schema=deepcopy(schema), old_version=OldVersion.read(None))
    told = [replace(one, statement=one.statement - before) for one in both if one.statement > before]
    told += squawk_objections(squawk, own)
    losses: list[Loss] = []
    opaque = ""
    for statement in own:
        found = _lost_by(statement)
        if found is None:
            opaque = opaque or statement.line[:LONGEST_SQL]
        else:
            losses += found
    kept = tuple(one for one in told if one.safety is not Safety.SAFE)
    return Undoing(kept, tuple(dict.fromkeys(losses)), opaque)


def _lost_by(statement: Statement) -> list[Loss] | None:
    """What a statement takes away for good; None when that cannot be said."""
    words = statement.words
    if "cascade" in words:
        return None
    cursor = Cursor(statement.tokens)
    if words[:1] and words[0] in _TRANSACTION:
        return []
    if any(words[: len(start)] == start for start in _KEEPS_ROWS):
        return []
    if cursor.take("drop", "table"):
        cursor.take("if", "exists")
        return [Loss(part.name()) for part in Cursor(cursor.up_to("restrict")).parts()]
    if cursor.take("alter", "table"):
        cursor.take("if", "exists")
        cursor.take("only")
        table = cursor.name()
        lost = [_lost_by_action(table, action) for action in cursor.parts()]
        return None if None in lost else [loss for part in lost for loss in part or ()]
    return [] if _notes_the_revision(cursor) else None


def _notes_the_revision(cursor: Cursor) -> bool:
    """Alembic's own."""
    return (cursor.take("update") or cursor.take("delete", "from") or cursor.take("insert", "into")) and cursor.name() in BOOKKEEPING


def _lost_by_action(table: str, action: Cursor) -> list[Loss] | None:
    if action.take("drop", "constraint") or action.take("add", "constraint") or action.take("validate", "constraint"):
        return []
    if action.take("drop"):
        action.take("column")
        action.take("if", "exists")
        return [Loss(table, action.name())]
    if action.take("alter"):
        action.take("column")
        action.name()
        return [] if action.peek() in ("set", "drop") and action.peek(1) in ("default", "not") else None
    return None


def losses_of(undoings: Sequence[Undoing]) -> Iterator[Loss]:
    """Of several revisions, each thing once."""
    yield from dict.fromkeys(loss for one in undoings for loss in one.losses)
