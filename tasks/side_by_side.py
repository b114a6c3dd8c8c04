"""Several acts at once, all of their outcomes, and no act left working when the run is cancelled."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from tasks.shell import tools_stop_with

R = TypeVar("R")


def side_by_side(acts: Sequence[Callable[[], R]], *, at_once: int) -> list[R | Exception]:
    """Calls every act, at most `at_once` together, and returns in the same order what each returned or raised.

    Each act runs in a copy of this thread's context, so that inside a Prefect run a task that it calls belongs to that run. When this
    thread is interrupted, the tools that the acts have started are ended and acts that have not begun do not begin.
    """
    stop = threading.Event()
    with tools_stop_with(stop), ThreadPoolExecutor(max_workers=max(1, at_once)) as threads:
        futures: list[Future[R | Exception]] = [threads.submit(copy_context().run, _outcome, act) for act in acts]
        try:
            return [future.result() for future in futures]
        except BaseException:
            stop.set()
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def first_failure(outcomes: Sequence[R | Exception]) -> list[R]:
    """The results when every act returned; raises what the first failing one raised."""
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, Exception)]


def _outcome(act: Callable[[], R]) -> R | Exception:
    try:
        return act()
    except Exception as error:  # noqa: BLE001  every outcome is wanted, and the caller raises what matters
        return error
