"""What a migration does, operation by operation, as values: the lock it takes, whether the version that serves lives through it, why."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from enum import IntEnum, StrEnum

from delivery.application import STRICT
from delivery.migration_rules import RULES
from delivery.old_version import OldVersion
from delivery.schema import Schema, Table
from delivery.sql import Statement
from delivery.waiver import Waiver

LONGEST_SQL = 160
# Alembic's own note of where the schema is. The version that serves never reads it.
BOOKKEEPING = frozenset({"alembic_version"})


class Lock(IntEnum):
    """PostgreSQL's table locks, weakest first. From SHARE on writers wait, at ACCESS EXCLUSIVE readers too."""

    NONE = 0
    ACCESS_SHARE = 1
    ROW_SHARE = 2
    ROW_EXCLUSIVE = 3
    SHARE_UPDATE_EXCLUSIVE = 4
    SHARE = 5
    SHARE_ROW_EXCLUSIVE = 6
    EXCLUSIVE = 7
    ACCESS_EXCLUSIVE = 8

    @property
    def label(self) -> str:
        return self.name.replace("_", " ")


class Safety(StrEnum):
    SAFE = "safe"
    UNSAFE = "unsafe"
    # Text does not tell: a run on a clone does, and without one the answer is no.
    NEEDS_CLONE = "needs the clone"
    # The tool that looks was not there: never the same as safe.
    NOT_JUDGED = "not judged"


@dataclass(frozen=True, kw_only=True)
class MigrationWaiver(Waiver):
    """Excuses one rule's objection to one table, or to all with `*`."""

    __pydantic_config__ = STRICT

    rule: str
    table: str

    def covers(self, operation: "Operation", today: date) -> bool:
        return self.rule == operation.rule and self.table in ("*", operation.table) and self.holds_on(today)

    def sentence(self) -> str:
        return f"waived by {self.owner} until {self.until}: {self.reason}"


@dataclass(frozen=True)
class Operation:
    """One act of a migration. `statement` counts from 1; `lock` is the strongest one that it takes on `table`. `names` are those of what it
    takes away, where that is not the table as a whole.
    """

    statement: int
    sql: str
    rule: str
    safety: Safety
    lock: Lock
    table: str
    reason: str
    alternative: str
    waiver: MigrationWaiver | None = None
    names: tuple[str, ...] = ()

    @property
    def stops(self) -> bool:
        return self.safety is not Safety.SAFE and self.waiver is None

    def sentence(self) -> str:
        """`statement 2, create-index [SHARE on listings]: writers wait while the index is built. Instead: …`."""
        about = f" on {self.table}" if self.table else ""
        lock = f" [{self.lock.label}{about}]" if self.lock else ""
        instead = f". Instead: {self.alternative}" if self.alternative and self.safety is not Safety.SAFE else ""
        waived = f" ({self.waiver.sentence()})" if self.waiver else ""
        place = f"statement {self.statement}, " if self.statement else ""
        return f"{place}{self.rule}{lock}: {self.reason}{instead}{waived}"


@dataclass
class Story:
    """What is known while a migration is read from its first statement to its last."""

    schema: Schema
    old: OldVersion
    statements: tuple[Statement, ...]
    at: int = 0
    in_transaction: bool = False
    time_zone_is_utc: bool = False
    # Made by this migration: no other session uses it yet, whatever happens to it.
    new: set[str] = field(default_factory=set)
    # Names that were taken from an existing table: what bears one now stands in for it.
    moved: set[str] = field(default_factory=set)
    new_columns: set[tuple[str, str]] = field(default_factory=set)
    # In the present transaction: the strongest lock on each existing table, constraints not yet validated, values of enums.
    held: dict[str, Lock] = field(default_factory=dict)
    fresh_constraints: set[tuple[str, str]] = field(default_factory=set)
    fresh_values: set[str] = field(default_factory=set)
    changed: list[str] = field(default_factory=list)
    found: list[Operation] = field(default_factory=list)

    @property
    def statement(self) -> Statement:
        return self.statements[self.at]

    def is_new(self, name: str) -> bool:
        return (name in self.new and name not in self.moved) or name in BOOKKEEPING

    def table(self, name: str) -> Table:
        return self.schema.tables.get(name) or Table()

    def say(
        self,
        rule: str,
        *,
        table: str = "",
        lock: Lock = Lock.NONE,
        about: Mapping[str, object] | None = None,
        takes: str = "",
    ) -> None:
        """Notes one operation under a rule of `RULES`; `about` fills the rule's sentence, `takes` names what is there no longer."""
        known = RULES[rule]
        words = {"table": table, **(about or {})}
        shown = self.statement.line
        self.found.append(
            Operation(
                statement=self.at + 1,
                sql=shown if len(shown) <= LONGEST_SQL else shown[: LONGEST_SQL - 1] + "…",
                rule=rule,
                safety=Safety(known.safety),
                lock=lock,
                table=table,
                reason=known.reason.format_map(words),
                alternative=known.alternative.format_map(words),
                names=(takes.rpartition(".")[2],) if takes else (),
            )
        )
        if table and not self.is_new(table) and self.in_transaction:
            self.held[table] = max(lock, self.held.get(table, Lock.NONE))

    def note_change(self, table: str) -> None:
        """A statement of its own that changes an existing table under a lock that keeps writers out."""
        if table and not self.is_new(table) and self.in_transaction and table not in self.changed:
            self.changed.append(table)
            if len(self.changed) > 1:
                self.say("several-tables", table=table, lock=self.held.get(table, Lock.NONE), about={"tables": ", ".join(self.changed)})

    def end_transaction(self) -> None:
        self.in_transaction = False
        self.held.clear()
        self.fresh_constraints.clear()
        self.fresh_values.clear()
        self.changed.clear()

    def is_held(self, table: str) -> bool:
        """Do readers of the table already wait for this transaction?"""
        return self.held.get(table, Lock.NONE) is Lock.ACCESS_EXCLUSIVE


_MEASURES = {"us": 0.000_001, "ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}


def seconds(value: str, *, unit: str = "ms") -> float | None:
    """A PostgreSQL duration such as `500ms` or `5 s` (a bare number counts `unit`s); None for what is not one."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|min|h|d)?\s*", value)
    return float(found[1]) * _MEASURES[found[2] or unit] if found else None


def with_waivers(operations: Iterable[Operation], waivers: Iterable[MigrationWaiver], *, today: date) -> tuple[Operation, ...]:
    """Each objection with the first waiver that covers it today; an expired one covers nothing."""
    listed = tuple(waivers)
    return tuple(
        replace(operation, waiver=next((waiver for waiver in listed if operation.stops and waiver.covers(operation, today)), None))
        for operation in operations
    )


def is_waived(rule: str, waivers: Iterable[MigrationWaiver], *, today: date) -> bool:
    """Does somebody answer for a rule that is about no table of its own?"""
    return any(waiver.rule == rule and waiver.table == "*" and waiver.holds_on(today) for waiver in waivers)
