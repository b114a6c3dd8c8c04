"""Checks: the application's own tools look at one commit, side by side; what passed once is not looked at again."""

import hashlib
import itertools
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from tasks.kept import keep_again, keep_sarif, keep_text, reports_folder
from tasks.reports.coverage import read_coverage
from tasks.retry import ONCE, retried
from tasks.scans import Places, command_of, look
from tasks.shell import Redaction, run_tool
from tasks.side_by_side import side_by_side
from tasks.source import tree_hash, use_of
from tasks.toolchains import Prepared, inside, prepare_toolchains, program_identity, toolchain_environment

log = logging.getLogger("greenroom.checks")

SHOWN_TAIL = 40
MOST_LINES_READ = 50_000
_RESULT = TypeAdapter(CheckResult)

# The variables of each tool-token block, by its name.
Tokens = Mapping[str, Mapping[str, SecretStr]]
NO_TOKENS: Tokens = {}


class CheckFailed(DeliveryError):  # noqa: N818  reads as the sentence it is
    """A check that stops the release; `result` is its whole answer, where it was not lost on the way."""

    result: CheckResult | None = None

    @classmethod
    def of(cls, result: CheckResult, what: str, *, next_step: str) -> "CheckFailed":
        failed = cls(what, next=next_step)
        failed.result = result
        return failed


def verify(  # noqa: PLR0913  each is one thing about one run, and most have a default
    source: Source,
    application: Application,
    *,
    work_dir: Path,
    secrets: Sequence[SecretStr] = (),
    at_once: int | None = None,
    gate: Gate | None = None,
    advisories: Path | None = None,
    tokens: Tokens = NO_TOKENS,
    keep_in: Path | None = None,
    tell: Callable[[Sequence[CheckResult]], object] = list,
) -> tuple[CheckResult, ...]:
    """Runs every check of the application, `at_once` (default: as many as there are cores) side by side, and returns all answers.

    All run to their end before anything is said, and `tell` gets every answer, good or bad. Without a `gate` it is the application's own
    waivers and today; `advisories` is the file of the team's own; `tokens` are variables by the name of their block; `keep_in` is where
    SARIF and JUnit files stay. Raises `DeliveryError` naming each failing tool with its first findings, each tool that did not look, and
    each waiver that has run out.
    """
    together = at_once or os.cpu_count() or 1
    gate = gate or Gate(datetime.now(UTC).date(), application.waiver)
    keep_in = keep_in or reports_folder(work_dir, str(source.sha))
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
                tokens=tokens,
                keep_in=keep_in,
            )
            for check in application.checks
        ]
        outcomes = side_by_side(acts, at_once=together)
    results = tuple(_answer(check, outcome) for check, outcome in zip(application.checks, outcomes, strict=True))
    results = tuple(_with_sarif(result, check, keep_in, gate, source) for check, result in zip(application.checks, results, strict=True))
    tell(results)
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
    return results


def _answer(check: CheckSettings, outcome: CheckResult | Exception) -> CheckResult:
    """Of a check that stops the release, too; one that could not even be run has not looked."""
    if isinstance(outcome, CheckResult):
        return outcome
    if isinstance(outcome, CheckFailed) and outcome.result is not None:
        return outcome.result
    reason = outcome.what if isinstance(outcome, DeliveryError) else type(outcome).__name__
    return CheckResult(check.name, passed=False, seconds=0.0, not_scanned=reason)


def _with_sarif(result: CheckResult, check: CheckSettings, folder: Path, gate: Gate, source: Source) -> CheckResult:
    if (check.report is None and check.coverage is None) or result.not_configured is not None:
        return result
    written = keep_sarif(result, folder, gate=gate, commit=str(source.sha))
    return replace(result, kept=(*result.kept, written)) if written else result


@retried(ONCE, name="check", run_name="check {check.name}")
def check_once(  # noqa: PLR0913  as above
    check: CheckSettings,
    source: Source,
    toolchain: Prepared | None,
    *,
    work_dir: Path,
    gate: Gate,
    secrets: Sequence[SecretStr] = (),
    advisories: Path | None = None,
    tokens: Tokens = NO_TOKENS,
    keep_in: Path | None = None,
) -> CheckResult:
    """One check as a stage of its own: its answer when it passed, else `CheckFailed` with tool, place and next step."""
    result = run_check(
        check, source, toolchain, work_dir=work_dir, gate=gate, secrets=secrets, advisories=advisories, tokens=tokens, keep_in=keep_in
    )
    log.log(logging.WARNING if result.not_scanned else logging.INFO, "%s", result.sentence())
    if result.passed:
        return result
    command = f"run `{' '.join(check.command)}` in {check.directory}"
    if not _has_scan(result, check):
        found = findings(_lines_of(result), folder=source.path, directory=check.directory)
        told = f"{check.name} failed:" + "".join(f"\n  {line}" for line in found)
        raise CheckFailed.of(result, told, next_step=f"see {result.log}; {command}")
    decision = gate.decide(check.name, result.scan, fails_at=check.fails_at)
    if decision.blind:
        way_out = f'make it possible ({command}), or excuse it for a time: a [[waiver]] of "not scanned" in greenroom.toml.'
        raise CheckFailed.of(result, f"{check.name} was not scanned: {decision.blind}.", next_step=way_out)
    stopping = worst_first(decision.stopping)
    lines = [f"{finding.severity}: {finding.sentence()}" for finding in stopping[:MOST_LINES]]
    lines += [f"and {len(stopping) - MOST_LINES} more" for _ in stopping[MOST_LINES : MOST_LINES + 1]]
    told = f"{check.name} failed:" + "".join(f"\n  {line}" for line in lines)
    raise CheckFailed.of(result, told, next_step=f"see {result.report or result.log}; {command}")


def run_check(  # noqa: PLR0913  as above
    check: CheckSettings,
    source: Source,
    toolchain: Prepared | None,
    *,
    work_dir: Path,
    gate: Gate,
    secrets: Iterable[SecretStr] = (),
    advisories: Path | None = None,
    tokens: Tokens = NO_TOKENS,
    keep_in: Path | None = None,
) -> CheckResult:
    """Runs one tool and returns its answer; an answer "passed" for the same content, command and toolchain comes from the cache.

    What the cache keeps are findings; whether they pass is decided anew, since waivers run out.
    """
    keep_in = keep_in or reports_folder(work_dir, str(source.sha))
    environment = toolchain_environment(toolchain, work_dir=work_dir, extra=check.settings)
    if check.token is not None:
        variables = tokens.get(check.token)
        if variables is None:
            missing = f"there is no block tool-token/{check.token}"
            return CheckResult(check.name, passed=True, seconds=0.0, not_configured=missing)
        environment |= {name: value.get_secret_value() for name, value in variables.items()}
        secrets = (*secrets, *variables.values())
    if any(ADVISORIES in part for part in check.command):
        known = ready_advisories(
            advisories,
            work_dir=work_dir,
            environment=environment,
            today=gate.today,
            identity=program_identity(check.command[0], environment["PATH"]),
        )
        if isinstance(known, NotScanned):
            return _judged(CheckResult(check.name, passed=False, seconds=0.0, not_scanned=known.reason), check, gate)
        # In the name of its folder is what it holds, so that the cache knows other advisories for another check.
        check = replace(check, command=tuple(part.replace(ADVISORIES, str(known.folder)) for part in check.command))
    memory = work_dir / "cache" / "checks" / f"{_check_key(check, source, toolchain, environment)}.json"
    if (remembered := _remembered(memory, check.fresh_hours)) is not None and (judged := _judged(remembered, check, gate)).passed:
        kept = keep_again(judged.kept, keep_in)
        if kept is not None:
            return replace(judged, kept=kept)
    places = Places(work_dir / "logs" / str(source.sha) / f"{check.name}.log").cleared()
    answer = _scanned if check.report else _judged_by_exit_code
    result = answer(check, source, environment, places, secrets)
    kept = keep_text(places.junit, keep_in, name=f"{check.name}.junit.xml", redact=Redaction(secrets))
    result = _judged(replace(result, kept=kept), check, gate)
    if result.passed and result.not_scanned is None:
        _remember(memory, replace(result, tail=result.tail[-SHOWN_TAIL:]))
    return result


def _judged_by_exit_code(
    check: CheckSettings, source: Source, environment: Mapping[str, str], places: Places, secrets: Iterable[SecretStr]
) -> CheckResult:
    """Where tests are measured, too little is a finding; tests that fail have failed, however much of the code they run."""
    tool = run_tool(
        places.in_command(command_of(check, source)),
        directory=inside(source, check.directory),
        environment=environment,
        timeout=timedelta(seconds=check.timeout_seconds),
        log_file=places.log_file,
        secrets=secrets,
        label=check.name,
    )
    result = CheckResult(check.name, passed=tool.succeeded, seconds=round(tool.seconds, 2), tail=tool.tail, log=str(places.log_file))
    if check.coverage is None or not tool.succeeded:
        return result
    return _with(result, read_coverage(places.coverage, least=check.coverage, tool=check.name))


def _scanned(
    check: CheckSettings, source: Source, environment: Mapping[str, str], places: Places, secrets: Iterable[SecretStr]
) -> CheckResult:
    seen = look(check, source, environment=environment, log_file=places.log_file, secrets=secrets)
    log_file = str(places.log_file)
    return _with(CheckResult(check.name, passed=False, seconds=seen.seconds, tail=seen.tail, log=log_file, report=seen.report), seen.scan)


def _with(result: CheckResult, scan: Scan) -> CheckResult:
    match scan:
        case NotScanned(reason):
            return replace(result, not_scanned=reason)
        case Scanned(found):
            return replace(result, findings=found)


def _judged(result: CheckResult, check: CheckSettings, gate: Gate) -> CheckResult:
    if not _has_scan(result, check):
        return result
    decision = gate.decide(check.name, result.scan, fails_at=check.fails_at)
    return replace(result, passed=decision.passes, waived=tuple(waiver.sentence() for waiver in decision.used))


def _has_scan(result: CheckResult, check: CheckSettings) -> bool:
    """Whether findings decide; else the exit code does, as for tests that failed before anything was measured."""
    measured = check.coverage is not None and (result.passed or bool(result.findings) or result.not_scanned is not None)
    return check.report is not None or measured


def _lines_of(result: CheckResult) -> Sequence[str]:
    """A tool's whole output, since the first finding may stand far before the last lines."""
    with Path(result.log).open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\n") for line in itertools.islice(file, MOST_LINES_READ)]


def _check_key(check: CheckSettings, source: Source, toolchain: Prepared | None, environment: Mapping[str, str]) -> str:
    content = tree_hash(source, check.reads)
    tool = toolchain.key if toolchain else program_identity(check.command[0], environment["PATH"])
    facts: list[object] = ["3", check.name, content, command_of(check, source), check.directory, tool, check.report, dict(check.settings)]
    facts += [check.coverage, check.allow]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


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
