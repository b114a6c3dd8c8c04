"""Three named ways of trying again, and nothing but `TransientError` is tried again.

The same numbers serve a Prefect task (`options`) and plain Python (`call`); `retried` makes a function that takes whichever fits:
inside a Prefect run it is a task of its own, anywhere else (command line, steward, tests) it is the plain function.
"""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, update_wrapper, wraps
from typing import Any, Generic, ParamSpec, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, stop_after_delay, stop_any
from tenacity.wait import wait_base, wait_random

from delivery.errors import DeliveryError, TransientError
from delivery.redaction import harmless

log = logging.getLogger("greenroom.retry")

P = ParamSpec("P")
R = TypeVar("R")

# Share of a delay that chance adds, so that many who failed together do not come back together.
JITTER = 0.25


@dataclass(frozen=True)
class RetryPolicy:
    """`attempts` tries in all; the pause doubles from `first_delay` up to `max_delay`, plus up to a quarter of it by chance."""

    name: str
    attempts: int
    first_delay: timedelta
    max_delay: timedelta

    @property
    def delays(self) -> tuple[float, ...]:
        """The pauses between the tries in seconds, without what chance adds: one fewer than there are tries."""
        first, longest = self.first_delay.total_seconds(), self.max_delay.total_seconds()
        return tuple(min(first * 2**number, longest) for number in range(self.attempts - 1))

    def options(self) -> dict[str, Any]:
        """The arguments that make Prefect's `@task` follow this policy."""
        if self.attempts == 1:
            # Without retries Prefect logs a traceback that is not there ("NoneType: None") for each failure that is a state.
            return {"retries": 1, "retry_condition_fn": never}
        return {
            "retries": self.attempts - 1,
            "retry_delay_seconds": list(self.delays),
            "retry_jitter_factor": JITTER,
            "retry_condition_fn": is_transient,
        }

    def call(self, function: Callable[[], R], *, within: timedelta | None = None, pause: Callable[[float], None] = time.sleep) -> R:
        """Calls `function` until it returns; the last `TransientError` is raised when the tries, or the time `within`, are used up.

        Every further try is a visible line. `pause` waits between tries (an event's `wait` makes that interruptible).
        """
        enough = stop_after_attempt(self.attempts)
        retrying = Retrying(
            stop=enough if within is None else stop_any(enough, stop_after_delay(within.total_seconds())),
            wait=_Pauses(self.delays),
            retry=retry_if_exception_type(TransientError),
            before_sleep=self._tell,
            sleep=pause,
            reraise=True,
        )
        return retrying(function)

    def _tell(self, attempt: RetryCallState) -> None:
        wait = attempt.next_action.sleep if attempt.next_action else 0.0
        why = attempt.outcome.exception() if attempt.outcome else None
        log.warning("try %d of %d failed, again in %.1f s: %s", attempt.attempt_number, self.attempts, wait, why)


class _Pauses(wait_base):
    def __init__(self, delays: Sequence[float]) -> None:
        self._delays = delays

    def __call__(self, retry_state: RetryCallState) -> float:
        if not self._delays:
            return 0.0  # tenacity asks even when there is no further try
        delay = self._delays[min(retry_state.attempt_number, len(self._delays)) - 1]
        return delay + wait_random(0, JITTER * delay)(retry_state)


# For steps that change the world: their verbs state levels, so a second try is harmless, but users may be waiting.
QUICK = RetryPolicy("quick", attempts=3, first_delay=timedelta(seconds=0.2), max_delay=timedelta(seconds=1))
# For what crosses a network: registries, Git hosts, platforms' APIs.
NETWORK = RetryPolicy("network", attempts=5, first_delay=timedelta(seconds=0.5), max_delay=timedelta(seconds=10))
# For what is known to need minutes: package indexes, platforms that roll something out.
PATIENT = RetryPolicy("patient", attempts=8, first_delay=timedelta(seconds=2), max_delay=timedelta(seconds=60))
# The way back, and what only tidies up, are tried for as long as their deadline allows: users or people wait for them.
UNTIL_DEADLINE = RetryPolicy("until its deadline", attempts=200, first_delay=timedelta(seconds=0.1), max_delay=timedelta(seconds=2))
# For acts whose failure is an answer, not an accident: checks, builds, end-to-end tests.
ONCE = RetryPolicy("once", attempts=1, first_delay=timedelta(0), max_delay=timedelta(0))


def is_transient(_task: Any, _task_run: Any, state: Any) -> bool:
    """Prefect's `retry_condition_fn`: tells whether the state of a failed try carries a `TransientError`."""
    return isinstance(state.data, TransientError)


def never(_task: Any, _task_run: Any, _state: Any) -> bool:
    """Prefect's `retry_condition_fn` for acts whose failure is an answer."""
    return False


class Retried(Generic[P, R]):
    """A function that is a Prefect task inside a Prefect run and itself elsewhere, with one retry policy for both.

    Call it; do not call its `task`, whose failures come back as states: a refusal is then one sentence in the UI and no traceback.
    """

    def __init__(self, plain: Callable[P, R], policy: RetryPolicy, *, name: str, run_name: str | None) -> None:
        self.plain = plain
        self.policy = policy
        self._name = name
        self._run_name = run_name
        update_wrapper(self, plain)

    @cached_property
    def task(self) -> Any:
        """The Prefect task. Made when first needed, since importing Prefect takes seconds that a terminal does not have."""
        from prefect import task  # noqa: PLC0415
        from prefect.cache_policies import NO_CACHE  # noqa: PLC0415
        from prefect.states import Failed  # noqa: PLC0415

        @wraps(self.plain)
        def act(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                return self.plain(*args, **kwargs)
            except DeliveryError as error:
                return Failed(message=str(error), data=error)
            except Exception as error:
                if (stand_in := harmless(error)) is error:
                    raise
                raise stand_in from None

        options: dict[str, Any] = {"name": self._name, "task_run_name": self._run_name, "cache_policy": NO_CACHE, "persist_result": False}
        return task(**options, **self.policy.options())(act)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if not in_prefect_run():
            return self.policy.call(lambda: self.plain(*args, **kwargs))
        from prefect.client.schemas.objects import State  # noqa: PLC0415

        outcome = self.task(*args, **kwargs)
        if isinstance(outcome, State):
            failed: Any = outcome.data
            error: DeliveryError = getattr(failed, "result", failed)
            raise error
        result: R = outcome
        return result


def retried(policy: RetryPolicy, *, name: str, run_name: str | None = None) -> Callable[[Callable[P, R]], Retried[P, R]]:
    """Decorates an act with its policy. `run_name` is a template over the act's own parameters, for instance `check {name}`."""

    def decorate(plain: Callable[P, R]) -> Retried[P, R]:
        return Retried(plain, policy, name=name, run_name=run_name)

    return decorate


def in_prefect_run() -> bool:
    """Tells whether this code runs inside a flow run or task run; never imports Prefect to find out."""
    if "prefect.context" not in sys.modules:
        return False
    from prefect.context import FlowRunContext, TaskRunContext  # noqa: PLC0415

    return FlowRunContext.get() is not None or TaskRunContext.get() is not None
