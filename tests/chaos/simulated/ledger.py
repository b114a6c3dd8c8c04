"""The journal's database in virtual time: it can be away, and an answer can get lost after the commit.

Where `MemoryJournal` is simpler than `blocks.journal.SqlJournal`, this keeps to the latter's rules: a renewal brings a lease back that
nobody has taken, an ended rollout takes no more entries, an environment has one open rollout, a request leads to one rollout.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from delivery.errors import DeliveryError, EnvironmentBusy, StaleFence, TransientError
from delivery.journal import Closed, Ending, Event, Evidence, Finished, Opened, Promoted, Started, chained
from delivery.journal import Entry as JournalEntry
from delivery.plan import Plan, StepKind
from delivery.record import Lease, RolloutRecord
from tests.chaos.simulated.kernel import Kernel
from tests.memory_journal import MemoryJournal

PATIENCE_SECONDS = 15.0  # as in blocks/database.py
T = TypeVar("T")


class Moment(Protocol):
    def __call__(self, what: str, when: str, /) -> None: ...


@dataclass
class Outage:
    """The database does not answer until then. `commits`: what was being written when it began is there, and nobody was told."""

    until: float
    commits: bool


class Ledger(MemoryJournal):
    """`moment` is called before each write and after its commit."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(lambda: kernel.now)
        self.kernel = kernel
        self.moment: Moment = lambda _what, _when: None
        self.outage: Outage | None = None
        self._records: dict[str, RolloutRecord] = {}

    # leases

    def acquire(self, environment: str, *, holder: str, purpose: str, ttl: timedelta) -> Lease:
        def take() -> Lease:
            held = self._leases.get(environment)
            self._refuse_held(held)  # again, since somebody may have been quicker
            lease = Lease(environment, holder, purpose, (held.fence if held else 0) + 1, self._now(), self._now() + ttl)
            self._leases[environment] = lease
            return lease

        self._reach()
        self._refuse_held(self._leases.get(environment))
        return self._write(f"take the lease for {purpose}", take)

    def renew(self, lease: Lease, *, ttl: timedelta) -> Lease:
        self._reach()
        self._require_holder(lease)
        renewed = replace(lease, expires_at=self._now() + ttl)
        self._leases[lease.environment] = renewed
        return renewed

    def give_up(self, lease: Lease) -> None:
        def leave() -> None:
            held = self._leases[lease.environment]
            if (held.holder, held.fence) == (lease.holder, lease.fence):
                self._leases[lease.environment] = replace(held, holder="", expires_at=self._now())

        self._write("give the lease up", leave)

    def leases(self) -> Sequence[Lease]:
        self._reach()
        return [lease for lease in self._leases.values() if lease.holder]

    # rollouts

    def open_rollout(self, lease: Lease, plan: Plan, *, by: str) -> str:
        def begin() -> str:
            self._require(lease)
            for name, entries in self._entries.items():
                opening = entries[0].event
                if isinstance(opening, Opened) and plan.request is not None and opening.plan.request == plan.request:
                    return name
            if any(record.ended_at is None for record in self._records.values()):
                raise EnvironmentBusy(f"{plan.environment.title} has an open rollout.", next="let `recover` end it first.")
            return self._opened(plan, lease, by)

        return self._write("open the rollout", begin)

    def append(self, rollout: str, lease: Lease, events: Sequence[Event]) -> None:
        def write() -> None:
            self._require(lease)
            if self._records[rollout].ended_at is not None:
                raise DeliveryError(f"Rollout {rollout} has ended; nothing can follow.", next="look at `greenroom status`.")
            self._chain(rollout, lease.fence, events)

        self._write(" and ".join(_told(event) for event in events), write)

    def entries(self, rollout: str) -> Sequence[JournalEntry]:
        self._reach()
        return tuple(self._entries[rollout])

    def rollout(self, rollout: str) -> RolloutRecord:
        return self._records[rollout]

    def rollouts(self, *, environment: str | None = None, open_only: bool = False, limit: int = 50) -> Sequence[RolloutRecord]:
        self._reach()
        found = [record for record in reversed(self._records.values()) if environment in (None, record.environment)]
        return [record for record in found if not (open_only and record.ended_at)][:limit]

    def known(self, rollout: str) -> RolloutRecord | None:
        """For those who look from outside of the story: no outage keeps them away."""
        return self._records.get(rollout)

    def is_held(self) -> bool:
        return any(lease.expires_at > self._now() for lease in self._leases.values())

    def verify_chain(self, rollout: str) -> None:
        previous = ""
        for sequence, entry in enumerate(self._entries[rollout], start=1):
            due = chained(previous, rollout=rollout, sequence=sequence, fence=entry.fence, payload=repr(entry.event))
            if (entry.sequence, entry.hash) != (sequence, due):
                raise DeliveryError(f"Entry {sequence} of {rollout} does not fit.", next="look at it.")
            previous = due

    def bring(self, plan: Plan) -> None:
        """What lies before the story: a rollout that went well, long ago."""
        rollout = self._opened(plan, Lease(plan.environment.name, "history", "", 0, self._now(), self._now()), "history")
        for step in plan.forward:
            events: tuple[Event, ...] = (Started(step.name, 1), Finished(step.name, Evidence(well=True, summary="well")))
            self._chain(rollout, 0, (*events, Promoted(plan.release.id)) if step.kind is StepKind.PROMOTE else events)
        self._chain(rollout, 0, (Closed(Ending.LIVE, f"{plan.environment.title} runs {plan.release.version.tag}."),))

    # how it is made

    def _opened(self, plan: Plan, lease: Lease, by: str) -> str:
        name = f"{plan.environment.name}-{len(self._entries) + 1}"
        for release in filter(None, (plan.release, plan.blue)):
            self.save_release(release)
        self._entries[name] = []
        self._records[name] = RolloutRecord(
            id=name,
            environment=plan.environment.name,
            release=plan.release.id,
            version=str(plan.release.version),
            blue=plan.blue.id if plan.blue else None,
            kind=plan.kind,
            by=by,
            opened_at=self._now(),
        )
        self._chain(name, lease.fence, (Opened(plan, by),))
        return name

    def _chain(self, rollout: str, fence: int, events: Sequence[Event]) -> None:
        entries, now = self._entries[rollout], self._now()
        for event in events:
            previous, sequence = entries[-1].hash if entries else "", len(entries) + 1
            link = chained(previous, rollout=rollout, sequence=sequence, fence=fence, payload=repr(event))
            entries.append(JournalEntry(sequence, now, fence, event, link))
            if isinstance(event, Promoted):
                self._records[rollout] = replace(self._records[rollout], promoted_at=now)
            elif isinstance(event, Closed):
                self._records[rollout] = replace(self._records[rollout], ended_at=now, ending=event.ending, message=event.message)

    def _refuse_held(self, held: Lease | None) -> None:
        if held and held.expires_at > self._now():
            raise EnvironmentBusy(f"{held.environment} is busy: {held.purpose} by {held.holder} since {held.since}.", next="wait for it.")

    def _require(self, lease: Lease) -> None:
        self._require_holder(lease)
        if self._leases[lease.environment].expires_at <= self._now():
            raise StaleFence(f"The lease on {lease.environment} expired.", next="stop at once.")

    def _require_holder(self, lease: Lease) -> None:
        held = self._leases[lease.environment]
        if (held.holder, held.fence) != (lease.holder, lease.fence):
            raise StaleFence(f"The lease on {lease.environment} went to {held.holder or 'nobody'}.", next="stop at once.")

    def _write(self, told: str, act: Callable[[], T]) -> T:
        self.kernel.wait(0.005)
        self.moment(told, "before")
        outage = self.outage
        if outage and outage.commits and self.kernel.now < outage.until:
            outage.commits = False
            done = act()
            self._reach()
        else:
            self._reach()
            done = act()
        self.moment(told, "after")
        return done

    def _reach(self) -> None:
        """Waits for the database as long as its driver is patient."""
        if self.outage is None or self.kernel.now >= self.outage.until:
            return
        if not self.kernel.is_calling_back:
            self.kernel.wait(min(PATIENCE_SECONDS, self.outage.until - self.kernel.now))
            if self.kernel.now >= self.outage.until:
                return
        raise TransientError("The journal's database does not answer.", next="see that PostgreSQL runs and is reachable.")

    def _now(self) -> datetime:
        return super().now()


def _told(event: Event) -> str:
    match event:
        case Started(step=step):
            return f"Started({step})"
        case Finished(step=step, evidence=evidence):
            return f"Finished({step}, {'well' if evidence.well else 'sick'})"
        case Closed(ending=ending):
            return f"Closed({ending})"
        case _:
            return type(event).__name__
