"""CREATE: what is new is safe unless it takes a name, a table or a write that the live version uses."""

from delivery.operations import Lock, Story
from delivery.sql import Cursor, statements

AEL = Lock.ACCESS_EXCLUSIVE
_NEW_KINDS = (
    "type",
    "domain",
    "sequence",
    "schema",
    "extension",
    "collation",
    "aggregate",
    "operator",
    "cast",
    "statistics",
    "role",
    "user",
)


def judge_create(story: Story, cursor: Cursor) -> None:
    replaces = cursor.take("or", "replace")
    for word in ("global", "local", "temporary", "temp", "unlogged", "unique", "constraint", "recursive", "trusted", "procedural"):
        cursor.take(word)
    kind = cursor.peek()
    cursor.skip()
    match kind:
        case "index":
            _create_index(story, cursor)
        case "table":
            _create_table(story, cursor)
        case "view":
            _make(story, cursor.name(), rule="replace-view" if replaces else "")
        case "materialized":
            cursor.take("view")
            cursor.take("if", "not", "exists")
            _make(story, cursor.name())
        case "function" | "procedure":
            _make(story, cursor.name(), rule="replace-function" if replaces else "")
        case "trigger":
            _create_trigger(story, cursor)
        case "policy" | "rule":
            cursor.up_to("on", "to")
            cursor.skip()
            table = cursor.name()
            story.say("new-object" if story.is_new(table) else "behaviour", table=table, lock=AEL, about={"what": f"a {kind}"})
        case _ if kind in _NEW_KINDS:
            cursor.take("if", "not", "exists")
            name = cursor.name()
            story.new.add(name)
            story.say("new-object")
        case _:
            story.say("unknown-statement", about={"what": f"CREATE {kind.upper()}"})


def _make(story: Story, name: str, *, rule: str = "") -> None:
    """`rule` applies when the name may already be in use."""
    replaced = name in story.schema.views or name in story.schema.functions or not story.schema.known
    if rule and replaced and not story.is_new(name):
        story.say(rule, table=name, lock=AEL, about={"what": name})
        return
    story.new.add(name)
    story.say("new-object", table=name)


def _create_table(story: Story, cursor: Cursor) -> None:
    may_be_there = cursor.take("if", "not", "exists")
    name = cursor.name()
    if may_be_there and name in story.schema.tables:
        story.say("metadata", table=name)
        return
    if not (may_be_there and not story.schema.known):
        story.new.add(name)
    if cursor.take("partition", "of"):
        parent = cursor.name()
        known = story.schema.tables.get(parent)
        if story.is_new(parent) or (known is not None and not known.has_default_partition):
            story.say("metadata", table=parent, lock=AEL)
        else:
            story.say("partition-of", table=parent, lock=AEL)
        return
    story.new.add(name)
    story.say("new-object", table=name, lock=Lock.NONE)


def _create_index(story: Story, cursor: Cursor) -> None:
    concurrently = cursor.take("concurrently")
    cursor.take("if", "not", "exists")
    name = cursor.name() if cursor.peek() != "on" else ""
    cursor.take("on")
    only = cursor.take("only")
    table = cursor.name()
    partitioned = bool(story.table(table).partitioned_by)
    if concurrently and story.in_transaction:
        story.say("in-transaction", table=table, about={"what": "CREATE INDEX CONCURRENTLY"})
    elif story.is_new(table):
        story.say("new-object", table=table, lock=Lock.SHARE)
    elif only and not concurrently:
        story.say("metadata" if partitioned else "index-only", table=table, lock=Lock.SHARE)
    elif partitioned:
        story.say("index-on-partitions", table=table, lock=Lock.SHARE)
    elif concurrently:
        story.say("online", table=table, lock=Lock.SHARE_UPDATE_EXCLUSIVE)
    else:
        story.say("create-index", table=table, lock=Lock.SHARE)
        story.note_change(table)
    story.new.add(name)


def _create_trigger(story: Story, cursor: Cursor) -> None:
    event = {token.value for token in cursor.up_to("on")}
    cursor.take("on")
    table = cursor.name()
    cursor.up_to("execute")
    cursor.skip()
    cursor.skip()
    body = story.schema.functions.get(cursor.name())
    if story.is_new(table):
        story.say("new-object", table=table, lock=Lock.SHARE_ROW_EXCLUSIVE)
    elif body is not None and not event & {"delete", "truncate", "instead"} and _only_fills_the_row(body):
        story.say("metadata", table=table, lock=Lock.SHARE_ROW_EXCLUSIVE)
        story.note_change(table)
    else:
        story.say("trigger", table=table, lock=Lock.SHARE_ROW_EXCLUSIVE)
        story.note_change(table)


def _only_fills_the_row(body: str) -> bool:
    """A trigger function that assigns columns of NEW and returns it, as the synchronising ones of expand and contract do."""
    parts = [statement.words for statement in statements(body)]
    for words in parts:
        trimmed = words[1:] if words[0] == "begin" else words
        assigns = trimmed[:2] == ("new", ".") and trimmed[3:4] in ((":=",), ("=",))
        if not (assigns or trimmed in (("return", "new"), ("end",), ())):
            return False
    return True
