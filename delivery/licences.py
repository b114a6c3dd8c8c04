"""Which licences packages have, and which of them an application allows."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from delivery.scan import Finding, NotScanned, Scan, Scanned, Severity
from delivery.strict import STRICT

UNKNOWN = "unknown licence"
_TOKENS = re.compile(r"\(|\)|[^\s()]+")
# What PyPI calls by a name of its own; everything else is compared as it is written.
_SPDX = {
    "mit license": "mit",
    "the mit license": "mit",
    "the mit license (mit)": "mit",
    "isc license (iscl)": "isc",
    "isc license": "isc",
    "apache 2": "apache-2.0",
    "apache 2.0": "apache-2.0",
    "apache license 2.0": "apache-2.0",
    "apache license, version 2.0": "apache-2.0",
    "mozilla public license 2.0 (mpl 2.0)": "mpl-2.0",
    "python software foundation license": "psf-2.0",
    "the unlicense (unlicense)": "unlicense",
}


@dataclass(frozen=True)
class Licences:
    """`allow` are SPDX names, or the words that packages use where they have none: "BSD License"."""

    __pydantic_config__ = STRICT

    allow: tuple[str, ...]

    def problems(self) -> tuple[str, ...]:
        if not self.allow or not all(name.strip() for name in self.allow):
            return (f"licences.allow: got {list(self.allow)}, expected names of licences",)
        return ()


@dataclass(frozen=True)
class Package:
    """One installed package; `licence` is "" when it tells none, and several declarations without a word between them all hold."""

    name: str
    version: str
    licence: tuple[str, ...] = ()


def judge(packages: Sequence[Package], allow: Iterable[str], *, tool: str) -> Scan:
    """A finding for each package whose licence is unknown or not allowed; both are high, since nobody has said yes to them."""
    if not packages:
        return NotScanned(f"{tool} saw no installed package")
    known = frozenset(_plain(name) for name in allow)
    return Scanned(tuple(finding for package in packages if (finding := _finding(package, known, tool))))


def _finding(package: Package, known: frozenset[str], tool: str) -> Finding | None:
    place = f"{package.name} {package.version}"
    if not package.licence:
        return Finding(tool, UNKNOWN, Severity.HIGH, place, "tells no licence", "find it out; then waive it for this package, or leave it")
    refused = [licence for licence in package.licence if not is_allowed(licence, known)]
    if not refused:
        return None
    told = "; ".join(refused)
    return Finding(tool, told, Severity.HIGH, place, "has a licence that is not allowed", "allow it in [licences], or use another package")


def is_allowed(expression: str, known: frozenset[str]) -> bool:
    """Whether an SPDX expression is: of OR one side suffices, of AND both count, an exception (WITH) never takes a right away. What is no
    expression is a name.
    """
    if _plain(expression) in known:
        return True
    tokens = _TOKENS.findall(expression)
    if not any(token in ("AND", "OR", "WITH") for token in tokens):
        return " ".join(tokens).strip("() ").lower() in known
    try:
        allowed, rest = _either(tokens, known)
    except IndexError:
        return False
    return allowed and not rest


def _either(tokens: list[str], known: frozenset[str]) -> tuple[bool, list[str]]:
    allowed, rest = _both(tokens, known)
    while rest and rest[0] == "OR":
        other, rest = _both(rest[1:], known)
        allowed = allowed or other
    return allowed, rest


def _both(tokens: list[str], known: frozenset[str]) -> tuple[bool, list[str]]:
    allowed, rest = _one(tokens, known)
    while rest and rest[0] == "AND":
        other, rest = _one(rest[1:], known)
        allowed = allowed and other
    return allowed, rest


def _one(tokens: list[str], known: frozenset[str]) -> tuple[bool, list[str]]:
    if tokens[0] == "(":
        allowed, rest = _either(tokens[1:], known)
        return (allowed, rest[1:]) if rest[0] == ")" else (False, rest)
    name, rest = tokens[0].lower(), tokens[1:]
    if rest and rest[0] == "WITH":
        return name in known or f"{name} with {rest[1].lower()}" in known, rest[2:]
    return name in known, rest


def _plain(name: str) -> str:
    lowered = " ".join(name.split()).lower()
    return _SPDX.get(lowered, lowered)
