"""Which revisions a release carries, which of them an environment still has to apply, and what the judges said of each.

A review is made once, in the image that was built, and travels with the release; whether an environment accepts it depends on that
environment's waivers and on what serves there.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from delivery.application import STRICT
from delivery.durations import Estimate
from delivery.operations import MigrationWaiver, Operation, Safety, with_waivers
from delivery.undoing import Undoing

# Rules that object only because a version that serves may use what goes.
_DROPS = frozenset({"drop", "drop-column"})


@dataclass(frozen=True)
class RevisionFile:
    """One revision as the image has it. `sql` is None when Alembic could not render it offline; `problem` says why. `back` is the SQL of
    its downgrade, which is looked at only where it is `reversible` by its own docstring.
    """

    id: str
    down: tuple[str, ...]
    sha256: str
    title: str = ""
    sql: str | None = None
    problem: str = ""
    reversible: bool = False
    back: str | None = None


@dataclass(frozen=True)
class Chain:
    """All revisions of an image, base first, with their one head (none for an application that has not begun)."""

    heads: tuple[str, ...]
    revisions: tuple[RevisionFile, ...]

    def pending(self, recorded: Iterable[str]) -> tuple[RevisionFile, ...]:
        """Those that a database at `recorded` has not applied; names that are not in the chain stand for nothing."""
        links = {one.id: one.down for one in self.revisions}
        applied = _below(recorded, links)
        return tuple(one for one in self.revisions if one.id not in applied)

    def strange(self, recorded: Iterable[str]) -> tuple[str, ...]:
        """Recorded revisions that this image does not know."""
        known = {one.id for one in self.revisions}
        return tuple(name for name in recorded if name not in known)

    def edited(self, applied: Mapping[str, str]) -> tuple[str, ...]:
        """Revisions whose file is another one than that which was applied; `applied` maps revisions to hashes."""
        return tuple(one.id for one in self.revisions if applied.get(one.id, one.sha256) != one.sha256)


@dataclass(frozen=True)
class ReviewedRevision:
    """One revision that was pending somewhere when its release was published, with every operation that was found in it. `undoing` is its
    way back; None where it does not say that it has one.
    """

    __pydantic_config__ = STRICT

    id: str
    down: tuple[str, ...]
    sha256: str
    title: str
    sql: str | None
    operations: tuple[Operation, ...]
    undoing: Undoing | None = None

    def waived(self, waivers: Iterable[MigrationWaiver], today: date) -> "ReviewedRevision":
        """With this environment's waivers as they count today."""
        return replace(self, operations=with_waivers(self.operations, waivers, today=today))

    @property
    def objections(self) -> tuple[Operation, ...]:
        """What keeps it from running, the certain ones first."""
        order = (Safety.UNSAFE, Safety.NOT_JUDGED, Safety.NEEDS_CLONE)
        return tuple(sorted((one for one in self.operations if one.stops), key=lambda one: order.index(one.safety)))


@dataclass(frozen=True)
class MigrationReview:
    """`recorded` is where some environment stood; `revisions`, base first, is everything that was pending in any of them."""

    __pydantic_config__ = STRICT

    heads: tuple[str, ...]
    revisions: tuple[ReviewedRevision, ...] = ()

    def pending(self, recorded: Sequence[str]) -> tuple[ReviewedRevision, ...] | None:
        """What a database at `recorded` still needs; None when the review begins only later than that, or knows nothing of it."""
        links = {one.id: one.down for one in self.revisions}
        ends = {name for down in links.values() for name in down if name not in links}
        if set(recorded) == set(self.heads):
            return ()
        if not recorded or not set(recorded) <= links.keys() | ends:
            return None
        applied = _below(recorded, links)
        pending = tuple(one for one in self.revisions if one.id not in applied)
        reached = {name for one in pending for name in one.down if name not in links}
        return pending if reached <= set(recorded) else None

    def hashes(self) -> dict[str, str]:
        return {one.id: one.sha256 for one in self.revisions}


@dataclass(frozen=True)
class Admission:
    """What an environment makes of a release's migrations: `revisions` are pending there, with its waivers; `refusal` says why not.
    `estimates` are how long their statements would take there, `stalls` those for which users would wait, with who answers for it.
    """

    revisions: tuple[ReviewedRevision, ...] = ()
    refusal: str = ""
    way_out: str = ""
    estimates: tuple[Estimate, ...] = ()
    stalls: tuple[Operation, ...] = ()


def admit(
    review: MigrationReview | None,
    *,
    recorded: Sequence[str] | None,
    serves: str | None,
    waivers: Iterable[MigrationWaiver],
    today: date,
    on_a_clone: Container[str] = (),
    unused: Container[str] = (),
) -> Admission:
    """May what is pending be applied while the version `serves` (None: none does) has users?

    `recorded` is the environment's newest recorded state, None when no rollout of ours has written one. What only a clone can tell is
    settled for the revisions `on_a_clone`: they ran there well, or will before anything else is touched. What drops something is settled
    for the revisions `unused`: nobody who serves uses what they take away, which was proved, or will be before anything else is touched.
    """
    if serves is None:
        return Admission()
    if review is None:
        return Admission(refusal="nobody has read its migrations", way_out="publish the commit again, under a new version")
    pending = review.pending(recorded) if recorded is not None else None
    if pending is None:
        where = " and ".join(recorded or ()) or "no revision that is known here"
        return Admission(
            refusal=f"its migrations were not read from there on ({where})",
            way_out="publish the commit again, under a new version: what is pending in each environment is read then",
        )
    listed = tuple(waivers)
    pending = tuple((_unused(one) if one.id in unused else one).waived(listed, today) for one in pending)
    stopped = [
        (one, operation)
        for one in pending
        for operation in one.objections
        if operation.safety is not Safety.NEEDS_CLONE or one.id not in on_a_clone
    ]
    if not stopped:
        return Admission(pending)
    revision, first = stopped[0]
    rules = ", ".join(dict.fromkeys(f"{operation.rule} on {operation.table or '*'}" for _, operation in stopped))
    more = f" (and {len(stopped) - 1} more)" if stopped[1:] else ""
    lead = {Safety.NEEDS_CLONE: "needs the clone: ", Safety.NOT_JUDGED: "not judged: "}.get(first.safety, "")
    return Admission(
        pending,
        refusal=f"revision {revision.id} may not run while {serves} serves: {lead}{first.sentence().removesuffix('.')}{more}",
        way_out=f"write it as it says; or waive {rules} with [[waiver]] in the environment's file: rule, table, reason, owner, until",
    )


def _unused(one: ReviewedRevision) -> ReviewedRevision:
    return replace(
        one,
        operations=tuple(
            replace(each, safety=Safety.SAFE, reason=f"nobody who serves uses it; otherwise: {each.reason}")
            if each.rule in _DROPS
            else each
            for each in one.operations
        ),
    )


def _below(names: Iterable[str], links: Mapping[str, tuple[str, ...]]) -> set[str]:
    """These revisions and everything that they lean on."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += links.get(name, ())
    return found
