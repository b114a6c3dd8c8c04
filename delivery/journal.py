"""A rollout's append-only memory, and everything that follows from it.

Nothing here remembers: `Progress` is folded from the events each time, so a process that dies and another that takes over see the
same rollout.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Protocol, assert_never

from delivery.application import STRICT
from delivery.errors import DeliveryError
from delivery.plan import Plan, Step, StepKind

CANCELLED = "the rollout was cancelled"  # the reason of a way back that a person wanted


class Ending(StrEnum):
    """Every rollout ends as one of these four."""

    LIVE = "LIVE"
    ROLLED_BACK = "ROLLED_BACK"
    UNTOUCHED = "UNTOUCHED"
    NEEDS_HUMAN = "NEEDS_HUMAN"


@dataclass(frozen=True)
class Evidence:
    """What a step found. `well` False turns the rollout back; `summary` is one sentence for people; `facts` is data for reports."""

    __pydantic_config__ = STRICT

    well: bool
    summary: str
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Opened:
    """The first entry: the plan, and who asked."""

    __pydantic_config__ = STRICT

    plan: Plan
    by: str


@dataclass(frozen=True)
class Started:
    """Written ahead of the act. Started and not finished means: nobody knows; the act is done again, since verbs state levels."""

    __pydantic_config__ = STRICT

    step: str
    attempt: int


@dataclass(frozen=True)
class Finished:
    __pydantic_config__ = STRICT

    step: str
    evidence: Evidence


@dataclass(frozen=True)
class TurnedBack:
    """Somebody or something outside the steps wants the previous release back: a cancelled run, an abandoned rollout."""

    __pydantic_config__ = STRICT

    reason: str


@dataclass(frozen=True)
class Promoted:
    """The point of no return: before it every recovery gives blue every request, after it every recovery finishes forward."""

    __pydantic_config__ = STRICT

    release: str


@dataclass(frozen=True)
class Closed:
    __pydantic_config__ = STRICT

    ending: Ending
    message: str


Event = Opened | Started | Finished | TurnedBack | Promoted | Closed


@dataclass(frozen=True)
class Entry:
    """An event with its place in the chain. `at` is the journal's clock, aware UTC."""

    sequence: int
    at: datetime
    fence: int
    event: Event
    hash: str


def chained(previous: str, *, rollout: str, sequence: int, fence: int, payload: str) -> str:
    """The hash of an entry: SHA-256 over the previous entry's hash and this entry's content, so that no entry can change unseen."""
    content = f"{previous}\n{rollout}\n{sequence}\n{fence}\n{payload}"
    return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class Progress:
    """Where a rollout is, folded from its events."""

    plan: Plan
    by: str
    finished: Mapping[str, Evidence] = field(default_factory=dict)
    started: Mapping[str, int] = field(default_factory=dict)
    turned_back: str | None = None
    promoted: bool = False
    closed: Closed | None = None

    @classmethod
    def of(cls, events: Iterable[Event]) -> "Progress":
        """Raises `DeliveryError` when the events do not tell a legal story."""
        progress: Progress | None = None
        for event in events:
            if progress is None:
                if not isinstance(event, Opened):
                    raise _illegal("the first event is not the opening")
                progress = cls(plan=event.plan, by=event.by)
            else:
                progress = progress.after(event)
        if progress is None:
            raise _illegal("it has no events")
        return progress

    def after(self, event: Event) -> "Progress":  # noqa: C901, PLR0912  one arm per event: the whole grammar in one place
        """The progress after one more event; refuses what cannot follow."""
        if self.closed:
            raise _illegal("something follows its end")
        match event:
            case Opened():
                raise _illegal("it is opened twice")
            case Started(step=step, attempt=attempt):
                if (expected := self.next_step()) is None or expected.name != step:
                    raise _illegal(f"step {step} is started where {expected.name if expected else 'its end'} is due")
                return replace(self, started={**self.started, step: attempt})
            case Finished(step=step, evidence=evidence):
                if step not in self.started or step in self.finished:
                    raise _illegal(f"step {step} is finished without being under way")
                turned_back = self.turned_back
                if not evidence.well and self.is_turnable and turned_back is None:
                    turned_back = evidence.summary
                return replace(self, finished={**self.finished, step: evidence}, turned_back=turned_back)
            case TurnedBack(reason=reason):
                if not self.is_turnable:
                    raise _illegal("it is turned back after the promotion")
                return replace(self, turned_back=self.turned_back or reason)
            case Promoted():
                if self.turned_back:
                    raise _illegal("it is promoted after it was turned back")
                if not any(step.kind is StepKind.PROMOTE and step.name in self.finished for step in self.plan.forward):
                    raise _illegal("it is promoted before its promotion step is finished")
                return replace(self, promoted=True)
            case Closed():
                if due := self.next_step():
                    raise _illegal(f"it ends where step {due.name} is due")
                return replace(self, closed=event)
            case _:
                assert_never(event)

    @property
    def is_turnable(self) -> bool:
        return not self.promoted

    @property
    def path(self) -> Sequence[Step]:
        return self.plan.back if self.turned_back else self.plan.forward

    def next_step(self) -> Step | None:
        """The first step of the present direction that is not finished; None when it is at its end or a step of no return is sick."""
        if self.closed:
            return None
        for step in self.path:
            evidence = self.finished.get(step.name)
            if evidence is None:
                return step
            if not evidence.well:
                return None
        return None

    @property
    def has_moved_users(self) -> bool:
        return any(step.kind is StepKind.SHIFT and step.name in self.started for step in self.plan.forward)

    def stuck_at(self) -> Step | None:
        """The sick step that neither direction can pass, if there is one."""
        return next((step for step in self.path if step.name in self.finished and not self.finished[step.name].well), None)

    def outcome(self) -> Closed:
        """How it ends when there is no next step: one of the four endings, and the last message."""
        plan, title = self.plan, self.plan.environment.title
        live, wanted = plan.blue.version.tag if plan.blue else None, plan.release.version.tag
        if stuck := self.stuck_at():
            where = f"step {stuck.name} of {wanted}: {self.finished[stuck.name].summary}"
            return Closed(Ending.NEEDS_HUMAN, f"{title} needs a person: {where}")
        if not self.turned_back:
            return Closed(Ending.LIVE, f"{title} runs {wanted}.")
        reason = f"{wanted} was turned back: {self.turned_back}"
        if not self.has_moved_users:
            return Closed(Ending.UNTOUCHED, f"{title} is unchanged. {reason}")
        if live is None:
            return Closed(Ending.ROLLED_BACK, f"{title} is back on nothing, as before its first release. {reason}")
        return Closed(Ending.ROLLED_BACK, f"{title} is back on {live}. {reason}")


class EventLog(Protocol):
    """Where one rollout's entries lie. `append` writes all events or none, fenced: a stale token raises `StaleFence`."""

    def append(self, *events: Event) -> None: ...
    def events(self) -> Sequence[Event]: ...


class Journal:
    """One rollout, seen by whoever walks it: what is next, and what has been done."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._progress = Progress.of(log.events())

    @property
    def progress(self) -> Progress:
        return self._progress

    def next_step(self) -> Step | None:
        return self._progress.next_step()

    def look_again(self) -> None:
        """Reads the entries anew. After an append that may or may not have got through, they tell."""
        self._progress = Progress.of(self._log.events())

    def started(self, step: Step) -> None:
        """Written ahead of the act."""
        self._append(Started(step.name, attempt=self._progress.started.get(step.name, 0) + 1))

    def finished(self, step: Step, evidence: Evidence) -> None:
        """With the evidence; a sick step before the promotion turns the rollout back, the promotion itself is the point of no return."""
        done = Finished(step.name, evidence)
        if step.kind is StepKind.PROMOTE and evidence.well:
            self._append(done, Promoted(self._progress.plan.release.id))
        else:
            self._append(done)

    def turn_back(self, reason: str) -> None:
        """From outside the steps. After the promotion it does nothing: the rollout finishes forward."""
        if self._progress.is_turnable and self._progress.turned_back is None and self._progress.closed is None:
            self._append(TurnedBack(reason))

    def close(self) -> Closed:
        """Ends the rollout; a closed one stays as it is."""
        if self._progress.closed is None:
            self._append(self._progress.outcome())
        closed = self._progress.closed
        if closed is None:
            raise _illegal("it did not close")
        return closed

    def _append(self, *events: Event) -> None:
        progress = self._progress
        for event in events:
            progress = progress.after(event)  # refuses an illegal story before anything is written
        self._log.append(*events)
        self._progress = progress


def _illegal(what: str) -> DeliveryError:
    return DeliveryError(
        f"The rollout's journal tells an impossible story: {what}.",
        next="stop, keep the journal database as it is, and look at `greenroom status`.",
    )
