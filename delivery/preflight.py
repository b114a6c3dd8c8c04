"""What has to hold before an environment gets its first release: a checklist of thirteen, each with a verdict and what it rests on."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "fail", "cannot tell"]

# Checks whose names begin so look for what an attacker could use; the presets call them so.
SCANS = ("bandit", "pip-audit", "safety", "npm-audit", "pnpm-audit", "snyk", "gitleaks", "trivy")
_BAD = re.compile(r"\b[1-9]\d* (?:high|critical)\b")


@dataclass(frozen=True)
class Item:
    """One line of the checklist. `next` is what a person does about it; "" for what passes."""

    name: str
    verdict: Verdict
    evidence: str
    next: str = ""


def judge_tests(name: str, signed: Mapping[str, str] | None) -> Item:
    """From what was signed about a release's checks, by check; None: nothing was signed that a trusted key vouches for."""
    if signed is None:
        return Item(
            name, "cannot tell", "no trusted key has signed what the checks said", "release with a signing key (docs/operating.md)."
        )
    sick = [told for check, told in signed.items() if told.startswith(f"{check} failed")]
    if sick:
        return Item(name, "fail", "; ".join(sick), "mend it and release again.")
    passed = [check for check, told in signed.items() if told.startswith(f"{check} passed")]
    others = [told for check, told in signed.items() if check not in passed]
    if not passed:
        told = "; ".join(others) or "none is declared"
        return Item(name, "fail", f"the commit passed no check: {told}", "declare checks in greenroom.toml.")
    return Item(name, "pass", "; ".join((f"signed: {', '.join(passed)} passed", *others)))


def judge_scans(name: str, signed: Mapping[str, str] | None) -> Item:
    """A scan that did not look, or that found something high, fails, also where a waiver let the release through. One that is not
    configured is none.
    """
    if signed is None:
        return Item(name, "cannot tell", "no trusted key has signed what the scans said", "release with a signing key (docs/operating.md).")
    scans = {check: told for check, told in signed.items() if check.startswith(SCANS)}
    absent = [told for check, told in scans.items() if told.startswith(f"{check} is not configured")]
    scans = {check: told for check, told in scans.items() if told not in absent}
    if not scans:
        return Item(name, "fail", "no scan is among the checks", "add the presets python, node, repository and trivy to greenroom.toml.")
    sick = [told for told in scans.values() if "NOT scanned" in told or " failed in " in told or _BAD.search(told)]
    if sick:
        return Item(name, "fail", "; ".join(sick), "mend what was found, or let the scan look, and release again.")
    return Item(name, "pass", "; ".join((f"signed: {', '.join(scans)} found nothing high", *absent)))


def failing(items: Iterable[Item]) -> tuple[Item, ...]:
    return tuple(item for item in items if item.verdict == "fail")


def sentence(environment: str, items: Iterable[Item]) -> str:
    """Production is not ready: 2 fail, 3 cannot be told, 8 pass."""
    verdicts = [item.verdict for item in items]
    bad, unknown, good = (verdicts.count(one) for one in ("fail", "cannot tell", "pass"))
    state = "is not ready" if bad else "has nothing against it"
    return f"{environment.capitalize()} {state}: {bad} fail, {unknown} cannot be told, {good} pass."
