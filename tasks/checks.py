"""Checks: the application's own tools look at one commit, side by side; what passed once is not looked at again."""

import hashlib
import itertools
import json
import logging
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from pydantic import SecretStr, TypeAdapter, ValidationError

from delivery.application import Application
from delivery.check import CheckResult
from delivery.check_settings import ADVISORIES, CheckSettings
from delivery.errors import DeliveryError
from delivery.gate import Gate
from delivery.scan import NotScanned, Scan, Scanned, worst_first
from delivery.source import Source
from tasks.advisories import ready_advisories
from tasks.findings import MOST_LINES, findings
from tasks.retry import ONCE, retried
from tasks.scans import command_of, look
from tasks.shell import run_tool
from tasks.side_by_side import side_by_side
from tasks.source import tree_hash, use_of
from tasks.toolchains import Prepared, inside, prepare_toolchains, toolchain_environment

log = logging.getLogger("greenroom.checks")

SHOWN_TAIL = 40
MOST_LINES_READ = 50_000
_RESULT = TypeAdapter(CheckResult)


def verify(
    source: Source,
    application: Application,
    *,
    work_dir: Path,
    secrets: Sequence[SecretStr] = (),
    at_once: int | None = None,
    gate: Gate | None = None,
    advisories: Path | None = None,
) -> tuple[CheckResult, ...]:
    """Runs every check of the application, `at_once` (default: as many as there are cores) side by side, and returns all answers.

    All run to their end before anything is said. Without a `gate` it is the application's own waivers and today; `advisories` is the file
    of the team's own. Raises `DeliveryError` naming each failing tool with its first findings, each tool that did not look, and each waiver
    that has run out.
    """
    together = at_once or os.cpu_count() or 1
    gate = gate or Gate(datetime.now(UTC).date(), application.waiver)
    with use_of(Path(source.path)):
        toolchains = prepare_toolchains(source, application, work_dir=work_dir, names={check.toolchain for check in application.checks})
        acts = [
            partial(
                check_once,
                check,
                source,
                toolchains.get(check.toolchain or ""),
                work_dir=work_dir,
                gate=gate,
                secrets=secrets,
                advisories=advisories,
            )
            for check in application.checks
        ]
        outcomes = side_by_side(acts, at_once=together)
    failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    told = [outcome for outcome in failed if isinstance(outcome, DeliveryError)]
    if len(told) < len(failed):
        raise next(error for error in failed if not isinstance(error, DeliveryError))
    told += [
        DeliveryError(wrong, next="remove the waiver from greenroom.toml, or give it a new day and a reason.")
        for wrong in gate.wrong_waivers()
    ]
    if told:
        raise DeliveryError("\n".join(error.what for error in told), next="\n".join(dict.fromkeys(error.next for error in told)))
    return tuple(outcome for outcome in outcomes if isinstance(outcome, CheckResult))


@retried(ONCE, name="check", run_name="check {check.name}")
def check_once(
    check: CheckSettings,
    source: Source,
    toolchain: Prepared | None,
    *,
    work_dir: Path,
    gate: Gate,
    secrets: Sequence[SecretStr] = (),
    advisories: Path | None = None,
) -> CheckResult:
    """One check as a stage of its own: its answer when it passed, else `DeliveryError` with tool, place and next step."""
    result = run_check(check, source, toolchain, work_dir=work_dir, gate=gate, secrets=secrets, advisories=advisories)
    log.log(logging.WARNING if result.not_scanned else logging.INFO, "%s", result.sentence())
    if result.passed:
        return result
    command = f"run `{' '.join(check.command)}` in {check.directory}"
    if check.report is None:
        found = findings(_lines_of(result), folder=source.path, directory=check.directory)
        raise DeliveryError(f"{check.name} failed:" + "".join(f"\n  {line}" for line in found), next=f"see {result.log}; {command}")
    decision = gate.decide(check.name, _scan_of(result), fails_at=check.fails_at)
    if decision.blind:
        raise DeliveryError(
            f"{check.name} was not scanned: {decision.blind}.",
            next=f'make it possible ({command}), or excuse it for a time: a [[waiver]] of "not scanned" in greenroom.toml.',
        )
    stopping = worst_first(decision.stopping)
    lines = [f"{finding.severity}: {finding.sentence()}" for finding in stopping[:MOST_LINES]]
    lines += [f"and {len(stopping) - MOST_LINES} more" for _ in stopping[MOST_LINES : MOST_LINES + 1]]
    raise DeliveryError(f"{check.name} failed:" + "".join(f"\n  {line}" for line in lines), next=f"see {result.report}; {command}")


def run_check(
    check: CheckSettings,
    source: Source,
    toolchain: Prepared | None,
    *,
    work_dir: Path,
    gate: Gate,
    secrets: Iterable[SecretStr] = (),
    advisories: Path | None = None,
) -> CheckResult:
    """Runs one tool and returns its answer; an answer "passed" for the same content, command and toolchain comes from the cache.

    What the cache keeps are findings; whether they pass is decided anew, since waivers run out.
    """
    environment = toolchain_environment(toolchain, work_dir=work_dir, extra=check.settings)
    if any(ADVISORIES in part for part in check.command):
        known = ready_advisories(
            advisories,
            work_dir=work_dir,
            environment=environment,
            today=gate.today,
            identity=_identity(check.command[0], environment["PATH"]),
        )
        if isinstance(known, NotScanned):
            return _judged(CheckResult(check.name, passed=False, seconds=0.0, not_scanned=known.reason), check, gate)
        # In the name of its folder is what it holds, so that the cache knows other advisories for another check.
        check = replace(check, command=tuple(part.replace(ADVISORIES, str(known.folder)) for part in check.command))
    memory = work_dir / "cache" / "checks" / f"{_check_key(check, source, toolchain, environment)}.json"
    if (remembered := _remembered(memory, check.fresh_hours)) is not None and (judged := _judged(remembered, check, gate)).passed:
        return judged
    log_file = work_dir / "logs" / str(source.sha) / f"{check.name}.log"
    log_file.unlink(missing_ok=True)
    answer = _scanned if check.report else _judged_by_exit_code
    result = _judged(answer(check, source, environment, log_file, secrets), check, gate)
    if result.passed and result.not_scanned is None:
        _remember(memory, replace(result, tail=result.tail[-SHOWN_TAIL:]))
    return result


def _judged_by_exit_code(
    check: CheckSettings, source: Source, environment: Mapping[str, str], log_file: Path, secrets: Iterable[SecretStr]
) -> CheckResult:
    tool = run_tool(
        command_of(check, source),
        directory=inside(source, check.directory),
        environment=environment,
        timeout=timedelta(seconds=check.timeout_seconds),
        log_file=log_file,
        secrets=secrets,
        label=check.name,
    )
    return CheckResult(check.name, passed=tool.succeeded, seconds=round(tool.seconds, 2), tail=tool.tail, log=str(log_file))


def _scanned(
    check: CheckSettings, source: Source, environment: Mapping[str, str], log_file: Path, secrets: Iterable[SecretStr]
) -> CheckResult:
    seen = look(check, source, environment=environment, log_file=log_file, secrets=secrets)
    result = CheckResult(check.name, passed=False, seconds=seen.seconds, tail=seen.tail, log=str(log_file), report=seen.report)
    match seen.scan:
        case NotScanned(reason):
            return replace(result, not_scanned=reason)
        case Scanned(found):
            return replace(result, findings=found)


def _scan_of(result: CheckResult) -> Scan:
    return Scanned(result.findings) if result.not_scanned is None else NotScanned(result.not_scanned)


def _judged(result: CheckResult, check: CheckSettings, gate: Gate) -> CheckResult:
    if check.report is None:
        return result
    decision = gate.decide(check.name, _scan_of(result), fails_at=check.fails_at)
    return replace(result, passed=decision.passes, waived=tuple(waiver.sentence() for waiver in decision.used))


def _lines_of(result: CheckResult) -> Sequence[str]:
    """A tool's whole output, since the first finding may stand far before the last lines."""
    with Path(result.log).open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\n") for line in itertools.islice(file, MOST_LINES_READ)]


def _check_key(check: CheckSettings, source: Source, toolchain: Prepared | None, environment: Mapping[str, str]) -> str:
    content = tree_hash(source, check.reads)
    tool = toolchain.key if toolchain else _identity(check.command[0], environment["PATH"])
    facts = ["2", check.name, content, command_of(check, source), check.directory, tool, check.report, dict(check.settings)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _identity(program: str, path: str) -> str:
    """A tool of the machine is told apart by its file; its own version command would have to be known."""
    found = shutil.which(program, path=path)
    if found is None:
        return program
    file = Path(found).resolve()
    status = file.stat()
    return f"{file}:{status.st_size}:{status.st_mtime_ns}"


def _remembered(memory: Path, fresh_hours: int | None) -> CheckResult | None:
    try:
        if fresh_hours is not None and time.time() - memory.stat().st_mtime > fresh_hours * 3600:
            return None
        return replace(_RESULT.validate_json(memory.read_bytes()), cached=True)
    except (OSError, ValidationError):
        return None  # not there, or half written by somebody who was ended: look again


def _remember(memory: Path, result: CheckResult) -> None:
    memory.parent.mkdir(parents=True, exist_ok=True)
    draft = memory.with_suffix(f".{os.getpid()}.tmp")
    draft.write_bytes(_RESULT.dump_json(result))
    draft.replace(memory)
