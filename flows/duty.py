"""What a resident process looks after, each thing in a thread of its own, so that one that hangs keeps no other waiting."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextvars import copy_context

from delivery.errors import DeliveryError

log = logging.getLogger("greenroom.steward")

LONGEST_PAUSE_SECONDS = 10.0
# How long one act may take before people are told that it hangs.
WEDGED_SECONDS = 300.0


def pause_after(failures: int) -> float:
    """Seconds until something that failed is tried again: 1, 2, 4, 8, then 10."""
    return min(LONGEST_PAUSE_SECONDS, 2.0 ** (failures - 1))


class Duty:
    """`act` does what is to be done and returns a sentence per thing done; it is begun every `every` seconds, never twice at once.

    One that fails says so once, and is tried again after a pause that doubles up to ten seconds.
    """

    def __init__(self, name: str, act: Callable[[], Iterable[str]], *, every: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.failures = 0
        self._act = act
        self._every = every
        self._clock = clock
        self._due = 0.0
        self._began = 0.0
        self._complaint = ""
        self._is_called_wedged = False
        self._thread: threading.Thread | None = None

    def look(self, *, urgent: bool) -> None:
        """Begins it when it is due; what is `urgent` waits only for the pause after a failure."""
        if self._thread is not None and self._thread.is_alive():
            self._look_whether_wedged()
        elif self._clock() >= self._due or (urgent and not self.failures):
            self._began, self._is_called_wedged = self._clock(), False
            # In the caller's context, which may say which Prefect server it is.
            self._thread = threading.Thread(target=copy_context().run, args=(self.do,), name=f"steward {self.name}", daemon=True)
            self._thread.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Waits for what is under way; False when it still is after `seconds`."""
        if self._thread is None:
            return True
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def do(self) -> None:
        """Does it once, here and now, and raises nothing. A foreign error is told by its type alone, since its text may hold a secret."""
        try:
            for sentence in self._act():
                log.info("%s: %s", self.name, sentence)
        except DeliveryError as broken:
            self._failed(str(broken))
        except Exception as broken:  # one duty's surprise must not end the process that looks after the others
            log.debug("%s broke", self.name, exc_info=True)
            self._failed(f"it broke in a way nobody foresaw ({type(broken).__name__}).")
        else:
            if self.failures:
                log.info("%s: it works again", self.name)
            self.failures, self._complaint = 0, ""
            self._due = self._clock() + self._every

    def _failed(self, sentence: str) -> None:
        if sentence != self._complaint:  # said once, not every few seconds
            log.warning("%s: %s", self.name, sentence)
        self.failures, self._complaint = self.failures + 1, sentence
        self._due = self._clock() + min(self._every, pause_after(self.failures))

    def _look_whether_wedged(self) -> None:
        seconds = self._clock() - self._began
        if seconds > WEDGED_SECONDS and not self._is_called_wedged:
            self._is_called_wedged = True
            log.warning("%s has been at work for %.0f s; it keeps only itself waiting", self.name, seconds)
