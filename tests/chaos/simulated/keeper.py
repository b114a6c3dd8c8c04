"""The lease keeper of the product, with its thread and its clock in virtual time."""

from collections.abc import Callable
from datetime import timedelta
from types import TracebackType

from delivery.ports import JournalStore
from tasks.lease import LeaseKeeper
from tests.chaos.simulated.kernel import Kernel, Process
from tests.simulated_target import Killed


class ProcessClock:
    """Time as one process sees it."""

    def __init__(self, kernel: Kernel, process: Process) -> None:
        self._kernel = kernel
        self._process = process

    def now(self) -> float:
        return self._kernel.now - self._process.lag

    def wait(self, seconds: float, stop: object = None) -> bool:
        return self._kernel.wait(seconds, stop)  # type: ignore[arg-type]  # the protocol's threading.Event


class VirtualKeeper(LeaseKeeper):
    """A process that is killed gives nothing up; one that is frozen renews nothing."""

    def __init__(self, kernel: Kernel, store: JournalStore, environment: str, *, holder: str, purpose: str, ttl: timedelta) -> None:
        process = kernel.current
        super().__init__(store, environment, holder=holder, purpose=purpose, ttl=ttl, clock=ProcessClock(kernel, process).now)
        left = self._leaving.is_set
        self._thread = _Renewals(kernel, process, self, ttl.total_seconds() / 3, left)  # type: ignore[assignment]  # start and join, as a thread

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and issubclass(kind, Killed):
            self._leaving.set()
            return
        super().__exit__(kind, error, trace)


class _Renewals:
    """What the keeper's thread does, at the times at which it would."""

    def __init__(self, kernel: Kernel, process: Process, keeper: LeaseKeeper, every: float, left: Callable[[], bool]) -> None:
        self._kernel, self._process, self._keeper, self._every, self._left = kernel, process, keeper, every, left

    def start(self) -> None:
        self._kernel.after(self._every, self._tick)

    def join(self, timeout: float) -> None:
        """It waits for nothing, so there is nothing to wait for."""

    def _tick(self) -> None:
        if self._left() or self._process.dead or self._keeper.lost.is_set():
            return
        if self._process.frozen_until > self._kernel.now:
            self._kernel.at(self._process.frozen_until, self._tick)
            return
        self._keeper.renew()
        self._kernel.after(self._every, self._tick)
