"""What an inspection found, for the journal and for people: the check's whole answer, its row in the table of checks, and each finding."""

from collections.abc import Sequence

from pydantic import TypeAdapter, ValidationError

from delivery.check import CheckResult
from delivery.journal import Entry, Evidence, Progress
from delivery.plan import StepKind
from delivery.way_back import evidence_of
from tasks.markdown import one_line as _text
from tasks.markdown import table as _table
from tasks.report_checks import check_rows

_RESULT = TypeAdapter(CheckResult)
_SHOWN_FINDINGS = 50


def facts_of(result: CheckResult, *, asked: int, pages_left_out: Sequence[str]) -> dict[str, object]:
    """As a step's evidence keeps it."""
    return {"check": _RESULT.dump_python(result, mode="json"), "asked": asked, "pages_left_out": list(pages_left_out)}


def result_of(evidence: Evidence) -> CheckResult | None:
    """The check's answer that a step has kept; None when the step ended without one, as a cancelled one does."""
    try:
        return _RESULT.validate_python(evidence.facts.get("check"))
    except ValidationError:
        return None


def inspection_rows(entries: Sequence[Entry]) -> list[dict[str, str]]:
    """The rollout's row in the table of checks; none where nothing was inspected."""
    evidence = evidence_of(Progress.of(entry.event for entry in entries), StepKind.INSPECT)
    result = result_of(evidence) if evidence is not None else None
    return check_rows((result,), {}) if result is not None else []


def inspection_markdown(evidence: Evidence) -> tuple[str, ...]:
    """The row of the table of checks, and what was found with the way to mend it."""
    result = result_of(evidence)
    if result is None:
        return (f"{_text(evidence.summary[0].upper() + evidence.summary[1:])}.",)
    (row,) = check_rows((result,), {})
    parts = [_table(tuple(row), [tuple(_text(cell) for cell in row.values())])]
    if result.findings:
        found = [(f.severity.value, f.rule, _text(f.place), _text(f.message), _text(f.fix)) for f in result.findings[:_SHOWN_FINDINGS]]
        parts.append(_table(("severity", "rule", "where", "what", "fix"), found))
    if len(result.findings) > _SHOWN_FINDINGS:
        parts.append(f"… and {len(result.findings) - _SHOWN_FINDINGS} more in the SARIF file.")
    left_out = evidence.facts.get("pages_left_out")
    if isinstance(left_out, list | tuple) and left_out:
        parts.append(f"{len(left_out)} further pages were not looked at: {_text(', '.join(map(str, left_out)))}.")
    return tuple(parts)
