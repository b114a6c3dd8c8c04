"""The journal store in memory: leases with fences, chained entries, no disk. It keeps the rules that rollouts lean on."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from delivery.backup import RestoreTest
from delivery.calibration import Calibration
from delivery.errors import DeliveryError, EnvironmentBusy, InvalidSettings, StaleFence
from delivery.journal import Closed, Entry, Event, Opened, Progress, Promoted, chained
from delivery.plan import Plan
from delivery.record import Lease, RolloutRecord
from delivery.release import Release
from delivery.verification import Deed, Hold, Verification

BEGINNING = datetime(2026, 7, 1, 10, tzinfo=UTC)


class MemoryJournal:
    """`clock` gives seconds; `spoil` is called with "before" or "after" around each append, so that tests can kill the writer there."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._leases: dict[str, Lease] = {}
        self._releases: dict[str, Release] = {}
        self._entries: dict[str, list[Entry]] = {}
        self._verifications: dict[str, Verification] = {}
        self._holds: dict[str, Hold] = {}
        self._calibrations: dict[str, Sequence[Calibration]] = {}
        self._restore_tests: dict[str, RestoreTest] = {}
        self.notices: dict[str, str] = {}
        self.spoil: Callable[[Event, str], None] = lambda _event, _when: None
        self.unreachable = False

    def now(self) -> datetime:
        return BEGINNING + timedelta(seconds=self._clock())

    def save_release(self, release: Release) -> None:
        self._releases[release.id] = release

    def release(self, release_id: str) -> Release:
        if release_id not in self._releases:
            raise InvalidSettings(f"There is no release {release_id}.", next="look at `greenroom status`.")
        return self._releases[release_id]

    def acquire(self, environment: str, *, holder: str, purpose: str, ttl: timedelta) -> Lease:
        with self._lock:
            now, held = self.now(), self._leases.get(environment)
            if held and held.expires_at > now:
                raise EnvironmentBusy(f"{environment} is busy: {held.purpose} by {held.holder}.", next="wait for it.")
            lease = Lease(environment, holder, purpose, (held.fence if held else 0) + 1, now, now + ttl)
            self._leases[environment] = lease
            return lease

    def renew(self, lease: Lease, *, ttl: timedelta) -> Lease:
        with self._lock:
            if self.unreachable:
                raise DeliveryError("The journal does not answer.", next="start it.")
            self._require(lease)
            renewed = Lease(lease.environment, lease.holder, lease.purpose, lease.fence, lease.since, self.now() + ttl)
            self._leases[lease.environment] = renewed
            return renewed

    def give_up(self, lease: Lease) -> None:
        with self._lock:
            held = self._leases[lease.environment]
            if held.fence == lease.fence:
                self._leases[lease.environment] = Lease(held.environment, held.holder, held.purpose, held.fence, held.since, self.now())

    def leases(self) -> Sequence[Lease]:
        return list(self._leases.values())

    def forget_holder(self, environment: str) -> None:
        """What time does to the lease of a process that died: it expires."""
        held = self._leases[environment]
        self._leases[environment] = Lease(held.environment, held.holder, held.purpose, held.fence, held.since, self.now())

    def open_rollout(self, lease: Lease, plan: Plan, *, by: str) -> str:
        name = f"{plan.environment.name}-{len(self._entries) + 1}"
        self.save_release(plan.release)
        if plan.blue:
            self.save_release(plan.blue)
        self._entries[name] = []
        self.log_of(name, lease).append(Opened(plan, by))
        return name

    def log_of(self, rollout: str, lease: Lease | None = None) -> "MemoryLog":
        return MemoryLog(self, rollout, lease)

    def entries(self, rollout: str) -> Sequence[Entry]:
        return tuple(self._entries[rollout])

    def rollout(self, rollout: str) -> RolloutRecord:
        entries = self._entries[rollout]
        progress = Progress.of(entry.event for entry in entries)
        promoted = next((entry.at for entry in entries if isinstance(entry.event, Promoted)), None)
        ended = next((entry.at for entry in entries if isinstance(entry.event, Closed)), None)
        plan, closed = progress.plan, progress.closed
        return RolloutRecord(
            id=rollout,
            environment=plan.environment.name,
            release=plan.release.id,
            version=str(plan.release.version),
            blue=plan.blue.id if plan.blue else None,
            kind=plan.kind,
            by=progress.by,
            opened_at=entries[0].at,
            promoted_at=promoted,
            ended_at=ended,
            ending=closed.ending if closed else None,
            message=closed.message if closed else None,
        )

    def rollouts(self, *, environment: str | None = None, open_only: bool = False, limit: int = 50) -> Sequence[RolloutRecord]:
        found = [self.rollout(name) for name in reversed(self._entries)]
        found = [record for record in found if environment in (None, record.environment) and not (open_only and record.ended_at)]
        return found[:limit]

    def lived(self, environment: str, *, newest: int) -> Sequence[Release]:
        return [self._releases[release] for release in dict.fromkeys(self._brought(environment))][:newest]

    def live(self, environment: str) -> Release | None:
        brought = self._brought(environment)
        return self._releases[brought[0]] if brought else None

    def previous(self, environment: str) -> Release | None:
        brought = self._brought(environment)
        return next((self._releases[release] for release in brought if release != brought[0]), None)

    def last_verification(self, environment: str) -> Verification | None:
        return self._verifications.get(environment)

    def add_verification(self, verification: Verification, *, key: str) -> bool:  # noqa: ARG002
        with self._lock:
            last = self._verifications.get(verification.environment)
            if verification.number != (last.number if last else 0) + 1:
                return False
            self._verifications[verification.environment] = replace(verification, at=self.now())
            if verification.deed is Deed.GO_BACK:
                hold = Hold(verification.environment, self.now(), held=True, by="canary-verification", reason=verification.reason)
                self._holds.setdefault(verification.environment, hold)
            return True

    def hold_on(self, environment: str) -> Hold | None:
        return self._holds.get(environment)

    def let_go_on(self, environment: str, *, by: str, reason: str) -> Hold | None:  # noqa: ARG002
        return self._holds.pop(environment, None)

    def add_calibrations(self, calibrations: Sequence[Calibration], *, key: str) -> None:
        self._calibrations.setdefault(key, [replace(one, at=self.now()) for one in calibrations])

    def calibrations(self, environment: str, *, newest: timedelta) -> Sequence[Calibration]:
        found = [one for kept in self._calibrations.values() for one in kept if one.environment == environment]
        return [one for one in reversed(found) if one.at >= self.now() - newest]

    def add_restore_test(self, test: RestoreTest, *, key: str) -> None:
        self._restore_tests.setdefault(key, replace(test, at=self.now()))

    def restore_tests(self, environment: str) -> Sequence[RestoreTest]:
        return [one for one in reversed(self._restore_tests.values()) if one.environment == environment]

    def append(self, rollout: str, lease: Lease, events: Sequence[Event]) -> None:
        self.spoil(events[0], "before")
        with self._lock:
            self._require(lease)
            entries = self._entries[rollout]
            for event in events:
                previous, sequence = entries[-1].hash if entries else "", len(entries) + 1
                link = chained(previous, rollout=rollout, sequence=sequence, fence=lease.fence, payload=repr(event))
                entries.append(Entry(sequence, self.now(), lease.fence, event, link))
        self.spoil(events[0], "after")

    def _require(self, lease: Lease) -> None:
        held = self._leases[lease.environment]
        if held.fence != lease.fence or held.expires_at <= self.now():
            raise StaleFence(f"The lease on {lease.environment} went to {held.holder}.", next="stop.")

    def _brought(self, environment: str) -> list[str]:
        return [record.release for record in self.rollouts(environment=environment) if record.promoted_at]


class MemoryLog:
    def __init__(self, store: MemoryJournal, rollout: str, lease: Lease | None) -> None:
        self._store = store
        self._rollout = rollout
        self._lease = lease

    def append(self, *events: Event) -> None:
        if self._lease is None:
            raise DeliveryError("A journal without a lease is for reading.", next="acquire the lease.")
        self._store.append(self._rollout, self._lease, events)

    def events(self) -> Sequence[Event]:
        return [entry.event for entry in self._store.entries(self._rollout)]
