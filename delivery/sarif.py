"""Findings as SARIF 2.1.0, which code hosts and editors read."""

import re
from collections.abc import Mapping
from typing import Any

from delivery.check import CheckResult
from delivery.gate import Gate
from delivery.scan import Finding, Severity

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {Severity.CRITICAL: "error", Severity.HIGH: "error", Severity.MEDIUM: "warning", Severity.LOW: "note"}
_LINE = re.compile(r"(?P<path>[^\s:]+)(?::(?P<line>\d+)(?::(?P<column>\d+))?)?")


def sarif_of(result: CheckResult, gate: Gate, *, commit: str) -> Mapping[str, Any]:
    """One run of one tool. What a waiver excuses today is suppressed, with the waiver's words; a tool that did not look has not come to
    its end, so that nobody takes its empty list for clean.
    """
    rules = list(dict.fromkeys(finding.rule for finding in result.findings))
    looked = result.not_scanned is None
    ended: dict[str, Any] = {"executionSuccessful": looked}
    if not looked:
        ended["toolExecutionNotifications"] = [{"level": "error", "message": {"text": f"not scanned: {result.not_scanned}"}}]
    run = {
        "tool": {"driver": {"name": result.name, "rules": [{"id": rule} for rule in rules]}},
        "invocations": [ended],
        "versionControlProvenance": [{"repositoryUri": "urn:greenroom:source", "revisionId": commit}],
        "results": [_result(finding, gate, result.name) for finding in result.findings],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(finding: Finding, gate: Gate, check: str) -> Mapping[str, Any]:
    told = f"{finding.message} (fix: {finding.fix})" if finding.fix else finding.message
    excuse = gate.excuse(check, finding)
    suppressed = [{"kind": "external", "status": "accepted", "justification": excuse.sentence()}] if excuse else []
    return {
        "ruleId": finding.rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": told or finding.rule},
        "locations": [_location(finding.place)],
        "properties": {"severity": finding.severity.value},
        **({"suppressions": suppressed} if suppressed else {}),
    }


def _location(place: str) -> Mapping[str, Any]:
    """A file with its line, else what the tool calls the place: a package, an address."""
    found = _LINE.fullmatch(place)
    if found is None or "://" in place:
        return {"logicalLocations": [{"fullyQualifiedName": place}]}
    region = {name: int(found[key]) for name, key in (("startLine", "line"), ("startColumn", "column")) if found[key]}
    return {"physicalLocation": {"artifactLocation": {"uri": found["path"]}, **({"region": region} if region else {})}}
