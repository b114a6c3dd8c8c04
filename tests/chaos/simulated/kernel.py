"""Virtual time in which several processes live side by side, exactly one of them running at any moment.

Each process is a thread that waits for a baton. It passes it on only where a real process could be overtaken: while it waits for something.
Who goes next follows from the times alone, so a schedule plays the same way every time. Nothing here knows what a rollout is.
"""

import heapq
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulated_target import Killed

# A thread that does not come back within this time of the machine's own clock is a fault of the harness, not of what it proves.
STUCK_SECONDS = 60.0


@dataclass
class Process:
    """One operating-system process: it can die, and it can be frozen while time goes on. `lag` is by how much its clock is behind."""

    name: str
    number: int
    moments: int = 0
    dead: bool = False
    ended: bool = False
    frozen_until: float = 0.0
    lag: float = 0.0
    mishap: str = ""  # what goes wrong within the verb that it is carrying out: "half" or "lost"
    turn: int = 0
    waits_on: threading.Event | None = None
    baton: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.baton.acquire()


class Kernel:
    """The clock, the queue of what comes next, and the baton."""

    def __init__(self) -> None:
        self.now = 0.0
        self.current = Process("conductor", -1)
        self.is_calling_back = False
        self.broken: BaseException | None = None
        self._queue: list[tuple[float, int, Process | Callable[[], None], int]] = []
        self._order = itertools.count()
        self._living: list[tuple[Process, threading.Thread]] = []

    def at(self, second: float, act: Callable[[], None]) -> None:
        """Has something done at a time, by nobody in particular: it may not wait."""
        heapq.heappush(self._queue, (max(second, self.now), next(self._order), act, 0))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.at(self.now + seconds, act)

    def start(self, name: str, number: int, body: Callable[[], None]) -> Process:
        """A new process that begins now; `Killed` ends it as SIGKILL would."""
        process = Process(name, number)

        def run() -> None:
            process.baton.acquire()
            try:
                if not process.dead:
                    body()
            except Killed:
                pass
            except BaseException as broken:  # noqa: BLE001  whatever it is, the conductor raises it
                self.broken = broken
            process.ended = True
            self._until_turn_of(None)

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._living.append((process, thread))
        thread.start()
        self._wake(process, self.now)
        return process

    def wait(self, seconds: float, stop: threading.Event | None = None) -> bool:
        """Waits as the current process; True when `stop` was set meanwhile. A process that was killed or frozen learns it here."""
        me = self.current
        if stop is not None and stop.is_set():
            return True
        until = self.now + max(0.0, seconds)
        while True:
            if not self._queue or self._queue[0][0] > until:
                self.now = until
            else:
                me.waits_on = stop
                self._wake(me, until)
                self._until_turn_of(me)
                me.waits_on = None
            if me.dead:
                raise Killed
            if me.frozen_until <= self.now:
                return stop is not None and stop.is_set()
            until = me.frozen_until

    def kill(self, process: Process) -> None:
        """SIGKILL from outside."""
        if not process.ended and not process.dead:
            process.dead = True
            self._wake(process, self.now)

    def signal(self, process: Process, stop: threading.Event) -> None:
        """Sets an event that a process may be waiting for."""
        stop.set()
        if process.waits_on is stop and process.frozen_until <= self.now:
            self._wake(process, self.now)

    def shut_down(self) -> None:
        """Ends every process. Raises what broke one of them."""
        for process, _ in self._living:
            self.kill(process)
        while any(not process.ended for process, _ in self._living):
            self.wait(0.0)
        for _, thread in self._living:
            thread.join(STUCK_SECONDS)
        if self.broken is not None:
            raise self.broken

    def _wake(self, process: Process, when: float) -> None:
        process.turn += 1  # earlier appointments count no more
        heapq.heappush(self._queue, (when, next(self._order), process, process.turn))

    def _until_turn_of(self, me: Process | None) -> None:
        """Lets everything happen that is due before `me` is; with None, gives the baton away for good."""
        while True:
            when, _, due, turn = heapq.heappop(self._queue)
            if not isinstance(due, Process):
                self.now = max(self.now, when)
                self._call(due)
                continue
            if due.ended or due.turn != turn:
                continue
            self.now, self.current = max(self.now, when), due
            if due is not me:
                due.baton.release()
                if me is not None and not me.baton.acquire(timeout=STUCK_SECONDS):
                    raise RuntimeError(f"{me.name} never got its turn back")
            return

    def _call(self, act: Callable[[], None]) -> None:
        self.is_calling_back = True
        try:
            act()
        except Exception as broken:  # noqa: BLE001  it would end whichever process happens to run
            self.broken = self.broken or broken
        finally:
            self.is_calling_back = False
