"""One schedule, played to its end and a little further, and what is true then."""

import random
import threading
from dataclasses import dataclass
from pathlib import Path

from delivery.environment import Traffic
from delivery.errors import DeliveryError
from delivery.journal import Ending
from delivery.record import RolloutRecord
from tasks.rollout import walk_rollout
from tests.chaos.simulated import invariants
from tests.chaos.simulated.company import Company, Tell, tell_nobody
from tests.chaos.simulated.fate import Fate
from tests.chaos.simulated.kernel import Kernel
from tests.chaos.simulated.ledger import Ledger
from tests.chaos.simulated.platform import Platform
from tests.chaos.simulated.schedule import Dies, Schedule
from tests.chaos.simulated.stage import EXPECTED, HOLD_SECONDS, NEXT, REQUEST, in_virtual_time, set_stage
from tests.samples import a_plan, an_environment

PATIENT_UNTIL = 7200.0  # by then every rollout has ended, or never will


@dataclass(frozen=True)
class Outcome:
    """How one schedule ended. Requests are counted as a stream, so they may be fractions."""

    schedule: Schedule
    ending: str
    violations: tuple[str, ...]
    failed_requests: float
    failed_apart: float
    orphans: int
    is_open: bool
    recovered_after: float | None
    befallen: int  # faults that met somebody, of all that the schedule holds


class Play:
    """One schedule on its stage."""

    def __init__(self, schedule: Schedule, folder: Path, tell: Tell = tell_nobody) -> None:
        self.schedule = schedule
        self.kernel = Kernel()
        self.platform = Platform(self.kernel, random.Random(f"world {schedule.seed}"))  # noqa: S311  chance, not secrecy
        self.ledger = Ledger(self.kernel)
        self.plan = set_stage(schedule, self.platform, self.ledger)
        self.company = Company(schedule, self.kernel, self.platform, self.ledger, self.plan, folder, tell)

    def played(self) -> Outcome:
        with in_virtual_time(self.kernel, self.schedule.seed):
            try:
                return self._played()
            finally:
                self.kernel.shut_down()

    def _played(self) -> Outcome:
        kernel, company = self.kernel, self.company
        company.begin()
        fate = Fate(company)
        record = None
        while kernel.now < PATIENT_UNTIL:
            kernel.wait(20.0)
            record = company.record()
            if not company.is_busy and kernel.now > fate.quiet_from and (record is None or record.ended_at):
                break
        fate.is_over = True
        return self._judged(record, fate)

    def _judged(self, record: RolloutRecord | None, fate: Fate) -> Outcome:
        """When nothing moves any more: what is true at once, what is true when nobody is kept warm, and that nothing moves any more."""
        schedule, platform, ledger = self.schedule, self.platform, self.ledger
        company, found, lost = self.company, self.company.violations, 0
        died = any(isinstance(fault, Dies) for fault in schedule.faults)
        company.say("the conductor looks at what has become of it")
        if record is not None:
            found += invariants.ends(record, may_need_a_person=schedule.may_need_a_person)
            if not schedule.faults and record.ending is not EXPECTED[schedule.story]:
                found.append(f"without any fault it ended {record.ending}: {record.message}")
        is_sound = record is not None and record.ending is not None and record.ending is not Ending.NEEDS_HUMAN
        if record is not None and is_sound and not schedule.may_need_a_person:
            company.tidy_up_until_quiet()
            found += invariants.reality(platform, record, died=died)
            if self.kernel.now < HOLD_SECONDS and record.promoted_at and record.blue and not died and not platform.releases[record.blue].up:
                found.append(f"{record.blue} should be warm and is not")
            self.kernel.wait(HOLD_SECONDS + 60)
            company.over = True
            company.tidy_up_until_quiet()
            left = invariants.orphans(platform, record, warm=None)
            lost = len(left)
            found += left
            found += invariants.reality(platform, record, died=died)
            before = self._everything()
            company.tidy_up("conductor")
            company.tidy_up("conductor")
            found += invariants.unchanged(before, self._everything())
            if schedule.seed % 3 == 0:
                found += self._next_release(fate, died=died)
        found += [*platform.violations, *invariants.requests(platform), *invariants.tokens(platform, ledger)]
        found += [*invariants.story(ledger), *invariants.surprises(ledger)]
        return Outcome(
            schedule=schedule,
            ending=record.ending.value if record and record.ending else "open" if record else "not begun",
            violations=tuple(dict.fromkeys(found)),
            failed_requests=platform.users.failed,
            failed_apart=platform.users.apart,
            orphans=lost,
            is_open=record is not None and record.ending is None,
            recovered_after=self._recovered_after(record),
            befallen=fate.befallen,
        )

    def _next_release(self, fate: Fate, *, died: bool) -> list[str]:
        """Whatever has happened, the next good release goes live, and what the last one left for the post-mortem goes."""
        fate.relent()
        self.platform.users.errs_from, self.platform.command, company = None, None, self.company
        blue = self.ledger.live(self.plan.environment.name)
        plan = a_plan(NEXT, blue, self.platform, an_environment(traffic=Traffic((100,), 0, 0, 0)), request=REQUEST + 2)
        try:
            with company.keeper("conductor", "the next release") as keeper:
                rollout = self.ledger.open_rollout(keeper.lease, plan, by="conductor")
                closed = walk_rollout(company.store, keeper, rollout, company.means(), stop=threading.Event())
        except DeliveryError as broken:
            return [f"afterwards: I9: the next release does not go live: {broken.what}"]
        company.say(closed.message)
        self.kernel.wait(1.0)
        company.tidy_up_until_quiet()
        record = self.ledger.rollout(rollout)
        found = [*invariants.reality(self.platform, record, died=died), *invariants.orphans(self.platform, record, warm=None)]
        if closed.ending is not Ending.LIVE:
            found.append(f"I9: the next release does not go live: {closed.message}")
        return [f"afterwards: {sentence}" for sentence in found]

    def _recovered_after(self, record: RolloutRecord | None) -> float | None:
        """Seconds from the walker's death to the end; None when it did not die."""
        left_at = self.company.walker_left_at
        if record is None or record.ended_at is None or left_at is None or not self.company.walker.dead:
            return None
        return max(0.0, (record.ended_at - self.ledger.now()).total_seconds() + self.kernel.now - left_at)

    def _everything(self) -> list[object]:
        events = [entry.hash for record in self.ledger.rollouts() for entry in self.ledger.entries(record.id)]
        return [list(self.platform.acts), dict(self.platform.weights), events]
