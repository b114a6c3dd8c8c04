"""Does a migration fit the version that still serves? Statements to operations to one verdict. Pure: text in, values out.

Three judges, each of which can only add objections: these rules over the text, squawk's report, and what a clone showed. What the text
does not tell (`needs the clone`) is settled by the clone alone; what no judge looked at is `not judged`, which is never safe.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from delivery.old_version import OldVersion
from delivery.operations import LONGEST_SQL, Lock, MigrationWaiver, Operation, Safety, Story, with_waivers
from delivery.schema import Schema
from delivery.sql import Statement, statements
from delivery.statement_rules import judge_statement

# squawk's objections that are not taken over, each with its reason. Its others are.
NOT_OBJECTED: dict[str, str] = {
    "require-lock-timeout": "the runner sets it and looks before each revision",
    "require-statement-timeout": "the runner sets it and looks before each revision",
    "require-timeout-settings": "the runner sets them and looks before each revision",
    "prefer-robust-stmts": "Alembic knows which revision was applied; IF NOT EXISTS would hide a schema that differs",
    "prefer-bigint-over-int": "taste, no hazard for the version that serves",
    "prefer-bigint-over-smallint": "taste, no hazard for the version that serves",
    "prefer-big-int": "taste, no hazard for the version that serves",
    "prefer-identity": "taste, no hazard for the version that serves",
    "prefer-text-field": "taste, no hazard for the version that serves",
    "prefer-timestamp-tz": "taste, no hazard for the version that serves",
    "prefer-repack": "taste; what it is about is judged here",
    "ban-char-field": "taste, no hazard for the version that serves",
    "identifier-too-long": "PostgreSQL cuts it; nothing breaks",
    "require-table-schema": "taste, no hazard for the version that serves",
    "require-enum-value-ordering": "taste: the order of an enum's values locks nothing",
    "changing-column-type": "it does not know the present type: some changes rewrite nothing (change-type, widen-type)",
    "ban-drop-constraint": "it objects to the last step of its own advice; what leans on a constraint is judged by kind (drop-constraint)",
    "ban-drop-not-null": "the expand step before a contract: the live version never writes NULL",
    "renaming-table": "a view may take the old name in the same transaction (rename-behind-view)",
    "adding-not-nullable-field": "it does not know CHECKs validated by earlier revisions (set-not-null-proven)",
    "renaming-object": "queries do not name indexes, and few constraints (rename-constraint)",
    "ban-drop-column": "it does not know what this migration made itself (drop-column)",
    "ban-drop-table": "it does not know what this migration made itself (drop)",
    "adding-foreign-key-constraint": "it cannot tell NOT VALID from an empty new column (foreign-key)",
}


@dataclass(frozen=True)
class Finding:
    """One line of squawk's report: `statement` counts from 1, 0 when it is about the file."""

    statement: int
    rule: str
    message: str


@dataclass(frozen=True)
class Observation:
    """What one run on a clone showed: `objections` as sentences; `finished` is False when the run itself told nothing."""

    finished: bool
    objections: tuple[str, ...] = ()


@dataclass(frozen=True)
class MigrationVerdict:
    """All operations in the order of their statements, objections of every judge among them."""

    operations: tuple[Operation, ...]

    @property
    def safe(self) -> bool:
        return not any(operation.stops for operation in self.operations)

    @property
    def waived(self) -> tuple[Operation, ...]:
        return tuple(operation for operation in self.operations if operation.waiver is not None)

    def sentence(self) -> str:
        """The first objection that decides (a certain one before an open one), or what a safe migration costs."""
        order = (Safety.UNSAFE, Safety.NOT_JUDGED, Safety.NEEDS_CLONE)
        stopping = [operation for safety in order for operation in self.operations if operation.stops and operation.safety is safety]
        if stopping:
            first, more = stopping[0], len(stopping) - 1
            lead = {Safety.NEEDS_CLONE: "needs the clone: ", Safety.NOT_JUDGED: "not judged: "}.get(first.safety, "")
            return lead + first.sentence().removesuffix(".") + "." + (f" And {more} more." if more else "")
        strongest = max(self.operations, key=lambda operation: operation.lock, default=None)
        if strongest is None:
            return "no statement"
        return strongest.sentence()


def judge(
    sql: str | None,
    *,
    schema: Schema,
    old_version: OldVersion,
    squawk: Sequence[Finding] | None,
    clone: Observation | None = None,
    waivers: Iterable[MigrationWaiver] = (),
    today: date | None = None,
) -> MigrationVerdict:
    """The verdict on one revision's SQL.

    `sql` is None when Alembic could not render it offline, `squawk` None when squawk could not look, `clone` None without a clone.
    `schema` is changed as the statements would change it. Waivers count only with a `today`.
    """
    operations = list(read_operations(sql, schema=schema, old_version=old_version))
    operations += squawk_objections(squawk, statements(sql or "")) if sql is not None else []
    if clone is not None and clone.finished:
        operations = [_settled(operation) for operation in operations]
        operations += [_from_clone(sentence) for sentence in clone.objections]
    operations.sort(key=lambda operation: operation.statement)
    if today is not None:
        return MigrationVerdict(with_waivers(operations, waivers, today=today))
    return MigrationVerdict(tuple(operations))


def read_operations(sql: str | None, *, schema: Schema, old_version: OldVersion) -> tuple[Operation, ...]:
    """These rules alone."""
    if sql is None:
        return (_no_sql(),)
    story = Story(schema, old_version, statements(sql))
    for number, statement in enumerate(story.statements):
        story.at = number
        judge_statement(story)
        schema.apply(statement)
    return tuple(story.found)


def squawk_objections(report: Sequence[Finding] | None, read: Sequence[Statement]) -> list[Operation]:
    """Squawk's findings without those of `NOT_OBJECTED`; one that says so when it did not look."""
    if report is None:
        return [_operation(0, "", "squawk", Safety.NOT_JUDGED, "squawk did not look at it", "install squawk-cli: `make setup`.")]
    return [
        _operation(
            finding.statement,
            read[finding.statement - 1].line[:LONGEST_SQL] if 0 < finding.statement <= len(read) else "",
            f"squawk:{finding.rule}",
            # What its parser does not know may be newer than it: PostgreSQL itself is asked.
            Safety.NEEDS_CLONE if finding.rule == "syntax-error" else Safety.UNSAFE,
            finding.message,
            "",
        )
        for finding in report
        if finding.rule not in NOT_OBJECTED
    ]


def _no_sql() -> Operation:
    return _operation(
        0,
        "",
        "no-offline-sql",
        Safety.NEEDS_CLONE,
        "Alembic cannot render it without a database: Python decides what it does, row by row, and no reader of SQL sees it",
        "plain SQL in batches, each committed, or have it judged on a clone of staging (--database-url).",
    )


def _settled(operation: Operation) -> Operation:
    if operation.safety is not Safety.NEEDS_CLONE:
        return operation
    return replace(operation, safety=Safety.SAFE, reason=f"proven on the clone; without it: {operation.reason}")


def _from_clone(sentence: str) -> Operation:
    return _operation(0, "", "clone", Safety.UNSAFE, sentence, "")


def _operation(statement: int, sql: str, rule: str, safety: Safety, reason: str, alternative: str) -> Operation:
    return Operation(statement, sql, rule, safety, Lock.NONE, "", reason, alternative)
