"""May the schema go back to where it was before a release that was turned back? Every condition by itself, with its reason.

The default is no: the version before has been running on the new schema since before anybody used it, and is proven on it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from delivery.application import STRICT
from delivery.revisions import ReviewedRevision
from delivery.undoing import Loss, losses_of

NEVER, IF_NEEDED, IF_SAFE = "never", "if-needed", "if-safe"


@dataclass(frozen=True)
class DowngradePolicy:
    """`[downgrade]` of an environment file: whether a release that is turned back takes its revisions along. `if-needed`: only when the
    version before is not well on the new schema; `if-safe`: whenever nothing speaks against it.
    """

    __pydantic_config__ = STRICT

    allow: Literal["never", "if-needed", "if-safe"] = "never"


@dataclass(frozen=True)
class Known:
    """What the journal tells of a rollout on its way back. `arrived` is where its migration said that it had brought the database;
    `recorded` where that stood before; None where nobody has told. `proven` maps each revision to the releases, by id, that were well on a
    copy after it had been taken back. `approved` is None where nobody is asked. `again` when an earlier attempt may have got half-way.
    """

    began: bool = True
    arrived: tuple[str, ...] | None = None
    recorded: tuple[str, ...] | None = None
    proven: Mapping[str, frozenset[str]] = field(default_factory=dict)
    approved: bool | None = None
    again: bool = False


@dataclass(frozen=True)
class Circumstances:
    """Everything that the conditions look at. `chain` is what lies between the recorded revision and the release's, base first, None when
    its review does not begin there; `present` where the database is now; `written` what holds data that would be lost; `others` whoever
    but `old` runs or has users. None in these is unknown, and unknown is never good.
    """

    policy: DowngradePolicy
    known: Known
    old: str
    chain: tuple[ReviewedRevision, ...] | None
    present: tuple[str, ...] | None
    written: tuple[str, ...] | None
    others: tuple[str, ...] | None
    old_is_well: bool | None = None

    @property
    def undone(self) -> tuple[ReviewedRevision, ...]:
        """What would be taken back, newest first: the part of the chain that the database has."""
        return taken_back(self.chain or (), self.present or ())


@dataclass(frozen=True)
class Condition:
    name: str
    holds: bool
    reason: str


@dataclass(frozen=True)
class Decision:
    """The conditions in their order; the schema goes back only when all of them hold."""

    conditions: tuple[Condition, ...]

    @property
    def granted(self) -> bool:
        return all(one.holds for one in self.conditions)

    def sentence(self) -> str:
        """The first condition that fails, and how many more do."""
        failing = [one for one in self.conditions if not one.holds]
        if not failing:
            return "every condition holds"
        more = f" (and {len(failing) - 1} more)" if failing[1:] else ""
        return f"{failing[0].name}: {failing[0].reason}{more}"


def taken_back(chain: tuple[ReviewedRevision, ...], present: tuple[str, ...]) -> tuple[ReviewedRevision, ...]:
    """The part of a chain, base first, that a database at `present` has; newest first."""
    links = {one.id: one.down for one in chain}
    found: set[str] = set()
    waiting = [name for name in present if name in links]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [down for down in links[name] if down in links]
    return tuple(one for one in reversed(chain) if one.id in found)


def losses(chain: tuple[ReviewedRevision, ...] | None) -> tuple[Loss, ...]:
    """What taking all of them back would take away."""
    return tuple(losses_of([one.undoing for one in chain or () if one.undoing is not None]))


def may_downgrade(now: Circumstances) -> Decision:
    """Each condition by itself: later ones are told even when an earlier one fails."""
    return Decision(tuple(_looked_at(name, now) for name in CONDITIONS))


def _looked_at(name: str, now: Circumstances) -> Condition:
    ask, good = _CONDITIONS[name]
    refusal = "what would be taken back is not known" if name in _OF_REVISIONS and not now.undone else ask(now)
    return Condition(name, not refusal, refusal or good)


# ---- each says what speaks against it; nothing when it holds


def _allowed(now: Circumstances) -> str:
    return "the environment's file does not allow it ([downgrade] allow)" if now.policy.allow == NEVER else ""


def _approved(now: Circumstances) -> str:
    return "the rollout went without a person's approval" if now.known.approved is False else ""


def _recorded(now: Circumstances) -> str:
    recorded = now.known.recorded
    if recorded is None:
        return "nobody has told where the database stood before"
    if len(recorded) != 1:
        return f"the database stood at {_and(recorded)}, expected one revision"
    return "" if now.chain is not None else f"what lies between {recorded[0]} and the release's schema was not read when it was published"


def _ours(now: Circumstances) -> str:
    if now.present is None:
        return "where the database is now cannot be told"
    own = {*(now.known.recorded or ()), *(one.id for one in now.chain or ())}
    strange = [name for name in now.present if name not in own]
    if strange or len(now.present) != 1:
        return f"the database is at {_and(now.present)}, where this rollout did not bring it"
    return ""


def _needed(now: Circumstances) -> str:
    if now.policy.allow != IF_NEEDED or now.old_is_well is False:
        return ""
    if now.old_is_well is None:
        return f"whether {now.old} is well on the new schema cannot be told"
    return f"{now.old} is well on the new schema"


def _reversible(now: Circumstances) -> str:
    for one in now.undone:
        if one.undoing is None:
            return f"revision {one.id} does not say `reversible: yes`"
        if len(one.down) != 1:
            return f"revision {one.id} comes after {_and(one.down)}, expected one revision"
    return ""


def _safe(now: Circumstances) -> str:
    for one in now.undone:
        if one.undoing and one.undoing.objections:
            return f"taking revision {one.id} back would not go unnoticed: {one.undoing.objections[0].sentence().removesuffix('.')}"
    return ""


def _lossless(now: Circumstances) -> str:
    for one in now.undone:
        if one.undoing and one.undoing.opaque:
            return f"what taking revision {one.id} back loses cannot be told: {one.undoing.opaque}"
    if now.written is None:
        return "whether anything was written that would be lost cannot be told"
    return f"{_and(now.written)} would be lost with what was written there" if now.written else ""


def _proven(now: Circumstances) -> str:
    for one in now.undone:
        if now.old not in now.known.proven.get(one.id, ()):
            return f"{now.old} was not tried on a copy of the database from which revision {one.id} had been taken back"
    return ""


def _deserted(now: Circumstances) -> str:
    if now.others is None:
        return "who still runs cannot be told"
    return f"{_and(now.others)} still there" if now.others else ""


_CONDITIONS: dict[str, tuple[Callable[[Circumstances], str], str]] = {
    "allowed": (_allowed, "the environment's file allows it"),
    "approved": (_approved, "approved with the rollout, or nobody is asked here"),
    "recorded": (_recorded, "where the database stood before is known"),
    "ours": (_ours, "the database is where this rollout has brought it"),
    "needed": (_needed, "the version before needs it, or the file asks for no need"),
    "reversible": (_reversible, "every revision says that it can be taken back"),
    "safe": (_safe, "no rule objects to taking them back beside the version before"),
    "lossless": (_lossless, "nothing that was written would be lost"),
    "proven": (_proven, "the version before was well on a copy afterwards"),
    "deserted": (_deserted, "nobody else is on the new schema"),
}
CONDITIONS = tuple(_CONDITIONS)
# They look at each revision that would be taken back, and where none is known nothing is good about it.
_OF_REVISIONS = frozenset({"reversible", "safe", "lossless", "proven"})


def _and(names: tuple[str, ...]) -> str:
    return " and ".join(names) or "nothing"
