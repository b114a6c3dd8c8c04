"""INSERT, UPDATE and DELETE: how many rows does one statement of a migration hold until its commit?"""

import itertools
from collections.abc import Sequence

from delivery.operations import Lock, Story
from delivery.sql import Cursor, Token

# Within one second on a small machine; more rows make users of those rows wait noticeably.
LARGEST_BATCH = 10_000
_ALWAYS_TRUE = (("true",), ("1", "=", "1"))


def judge_write(story: Story, cursor: Cursor) -> None:
    """The cursor stands behind the first word."""
    verb = story.statement.tokens[0].value
    if verb == "with":
        _judge_with(story)
    elif verb == "insert":
        _judge_insert(story, cursor)
    elif verb in ("update", "delete"):
        cursor.take("from")
        cursor.take("only")
        _judge_change(story, cursor.name(), cursor)
    else:
        story.say("unknown-bound", lock=Lock.ROW_EXCLUSIVE)


def _judge_with(story: Story) -> None:
    """What writes may stand anywhere in a WITH; its bound may come from another part."""
    parts = story.statement.tokens
    verbs = [
        at
        for at, token in enumerate(parts)
        if token.kind == "word" and token.value in ("update", "delete", "insert", "merge") and parts[at - 1].value not in ("for", "do")
    ]
    if not verbs:
        story.say("reads", lock=Lock.ACCESS_SHARE)
        return
    for at in verbs:
        cursor = Cursor(parts[at + 1 :])
        _ = cursor.take("from") or cursor.take("into")
        cursor.take("only")
        table = cursor.name()
        if parts[at].value in ("update", "delete") and not _limited(parts):
            _judge_change(story, table, cursor)
        elif parts[at].value in ("update", "delete"):
            _say_bounded(story, table)
        else:
            story.say("new-object" if story.is_new(table) else "unknown-bound", table=table, lock=Lock.ROW_EXCLUSIVE)


def _judge_insert(story: Story, cursor: Cursor) -> None:
    cursor.take("into")
    table = cursor.name()
    selects = any(token.kind == "word" and token.value == "select" for token in cursor.rest)
    if story.is_held(table):
        story.say("write-under-lock", table=table, lock=Lock.ROW_EXCLUSIVE) if selects else story.say("few-rows", table=table)
    elif not selects or _limited(cursor.rest):
        story.say("new-object" if story.is_new(table) else "few-rows", table=table, lock=Lock.ROW_EXCLUSIVE)
    elif story.is_new(table) and not story.held:
        story.say("new-object", table=table, lock=Lock.ROW_EXCLUSIVE)
    else:
        story.say("unknown-bound", table=table, lock=Lock.ROW_EXCLUSIVE)


def _judge_change(story: Story, table: str, cursor: Cursor) -> None:
    if story.is_new(table):
        story.say("new-object", table=table, lock=Lock.ROW_EXCLUSIVE)
        return
    cursor.up_to("where")
    condition = Cursor(cursor.rest[1:]).up_to("returning")
    if not condition or tuple(token.value for token in condition) in _ALWAYS_TRUE:
        story.say("write-under-lock" if story.is_held(table) else "unbounded-write", table=table, lock=Lock.ROW_EXCLUSIVE)
    elif _one_row(story, table, condition):
        story.say("few-rows", table=table, lock=Lock.ROW_EXCLUSIVE)
    elif story.is_held(table):
        story.say("write-under-lock", table=table, lock=Lock.ROW_EXCLUSIVE)
    elif _limited(condition) or _narrow_range(story, table, condition):
        _say_bounded(story, table)
    else:
        story.say("unknown-bound", table=table, lock=Lock.ROW_EXCLUSIVE)


def _say_bounded(story: Story, table: str) -> None:
    rule = "write-under-lock" if story.is_held(table) else "new-object" if story.is_new(table) else "few-rows"
    story.say(rule, table=table, lock=Lock.ROW_EXCLUSIVE)


def _keys(story: Story, table: str) -> set[str]:
    """Columns of which each value stands for one row."""
    constraints = story.table(table).constraints.values()
    keys = {
        constraint.columns[0] for constraint in constraints if constraint.kind in ("primary key", "unique") and len(constraint.columns) == 1
    }
    keys |= {
        index.columns[0] for index in story.schema.indexes.values() if index.table == table and index.unique and len(index.columns) == 1
    }
    return keys if story.schema.known else keys | {"id"}


def _one_row(story: Story, table: str, condition: Sequence[Token]) -> bool:
    """`key = value`, alone or AND something, or `key IN (values)`."""
    keys = _keys(story, table)
    if any(token.value == "or" for token in condition if token.kind == "word"):
        return False
    cursor = Cursor(condition)
    while cursor:
        term = Cursor(cursor.up_to("and"))
        cursor.take("and")
        column = term.name().rpartition(".")[2]
        if column in keys and term.take("=") and len(term.rest) == 1 and term.rest[0].kind != "word":
            return True
        if column in keys and term.take("in") and len(term.rest) < LARGEST_BATCH and all(token.kind != "word" for token in term.rest):
            return True
    return False


def _limited(parts: Sequence[Token]) -> bool:
    """A LIMIT with a number that is a batch."""
    for token, following in itertools.pairwise(parts):
        if token.kind == "word" and token.value == "limit":
            return following.kind == "number" and following.value.isdecimal() and int(following.value) <= LARGEST_BATCH
    return False


def _narrow_range(story: Story, table: str, condition: Sequence[Token]) -> bool:
    """`key BETWEEN a AND b`, or `key >= a AND key < b`, no wider than a batch."""
    keys = _keys(story, table)
    words = [token.value for token in condition if token.value not in ("(", ")")]
    if "or" in words:
        return False
    lows: list[int] = []
    highs: list[int] = []
    for at, word in enumerate(words[:-2]):
        if word not in keys:
            continue
        operator, value = words[at + 1], words[at + 2]
        if operator == "between" and words[at + 3 : at + 4] == ["and"] and value.isdecimal() and words[at + 4].isdecimal():
            lows.append(int(value))
            highs.append(int(words[at + 4]))
        elif operator in (">", ">=") and value.isdecimal():
            lows.append(int(value))
        elif operator in ("<", "<=") and value.isdecimal():
            highs.append(int(value))
    return bool(lows and highs) and 0 <= min(highs) - max(lows) <= LARGEST_BATCH
