"""squawk reads a migration: the linter's own parser of PostgreSQL, beside the rules in `delivery.migrations`."""

import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plumbum import CommandNotFound, ProcessTimedOut, local

from delivery.migrations import Finding
from delivery.sql import statements
from tasks.retry import ONCE, retried

log = logging.getLogger("greenroom.squawk")

# The oldest PostgreSQL that is looked after: what is safe there is safe on newer ones.
POSTGRESQL = "15.0"
LONGEST_SECONDS = 60.0


@retried(ONCE, name="squawk")
def read_with_squawk(sql: str) -> tuple[Finding, ...] | None:
    """What squawk objects to, by statement; None when it could not look, which is never the same as no objection.

    It gets the statements without comments and a settings file of ours, since a comment or a `.squawk.toml` in the application's
    repository could switch its rules off.
    """
    lines = [statement.sql for statement in statements(sql)]
    starts = _first_lines(lines)
    # Beside the interpreter first: a virtual environment need not be on PATH.
    beside = Path(sys.executable).with_name("squawk")
    with tempfile.TemporaryDirectory(prefix="greenroom-squawk-") as folder:
        file, settings = Path(folder, "migration.sql"), Path(folder, "squawk.toml")
        file.write_text("".join(f"{line};\n" for line in lines), encoding="utf-8")
        settings.write_text("", encoding="utf-8")
        try:
            program = local[str(beside) if beside.exists() else "squawk"]
            arguments = ["--reporter", "json", "--pg-version", POSTGRESQL, "--config", str(settings), str(file)]
            # Through env, since plumbum alone would hand on this process's variables, secrets included. It exits with 1 for findings;
            # whether it has looked is told by its report.
            bare = local["env"]["-i", str(program.executable), *arguments]
            code, out, err = bare.run(retcode=None, timeout=LONGEST_SECONDS)
        except (CommandNotFound, ProcessTimedOut, OSError) as error:
            log.warning("squawk could not look (%s); the migration counts as not judged.", type(error).__name__)
            return None
    report = _report(out)
    if report is None:
        log.warning("squawk ended with exit code %s and no report: %s", code, err.strip()[-200:] or "it said nothing")
        return None
    return tuple(_finding(entry, starts) for entry in report)


def _report(out: str) -> list[dict[str, Any]] | None:
    """Its JSON; None for anything else, nothing at all included."""
    try:
        report = json.loads(out)
    except json.JSONDecodeError:
        return None
    return report if isinstance(report, list) and all(isinstance(entry, dict) and "rule_name" in entry for entry in report) else None


def _finding(entry: dict[str, Any], starts: Sequence[int]) -> Finding:
    """Its lines count from 0."""
    line = int(entry.get("line") or 0)
    statement = sum(start <= line for start in starts)
    return Finding(statement, str(entry["rule_name"]), str(entry.get("message") or entry["rule_name"]))


def _first_lines(lines: Sequence[str]) -> list[int]:
    starts, at = [], 0
    for line in lines:
        starts.append(at)
        at += line.count("\n") + 1
    return starts
