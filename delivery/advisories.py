"""A team's own feed of advisories, for networks that reach no public one: OSV records with the day on which they were put together."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from delivery.errors import InvalidSettings

# What is older knows nothing of the vulnerabilities that are used right now.
OLDEST = timedelta(days=7)

PYPI, NPM = "PyPI", "npm"
ECOSYSTEMS = (PYPI, NPM)
_SEPARATORS = re.compile(r"[-_.]+")
_MOST_TOLD = 20


@dataclass(frozen=True)
class Advisory:
    """One vulnerability of one package. `vulnerable` are version ranges such as `>=1.0, <1.4`, any of which suffices."""

    id: str
    ecosystem: str
    package: str
    vulnerable: tuple[str, ...]
    fixed: tuple[str, ...] = ()
    severity: str = "UNKNOWN"
    title: str = ""


@dataclass(frozen=True)
class Feed:
    as_of: date
    advisories: tuple[Advisory, ...]

    def stale(self, today: date) -> str:
        """Why it must not be relied on, as the end of "it was not scanned: …"; "" when it may be."""
        age = (today - self.as_of).days
        if age < -1:
            return f"the advisories are of {self.as_of}, a day that has not come"
        return f"the advisories are of {self.as_of}, {age} days old, {OLDEST.days} at most" if age > OLDEST.days else ""


def feed_of(document: Any) -> Feed:
    """The feed `{"as_of": "2026-11-25", "advisories": [OSV records]}`. Raises `InvalidSettings` with every mistake, by the record's id."""
    if not isinstance(document, dict) or set(document) != {"as_of", "advisories"} or not isinstance(document["advisories"], list):
        raise _refused(["got another shape, expected an object with as_of (a day) and advisories (a list of OSV records)"])
    problems: list[str] = []
    advisories: list[Advisory] = []
    for number, record in enumerate(document["advisories"], start=1):
        name = str(record.get("id") or f"record {number}") if isinstance(record, dict) else f"record {number}"
        try:
            advisories += _advisories(record)
        except (KeyError, TypeError, ValueError, AttributeError) as odd:
            problems.append(f"{name}: got {_told(odd)}, expected an OSV record")
    try:
        as_of = date.fromisoformat(document["as_of"])
    except (TypeError, ValueError):
        problems.insert(0, f"as_of: got {document['as_of']!r}, expected a day like 2026-11-25")
    if problems:
        raise _refused(problems)
    return Feed(as_of, tuple(advisories))


def _refused(problems: Sequence[str]) -> InvalidSettings:
    more = f"\n… and {len(problems) - _MOST_TOLD} more" if len(problems) > _MOST_TOLD else ""
    return InvalidSettings("\n".join(f"advisories: {line}" for line in problems[:_MOST_TOLD]) + more, next="correct the advisories' file.")


def _told(odd: Exception) -> str:
    return f"no {odd}" if isinstance(odd, KeyError) else str(odd) if isinstance(odd, ValueError) else "a value of another kind"


def _advisories(record: Mapping[str, Any]) -> list[Advisory]:
    if record.get("withdrawn"):
        return []
    aliases = [alias for alias in record.get("aliases") or () if alias.startswith("CVE-")]
    severity = str((record.get("database_specific") or {}).get("severity") or "UNKNOWN").upper()
    found = []
    for affected in record["affected"]:
        ecosystem, package = affected["package"]["ecosystem"], affected["package"]["name"]
        if ecosystem not in ECOSYSTEMS:
            raise ValueError(f"the ecosystem {ecosystem!r} (known: {', '.join(ECOSYSTEMS)})")
        vulnerable, fixed = _ranges(affected)
        if not vulnerable:
            raise ValueError(f"no version of {package}")
        found.append(
            Advisory(
                id=(aliases or [record["id"]])[0],
                ecosystem=ecosystem,
                package=_SEPARATORS.sub("-", package).lower() if ecosystem == PYPI else package,
                vulnerable=tuple(vulnerable),
                fixed=tuple(fixed),
                severity="MEDIUM" if severity == "MODERATE" else severity,
                title=str(record.get("summary") or ""),
            )
        )
    return found


def _ranges(affected: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The version ranges that are vulnerable, and the versions that are the first without; commits of a Git range say nothing here."""
    vulnerable = [f"={version}" for version in affected.get("versions") or ()]
    fixed: list[str] = []
    for span in affected.get("ranges") or ():
        if span["type"] not in ("ECOSYSTEM", "SEMVER"):
            continue
        since: str | None = None
        for event in span["events"]:
            if "introduced" in event:
                since = _since(event["introduced"])
            elif since is None:
                raise ValueError("an event before the first introduced")
            elif "fixed" in event:
                vulnerable.append(f"{since}, <{event['fixed']}")
                fixed.append(event["fixed"])
                since = ""
            elif "last_affected" in event:
                vulnerable.append(f"{since}, <={event['last_affected']}")
                since = ""
        if since:
            vulnerable.append(since)
    return vulnerable, fixed


def _since(version: str) -> str:
    return f">={version}"
