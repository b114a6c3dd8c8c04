"""What the checks of one run said, as rows that are read at a glance. What nobody has looked at has a row too."""

from collections.abc import Mapping, Sequence

from delivery.check import CheckResult
from delivery.scan import Severity


def check_rows(results: Sequence[CheckResult], left_out: Mapping[str, str]) -> list[dict[str, str]]:
    """One row per check. Counts are "-" where nothing was counted: zero means that the tool looked."""
    rows = [_row(result) for result in results]
    nothing = dict.fromkeys(map(str, reversed(Severity)), "-")
    return rows + [
        {"check": name, "verdict": "left out", **nothing, "seconds": "-", "told": why, "files": ""} for name, why in left_out.items()
    ]


def _row(result: CheckResult) -> dict[str, str]:
    looked = result.not_scanned is None and result.not_configured is None
    counted = looked and (result.report or result.findings or any(file.endswith(".sarif") for file in result.kept))
    counts = {str(one): str(sum(found.severity is one for found in result.findings)) if counted else "-" for one in reversed(Severity)}
    told = "; ".join(filter(None, (result.not_configured, result.not_scanned, *result.waived)))
    seconds = f"{result.seconds:.1f}" if looked else "-"
    return {"check": result.name, "verdict": result.verdict, **counts, "seconds": seconds, "told": told, "files": " ".join(result.kept)}
