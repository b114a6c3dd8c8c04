"""Commits and versions, parsed once at the door."""

import re
from dataclasses import dataclass
from datetime import datetime
from functools import total_ordering

from delivery.errors import InvalidSettings

_LONGEST_VERSION = 100  # it becomes part of image tags, which have 128 characters at most
_SHA = re.compile(r"[0-9a-f]{40}")
_SEMVER = re.compile(
    r"v?(?P<major>0|[1-9][0-9]{0,8})\.(?P<minor>0|[1-9][0-9]{0,8})\.(?P<patch>0|[1-9][0-9]{0,8})"
    r"(?:-(?P<pre>[0-9a-z]+(?:[.-][0-9a-z]+)*))?"
)


@dataclass(frozen=True)
class Sha:
    """A full Git commit id: 40 lower-case hex digits. A branch name is not a commit; it may move."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  read by pydantic when documents are parsed

    text: str

    def __post_init__(self) -> None:
        if not _SHA.fullmatch(self.text):
            raise InvalidSettings(
                f"Not a commit: got {self.text[:80]!r}, expected 40 lower-case hex digits.",
                next="pass the full commit id, for instance from `git rev-parse HEAD`.",
            )

    @property
    def short(self) -> str:
        return self.text[:8]

    def __str__(self) -> str:
        return self.text


@total_ordering
@dataclass(frozen=True)
class Semver:
    """A version as https://semver.org 2.0.0 orders them; build metadata is refused since image tags cannot carry a plus sign."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    major: int
    minor: int
    patch: int
    pre: str = ""

    @classmethod
    def parse(cls, text: str) -> "Semver":
        found = _SEMVER.fullmatch(text) if len(text) <= _LONGEST_VERSION else None
        if not found:
            raise InvalidSettings(
                f"Not a version: got {text[:80]!r}, expected MAJOR.MINOR.PATCH, for instance 1.4.2 or v1.4.2.",
                next="correct the version.",
            )
        return cls(int(found["major"]), int(found["minor"]), int(found["patch"]), found["pre"] or "")

    def after(self, *, commits: int) -> "Semver":
        """The version of a commit that lies `commits` after this tag: the next patch, marked as not yet released."""
        if commits == 0:
            return self
        return Semver(self.major, self.minor, self.patch + 1, f"main.{commits}")

    def __lt__(self, other: "Semver") -> bool:
        return self._rank < other._rank

    @property
    def _rank(self) -> tuple[object, ...]:
        """By section 11 of semver.org 2.0.0: a release follows its pre-releases; numbers inside them come first and by value."""
        parts = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in self.pre.split(".")]
        return self.major, self.minor, self.patch, not self.pre, parts

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}" + (f"-{self.pre}" if self.pre else "")

    @property
    def tag(self) -> str:
        return f"v{self}"


@dataclass(frozen=True)
class Commit:
    """`committed_at` is the committer's date, aware UTC: when it came to the branch that is released."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    sha: str
    committed_at: datetime


@dataclass(frozen=True)
class Source:
    """A commit as it lies on this machine, with what Git knows about it.

    `path` is a clean checkout. `commits` are the subjects since the last released version before this commit, newest first.
    `last_tag` is the highest version tag that the commit contains (pre-releases do not count), `commits_since_tag` how many
    commits lie after it. `committed_at` is aware UTC: the time that everything made from the commit carries. `changes` are the commits
    that production had not seen when this was looked at, newest first.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    repository: str
    sha: Sha
    path: str
    author: str
    committed_at: datetime
    on_main: bool
    last_tag: Semver | None
    commits_since_tag: int
    commits: tuple[str, ...] = ()
    changes: tuple[Commit, ...] = ()


def version_of(source: Source, wanted: Semver | None) -> Semver:
    """The version that a release of this commit has: the wanted one, else the one that follows from the last version tag.

    Without any tag the line begins at 0.0.1.
    """
    if wanted is not None:
        return wanted
    return (source.last_tag or Semver(0, 0, 0)).after(commits=source.commits_since_tag)
