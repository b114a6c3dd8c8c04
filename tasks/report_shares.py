"""Who answered what while two versions had users: requests, errors and p95 of both at each share, from the journal's evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from delivery.journal import Entry, Evidence, Progress
from delivery.plan import Plan, StepKind
from tasks.markdown import table


@dataclass(frozen=True)
class Share:
    """What both versions answered while green had `percent` of the requests; None where nobody knows."""

    percent: int
    green: Mapping[str, int] | None
    blue: Mapping[str, int] | None
    green_p95_ms: float | None = None
    blue_p95_ms: float | None = None


def shares(entries: Sequence[Entry]) -> tuple[Share, ...]:
    """What was answered at each share of users: the growth of both versions' counters from one shift to the next."""
    progress = Progress.of(entry.event for entry in entries)
    finished = [
        (step, progress.finished[step.name]) for step in (*progress.plan.forward, *progress.plan.back) if step.name in progress.finished
    ]
    found: list[Share] = []
    under_way: tuple[int, Evidence] | None = None
    watched: Evidence | None = None
    for step, evidence in finished:
        if step.kind is StepKind.WATCH:
            watched = evidence
        if step.kind in (StepKind.SHIFT, StepKind.PROMOTE, StepKind.RESTORE):
            if under_way is not None:
                found.append(_share(under_way[0], under_way[1], evidence, watched))
            under_way = (step.percent or 0, evidence) if step.kind is StepKind.SHIFT else None
            watched = None
    if under_way is not None and watched is not None:  # still being watched: its own sums are all there is
        found.append(_share(under_way[0], under_way[1], None, watched))
    return tuple(found)


def shares_markdown(plan: Plan, found: Sequence[Share]) -> str:
    if not found:
        return ""
    green, blue = plan.release.version.tag, plan.blue.version.tag if plan.blue else None
    if blue is None:
        rows = [(f"{share.percent} %", *_side(share.green, share.green_p95_ms)) for share in found]
        return table((f"share of {green}", "requests", "errors", "p95"), rows)
    header = (f"share of {green}", f"{green} requests", "errors", "p95", f"{blue} requests", "errors", "p95")
    return table(header, [(f"{s.percent} %", *_side(s.green, s.green_p95_ms), *_side(s.blue, s.blue_p95_ms)) for s in found])


def _share(percent: int, before: Evidence, after: Evidence | None, watched: Evidence | None) -> Share:
    def side(name: str) -> Mapping[str, int] | None:
        if after is not None:
            return _growth(_counted(before, name), _counted(after, name))
        return _numbers(watched.facts.get(name)) if watched else None

    def p95(name: str) -> float | None:
        facts = watched.facts.get(name) if watched else None
        value = facts.get("p95_ms") if isinstance(facts, Mapping) else None
        return float(value) if isinstance(value, int | float) else None

    return Share(percent, side("green"), side("blue"), p95("green"), p95("blue"))


def _counted(evidence: Evidence, side: str) -> Mapping[str, int] | None:
    counters = evidence.facts.get("counters")
    return _numbers(counters.get(side)) if isinstance(counters, Mapping) else None


def _numbers(found: object) -> Mapping[str, int] | None:
    if not isinstance(found, Mapping):
        return None
    return {key: int(found[key]) for key in ("requests", "errors") if isinstance(found.get(key), int | float)}


def _growth(before: Mapping[str, int] | None, after: Mapping[str, int] | None) -> Mapping[str, int] | None:
    """A counter that went down was reset; its new value is the growth then."""
    if before is None or after is None:
        return None
    return {key: value - before.get(key, 0) if value >= before.get(key, 0) else value for key, value in after.items()}


def _side(numbers: Mapping[str, int] | None, p95_ms: float | None) -> tuple[str, str, str]:
    if numbers is None or "requests" not in numbers:
        return "unknown", "unknown", "unknown"
    requests, errors = numbers["requests"], numbers.get("errors", 0)
    share = f" ({100 * errors / requests:.2g} %)" if errors and requests else ""
    return f"{requests:,}", f"{errors:,}{share}", "-" if p95_ms is None else f"{p95_ms:.0f} ms"
