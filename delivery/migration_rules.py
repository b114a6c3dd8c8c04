"""The rules by name: what each says about an operation, why (PostgreSQL 12 and newer), and what to write instead.

`safety` is "safe", "unsafe" or "needs the clone". Text in braces is filled where a rule is applied.
"""

from typing import Literal, NamedTuple


class Rule(NamedTuple):
    safety: Literal["safe", "unsafe", "needs the clone"]
    reason: str
    alternative: str = ""


_BATCHES = "write in batches of 1,000 to 10,000 rows by primary key, each committed, in a job of its own."
_BACKFILL = "add the column without it, set the default for new rows, fill old rows in batches, then NOT NULL by a validated CHECK."
_CONTRACT = "do it in a later release, once no live version uses it any more (expand, then contract)."
_CONCURRENTLY = "write it with CONCURRENTLY inside op.get_context().autocommit_block()."
_VALIDATE_LATER = "add it NOT VALID, commit, and VALIDATE CONSTRAINT in a transaction of its own."
_ONE_EACH = "write one revision for each table, so that one lock is waited for at a time."
_CLONE = "have it judged on a clone of staging (--database-url)."

RULES: dict[str, Rule] = {
    # -- safe
    "transaction": Rule("safe", "begins or ends a transaction"),
    "reads": Rule("safe", "reads only"),
    "metadata": Rule("safe", "changes the catalogue only, for milliseconds"),
    "new-object": Rule("safe", "makes something new, or changes what this migration made: nobody else uses it yet"),
    "online": Rule("safe", "reads and writes go on meanwhile"),
    "add-column": Rule("safe", "adds a column by the catalogue alone: no row is touched"),
    "widen-type": Rule("safe", "the stored values stay as they are: no rewrite, no scan"),
    "add-constraint-not-valid": Rule("safe", "old rows are not looked at, and no known write of the live version breaks it"),
    "add-constraint-using-index": Rule("safe", "the index is there already; the constraint is a name for it"),
    "set-not-null-proven": Rule("safe", "a validated CHECK proves it, so that PostgreSQL does not scan"),
    "drop-constraint": Rule("safe", "what the live version writes stays allowed"),
    "rename-behind-view": Rule("safe", "a view of all columns takes the old name in the same transaction; PostgreSQL writes through it"),
    "few-rows": Rule("safe", "few rows, named by their key or bounded by a LIMIT"),
    "setting": Rule("safe", "a setting of this session that guards nothing"),
    "short-timeout": Rule("safe", "a limit on waiting, short enough"),
    # -- timeouts, transactions, what a linter cannot see
    "timeout-off": Rule(
        "unsafe",
        "{setting} = {value} disarms the guard: a migration that waits for a lock makes the whole application wait behind it",
        "leave it out: the runner sets short timeouts and tries again.",
    ),
    "server-setting": Rule(
        "unsafe", "changes settings of a role, database or server under the live version", "do it apart from a release."
    ),
    "lock-table": Rule(
        "unsafe", "LOCK TABLE keeps the application out until the transaction ends", "leave it to the statements' own locks."
    ),
    "several-tables": Rule(
        "unsafe",
        "one transaction locks several tables in use ({tables}): waits add up, and it can deadlock with the application",
        _ONE_EACH,
    ),
    "in-transaction": Rule(
        "unsafe", "PostgreSQL refuses {what} inside a transaction", "put it inside op.get_context().autocommit_block()."
    ),
    "scan-under-lock": Rule(
        "unsafe", "this transaction already holds ACCESS EXCLUSIVE on {table}: readers wait during the whole scan", _VALIDATE_LATER
    ),
    "write-under-lock": Rule(
        "unsafe", "this transaction already holds ACCESS EXCLUSIVE on {table}: readers wait until the last row is written", _BATCHES
    ),
    "opaque": Rule("needs the clone", "{what} may do anything, and its text does not tell", "write plain statements, or " + _CLONE),
    "hidden-ddl": Rule(
        "needs the clone",
        "DDL is hidden in a DO block ({what}): no linter sees what it locks or rewrites",
        "write it as a plain statement, or " + _CLONE,
    ),
    "plain-block": Rule("safe", "a DO block of plain statements, each harmless"),
    "rename-constraint": Rule("needs the clone", "ON CONFLICT ON CONSTRAINT of the live version may name {what}", _CLONE),
    "unknown-statement": Rule("needs the clone", "{what} is not known to be harmless", _CLONE),
    # -- rewrites and scans under a lock
    "volatile-default": Rule("unsafe", "{what} differs for each row: the table and its indexes are rewritten under the lock", _BACKFILL),
    "unknown-default": Rule("needs the clone", "{what} may be volatile, and then the table is rewritten", _BACKFILL),
    "identity-column": Rule("unsafe", "each row gets a number: the table is rewritten under the lock", _BACKFILL),
    "generated-column": Rule(
        "unsafe",
        "each row's value is computed and stored: the table is rewritten under the lock",
        "a plain column, filled by a trigger and in batches.",
    ),
    "unknown-type": Rule("needs the clone", "the type {what} is not known here: a domain with a constraint rewrites the table", _CLONE),
    "required-column": Rule(
        "unsafe",
        "NOT NULL without a default fails on rows that are there, and on every INSERT of the live version",
        "nullable, or with a default.",
    ),
    "change-type": Rule(
        "unsafe",
        "{old} to {new} rewrites or checks every row under the lock, and the live version's values may not fit",
        "add a new column, write both, backfill in batches, read the new one, drop the old one a release later.",
    ),
    "change-type-unknown": Rule(
        "needs the clone", "the column's present type is not known here, so neither is whether it is rewritten", _CLONE
    ),
    "change-type-by-time-zone": Rule("needs the clone", "no rewrite as long as the session's TimeZone is UTC", _CLONE),
    "change-type-under-view": Rule(
        "unsafe",
        "PostgreSQL refuses to change the type of a column that a view uses ({what})",
        "a new column; the view follows in a later release.",
    ),
    "create-index": Rule("unsafe", "writers wait while the index is built", _CONCURRENTLY),
    "drop-index": Rule(
        "unsafe", "readers and writers wait for the lock on the table", "write it with CONCURRENTLY, outside a transaction."
    ),
    "reindex": Rule(
        "unsafe", "writers wait while the index is built, and readers who would use it", "REINDEX CONCURRENTLY, outside a transaction."
    ),
    "index-on-partitions": Rule(
        "unsafe",
        "PostgreSQL cannot build it CONCURRENTLY on a partitioned table",
        "CREATE INDEX ON ONLY the parent, CONCURRENTLY on each partition, then attach.",
    ),
    "index-only": Rule("needs the clone", "ON ONLY builds nothing on a partitioned table, and everything on another one", _CLONE),
    "unique-constraint": Rule(
        "unsafe",
        "readers and writers wait while its index is built",
        "CREATE UNIQUE INDEX CONCURRENTLY, then ADD CONSTRAINT … USING INDEX.",
    ),
    "exclude-constraint": Rule(
        "unsafe", "readers and writers wait while its index is built; there is no online form", "a new table with the constraint."
    ),
    "primary-key-nullable": Rule(
        "unsafe",
        "the key's columns are not known to be NOT NULL: they are scanned while readers and writers wait",
        "make them NOT NULL by a validated CHECK first.",
    ),
    "foreign-key": Rule("unsafe", "every row is looked up while writers of both tables wait", _VALIDATE_LATER),
    "check-constraint": Rule("unsafe", "every row is checked while readers and writers wait", _VALIDATE_LATER),
    "set-not-null": Rule(
        "unsafe",
        "every row is checked while readers and writers wait",
        "CHECK (… IS NOT NULL) NOT VALID, VALIDATE in its own transaction, then SET NOT NULL.",
    ),
    "attach-partition": Rule(
        "unsafe",
        "every row of the partition is checked while its readers and writers wait",
        "first a validated CHECK that says what the bounds say.",
    ),
    "detach-partition": Rule(
        "unsafe", "readers and writers of the whole table wait", "DETACH PARTITION … CONCURRENTLY, outside a transaction."
    ),
    "partition-of": Rule(
        "needs the clone",
        "a default partition may have to be scanned while readers and writers wait",
        "create the table, then ATTACH PARTITION.",
    ),
    "rewrite": Rule("unsafe", "{what} copies the whole table while readers and writers wait", "a new table or tool that copies online."),
    "refresh-view": Rule(
        "unsafe", "readers of the view wait until it is filled", "REFRESH MATERIALIZED VIEW CONCURRENTLY, with a unique index."
    ),
    "refresh-view-online": Rule("needs the clone", "CONCURRENTLY needs a unique index on the view, and none is known", _CLONE),
    # -- what the live version leans on
    "rename": Rule(
        "unsafe",
        "the live version asks for {what} by its old name and fails at once",
        "add the new one, write both, move readers, drop the old one later.",
    ),
    "rename-view-differs": Rule(
        "needs the clone", "a view takes the old name; whether the live version can read and write through it, its statements tell", _CLONE
    ),
    "drop-column": Rule("unsafe", "the live version still names the column, and its data are gone for the way back", _CONTRACT),
    "drop": Rule("unsafe", "the live version may still use {what}, and what it holds is gone for the way back", _CONTRACT),
    "drop-default": Rule("unsafe", "the live version's INSERTs lean on the default", _CONTRACT),
    "drop-unique": Rule("needs the clone", "ON CONFLICT and duplicates of the live version lean on {what}", _CLONE),
    "drop-unknown-constraint": Rule("needs the clone", "what kind of constraint {what} is, is not known here", _CLONE),
    "drop-cascading-key": Rule("needs the clone", "{what} deletes or changes rows by itself, and the live version may lean on it", _CLONE),
    "cascade": Rule("unsafe", "CASCADE also drops what nobody named", "name each object, in the order that needs no CASCADE."),
    "check-live-writes": Rule(
        "needs the clone", "no scan, but the live version's writes must obey it at once, and whether they do its text does not tell", _CLONE
    ),
    "check-breaks-writes": Rule(
        "unsafe", "the live version's own write breaks it at once: {what}", "first release a version that writes what the constraint wants."
    ),
    "references-deleted-rows": Rule("needs the clone", "the live version deletes from {what}, which rows may refer to from now on", _CLONE),
    "json-column": Rule(
        "unsafe", "json has no equality: SELECT DISTINCT, UNION or GROUP BY over the row fails in the live version", "jsonb."
    ),
    "generated-always": Rule("unsafe", "INSERTs of the live version that give a value fail", "GENERATED BY DEFAULT."),
    "replace-view": Rule("needs the clone", "what the live version reads through {what} changes", _CLONE),
    "replace-function": Rule("needs the clone", "what the live version calls as {what} changes", _CLONE),
    "trigger": Rule("needs the clone", "writes of the live version run new code from now on", _CLONE),
    "rights": Rule("unsafe", "{what} takes from the live version what it may do today", _CONTRACT),
    "behaviour": Rule("unsafe", "{what} changes what the live version's statements do", _CONTRACT),
    "enum-value-in-use": Rule(
        "unsafe", "a value that this transaction adds to an enum cannot be used before it is committed", "add it one release earlier."
    ),
    # -- data
    "truncate": Rule("unsafe", "all rows are gone for the version that serves", _CONTRACT),
    "unbounded-write": Rule("unsafe", "every row is locked until the commit and written anew: the live version's writes wait", _BATCHES),
    "unknown-bound": Rule("needs the clone", "how many rows it touches its text does not tell", _BATCHES),
}
