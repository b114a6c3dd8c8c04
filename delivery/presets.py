"""Checks that most repositories want: a `greenroom.toml` asks for presets by name, switches some of them off, and writes its own beside."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from delivery.check_settings import ADVISORIES, COVERAGE, HISTORY, JUNIT, LICENCE_KINDS, RANGE, REPORT, CheckSettings
from delivery.scan import Severity
from delivery.strict import STRICT

# Advisories grow every day.
A_DAY = 24


@dataclass(frozen=True)
class Preset:
    """Where a preset looks. `toolchain` brings its tools (the one of the preset's own name when that is declared, else they are found on
    PATH); `without` names the checks that are switched off; `reads` are paths that its answers depend on beside `directory`; `coverage` is
    the least percentage of lines that its tests run.
    """

    __pydantic_config__ = STRICT

    directory: str = "."
    toolchain: str | None = None
    without: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    coverage: float | None = None


@dataclass(frozen=True)
class Surroundings:
    """What a preset may know of the file that asks for it."""

    toolchains: tuple[str, ...] = ()
    dockerfiles: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()


_Check = Callable[..., CheckSettings]


def _python(check: _Check, preset: Preset, around: Surroundings) -> tuple[CheckSettings, ...]:
    measured = ("--cov", "--cov-report", f"json:{COVERAGE}") if preset.coverage is not None else ()
    listed = ("--from", "all", "--format", "json", "--output-file", REPORT)
    audited = ("--requirement", "requirements.txt", "--no-deps", "--disable-pip", "--progress-spinner", "off")
    return (
        check("ruff", "ruff", "check", "--output-format", "json", "--output-file", REPORT, ".", report="ruff"),
        check("black", "black", "--check", "."),
        check("isort", "isort", "--check-only", "--diff", "."),
        # Of low severity is each assert in a test.
        check("bandit", "bandit", "-q", "-r", ".", "--format", "json", "--output", REPORT, report="bandit", fails_at=Severity.MEDIUM),
        check("pip-audit", "pip-audit", *audited, "--format", "json", "--output", REPORT, report="pip-audit", fresh_hours=A_DAY),
        # `python` is the toolchain's: what is installed there is looked at, and not what pip-licenses lies beside.
        check("licences-python", "pip-licenses", "--python", "python", *listed, report="pip-licenses", allow=around.licences),
        check("pytest", "pytest", "--junit-xml", JUNIT, *measured, timeout_seconds=600, coverage=preset.coverage),
    )


def _node(check: _Check, preset: Preset, around: Surroundings) -> tuple[CheckSettings, ...]:
    summary = ("--coverageReporters", "json-summary", "--coverageDirectory", COVERAGE)
    measured = ("--coverage", *summary) if preset.coverage is not None else ()
    return (
        # A warning is of low severity, an error of medium.
        check("eslint", "eslint", ".", "--format", "json", "--output-file", REPORT, report="eslint", fails_at=Severity.MEDIUM),
        check("tsc", "tsc", "--noEmit"),
        check("npm-audit", "npm", "audit", "--json", report="npm-audit", fails_at=Severity.HIGH, fresh_hours=A_DAY),
        # What is shipped; what only checks need is nobody else's business.
        check("licences-node", "npm", "query", ".prod", report="npm-query", allow=around.licences),
        check("jest", "jest", "--ci", "--json", "--outputFile", JUNIT, *measured, timeout_seconds=600, coverage=preset.coverage),
    )


def _pnpm(check: _Check, _preset: Preset, _around: Surroundings) -> tuple[CheckSettings, ...]:
    return (check("pnpm-audit", "pnpm", "audit", "--json", report="pnpm-audit", fails_at=Severity.HIGH, fresh_hours=A_DAY),)


def _safety(check: _Check, _preset: Preset, _around: Surroundings) -> tuple[CheckSettings, ...]:
    # Its exit codes tell of findings and of failures alike; the report tells them apart.
    audited = ("--file", "requirements.txt", "--output", "json", "--continue-on-error")
    return (check("safety", "safety", "check", *audited, report="safety", fresh_hours=A_DAY),)


def _snyk(check: _Check, _preset: Preset, _around: Surroundings) -> tuple[CheckSettings, ...]:
    # Nor does a .snyk file of the commit reach it.
    tested = ("snyk", "test", "--json", "--ignore-policy")
    return (check("snyk", *tested, report="snyk", fails_at=Severity.HIGH, fresh_hours=A_DAY, token="snyk"),)  # noqa: S106  a block's name


def _repository(check: _Check, _preset: Preset, around: Surroundings) -> tuple[CheckSettings, ...]:
    # Everything in the commit that could tell gitleaks to look away stays out: it reads the history, where no file lies, and not the
    # comments. Merges are read against each parent, since a merge can bring what no other commit has.
    unmoved = ("--ignore-gitleaks-allow", "--gitleaks-ignore-path", HISTORY)
    kept = ("--report-format", "json", "--report-path", REPORT)
    return (
        check(
            "gitleaks", "gitleaks", "git", "--no-banner", "--redact", *unmoved, *kept, f"--log-opts=-m {RANGE}", HISTORY, report="gitleaks"
        ),
        check("hadolint", "hadolint", "--format", "json", *around.dockerfiles, report="hadolint", fails_at=Severity.HIGH),
    )


def _trivy(check: _Check, _preset: Preset, _around: Surroundings) -> tuple[CheckSettings, ...]:
    # Nor does a trivy.yaml, .trivyignore or trivy-secret.yaml of the commit reach it.
    unmoved = ("--config", "/dev/null", "--ignorefile", "/dev/null", "--secret-config", f"{HISTORY}/none")
    quiet = ("--quiet", "--skip-java-db-update", "--skip-check-update", "--skip-version-check", "--offline-scan", *unmoved)
    kept = ("--format", "json", "--output", REPORT)
    known = ("--cache-dir", ADVISORIES, "--skip-db-update")
    options = {"report": "trivy", "fails_at": Severity.HIGH}
    return (
        check("trivy-vulnerabilities", "trivy", "fs", *quiet, *known, "--scanners", "vuln", *kept, ".", **options),
        check("trivy-config", "trivy", "fs", *quiet, "--scanners", "misconfig,secret", *kept, ".", **options),
    )


PRESETS: Mapping[str, Callable[[_Check, Preset, Surroundings], tuple[CheckSettings, ...]]] = {
    "python": _python,
    "node": _node,
    "repository": _repository,
    "trivy": _trivy,
    "pnpm": _pnpm,
    "safety": _safety,
    "snyk": _snyk,
}
MEASURED = ("python", "node")


def checks_of(name: str, preset: Preset, around: Surroundings) -> tuple[CheckSettings, ...]:
    """All checks of a known preset, also those that are switched off."""
    toolchain = preset.toolchain or (name if name in around.toolchains else None)
    reads = (preset.directory, *preset.reads)

    def check(title: str, *command: str, timeout_seconds: int = 180, **options: object) -> CheckSettings:
        settings = {"toolchain": toolchain, "directory": preset.directory, "reads": reads, "timeout_seconds": timeout_seconds}
        return CheckSettings(title, command, **{**settings, **options})  # type: ignore[arg-type]

    return PRESETS[name](check, preset, around)


def all_checks(presets: Mapping[str, Preset], own: tuple[CheckSettings, ...], around: Surroundings) -> tuple[CheckSettings, ...]:
    """The checks of the presets, without those switched off, then the file's own; one of the same name takes the preset's place."""
    written = {check.name: check for check in own}
    given = [check for name, preset in presets.items() if name in PRESETS for check in _kept(name, preset, around)]
    taken = {check.name for check in given}
    return (*(written.get(check.name, check) for check in given), *(check for check in own if check.name not in taken))


def preset_problems(presets: Mapping[str, Preset], around: Surroundings) -> tuple[str, ...]:
    """Names that point at nothing, as `key: got …, expected …`."""
    found = []
    for name, preset in presets.items():
        if name not in PRESETS:
            found.append(f"presets.{name}: got {name!r}, expected one of: {', '.join(PRESETS)}")
            continue
        if preset.toolchain is not None and preset.toolchain not in around.toolchains:
            declared = ", ".join(around.toolchains) or "none declared"
            found.append(f"presets.{name}.toolchain: got {preset.toolchain!r}, expected one of: {declared}")
        if name == "repository" and preset.directory != ".":
            found.append(f"presets.{name}.directory: got {preset.directory!r}, expected none, since it looks at the whole repository")
        if preset.coverage is not None and name not in MEASURED:
            found.append(f"presets.{name}.coverage: got {preset.coverage:g}, expected none, since it runs no tests")
        checks = checks_of(name, preset, around)
        if any(check.report == "pip-licenses" and check.toolchain is None for check in _kept(name, preset, around)):
            found.append(f"presets.{name}.toolchain: got none, expected one, since licences are those of the packages installed in it")
        known = [check.name for check in checks]
        unknown = [switched for switched in preset.without if switched not in known]
        found += [f"presets.{name}.without: got {switched!r}, expected some of: {', '.join(known)}" for switched in unknown]
    return tuple(found)


def _kept(name: str, preset: Preset, around: Surroundings) -> list[CheckSettings]:
    return [check for check in checks_of(name, preset, around) if not _why_left_out(check, preset)]


def left_out(presets: Mapping[str, Preset], around: Surroundings) -> Mapping[str, str]:
    """The checks of the presets that do not look, by name, with the reason: they are shown as such."""
    given = [(check, preset) for name, preset in presets.items() if name in PRESETS for check in checks_of(name, preset, around)]
    return {check.name: why for check, preset in given if (why := _why_left_out(check, preset))}


def _why_left_out(check: CheckSettings, preset: Preset) -> str:
    if check.name in preset.without:
        return "switched off in greenroom.toml"
    return "greenroom.toml has no [licences]" if check.report in LICENCE_KINDS and not check.allow else ""
