"""Contracting: taking away what the version that serves may still use. Named here, so that nobody has to guess which release does it, with
what proves that nobody uses it any more. What is not proved is not safe.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from delivery.journal import Evidence
from delivery.operations import MigrationWaiver
from delivery.own_code import CodeSearch
from delivery.release import Release
from delivery.revisions import ReviewedRevision

# The rule by which a contraction that is not proved can be waived, on its table or on `*`.
RULE = "contraction"
# Rules of `migration_rules`. What keeps the old name usable (a view behind a rename, a dropped constraint) takes nothing away.
CONTRACTING = frozenset(
    {
        "rename", "rename-view-differs", "drop", "drop-column", "drop-default", "drop-unique", "required-column", "set-not-null",
        "set-not-null-proven", "rights", "behaviour", "truncate", "cascade",
    }
)  # fmt: skip
# What these take away has a name of its own; with the others it is the table whose use changes.
_BY_NAME = frozenset({"rename", "drop", "drop-column", "cascade"})
# Reading goes on as before; a row that was written afterwards shows that writing does.
_TIGHTENING = frozenset({"drop-default", "drop-unique", "required-column", "set-not-null", "set-not-null-proven"})
# Not read in the migration's text, but seen on the copy: it was there before and is not there afterwards.
GONE = "gone"
WAY_OUT = (
    "release a version that no longer names it and let it serve, then take it away with the next one; or waive contraction on that table "
    "with [[waiver]] in the environment's file."
)
_SHOWN_PLACES = 3


@dataclass(frozen=True)
class Contraction:
    """One thing that a revision takes away: `names` are those by which code would use it, none when nobody knows."""

    revision: str
    rule: str
    table: str
    names: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """`drop-column on rooms: note`."""
        own = ", ".join(name for name in self.names if name != _last(self.table))
        return f"{self.rule} on {self.table or '*'}" + (f": {own}" if own else "")

    @property
    def needs_a_write(self) -> bool:
        return self.rule in _TIGHTENING

    def waiver(self, waivers: Iterable[MigrationWaiver], today: date) -> MigrationWaiver | None:
        """Who answers for it although it is not proved; an expired waiver answers for nothing."""
        return next((one for one in waivers if one.rule == RULE and one.table in ("*", self.table) and one.holds_on(today)), None)


@dataclass(frozen=True)
class Thing:
    """Something of a database that code can name: a relation, a column or a value within `of`, a function, a type."""

    kind: str
    of: str
    name: str


@dataclass(frozen=True)
class Seen:
    """What was looked at of a release whose smoke requests went well on the migrated copy: the images of its services (one search where
    they share one), the database's own functions, and how many rows of each table were new after those requests.
    """

    release: Release
    code: Mapping[str, CodeSearch]
    functions: CodeSearch
    written: Mapping[str, int]


@dataclass(frozen=True)
class Proof:
    """Does a release that serves no longer use what a contraction takes away? `how` continues the sentence that says so."""

    contraction: Contraction
    release: str
    holds: bool
    how: str

    def sentence(self) -> str:
        return f"{self.contraction.label}: {'' if self.holds else 'not '}proved beside {self.release}: {self.how}"

    def facts(self) -> dict[str, object]:
        one = self.contraction
        named = {"revision": one.revision, "rule": one.rule, "table": one.table, "names": list(one.names)}
        return {**named, "release": self.release, "holds": self.holds, "how": self.how}


def contractions(revision: ReviewedRevision) -> tuple[Contraction, ...]:
    """What a revision takes away as far as its text tells, each once; waived or not."""
    found = (
        Contraction(revision.id, one.rule, one.table, one.names or (() if one.rule in _BY_NAME or not one.table else (_last(one.table),)))
        for one in revision.operations
        if one.rule in CONTRACTING
    )
    return tuple(dict.fromkeys(found))


def gone(before: Iterable[Thing], after: Iterable[Thing], revisions: Sequence[ReviewedRevision]) -> tuple[Contraction, ...]:
    """What the copy no longer has, and no statement of the revisions says so: Python did it, a CASCADE, or a block. Which of several
    revisions it was is not seen: each of them stands for it.
    """
    lost = set(before) - set(after)
    within = {thing.of or thing.name for thing in lost if thing.kind in ("relation", "type")}
    told = {(_last(one.table), name) for revision in revisions for one in contractions(revision) for name in one.names}
    told_whole = {name for table, name in told if table in ("", name)}
    left = sorted(
        (thing for thing in lost if thing.kind in ("relation", "type") or thing.of not in within), key=lambda thing: (thing.of, thing.name)
    )
    return tuple(
        Contraction(revision.id, GONE, thing.of or thing.name, (_last(thing.name),))
        for revision in revisions
        for thing in left
        if (_last(thing.of), _last(thing.name)) not in told and _last(thing.name) not in told_whole
    )


def judge(contraction: Contraction, seen: Seen) -> Proof:
    """Proved is what no code of the release names, and what its smoke requests lived through; not proved is everything else."""
    holds, how = _judged(contraction, seen)
    return Proof(contraction, seen.release.id, holds, how)


def _judged(contraction: Contraction, seen: Seen) -> tuple[bool, str]:
    asked = len(seen.release.smoke)
    if not asked:
        return False, "it declares no smoke request"
    if contraction.needs_a_write and (rows := seen.written.get(contraction.table, 0)):
        return True, f"its smoke requests wrote {_counted(rows, 'row')} of {contraction.table} afterwards"
    if not contraction.names:
        return False, "what is taken away has no name that its code could be searched for"
    names = " or ".join(contraction.names)
    searches = tuple(dict.fromkeys(seen.code.values()))
    named = [place for search in (*searches, seen.functions) for place in search.named(contraction.names)]
    if named:
        more = f" (and {len(named) - _SHOWN_PLACES} more)" if named[_SHOWN_PLACES:] else ""
        also = f", and no smoke request of it wrote a row of {contraction.table}" if contraction.needs_a_write else ""
        return False, f"{names} is named in {', '.join(named[:_SHOWN_PLACES])}{more}{also}"
    if blind := _unseen(seen):
        return False, blind
    files = _counted(sum(search.files for search in searches), "file")
    functions = f" and {_counted(seen.functions.files, 'function')} of the database" if seen.functions.files else ""
    looked_at = f"{files} of {', '.join(seen.code)}{functions}"
    return True, f"{names} is named in none of {looked_at}, and its {_counted(asked, 'smoke request')} went well afterwards"


def _unseen(seen: Seen) -> str:
    """What of its code nobody has looked at."""
    for service in seen.release.services:
        search = seen.code.get(service.name)
        if search is not None and search.unreadable:
            return f"{search.unreadable[0]} cannot be read"
        if search is None or not search.files:
            return f"no code was found in its image of {service.name}"
    return ""


def proofs_in(evidence: Evidence | None) -> tuple[Proof, ...]:
    """What a rehearsal has found, from its journal entry. What is of another shape proves nothing and is left out."""
    told = evidence.facts.get("contractions") if evidence is not None else None
    return tuple(proof for one in told if (proof := _proof(one)) is not None) if isinstance(told, list | tuple) else ()


def _proof(told: object) -> Proof | None:
    if not isinstance(told, Mapping):
        return None
    names, holds = told.get("names"), told.get("holds")
    texts = [told.get(key) for key in ("revision", "rule", "table", "release", "how")]
    if not isinstance(names, list | tuple) or not isinstance(holds, bool) or not all(isinstance(text, str) for text in texts):
        return None
    revision, rule, table, release, how = map(str, texts)
    return Proof(Contraction(revision, rule, table, tuple(map(str, names))), release, holds, how)


def _last(name: str) -> str:
    """Without its schema: code seldom says it."""
    return name.rpartition(".")[2]


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
