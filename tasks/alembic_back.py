"""The way back inside the application's image: its SQL, what it would lose, and the downgrade itself, one revision after the other.

Sent as text (`tasks/image_alembic.py`), beside `alembic_inside`.
"""

from __future__ import annotations

import io
import re
import time
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from tasks.alembic_guard import Guard
from tasks.alembic_inside import Refused, Runner, ancestors, described, known, open_script, told

_REVERSIBLE = re.compile(r"^\s*reversible:\s*yes\s*$", re.MULTILINE | re.IGNORECASE)
_TABLE = "SELECT to_regclass('{table}') IS NOT NULL"
_COLUMN = """
SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = to_regclass('{table}') AND a.attname = '{column}' AND NOT a.attisdropped
"""
# What is the same for every row that nobody has written to. Whatever has to be computed is not asked for: it could do something.
_CONSTANT = re.compile(r"""\(?-?(?:\d+(?:\.\d+)?|'(?:[^']|'')*'|true|false)\)?(?:::[\w ."\[\](),]+)?""")
_OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'greenroom-migrate' AND datname = current_database() AND pid <> pg_backend_pid()
"""


def taken_back(config: Config, one: Any) -> dict[str, Any]:
    """The SQL of its downgrade, where its docstring says that it has one."""
    if not _REVERSIBLE.search(one.longdoc or ""):
        return {"reversible": False, "back": None}
    down = one._versioned_down_revisions  # noqa: SLF001
    buffer = io.StringIO()
    config.output_buffer = buffer
    try:
        command.downgrade(config, f"{one.revision}:{down[0] if down else 'base'}", sql=True)
    except (Exception, SystemExit):  # noqa: BLE001  any code of the application may run here
        return {"reversible": True, "back": None}
    return {"reversible": True, "back": buffer.getvalue()}


def standing(asked: dict[str, Any], answer: dict[str, Any]) -> None:
    """Where the database is, what of `losses` holds data, and whether somebody else migrates it. Changes nothing."""
    config, script = open_script(asked)
    guard = Guard(**asked["limits"])
    guard.install()
    runner = Runner(config, script, guard)
    answer["present"] = runner.until_it_answers()
    answer["written"] = []

    def look(bind: Any) -> None:
        answer["migrating"] = bind.exec_driver_sql(_OTHERS).fetchone()[0]
        for table, column in asked["losses"]:
            if holds_data(bind, table, column):
                answer["written"].append(f"{table}.{column}" if column else table)

    runner.look(look)


def holds_data(bind: Any, table: str, column: str) -> bool:
    """A table with rows; a column with anything but NULL, or but its own constant default. What is not there holds nothing."""
    quoted = ".".join(_quoted(part) for part in table.split("."))
    inside = quoted.replace("'", "''")
    if "%" in f"{table}{column}":  # which drivers read in ways of their own
        return True
    if not bind.exec_driver_sql(_TABLE.format(table=inside)).fetchone()[0]:
        return False
    where = ""
    if column:
        found = bind.exec_driver_sql(_COLUMN.format(table=inside, column=column.replace("'", "''"))).fetchone()
        if found is None:
            return False
        where = f" WHERE {_quoted(column)} IS NOT NULL"
        if found[0] is not None and _CONSTANT.fullmatch(found[0]) and "%" not in found[0]:
            where += f" AND {_quoted(column)} IS DISTINCT FROM ({found[0]})"
    question = f"SELECT EXISTS (SELECT FROM {quoted}{where})"  # noqa: S608  quoted names, and a constant as PostgreSQL writes it
    return bool(bind.exec_driver_sql(question).fetchone()[0])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def downgrade(asked: dict[str, Any], answer: dict[str, Any]) -> None:
    """Takes back what the database has beyond `to`, newest first; believes only what it reads back. At `to` already it does nothing."""
    config, script = open_script(asked)
    guard = Guard(**asked["limits"])
    guard.install()
    runner = Runner(config, script, guard)
    try:
        _take_back(runner, asked, answer)
    finally:
        answer.update(tries=runner.tries, seconds=round(time.monotonic() - runner.began, 3))


def _take_back(runner: Runner, asked: dict[str, Any], answer: dict[str, Any]) -> None:
    answer["before"] = answer["after"] = runner.until_it_answers()
    answer["undone"] = []
    watch = None
    if asked.get("watch", False):
        from tasks.image_watch import Watch  # noqa: PLC0415  sent for rehearsals only

        watch = runner.guard.watcher = Watch()
    while beyond := revisions_beyond(runner.script, answer["after"], asked["to"]):
        one = beyond[0]
        _require_reviewed(one, asked.get("reviewed"))
        if watch is not None:
            runner.look(watch.before)

        def is_there(one: Any = one) -> bool:
            return one.revision in ancestors(runner.script, runner.until_it_answers())

        def act(one: Any = one, is_there: Any = is_there) -> None:
            try:
                command.downgrade(runner.config, one.down_revision)
            except CommandError:
                if is_there():  # else another process was quicker
                    raise

        runner.apply(one.revision, act, is_open=is_there)
        answer["after"] = runner.until_it_answers()
        if one.revision in ancestors(runner.script, answer["after"]):
            raise Refused(
                f"revision {one.revision} was taken back and the database is still at {told(answer['after'])}",
                "look whether the revision or env.py keeps Alembic from noting it in alembic_version",
            )
        answer["undone"].append(one.revision)
        if watch is not None:
            runner.look(watch.after)
            answer["objections"] = watch.objections


def revisions_beyond(script: ScriptDirectory, present: list[str], to: str) -> list[Any]:
    """What a database at `present` has and one at `to` has not, newest first."""
    strange = [name for name in (*present, to) if not known(script, name)]
    if strange:
        raise Refused(
            f"revision {told(strange)} is not in this image", "go back with the image that carries it; the schema stays as it is until then"
        )
    applied, kept = ancestors(script, present), ancestors(script, [to])
    if to not in applied:
        raise Refused(f"the database is at {told(present)}, which does not come after {to}", "look who has migrated it")
    beyond = [one for one in script.walk_revisions() if one.revision in applied - kept]
    for one in beyond:
        if not isinstance(one.down_revision, str):
            raise Refused(f"revision {one.revision} joins branches, and is not taken back", "write a revision that does it forward")
    return beyond


def _require_reviewed(one: Any, reviewed: dict[str, str] | None) -> None:
    if reviewed is not None and reviewed.get(one.revision) != described(one)["sha256"]:
        raise Refused(f"nobody has looked at revision {one.revision} as this image has it", "release the commit again, under a new version")
