"""One tool looks at the code and writes a report: what it found, or that it did not look."""

import functools
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr

from delivery.check_settings import COVERAGE, HISTORY, JUNIT, RANGE, REPORT, CheckSettings
from delivery.scan import Finding, NotScanned, Scan, Scanned
from delivery.source import Source
from tasks.reports import read_report
from tasks.shell import Redaction, ToolResult, run_tool
from tasks.source import history, range_since_release
from tasks.toolchains import inside

LARGEST_REPORT = 64 * 1024 * 1024


@dataclass(frozen=True)
class Look:
    """What came of one look. `report` is "" when the tool wrote none."""

    scan: Scan
    seconds: float = 0.0
    tail: tuple[str, ...] = ()
    report: str = ""


def command_of(check: CheckSettings, source: Source) -> tuple[str, ...]:
    """Its command as it is run on this commit, but for where the report goes."""
    command = check.command
    for name, value in ((RANGE, range_since_release), (HISTORY, history)):
        if any(name in part for part in command):
            found = str(value(source))
            command = tuple(part.replace(name, found) for part in command)
    return command


@dataclass(frozen=True)
class Places:
    """Where a tool's output goes, and the files that it may be asked for, all beside its log."""

    log_file: Path

    @property
    def report(self) -> Path:
        return self.log_file.with_suffix(".report")

    @property
    def junit(self) -> Path:
        return self.log_file.with_suffix(".junit.xml")

    @property
    def coverage(self) -> Path:
        return self.log_file.with_suffix(".coverage")

    def cleared(self) -> "Places":
        """Nothing of an earlier run lies there, which could be taken for this one's."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        for place in (self.log_file, self.report, self.junit, self.coverage):
            if place.is_dir():
                shutil.rmtree(place)
            place.unlink(missing_ok=True)
        return self

    def in_command(self, command: Iterable[str]) -> list[str]:
        known = {REPORT: self.report, JUNIT: self.junit, COVERAGE: self.coverage}
        return [functools.reduce(lambda text, name: text.replace(name, str(known[name])), known, part) for part in command]


def look(
    check: CheckSettings, source: Source, *, environment: Mapping[str, str], log_file: Path, secrets: Iterable[SecretStr] = ()
) -> Look:
    """Runs the tool of a check that has a report. Whatever keeps it from looking at everything is a value, by name."""
    program = check.command[0]
    if check.report is None:
        raise ValueError(f"{check.name} writes no report")
    if shutil.which(program, path=environment["PATH"]) is None:
        return Look(NotScanned(f"{program} is not installed"))
    places = Places(log_file)
    report = places.report
    report.parent.mkdir(parents=True, exist_ok=True)
    command = command_of(check, source)
    names_it = any(REPORT in part for part in command)
    tool = run_tool(
        places.in_command(command),
        directory=inside(source, check.directory),
        environment=environment,
        timeout=timedelta(seconds=check.timeout_seconds),
        log_file=log_file,
        secrets=secrets,
        label=check.name,
        output_to=None if names_it else report,
    )
    text = _kept(report, Redaction(secrets))
    scan = _scan(check, tool, text)
    if isinstance(scan, Scanned):
        scan = Scanned(tuple(_placed(finding, source, check.directory) for finding in scan.findings))
    return Look(scan, round(tool.seconds, 2), tool.tail, str(report) if text else "")


def _scan(check: CheckSettings, tool: ToolResult, text: str | None) -> Scan:
    """A report counts when the tool came to its end and its exit code says the same: 0, or 1 and something found."""
    if tool.timed_out or check.report is None:
        return NotScanned(f"it was ended before it was ready, after {tool.seconds:.0f} s")
    if text is None:
        return NotScanned(f"its report is larger than {LARGEST_REPORT // 1024**2} MB")
    scan = read_report(check.report, text, tool.tail, allow=check.allow)
    if isinstance(scan, NotScanned):
        return replace(scan, reason=_with_last_words(scan.reason, tool))
    if tool.exit_code not in (0, 1) or (tool.exit_code == 1 and not scan.findings):
        return NotScanned(_with_last_words(f"it ended with exit code {tool.exit_code} and {len(scan.findings)} findings", tool))
    return scan


def _kept(report: Path, redact: Redaction) -> str | None:
    """The report, left behind without secrets; "" when there is none, None when it is too large to be read."""
    try:
        if report.stat().st_size > LARGEST_REPORT:
            report.unlink()
            return None
        text = redact(report.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""
    report.write_text(text, encoding="utf-8")
    return text


def _with_last_words(reason: str, tool: ToolResult) -> str:
    words = _last_words(tool.tail)
    return f"{reason}; its last words: {words}" if words and words not in reason else reason


def _last_words(lines: Sequence[str]) -> str:
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")


def _placed(finding: Finding, source: Source, directory: str) -> Finding:
    """Its place from the repository's root, if it is a file there; packages and commits stay as the tool names them."""
    path, colon, rest = finding.place.partition(":")
    root = Path(source.path)
    file = Path(path) if Path(path).is_absolute() else root / directory / path
    whole = inside_or_none(file, root)
    return finding if whole is None else replace(finding, place=f"{whole}{colon}{rest}")


def inside_or_none(file: Path, root: Path) -> str | None:
    try:
        return str(file.resolve().relative_to(root.resolve())) if file.exists() else None
    except (OSError, ValueError):
        return None
