"""ALTER TABLE, action by action."""

import re
from collections.abc import Callable, Sequence

from delivery.expressions import Volatility, shown, volatility
from delivery.operations import Lock, Story
from delivery.schema import BUILT_IN, SERIAL, Constraint, Schema, Table, Type, conjuncts, read_constraint, read_type
from delivery.sql import Cursor, Token, statements

AEL = Lock.ACCESS_EXCLUSIVE
_SUE_ACTIONS = (("set", "statistics"), ("set", "("), ("reset", "("), ("set", "without", "cluster"), ("cluster", "on"))
_METADATA_ACTIONS = (("replica", "identity"), ("set", "without", "oids"))
_REWRITES = (
    ("set", "logged"), ("set", "unlogged"), ("set", "tablespace"), ("set", "access", "method"),
)  # fmt: skip
_BEHAVIOUR = ("enable", "disable", "force", "no", "owner", "inherit", "of", "not")


def judge_alter_table(story: Story, cursor: Cursor) -> None:
    """What follows ALTER TABLE."""
    cursor.take("if", "exists")
    cursor.take("only")
    if cursor.take("all", "in", "tablespace"):
        story.say("rewrite", lock=AEL, about={"what": "moving tables to another tablespace"})
        return
    table = cursor.name()
    cursor.take("*")
    for action in cursor.parts():
        if story.is_new(table):
            story.say("new-object", table=table, lock=AEL)
            if action.take("rename", "to"):
                story.new.add(action.name())
        else:
            _judge(story, table, action)
    if not story.is_new(table) and story.held.get(table, Lock.NONE) >= Lock.SHARE_ROW_EXCLUSIVE:
        story.note_change(table)


def _judge(story: Story, table: str, action: Cursor) -> None:
    for words, judge in _ACTIONS:
        if action.take(*words):
            judge(story, table, action)
            return
    if any(action.take(*words) for words in _SUE_ACTIONS):
        story.say("metadata", table=table, lock=Lock.SHARE_UPDATE_EXCLUSIVE)
    elif any(action.take(*words) for words in _METADATA_ACTIONS):
        story.say("metadata", table=table, lock=AEL)
    elif any(action.take(*words) for words in _REWRITES):
        story.say("rewrite", table=table, lock=AEL, about={"what": story.statement.line})
    elif action.peek() in _BEHAVIOUR:
        story.say("behaviour", table=table, lock=AEL, about={"what": shown(action.rest)})
    else:
        story.say("unknown-statement", table=table, lock=AEL, about={"what": f"ALTER TABLE … {shown(action.rest)}"})


# -- ADD


def _judge_add(story: Story, table: str, action: Cursor) -> None:
    words = (action.peek(), action.peek(1))
    if words[0] == "constraint" or words[0] in ("check", "foreign", "unique", "primary", "exclude") or words == ("not", "null"):
        _judge_constraint(story, table, action)
        return
    action.take("column")
    action.take("if", "not", "exists")
    column = action.name()
    kind = read_type(action)
    definition = action.rest
    story.new_columns.add((table, column))
    before = len(story.found)
    _judge_new_column(story, table, kind, definition)
    if len(story.found) == before:
        story.say("add-column", table=table, lock=AEL)


def _judge_new_column(story: Story, table: str, kind: Type, definition: Sequence[Token]) -> None:
    words = [token.value for token in definition if token.kind != "text"]
    default = _default(definition)
    volatile = volatility(default)
    is_null = not default or [token.value for token in default] == ["null"]
    counts = kind.base in SERIAL
    made = kind.base in story.new and kind.base not in story.schema.views
    hazards = {
        "volatile-default": volatile is Volatility.VOLATILE or counts,
        "unknown-default": volatile is Volatility.UNKNOWN,
        "identity-column": "identity" in words,
        "generated-column": "generated" in words and "identity" not in words,
        "required-column": _has(words, "not", "null") and is_null and "generated" not in words and not counts,
        "unique-constraint": "unique" in words or _has(words, "primary", "key"),
        "check-constraint": "check" in words,
        # Without a default every row refers to nothing, and PostgreSQL does not look.
        "foreign-key": "references" in words and not is_null,
        "json-column": kind.base == "json",
        "unknown-type": not made and kind.base not in BUILT_IN | SERIAL | story.schema.enums,
    }
    about = {"what": kind if hazards["unknown-type"] else f"{kind.base}'s nextval()" if counts else shown(default)}
    for rule, applies in hazards.items():
        if applies:
            story.say(rule, table=table, lock=AEL, about=about)


def _default(definition: Sequence[Token]) -> tuple[Token, ...]:
    cursor = Cursor(definition)
    cursor.up_to("default")
    if not cursor.take("default"):
        return ()
    return cursor.up_to("not", "null", "constraint", "check", "unique", "primary", "references", "collate") or cursor.rest[:1]


def _judge_constraint(story: Story, table: str, action: Cursor) -> None:
    name = action.name() if action.take("constraint") else ""
    about = action.rest
    constraint = read_constraint(Cursor(about))
    words = [token.value for token in about if token.kind == "word"]
    story.fresh_constraints.add((table, name))
    if constraint is None:
        story.say("unknown-statement", table=table, lock=AEL, about={"what": "this kind of constraint"})
        return
    match constraint.kind:
        case "unique" | "primary key" if _has(words, "using", "index"):
            _judge_using_index(story, table, constraint, about)
        case "unique" | "primary key":
            story.say("unique-constraint", table=table, lock=AEL)
        case "exclude":
            story.say("exclude-constraint", table=table, lock=AEL)
        case "foreign key":
            _judge_foreign_key(story, table, constraint, about)
        case "check" | "not null":
            _judge_check(story, table, constraint)


def _judge_using_index(story: Story, table: str, constraint: Constraint, about: Sequence[Token]) -> None:
    cursor = Cursor(about)
    cursor.up_to("index")
    cursor.take("index")
    index = story.schema.indexes.get(cursor.name())
    known = story.table(table)
    if constraint.kind == "primary key" and not (index and all(known.is_never_null(column) for column in index.columns)):
        story.say("primary-key-nullable", table=table, lock=AEL)
    else:
        story.say("add-constraint-using-index", table=table, lock=AEL)


def _judge_foreign_key(story: Story, table: str, constraint: Constraint, about: Sequence[Token]) -> None:
    cursor = Cursor(about)
    cursor.up_to("references")
    cursor.take("references")
    parent = cursor.name()
    if constraint.valid:
        story.say("foreign-key", table=table, lock=Lock.SHARE_ROW_EXCLUSIVE)
    elif parent in story.old.deletes:
        story.say("references-deleted-rows", table=table, lock=Lock.SHARE_ROW_EXCLUSIVE, about={"what": parent})
    else:
        story.say("add-constraint-not-valid", table=table, lock=Lock.SHARE_ROW_EXCLUSIVE)


def _judge_check(story: Story, table: str, constraint: Constraint) -> None:
    if constraint.valid:
        story.say("check-constraint", table=table, lock=AEL)
    condition = constraint.condition
    if constraint.kind == "not null":
        (check,) = statements("x is not null")
        condition = (*condition, *check.tokens[1:])
    answer, statement = story.old.obeys(table, condition, story.table(table))
    match answer:
        case "breaks":
            story.say("check-breaks-writes", table=table, lock=AEL, about={"what": statement[:80]})
        case "unknown":
            story.say("check-live-writes", table=table, lock=AEL)
        case "holds" if not constraint.valid:
            story.say("add-constraint-not-valid", table=table, lock=AEL)


# -- DROP, RENAME


def _judge_drop(story: Story, table: str, action: Cursor) -> None:
    is_constraint = action.take("constraint")
    action.take("column")
    action.take("if", "exists")
    name = action.name()
    if action.take("cascade"):
        story.say("cascade", table=table, lock=AEL, takes=name)
        return
    if not is_constraint:
        rule = "new-object" if (table, name) in story.new_columns else "drop-column"
        story.say(rule, table=table, lock=AEL, takes=name)
        return
    constraint = story.table(table).constraints.get(name)
    if constraint is None:
        story.say("drop-unknown-constraint", table=table, lock=AEL, about={"what": name})
    elif constraint.kind in ("unique", "primary key", "exclude"):
        story.say("drop-unique", table=table, lock=AEL, about={"what": name})
    elif constraint.cascades:
        story.say("drop-cascading-key", table=table, lock=AEL, about={"what": name})
    else:
        story.say("drop-constraint", table=table, lock=AEL)


def _judge_rename(story: Story, table: str, action: Cursor) -> None:
    if action.take("constraint"):
        name = action.name()
        constraint = story.table(table).constraints.get(name)
        nobody_names_it = constraint is not None and constraint.kind in ("check", "foreign key", "not null")
        story.say("metadata" if nobody_names_it else "rename-constraint", table=table, lock=AEL, about={"what": name})
        return
    if action.take("to"):
        _judge_rename_table(story, table, action.name())
        return
    action.take("column")
    name = action.name()
    if (table, name) in story.new_columns:
        story.say("new-object", table=table, lock=AEL)
    else:
        story.say("rename", table=table, lock=AEL, about={"what": f"{table}.{name}"}, takes=name)


def _judge_rename_table(story: Story, table: str, new_name: str) -> None:
    """A view that takes the old name before the commit may stand in for the table."""
    story.moved.add(table)
    view, same = _view_in_its_place(story, table, new_name)
    if not view:
        story.say("rename", table=table, lock=AEL, about={"what": table}, takes=table)
        return
    story.say("rename-behind-view" if same else "rename-view-differs", table=table, lock=AEL)


def _view_in_its_place(story: Story, table: str, new_name: str) -> tuple[bool, bool]:
    """Is there such a view, and is it all columns with the rights of somebody who is named?"""
    if not story.in_transaction:
        return False, False
    found = same = granted = False
    for statement in story.statements[story.at + 1 :]:
        cursor = Cursor(statement.tokens)
        if cursor.peek() in ("commit", "end", "rollback"):
            break
        if cursor.take("create", "view") or cursor.take("create", "or", "replace", "view"):
            if cursor.name() == table:
                found = True
                same = cursor.take("as", "select", "*", "from") and cursor.name() == new_name and not cursor.rest
        elif cursor.take("grant"):
            cursor.up_to("on")
            cursor.take("on")
            cursor.take("table")
            granted = granted or any(part.name() == table for part in Cursor(cursor.up_to("to")).parts())
    return found, same and granted


# -- ALTER COLUMN


def _judge_column(story: Story, table: str, column: str, action: Cursor) -> None:
    if action.take("type") or action.take("set", "data", "type"):
        _judge_type(story, table, column, read_type(action), uses=action.peek() == "using")
    elif action.take("set", "not", "null"):
        _judge_not_null(story, table, column)
    elif action.take("drop", "not", "null") or action.take("set", "default"):
        story.say("metadata", table=table, lock=AEL)
    elif action.take("drop", "default"):
        story.say("metadata" if (table, column) in story.new_columns else "drop-default", table=table, lock=AEL)
    elif action.take("add", "generated", "by", "default") or action.take("set", "storage") or action.take("set", "compression"):
        story.say("metadata", table=table, lock=AEL)
    elif action.take("set", "statistics") or action.take("set", "(") or action.take("reset"):
        story.say("metadata", table=table, lock=Lock.SHARE_UPDATE_EXCLUSIVE)
    elif action.take("add", "generated", "always") or action.take("set", "generated", "always"):
        story.say("generated-always", table=table, lock=AEL)
    elif action.take("drop", "identity"):
        story.say("drop-default", table=table, lock=AEL)
    else:
        story.say("unknown-statement", table=table, lock=AEL, about={"what": f"ALTER COLUMN … {shown(action.rest)}"})


def _judge_not_null(story: Story, table: str, column: str) -> None:
    known = story.table(table)
    fresh = {name for of, name in story.fresh_constraints if of == table}
    older = Table(known.columns, {name: constraint for name, constraint in known.constraints.items() if name not in fresh})
    story.say("set-not-null-proven" if older.is_never_null(column) else "set-not-null", table=table, lock=AEL)


def _judge_type(story: Story, table: str, column: str, new: Type, *, uses: bool) -> None:
    known = story.table(table).columns.get(column)
    view = next((name for name, words in story.schema.views.items() if {table, column} <= words), None)
    if (table, column) in story.new_columns:
        story.say("new-object", table=table, lock=AEL)
    elif view is not None:
        story.say("change-type-under-view", table=table, lock=AEL, about={"what": view})
    elif uses:
        story.say("change-type", table=table, lock=AEL, about={"old": known.type if known else "one type", "new": f"{new} with USING"})
    elif known is None:
        story.say("change-type-unknown", table=table, lock=AEL)
    elif keeps_stored_values(known.type, new):
        story.say("widen-type", table=table, lock=AEL)
    elif {known.type.base, new.base} == {"timestamp with time zone", "timestamp without time zone"} and story.time_zone_is_utc:
        story.say("change-type-by-time-zone", table=table, lock=AEL)
    else:
        story.say("change-type", table=table, lock=AEL, about={"old": known.type, "new": new})


_BINARY_COERCIBLE = (("varchar", "text"), ("text", "varchar"), ("cidr", "inet"))
_WITH_LENGTH = ("varchar", "bit varying")
_WITH_PRECISION = ("timestamp with time zone", "timestamp without time zone", "time with time zone", "time without time zone", "interval")


def keeps_stored_values(old: Type, new: Type) -> bool:
    """PostgreSQL neither rewrites nor checks: the same, wider, or binary coercible."""
    if old == new:
        return True
    if old.array or new.array:
        return False
    if old.base != new.base:
        return not new.size and (old.base, new.base) in _BINARY_COERCIBLE
    if old.base in _WITH_LENGTH or old.base in _WITH_PRECISION:
        return not new.size or (bool(old.size) and new.size >= old.size)
    if old.base == "numeric" and new.size:
        precision, scale = (*new.size, 0)[:2]
        return bool(old.size) and precision >= old.size[0] and scale == (*old.size, 0)[1]
    return old.base == "numeric"


# -- VALIDATE, partitions


def _judge_validate(story: Story, table: str, action: Cursor) -> None:
    name = action.name()
    if story.is_held(table) or (table, name) in story.fresh_constraints:
        story.say("scan-under-lock", table=table, lock=AEL)
    else:
        story.say("online", table=table, lock=Lock.SHARE_UPDATE_EXCLUSIVE)


def _judge_attach(story: Story, parent: str, action: Cursor) -> None:
    partition = action.name()
    if story.is_new(partition) or _says_the_bounds(story.schema, parent, partition, action):
        rule = "partition-of" if story.table(parent).has_default_partition else "online"
        story.say(rule, table=parent, lock=Lock.SHARE_UPDATE_EXCLUSIVE)
    else:
        story.say("attach-partition", table=partition, lock=AEL)


def _says_the_bounds(schema: Schema, parent: str, partition: str, bounds: Cursor) -> bool:
    """Does a validated CHECK of the partition imply FOR VALUES FROM (low) TO (high), for a key of one column?"""
    by = schema.tables.get(parent, Table()).partitioned_by
    table = schema.tables.get(partition, Table())
    if len(by) != 1 or not bounds.take("for", "values", "from"):
        return False
    low = shown(bounds.parentheses())
    if not bounds.take("to"):
        return False
    high = shown(bounds.parentheses())
    (key,) = by
    known = {
        re.sub(r"[()' ]", "", term)
        for constraint in table.constraints.values()
        if constraint.kind == "check" and constraint.valid
        for term in conjuncts(constraint.condition)
    }
    wanted = {re.sub(r"[()' ]", "", term) for term in (f"{key}>={low}", f"{key}<{high}")}
    return wanted <= known and table.is_never_null(key)


def _judge_detach(story: Story, table: str, action: Cursor) -> None:
    action.name()
    if not action.take("concurrently") and not action.take("finalize"):
        story.say("detach-partition", table=table, lock=AEL)
    elif story.in_transaction:
        story.say("in-transaction", table=table, about={"what": "DETACH PARTITION CONCURRENTLY"})
    else:
        story.say("unknown-statement", table=table, lock=Lock.SHARE_UPDATE_EXCLUSIVE, about={"what": "taking a partition's rows away"})


def _judge_alter_column(story: Story, table: str, action: Cursor) -> None:
    action.take("column")
    _judge_column(story, table, action.name(), action)


def _set_schema(story: Story, table: str, _: Cursor) -> None:
    story.say("rename", table=table, lock=AEL, about={"what": table}, takes=table)


def _has(words: Sequence[str], *wanted: str) -> bool:
    return any(tuple(words[at : at + len(wanted)]) == wanted for at in range(len(words)))


_ACTIONS: tuple[tuple[tuple[str, ...], Callable[[Story, str, Cursor], None]], ...] = (
    (("add",), _judge_add),
    (("drop",), _judge_drop),
    (("alter",), _judge_alter_column),
    (("rename",), _judge_rename),
    (("validate", "constraint"), _judge_validate),
    (("attach", "partition"), _judge_attach),
    (("detach", "partition"), _judge_detach),
    (("set", "schema"), _set_schema),
)
