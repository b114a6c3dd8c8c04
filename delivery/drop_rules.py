"""DROP, and every ALTER: what the live version leans on must outlive it."""

from delivery.alter_table import judge_alter_table
from delivery.operations import Lock, Story
from delivery.sql import Cursor

AEL = Lock.ACCESS_EXCLUSIVE


def judge_drop(story: Story, cursor: Cursor) -> None:
    kind = cursor.peek()
    cursor.skip()
    if kind == "materialized":
        cursor.take("view")
    if kind == "index":
        _drop_index(story, cursor)
        return
    if kind == "owned":
        story.say("drop", lock=AEL, about={"what": "everything of a role"})
        return
    cursor.take("if", "exists")
    cascade = any(token.value == "cascade" for token in cursor.rest if token.kind == "word")
    for part in Cursor(cursor.up_to("cascade", "restrict")).parts():
        name = part.name()
        if part.take("on"):  # triggers, rules and policies are named within their table
            name = part.name()
        if story.is_new(name) and not cascade:
            story.say("new-object", table=name, lock=AEL)
        else:
            story.say("drop", table=name, lock=AEL, about={"what": f"{kind} {name}"}, takes=name)


def _drop_index(story: Story, cursor: Cursor) -> None:
    concurrently = cursor.take("concurrently")
    cursor.take("if", "exists")
    for part in cursor.parts():
        name = part.name()
        index = story.schema.indexes.get(name)
        table = index.table if index else ""
        if concurrently and story.in_transaction:
            story.say("in-transaction", table=table, about={"what": "DROP INDEX CONCURRENTLY"})
        elif story.is_new(name) or story.is_new(table):
            story.say("new-object", table=table, lock=AEL)
        elif not concurrently:
            story.say("drop-index", table=table, lock=AEL)
        elif index is not None and index.unique:
            story.say("drop-unique", table=table, lock=Lock.SHARE_UPDATE_EXCLUSIVE, about={"what": name})
        else:
            story.say("online", table=table, lock=Lock.SHARE_UPDATE_EXCLUSIVE)


def judge_alter(story: Story, cursor: Cursor) -> None:
    kind = cursor.peek()
    cursor.skip()
    if kind == "table":
        judge_alter_table(story, cursor)
    elif kind in ("system", "database", "role", "user"):
        story.say("server-setting")
    elif kind == "type":
        _alter_type(story, cursor)
    elif kind == "index":
        _alter_index(story, cursor)
    elif kind == "default":
        words = story.statement.words
        story.say("rights" if "revoke" in words else "metadata", about={"what": "ALTER DEFAULT PRIVILEGES"})
    else:
        _alter_other(story, kind, cursor)


def _alter_other(story: Story, kind: str, cursor: Cursor) -> None:
    cursor.take("view")
    cursor.take("if", "exists")
    name = cursor.name()
    words = story.statement.words
    if story.is_new(name):
        story.say("new-object", table=name)
    elif "rename" in words or ("set" in words and "schema" in words):
        column = cursor.name() if cursor.take("rename", "column") else ""
        story.say("rename", table=name, lock=AEL, about={"what": name}, takes=column or name)
    elif "owner" in words and "to" in words:
        story.say("behaviour", table=name, lock=AEL, about={"what": "another owner"})
    elif kind == "sequence" and "owned" in words:
        story.say("metadata", table=name)
    elif kind == "statistics":
        story.say("metadata", table=name, lock=Lock.SHARE_UPDATE_EXCLUSIVE)
    elif kind == "domain" and "add" in words and "valid" not in words:
        story.say("check-constraint", table=name, lock=AEL)
    else:
        story.say("unknown-statement", table=name, lock=AEL, about={"what": f"ALTER {kind.upper()}"})


def _alter_type(story: Story, cursor: Cursor) -> None:
    name = cursor.name()
    if story.is_new(name):
        story.say("new-object")
    elif cursor.take("add", "value"):
        cursor.take("if", "not", "exists")
        value = cursor.skip()
        if value is not None and story.in_transaction:
            story.fresh_values.add(value.text)
        story.say("metadata", about={"what": name})
    elif cursor.take("rename"):
        part = cursor.skip() if cursor.take("value") or cursor.take("attribute") else None
        story.say("rename", about={"what": f"type {name}"}, takes=part.value if part else name)
    else:
        story.say("unknown-statement", about={"what": "ALTER TYPE"})


def _alter_index(story: Story, cursor: Cursor) -> None:
    if cursor.take("all", "in", "tablespace"):
        story.say("rewrite", lock=AEL, about={"what": "moving indexes to another tablespace"})
        return
    cursor.take("if", "exists")
    name = cursor.name()
    if story.is_new(name) or cursor.peek() in ("rename", "attach", "alter", "reset") or cursor.take("set", "("):
        story.say("metadata", lock=Lock.SHARE_UPDATE_EXCLUSIVE)
    elif cursor.take("set", "tablespace"):
        story.say("rewrite", lock=AEL, about={"what": "moving an index to another tablespace"})
    else:
        story.say("unknown-statement", lock=AEL, about={"what": "ALTER INDEX"})
