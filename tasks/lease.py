"""The right to act on one environment, kept for as long as somebody walks."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self

from delivery.errors import DeliveryError, StaleFence
from delivery.ports import JournalStore, Token
from delivery.record import Lease

log = logging.getLogger("greenroom.lease")

LOST = "The lease on {environment} was lost."
LOST_NEXT = "look at `greenroom status`: another holder goes on from the journal."


class LeaseKeeper:
    """Holds an environment's lease while the `with` block runs: a daemon thread renews it every third of `ttl`.

    `lost` is set when the lease went to somebody else, or when it could not be renewed for so long that it may have. That is judged by
    this machine's steady clock, counted from before the last successful request, less a tenth of `ttl` for what a clock may drift;
    the database's clock decides in the end. Entering raises `EnvironmentBusy`.
    """

    def __init__(
        self,
        store: JournalStore,
        environment: str,
        *,
        holder: str,
        purpose: str,
        ttl: timedelta,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lost = threading.Event()
        self._store = store
        self._environment = environment
        self._holder = holder
        self._purpose = purpose
        self._ttl = ttl
        self._clock = clock
        self._lease: Lease | None = None
        self._held_until = 0.0
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_left, name=f"lease-{environment}", daemon=True)

    def __enter__(self) -> Self:
        asked_at = self._clock()
        self._lease = self._store.acquire(self._environment, holder=self._holder, purpose=self._purpose, ttl=self._ttl)
        self._prolong(asked_at)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leaving.set()
        self._thread.join(timeout=self._ttl.total_seconds())
        if self.lost.is_set():
            return
        try:
            self._store.give_up(self.lease)
        except DeliveryError as broken:
            log.warning("The lease on %s could not be given up and will expire: %s", self._environment, broken)

    @property
    def lease(self) -> Lease:
        """The lease as it was last renewed; its fence stays the same as long as it is held."""
        if self._lease is None:
            raise DeliveryError(f"The lease on {self._environment} is not held.", next="enter the keeper's `with` block first.")
        return self._lease

    def token(self, rollout: str) -> Token:
        return Token(environment=self._environment, rollout=rollout, fence=self.lease.fence)

    def ensure(self, outlasts: float = 0.0) -> None:
        """Raises `StaleFence` when the lease is lost, or when it cannot be made to last for another `outlasts` seconds."""
        if self._clock() + outlasts >= self._held_until and not self.lost.is_set():
            self.renew()
        if self.lost.is_set() or self._clock() + outlasts >= self._held_until:
            raise StaleFence(LOST.format(environment=self._environment), next=LOST_NEXT)

    def renew(self) -> None:
        """One renewal. A failing one is tried again by the next; past the expiry the lease counts as lost."""
        asked_at = self._clock()
        try:
            self._lease = self._store.renew(self.lease, ttl=self._ttl)
        except StaleFence:
            log.warning("The lease on %s went to somebody else", self._environment)
            self.lost.set()
        except Exception as broken:  # noqa: BLE001  whatever breaks here, the thread must go on trying until the expiry
            log.warning("The lease on %s could not be renewed: %s", self._environment, _named(broken))
            if self._clock() >= self._held_until:
                self.lost.set()
        else:
            if asked_at >= self._held_until:
                log.warning("The lease on %s was renewed late; nobody had taken it", self._environment)
            self._prolong(asked_at)

    def _prolong(self, asked_at: float) -> None:
        self._held_until = asked_at + 0.9 * self._ttl.total_seconds()

    def _renew_until_left(self) -> None:
        while not self.lost.is_set() and not self._leaving.wait(self._ttl.total_seconds() / 3):
            self.renew()


def _named(broken: Exception) -> str:
    """A foreign error is told by its type alone, since its text may hold a connection string."""
    return str(broken) if isinstance(broken, DeliveryError) else type(broken).__name__
