"""The steward: one small resident process beside the worker. Every two seconds it looks into the journal, and what the scheduled `recover`
flow would do within a minute it does at once.

It leans on the journal and the local blocks file alone: Prefect's server may be gone. Only leases decide who acts, so any number of
stewards, runs of `recover` and rollouts may be at work beside one another.
"""

import logging
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from blocks.journal import SqlJournal
from blocks.settings import Settings, environment_names
from delivery.errors import DeliveryError, TransientError
from flows.duty import Duty, pause_after
from flows.heartbeat import beat
from flows.outage import Outage, machine_clock

if TYPE_CHECKING:  # what acts imports Prefect, which takes seconds; the first look does not wait for it
    from flows.assembly import Blocks, House

log = logging.getLogger("greenroom.steward")

LOOK_SECONDS = 2.0
TIDY_SECONDS, REQUESTS_SECONDS, NOTICES_SECONDS, RUNS_SECONDS, ALERTS_SECONDS = 30.0, 10.0, 5.0, 60.0, 10.0
LOST_JOURNAL = "the lost journal"
# How long an ending steward waits for the acts that are under way.
LEAVING_SECONDS = 40.0


class Steward:
    """`run` looks after everything until `stop` is set; `once` does one whole round. `blocks` gives what it acts with."""

    def __init__(self, installation: Settings, *, stop: threading.Event, blocks: "Callable[[], Blocks] | None" = None) -> None:
        self._installation = installation
        self._stop = stop
        self._blocks = blocks or _LocalFile(installation)
        self._store = SqlJournal(installation.database_url)
        self._outage = Outage(installation)
        self._opening = threading.Lock()
        self._is_migrated = False
        self._can_beat = True
        # Names with a space: those of environments, which join them, have none.
        common = (
            Duty("open requests", self._close_requests, every=REQUESTS_SECONDS),
            Duty("new alerts", self._put_alerts, every=ALERTS_SECONDS),
            Duty(LOST_JOURNAL, self._tell_of_outage, every=ALERTS_SECONDS),
            Duty("waiting notices", self._send_notices, every=NOTICES_SECONDS),
            Duty("suspended runs", self._end_runs, every=RUNS_SECONDS),
        )
        self._duties: dict[str, Duty] = {duty.name: duty for duty in common}

    def run(self) -> None:
        """A journal that does not answer is asked again, after pauses of up to ten seconds, for as long as it takes."""
        log.info("The steward looks into the journal every %.0f s.", LOOK_SECONDS)
        failures = 0
        while not self._stop.is_set():
            try:
                self._look()
            except Exception as broken:  # whatever it is, it passes, and a steward that has ended helps nobody
                failures += 1
                if failures == 1:
                    log.warning("Nothing can be done for now: %s", broken if isinstance(broken, DeliveryError) else type(broken).__name__)
                    log.debug("what broke", exc_info=True)
            else:
                if failures:
                    log.info("It works again.")
                failures = 0
            pause = pause_after(failures) if failures else LOOK_SECONDS
            self._stop.wait(pause * random.uniform(0.9, 1.1))  # noqa: S311  only so that two of them do not keep step
        self._leave()

    def once(self) -> bool:
        """One whole round. True when everything could be done. Raises `DeliveryError` when the journal does not answer."""
        self._look()
        for duty in self._duties.values():
            duty.wait()
        self._store.close()
        return not any(duty.failures for duty in self._duties.values())

    def _look(self) -> None:
        """One read of the journal while nothing is under way; what is due, and what was abandoned, is begun."""
        try:
            if not self._is_migrated:
                self._store.migrate()
                self._is_migrated = True
            abandoned = self._abandoned()
        except DeliveryError:
            self._notice_outage()
            raise
        self._show_that_it_lives()
        for name in (*environment_names(self._installation.environments_dir), *abandoned):
            if name not in self._duties:
                self._duties[name] = Duty(name, partial(self._look_after, name), every=TIDY_SECONDS)
        for duty in self._duties.values():
            duty.look(urgent=duty.name in abandoned)

    def _abandoned(self) -> frozenset[str]:
        """The environments with an open rollout that nobody holds. In a rollout's life there is no such moment: its lease comes first and
        goes last.
        """
        under_way = frozenset(record.environment for record in self._store.rollouts(open_only=True))
        if not under_way:
            return under_way
        now = self._store.now()
        return under_way - {lease.environment for lease in self._store.leases() if lease.expires_at > now}

    def _notice_outage(self) -> None:
        try:
            self._outage.begin(machine_clock())
        except OSError as broken:
            log.debug("nothing can be noted in %s (%s)", self._installation.work_dir, type(broken).__name__)
        self._duties[LOST_JOURNAL].look(urgent=False)

    def _show_that_it_lives(self) -> None:
        try:
            beat(self._installation)
        except OSError as broken:
            if self._can_beat:
                log.warning("No sign of life can be left in %s (%s).", self._installation.work_dir, type(broken).__name__)
            self._can_beat = False
        else:
            self._can_beat = True

    def _leave(self) -> None:
        """What is under way comes to the end of its act; a rollout that is left there is taken over by whoever looks next."""
        for duty in self._duties.values():
            if not duty.wait(LEAVING_SECONDS):
                log.warning("%s is still at work and is left there; its lease expires by itself.", duty.name)
        self._store.close()
        log.info("The steward has ended.")

    # The duties. What they need is imported by the first, while the others wait: Prefect does not bear being imported by two at once.

    def _house(self) -> "House":
        with self._opening:
            from flows import recover  # noqa: F401, PLC0415
            from flows.assembly import House  # noqa: PLC0415

            return House(self._installation, self._store, self._blocks())

    def _look_after(self, environment: str) -> Iterator[str]:
        """An abandoned rollout comes to its end, broken routing is put back, and what need not be warm any longer is retired."""
        house = self._house()
        from flows.recover import repair_in, retire_in  # noqa: PLC0415
        from flows.rollout import finish_abandoned  # noqa: PLC0415

        yield from finish_abandoned(house, environment, leave=lambda _: self._stop.is_set())
        if self._stop.is_set():
            return
        if environment in self._abandoned():
            raise DeliveryError(
                f"{environment} has a rollout that nobody holds, and it cannot be brought to its end yet.",
                next="look at the lines before this one; it is tried again and again.",
            )
        if environment in environment_names(self._installation.environments_dir):
            yield from repair_in(house, environment)
            yield from retire_in(house, environment)

    def _close_requests(self) -> Iterable[str]:
        house = self._house()
        from flows.recover import close_unanswered_requests  # noqa: PLC0415

        return close_unanswered_requests(house)

    def _put_alerts(self) -> Iterable[str]:
        house = self._house()
        from flows.alerts import put_alerts  # noqa: PLC0415

        return put_alerts(house)

    def _tell_of_outage(self) -> Iterable[str]:
        """While the journal is away people are told without it; once it is back, through it."""
        if self._outage.since is None:
            return ()
        house = self._house()
        from flows.alerts import tell_journal_back, tell_journal_lost  # noqa: PLC0415

        try:
            self._store.now()
        except DeliveryError:
            return tell_journal_lost(house, self._outage, now=machine_clock())
        return tell_journal_back(house, self._outage)

    def _send_notices(self) -> Iterator[str]:
        if not self._store.unsent_notices(limit=1):
            return
        house = self._house()
        from flows.telling import send_notices, within_reach  # noqa: PLC0415

        if sent := send_notices(house.store, house.notifier_for):
            yield f"{sent} sent"
        if waiting := sum(len(self._store.unsent_notices(environment=outbox)) for outbox in within_reach(self._store.outboxes())):
            raise DeliveryError(f"{waiting} cannot be sent yet.", next="look at the notifier; they wait in the journal.")

    def _end_runs(self) -> Iterable[str]:
        """Prefect's server is asked only here."""
        house = self._house()
        import httpx  # noqa: PLC0415
        from prefect.settings import PREFECT_API_URL  # noqa: PLC0415

        from flows.recover import end_runs_that_wait_in_vain  # noqa: PLC0415

        if not PREFECT_API_URL.value():
            return ()  # without an address Prefect's client would start a server of its own
        try:
            return end_runs_that_wait_in_vain(house)
        except httpx.HTTPError as broken:
            raise TransientError(
                f"Prefect's server does not answer ({type(broken).__name__}).", next="nothing: they are ended once it is back."
            ) from None


class _LocalFile:
    """The blocks of the local file, read anew when the file has changed."""

    def __init__(self, installation: Settings) -> None:
        self._installation = installation
        self._read: tuple[tuple[int, int] | None, Blocks] | None = None

    def __call__(self) -> "Blocks":
        """Raises `InvalidSettings` when the file cannot be used."""
        from flows.assembly import LocalBlocks  # noqa: PLC0415

        version = self._version()
        if self._read is None or self._read[0] != version:
            self._read = version, LocalBlocks.of(self._installation)
        return self._read[1]

    def _version(self) -> tuple[int, int] | None:
        try:
            found = self._installation.local_blocks_file.stat()
        except OSError:
            return None  # reading it tells why
        return found.st_mtime_ns, found.st_size
