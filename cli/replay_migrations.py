"""`greenroom replay migrations`: recorded migrations before the very judges that stand before production."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import SecretStr

from cli.replay import field_of, read_document, refused
from delivery.migrations import Finding, MigrationVerdict, Observation, judge
from delivery.old_version import OldVersion
from delivery.operations import Safety
from delivery.schema import Schema


@dataclass(frozen=True)
class Case:
    """What is read of a case; whatever else it holds, expectations and measurements of others, is not looked at.

    `code` is the revision's Python, used when it cannot be told as SQL. `setup` and `old_statements` are the file's unless the case
    has its own; None says that nobody told.
    """

    identity: int | str
    sql: str | None
    code: str | None
    setup: str | None
    old_statements: tuple[str, ...] | None


def print_verdicts(file: Path, *, database_url: str | None) -> None:
    """One JSON line per case. The whole file is read before the first line is printed, so that a bad one prints none."""
    name, document = read_document(file)
    cases = [_parsed(case, document, where=f"{name}: cases[{index}]", top=name) for index, case in enumerate(document["cases"])]
    from tasks.squawk import read_with_squawk

    reports = [read_with_squawk(case.sql) if case.sql is not None else None for case in cases]
    with _Stage(database_url) as stage:
        for case, report in zip(cases, reports, strict=True):
            verdict = _judged(case, report)
            if stage.is_lent and not verdict.safe and _only_the_clone_can_tell(verdict):
                verdict = _judged(case, report, clone=stage.rehearse(case))
            shown = {"id": case.identity, "verdict": "safe" if verdict.safe else "unsafe", "reason": verdict.sentence()}
            print(json.dumps(shown, ensure_ascii=False), flush=True)


def _judged(case: Case, report: Sequence[Finding] | None, *, clone: Observation | None = None) -> MigrationVerdict:
    schema, old_version = Schema.read(case.setup), OldVersion.read(case.old_statements)
    return judge(case.sql, schema=schema, old_version=old_version, squawk=report, clone=clone)


def _only_the_clone_can_tell(verdict: MigrationVerdict) -> bool:
    return all(operation.safety is Safety.NEEDS_CLONE for operation in verdict.operations if operation.stops)


class _Stage:
    """The lent database, and for each set-up the copies of it; cases of a file usually share one."""

    def __init__(self, url: str | None) -> None:
        self._url = SecretStr(url) if url else None
        self._open = contextlib.ExitStack()
        self._clones: dict[str, Any] = {}

    @property
    def is_lent(self) -> bool:
        return self._url is not None

    def __enter__(self) -> Self:
        if self._url is not None:
            from tasks.clone import refuse_unless_empty

            refuse_unless_empty(self._url)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def rehearse(self, case: Case) -> Observation:
        """Without a schema, or without anything that the live version is known to send, a run would prove nothing."""
        from tasks.rehearsal import AlembicCode, rehearse

        migration = case.sql if case.sql is not None else AlembicCode(case.code or "")
        if self._url is None or not (case.sql or case.code) or case.setup is None or case.old_statements is None:
            return Observation(finished=False)
        from tasks.clone import open_clones

        if case.setup not in self._clones:
            self._open.close()
            self._clones = {case.setup: self._open.enter_context(open_clones(self._url, case.setup))}
        clones = self._clones[case.setup]
        with clones.fresh() as address:
            return rehearse(address, migration, old_statements=case.old_statements, role=clones.role)


def _parsed(case: Any, document: dict[str, Any], *, where: str, top: str) -> Case:
    identity = field_of(case, "id", where=where)
    if not isinstance(identity, int | str):
        raise refused(where, "id", identity, "a number or a string")
    sql = _text(case, "sql", where=where)
    own = _statements(case, where=where)
    old_statements = own if own is not None else _statements(document, where=top)
    setup = _text(case, "setup_sql", where=where) or _text(document, "setup_sql", where=top)
    return Case(identity, sql, _text(case, "alembic", where=where), setup, old_statements)


def _text(holder: Any, key: str, *, where: str) -> str | None:
    value = field_of(holder, key, where=where, default=None)
    if value is not None and not isinstance(value, str):
        raise refused(where, key, value, "a string or null")
    return value


def _statements(holder: Any, *, where: str) -> tuple[str, ...] | None:
    value = field_of(holder, "old_version_statements", where=where, default=None)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise refused(where, "old_version_statements", value, "a list of strings")
    return tuple(value)
