"""What befalls those who act, when, and how often it did."""

from collections.abc import Callable

from delivery.errors import DeliveryError, TransientError
from delivery.release import Release
from tests.chaos.simulated.colour import Breakage
from tests.chaos.simulated.company import Company, tell_nobody
from tests.chaos.simulated.kernel import Process
from tests.chaos.simulated.ledger import Outage
from tests.chaos.simulated.schedule import (
    Away,
    Cancel,
    Deaf,
    Dies,
    Duplicate,
    Fails,
    Fault,
    Freeze,
    FreezeLater,
    Hangs,
    Intruder,
    Jump,
    Kill,
    KillLater,
    Silent,
    Unseen,
)
from tests.simulated_target import Killed


class Fate:
    """The faults of one schedule. Until `is_over` it counts those that met somebody."""

    def __init__(self, company: Company) -> None:
        self.befallen = 0
        self.is_over = False
        self._company = company
        self._kernel, self._platform, self._ledger = company.kernel, company.platform, company.ledger
        self._calls: dict[str, int] = {}
        faults = company.schedule.faults
        self._waiting = [fault for fault in faults if isinstance(fault, Kill | Freeze | Hangs)]
        self._fails = [fault for fault in faults if isinstance(fault, Fails)]
        self._platform.moment = self._ledger.moment = self._moment
        self._platform.breaks = self._breaks
        self.quiet_from = max([0.0, *(self._arm(fault) for fault in faults)])

    def relent(self) -> None:
        """No call goes wrong any more."""
        self._fails.clear()

    def _arm(self, fault: Fault) -> float:  # noqa: C901, PLR0911, PLR0912  one arm per fault
        """Prepares what happens at a time; returns the second by which it is over."""

        def at(second: float, act: Callable[[], object]) -> None:
            def happens() -> None:
                self.befallen += not self.is_over
                act()

            self._kernel.at(second, happens)

        match fault:
            case KillLater(process, second):
                at(second, lambda: self._kill(process))
            case Deaf(second, seconds):
                at(second, lambda: setattr(self._platform, "deaf_until", second + seconds))
                return second + seconds
            case Unseen(second, seconds):
                at(second, lambda: setattr(self._platform, "unseen_until", second + seconds))
                return second + seconds
            case Silent(second, seconds):
                at(second, lambda: setattr(self._platform.users, "silent_until", second + seconds))
                return second + seconds
            case Away(second, seconds, commits):
                at(second, lambda: setattr(self._ledger, "outage", Outage(second + seconds, commits)))
                return second + seconds
            case Dies(colour, replicas, second):
                release = self._company.plan.release if colour == "green" else self._company.plan.blue
                if release is not None:
                    at(second, lambda: self._die(release, replicas))
                return second
            case FreezeLater(process, second, seconds, clock_stands):
                at(second, lambda: self._freeze(process, seconds, clock_stands=clock_stands))
                return second + seconds
            case Jump(process, second, seconds):
                at(second, lambda: self._jump(process, seconds))
                return second
            case Cancel(second):
                at(second, self._cancel)
                return second
            case Duplicate(second):
                at(second, self._company.begin_second_run)
                return second + 1
            case Intruder(second):
                at(second, self._company.begin_intruder)
                return second + 1
            case _:
                pass
        return 0.0

    def _moment(self, what: str, when: str) -> None:
        me = self._kernel.current
        me.moments += 1
        if self._company.tell is not tell_nobody:
            self._company.tell(self._kernel.now, me.name, f"{me.moments:3} {when:6} {what}")
        for fault in self._waiting:
            if (fault.process, fault.moment) == (me.number, me.moments):
                self._waiting.remove(fault)
                self._befall(me, fault)
                return

    def _befall(self, me: Process, fault: Kill | Freeze | Hangs) -> None:
        self._company.say(f"*** {fault}")
        self.befallen += 1
        if isinstance(fault, Kill):
            self._company.died(me)
            me.dead = True
            raise Killed
        if isinstance(fault, Hangs):
            self._kernel.wait(fault.seconds)
            return
        me.frozen_until = self._kernel.now + fault.seconds
        if fault.clock_stands:
            me.lag += fault.seconds
        self._kernel.wait(0.0)
        self._company.say("goes on")

    def _kill(self, number: int) -> None:
        process = self._company.processes.get(number)
        if process is not None and not process.ended:
            self._company.tell(self._kernel.now, process.name, "*** is killed")
            self._company.died(process)
            self._kernel.kill(process)

    def _die(self, release: Release, replicas: int) -> None:
        self._company.tell(self._kernel.now, "platform", f"*** {replicas} replica(s) of {release.id} die")
        self._platform.die(release.id, replicas)

    def _freeze(self, number: int, seconds: float, *, clock_stands: bool) -> None:
        if (process := self._company.processes.get(number)) and not process.ended:
            self._company.tell(self._kernel.now, process.name, "*** is frozen")
            process.frozen_until = self._kernel.now + seconds
            process.lag += seconds * clock_stands

    def _jump(self, number: int, seconds: float) -> None:
        if process := self._company.processes.get(number):
            process.lag -= seconds

    def _cancel(self) -> None:
        walker = self._company.walker
        self._company.tell(self._kernel.now, walker.name, "*** is cancelled")
        self._kernel.signal(walker, self._company.stop)

    def _breaks(self, verb: str) -> Breakage | None:
        call = self._calls[verb] = self._calls.get(verb, 0) + 1
        for fault in self._fails:
            if fault.verb == verb and fault.call <= call and (fault.times is None or call < fault.call + fault.times):
                self._company.say(f"*** call {call} of {verb} goes wrong ({fault.how})")
                self.befallen += call == fault.call
                kind = DeliveryError if fault.times is None else TransientError
                return Breakage(fault.how, kind(f"{verb} did not work.", next="try again."))
        return None
