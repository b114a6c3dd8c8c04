"""Who acts: the walker, the stewards, a second run of the same request, an intruder; each a process of its own."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

from delivery.errors import DeliveryError, EnvironmentBusy, StaleFence
from delivery.journal import Progress
from delivery.plan import Plan
from delivery.ports import JournalStore
from delivery.record import RolloutRecord
from tasks.rollout import Means, retire_warm, turn_back_abandoned, users_are_back, walk_rollout
from tests.chaos.simulated.keeper import ProcessClock, VirtualKeeper
from tests.chaos.simulated.kernel import Kernel, Process
from tests.chaos.simulated.ledger import Ledger
from tests.chaos.simulated.platform import Platform
from tests.chaos.simulated.schedule import DUPLICATE, INTRUDER, WALKER, Away, Hangs, Schedule, Steward, Story
from tests.chaos.simulated.stage import NEXT, REQUEST, TTL
from tests.samples import a_plan

RESTART_SECONDS = 5.0
ROUNDS = 150  # until even what fails a hundred times has been done
Tell = Callable[[float, str, str], None]


def tell_nobody(_at: float, _who: str, _what: str) -> None:
    """In the great run nobody listens."""


class Company:
    """Everybody who acts in one schedule. `violations` takes what only they can notice."""

    def __init__(
        self, schedule: Schedule, kernel: Kernel, platform: Platform, ledger: Ledger, plan: Plan, folder: Path, tell: Tell
    ) -> None:
        self.schedule, self.kernel, self.platform, self.ledger, self.plan = schedule, kernel, platform, ledger, plan
        self.store = cast("JournalStore", ledger)  # the part of it that rollouts lean on
        self.stop = threading.Event()
        self.over = False
        self.violations: list[str] = []
        self.processes: dict[int, Process] = {}
        self.walker_left_at: float | None = None
        self.tell = tell
        self._folder = folder
        self._environment = plan.environment.name

    @property
    def walker(self) -> Process:
        return self.processes[WALKER]

    @property
    def is_busy(self) -> bool:
        """Whether anybody is at work who is not there all the time."""
        return any(not process.ended for number, process in self.processes.items() if number in (WALKER, DUPLICATE, INTRUDER))

    def begin(self) -> None:
        self._start("walker", WALKER, self._walk)
        for number, steward in enumerate(self.schedule.stewards, start=1):
            self._start(f"steward {number}", number, partial(self._look_after, number, steward, steward.first))

    def begin_second_run(self) -> None:
        self._start("second run", DUPLICATE, self._walk)

    def begin_intruder(self) -> None:
        self._start("intruder", INTRUDER, self._intrude)

    def died(self, process: Process) -> None:
        """A steward that died is started again by whoever supervises it."""
        if process.number == WALKER:
            self.walker_left_at = self.kernel.now
        if 0 < process.number <= len(self.schedule.stewards):
            steward = self.schedule.stewards[process.number - 1]
            body = partial(self._look_after, process.number, steward, 0.0)
            self.kernel.after(RESTART_SECONDS, lambda: self._start(process.name, process.number, body))

    def record(self) -> RolloutRecord | None:
        """The rollout that this is all about, once it is open."""
        number = 1 + (not self.schedule.first_release) + (self.schedule.story is Story.ROLLBACK)
        return self.ledger.known(f"{self._environment}-{number}")

    def say(self, what: str) -> None:
        self.tell(self.kernel.now, self.kernel.current.name, what)

    def means(self) -> Means:
        return Means(self.platform, self.platform.users, self._folder, clock=ProcessClock(self.kernel, self.kernel.current))

    def keeper(self, holder: str, purpose: str) -> VirtualKeeper:
        return VirtualKeeper(self.kernel, self.store, self._environment, holder=holder, purpose=purpose, ttl=TTL)

    def tidy_up(self, holder: str) -> bool:
        """What the steward does, and each rollout before it begins. True when there was nothing to do and nothing in the way."""
        told: list[str] = []
        try:
            ended = turn_back_abandoned(self.store, lambda _: self.means(), holder=holder, ttl=TTL)
            told += [f"has finished what was abandoned: {closed.message}" for closed in ended]
            now, name = self.ledger.now(), self._environment
            told += retire_warm(self.store, self.platform, name, now=now, holder=holder, ttl=TTL)
        except DeliveryError as broken:
            told.append(f"could not tidy up: {broken.what}")
        for sentence in told:
            self.say(sentence)
        return not told and not self.ledger.is_held()

    def tidy_up_until_quiet(self) -> None:
        for _ in range(ROUNDS):
            if self.tidy_up("conductor"):
                return
            self.kernel.wait(TTL.total_seconds() + 1)
        self.violations.append(f"I9: after {ROUNDS} rounds there is still something to tidy up")

    # their bodies

    def _walk(self) -> None:
        """What `flows.rollout.run_rollout` does, without telling anybody."""
        me = self.kernel.current
        if me.number == WALKER:
            self._walked(me, self.plan, self.stop)
            self.walker_left_at = self.kernel.now
        else:
            self._walked(me, self.plan, threading.Event())

    def _intrude(self) -> None:
        """Another release while this one is under way. When nothing is, it finds that the world is not the one it was approved for."""
        me, plan = self.kernel.current, a_plan(NEXT, self.plan.blue, self.platform, self.plan.environment, request=REQUEST + 1)
        record = self.record()
        if record is None or record.ended_at:
            return
        try:
            with self.keeper(me.name, f"rollout of {plan.release.version.tag}") as keeper:
                self.ledger.open_rollout(keeper.lease, plan, by=me.name)
                self.violations.append("a second rollout of the environment was opened beside the first")
        except DeliveryError as refused:
            self.say(f"is refused: {refused.what}")

    def _walked(self, me: Process, plan: Plan, stop: threading.Event) -> None:
        def leave(progress: Progress) -> bool:
            return self.schedule.is_hurried and stop.is_set() and users_are_back(progress)

        try:
            self.tidy_up(me.name)
            done = self.record()
            if done is not None and done.ended_at:
                self.say(f"finds the rollout closed: {done.ending}")
                return
            with self.keeper(me.name, f"rollout of {plan.release.version.tag}") as keeper:
                rollout = self.ledger.open_rollout(keeper.lease, plan, by=me.name)
                closed = walk_rollout(self.store, keeper, rollout, self.means(), stop=stop, leave=leave)
            self.say(closed.message)
        except EnvironmentBusy as busy:
            self.say(f"is refused: {busy.what}")
        except StaleFence as stale:
            self.say(f"stops: {stale.what}")
            if not self._was_disturbed(me):
                self.violations.append(f"the lease of {me.name} was taken away while it lived and renewed it: {stale.what}")
        except DeliveryError as broken:
            self.say(f"gives up: {broken}")

    def _was_disturbed(self, me: Process) -> bool:
        """Whether something befell it that may cost a process its lease."""
        late = any(isinstance(fault, Hangs) and fault.moment <= 2 for fault in self.schedule.faults)  # it did not know yet that it had one
        return me.frozen_until > 0 or late or any(isinstance(fault, Away) for fault in self.schedule.faults)

    def _look_after(self, number: int, steward: Steward, first: float) -> None:
        wait = first
        while not self.over:
            self.kernel.wait(wait)
            wait = steward.period
            self.tidy_up(f"steward {number}")

    def _start(self, name: str, number: int, body: Callable[[], None]) -> None:
        self.processes[number] = self.kernel.start(name, number, body)
