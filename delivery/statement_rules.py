"""Every statement but ALTER TABLE: what it locks, rewrites, or takes from the version that serves."""

import itertools
from collections.abc import Callable
from dataclasses import replace

from delivery.create_rules import judge_create
from delivery.data_rules import judge_write
from delivery.drop_rules import judge_alter, judge_drop
from delivery.expressions import shown
from delivery.operations import Lock, Safety, Story, seconds
from delivery.sql import Cursor, Statement, statements

AEL = Lock.ACCESS_EXCLUSIVE
# As long as a user waits for a page before giving up. Behind a waiting ALTER TABLE everybody waits.
LONGEST_LOCK_TIMEOUT = 5.0
LONGEST_STATEMENT_TIMEOUT = 300.0
_LIMITS = {"lock_timeout": LONGEST_LOCK_TIMEOUT, "statement_timeout": LONGEST_STATEMENT_TIMEOUT}
# What may run long, since nobody waits for it.
_ONLINE = frozenset(("concurrently", "validate"))
_WITHOUT_WORK = frozenset(("set", "reset", "begin", "start", "commit", "end", "savepoint", "release"))
_GUARDS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout", "deadlock_timeout")
_WEAK_MODES = (("access", "share"), ("row", "share"), ("row", "exclusive"), ("share", "update", "exclusive"))
_HARMLESS_CALLS = frozenset({
    "count", "min", "max", "sum", "avg", "exists", "in", "any", "all", "values", "over", "filter", "as", "from", "where", "and", "or",
    "not",
    "pg_advisory_lock", "pg_advisory_xact_lock", "pg_try_advisory_lock", "pg_try_advisory_xact_lock", "pg_advisory_unlock", "version",
    "to_regclass", "current_setting", "coalesce", "lower", "upper", "now", "length", "setval", "set_config", "join", "on", "using",
    "select",
    "pg_get_serial_sequence", "greatest", "least", "nullif", "row_number", "pg_catalog", "by", "case", "then", "else", "when", "cast",
})  # fmt: skip
_PLPGSQL_LEADS = ("begin", "then", "loop", "else")
_PLPGSQL_CONTROL = ("end", "null", "return", "raise", "declare", "if", "exit", "continue")
_DDL = frozenset({"alter", "create", "drop", "truncate", "lock", "reindex", "refresh", "grant", "revoke", "cluster"})


def judge_statement(story: Story) -> None:
    cursor = Cursor(story.statement.tokens)
    first = cursor.peek()
    rule = _RULES.get(first)
    if rule is not None:
        cursor.skip()
        rule(story, cursor)
    else:
        story.say("unknown-statement", about={"what": first.upper() or shown(story.statement.tokens[:1])})
    _look_for_fresh_values(story)


# -- transactions and settings


def _begin(story: Story, _: Cursor) -> None:
    story.in_transaction = True
    story.say("transaction")


def _end(story: Story, _: Cursor) -> None:
    story.end_transaction()
    story.say("transaction")


def _rollback(story: Story, cursor: Cursor) -> None:
    if not (cursor.take("to") or cursor.take("work", "to") or cursor.take("transaction", "to")):
        story.end_transaction()
    story.say("transaction")


def _savepoint(story: Story, _: Cursor) -> None:
    story.say("transaction")


def _set(story: Story, cursor: Cursor) -> None:
    _ = cursor.take("local") or cursor.take("session")
    if cursor.take("time", "zone"):
        setting, value = "timezone", shown(cursor.rest)
    else:
        setting = cursor.name().lower()
        _ = cursor.take("=") or cursor.take("to")
        value = " ".join(token.value for token in cursor.rest)
    judge_setting(story, setting, value)


def judge_setting(story: Story, setting: str, value: str) -> None:
    if setting == "timezone":
        story.time_zone_is_utc = value.strip("'").upper() in ("UTC", "ETC/UTC", "GMT", "0")
    if setting == "session_replication_role":
        story.say("behaviour", about={"what": "session_replication_role"})
    elif setting in _GUARDS:
        limit = _LIMITS.get(setting, float("inf"))
        wait = seconds(value)
        is_limit = wait is not None and 0 < wait <= limit
        is_needed = setting == "statement_timeout" and _only_online_work_follows(story)
        rule = "short-timeout" if is_limit or is_needed else "timeout-off"
        story.say(rule, about={"setting": setting, "value": value or "default"})
    else:
        story.say("setting")


def _only_online_work_follows(story: Story) -> bool:
    """Is the statement timeout lifted for nothing but what runs long while others go on, until it is set anew?"""
    under_it = list(itertools.takewhile(lambda statement: "statement_timeout" not in statement.words, story.statements[story.at + 1 :]))
    work = [
        words for statement in under_it if not _WITHOUT_WORK.intersection((words := statement.words)[:1]) and "alembic_version" not in words
    ]
    return bool(work) and all(_ONLINE.intersection(words) for words in work)


def _reset(story: Story, cursor: Cursor) -> None:
    setting = cursor.name().lower()
    if setting in (*_GUARDS, "all"):
        story.say("timeout-off", about={"setting": setting, "value": "the server's own"})
    else:
        story.say("setting")


def _discard(story: Story, cursor: Cursor) -> None:
    if cursor.peek() == "all":
        story.say("timeout-off", about={"setting": "every setting", "value": "the server's own"})
    else:
        story.say("setting")


def _lock(story: Story, cursor: Cursor) -> None:
    cursor.take("table")
    cursor.take("only")
    names = [part.name() for part in Cursor(cursor.up_to("in", "nowait")).parts()]
    cursor.take("in")
    weak = any(cursor.take(*mode, "mode") for mode in _WEAK_MODES)
    for name in names:
        if weak or story.is_new(name):
            story.say("metadata", table=name, lock=Lock.SHARE_UPDATE_EXCLUSIVE)
        else:
            story.say("lock-table", table=name, lock=AEL)


def _look_for_fresh_values(story: Story) -> None:
    if "value" in story.statement.words[:5] and story.statement.words[:2] == ("alter", "type"):
        return
    if any(token.kind == "text" and token.text in story.fresh_values for token in story.statement.tokens):
        story.say("enum-value-in-use")


# -- maintenance, rights, code


def _reindex(story: Story, cursor: Cursor) -> None:
    concurrently = "concurrently" in story.statement.words
    cursor.parentheses()
    cursor.skip()
    cursor.take("concurrently")
    name = cursor.name()
    if concurrently and story.in_transaction:
        story.say("in-transaction", table=name, about={"what": "REINDEX CONCURRENTLY"})
    elif concurrently:
        story.say("online", table=name, lock=Lock.SHARE_UPDATE_EXCLUSIVE)
    elif story.is_new(name):
        story.say("new-object", table=name, lock=Lock.SHARE)
    else:
        story.say("reindex", table=name, lock=AEL)


def _vacuum(story: Story, cursor: Cursor) -> None:
    options = [token.value for token in cursor.parentheses()]
    if cursor.take("full") or "full" in options:
        story.say("rewrite", table=cursor.name(), lock=AEL, about={"what": "VACUUM FULL"})
    elif story.in_transaction:
        story.say("in-transaction", about={"what": "VACUUM"})
    else:
        story.say("online", lock=Lock.SHARE_UPDATE_EXCLUSIVE)


def _analyze(story: Story, _: Cursor) -> None:
    story.say("online", lock=Lock.SHARE_UPDATE_EXCLUSIVE)


def _cluster(story: Story, cursor: Cursor) -> None:
    cursor.parentheses()
    cursor.take("verbose")
    story.say("rewrite", table=cursor.name(), lock=AEL, about={"what": "CLUSTER"})


def _refresh(story: Story, cursor: Cursor) -> None:
    cursor.take("materialized", "view")
    concurrently = cursor.take("concurrently")
    name = cursor.name()
    if story.is_new(name):
        story.say("new-object", table=name, lock=AEL)
    elif not concurrently:
        story.say("refresh-view", table=name, lock=AEL)
    elif any(index.table == name and index.unique for index in story.schema.indexes.values()):
        story.say("online", table=name, lock=Lock.EXCLUSIVE)
    else:
        story.say("refresh-view-online", table=name, lock=Lock.EXCLUSIVE)


def _truncate(story: Story, cursor: Cursor) -> None:
    cursor.take("table")
    cursor.take("only")
    for part in Cursor(cursor.up_to("restart", "continue", "cascade", "restrict")).parts():
        name = part.name()
        story.say("new-object" if story.is_new(name) else "truncate", table=name, lock=AEL)
    if "cascade" in story.statement.words:
        story.say("cascade", lock=AEL)


def _grant(story: Story, _: Cursor) -> None:
    story.say("metadata")


def _revoke(story: Story, cursor: Cursor) -> None:
    cursor.up_to("on")
    cursor.take("on")
    cursor.take("table")
    name = cursor.name()
    story.say("new-object" if story.is_new(name) else "rights", table=name, about={"what": "REVOKE"})


def _comment(story: Story, cursor: Cursor) -> None:
    cursor.take("on", "table")
    story.say("metadata", lock=Lock.SHARE_UPDATE_EXCLUSIVE)


def _do(story: Story, cursor: Cursor) -> None:
    """PL/pgSQL in a text. What stands in it plainly is judged as if it stood alone; what is put together at run time nobody can read."""
    body = next((token.value for token in cursor.rest if token.kind == "text"), "")
    read = statements(body)
    words = {word for statement in read for word in statement.words}
    inner = [plain for statement in read if (plain := _without_control_words(statement)) is not None]
    hidden = sorted({plain.words[0] for plain in inner} & _DDL)
    within = replace(story, statements=tuple(inner), found=[])
    for number in range(len(inner)):
        within.at = number
        judge_statement(within)
    objections = [operation for operation in within.found if operation.safety is not Safety.SAFE]
    for operation in objections:
        if operation.safety is Safety.UNSAFE:
            story.found.append(replace(operation, statement=story.at + 1))
    if "execute" in words or "loop" in words or objections:
        about = ", ".join(word.upper() for word in (["execute"] if "execute" in words else hidden))
        story.say("hidden-ddl", lock=AEL, about={"what": about}) if about else story.say("opaque", about={"what": "a DO block"})
    else:
        story.say("plain-block")


def _without_control_words(statement: Statement) -> Statement | None:
    """What follows the last BEGIN, THEN, LOOP or ELSE; None for what only controls."""
    leads = [at for at, token in enumerate(statement.tokens) if token.kind == "word" and token.value in _PLPGSQL_LEADS]
    rest = statement.tokens[leads[-1] + 1 :] if leads else statement.tokens
    return None if not rest or rest[0].value in _PLPGSQL_CONTROL else Statement(rest)


def _call(story: Story, cursor: Cursor) -> None:
    story.say("opaque", about={"what": f"procedure {cursor.name()}"})


def _select(story: Story, _: Cursor) -> None:
    parts = story.statement.tokens
    calls = {
        token.value
        for token, following in itertools.pairwise(parts)
        if token.kind in ("word", "quoted") and following.kind == "symbol" and following.value == "("
    }
    if "set_config" in calls:
        texts = [token.value for token in parts if token.kind == "text"]
        judge_setting(story, texts[0].lower() if texts else "", texts[1] if len(texts) > 1 else "")
    if unknown := sorted(calls - _HARMLESS_CALLS):
        story.say("opaque", lock=Lock.ACCESS_SHARE, about={"what": f"{unknown[0]}()"})
    elif "for" in story.statement.words and ({"update", "share"} & set(story.statement.words)):
        story.say("unknown-bound", lock=Lock.ROW_SHARE)
    elif "into" in story.statement.words:
        story.say("unknown-statement", about={"what": "SELECT INTO"})
    else:
        story.say("reads", lock=Lock.ACCESS_SHARE)


def _show(story: Story, _: Cursor) -> None:
    story.say("reads")


_Rule = Callable[[Story, Cursor], None]
_RULES: dict[str, _Rule] = {
    "begin": _begin, "start": _begin, "commit": _end, "end": _end, "rollback": _rollback, "abort": _rollback, "savepoint": _savepoint,
    "release": _savepoint, "set": _set, "reset": _reset, "discard": _discard, "lock": _lock, "create": judge_create, "drop": judge_drop,
    "alter": judge_alter, "reindex": _reindex, "vacuum": _vacuum, "analyze": _analyze, "cluster": _cluster, "refresh": _refresh,
    "truncate": _truncate, "grant": _grant, "revoke": _revoke, "comment": _comment, "do": _do, "call": _call, "select": _select,
    "values": _show, "show": _show, "notify": _show, "listen": _show, "insert": judge_write, "update": judge_write,
    "delete": judge_write, "with": judge_write, "merge": judge_write, "copy": judge_write,
}  # fmt: skip
