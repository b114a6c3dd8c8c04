"""What every step of a rollout has at hand: the plan, the platform, the right to act, and a way to be told to stop."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from delivery.calibration import Calibration
from delivery.downgrade import Known
from delivery.journal import CANCELLED as CANCELLED_SENTENCE
from delivery.journal import Evidence
from delivery.plan import Plan, Step
from delivery.ports import MetricSource, Target, Token

log = logging.getLogger("greenroom.rollout")

CANCELLED = Evidence(well=False, summary=CANCELLED_SENTENCE)


class Clock(Protocol):
    """Time as the steps see it, so that tests let hours pass in no time."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def wait(self, seconds: float, stop: threading.Event | None = None) -> bool:
        """Waits; True at once when `stop` is set, False when the time is over."""
        ...


class SteadyClock:
    """The machine's own monotonic clock."""

    def now(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float, stop: threading.Event | None = None) -> bool:
        return (stop or threading.Event()).wait(max(0.0, seconds))


def _as_far_as_known() -> bool:
    """The default for `users_were_moved`: whoever does not know assumes that they were."""
    return True


def nothing_to_trust() -> None:
    """The default for `require_trust`: the environment asks for none."""


def tell_nobody(_: str) -> None:
    """The default for progress: the journal remembers anyway."""


@dataclass(frozen=True)
class Scene:
    """`ensure` raises `StaleFence` when the right to act is gone; `stop` is set when somebody cancels; `folder` takes logs and reports,
    `backups` what is kept of the database; `earlier` is what the steps before found, in their order; `calibrations` what is known of
    blue's noise; `require_trust` raises when the release is not, or no longer, what may go live; `known` is what the journal tells of
    taking its migrations back.
    """

    plan: Plan
    target: Target
    metrics: MetricSource | None
    token: Token
    ensure: Callable[[], None]
    stop: threading.Event
    folder: Path
    on_progress: Callable[[str], None] = tell_nobody
    users_were_moved: Callable[[], bool] = _as_far_as_known
    earlier: Callable[[], Sequence[Evidence]] = tuple
    calibrations: Sequence[Calibration] = ()
    clock: Clock = field(default_factory=SteadyClock)
    require_trust: Callable[[], None] = nothing_to_trust
    backups: Path | None = None
    known: Callable[[], Known] = Known

    def is_way_back(self, step: Step) -> bool:
        """A step that a cancelled rollout still has to do."""
        return step in self.plan.back

    def tell(self, text: str) -> None:
        """Shows how a step gets on to whoever looks."""
        tell(self.on_progress, text)


def tell(listener: Callable[[str], None], text: str) -> None:
    """Shows progress. A viewer that breaks never touches the rollout."""
    try:
        listener(text)
    except Exception:
        log.debug("Progress could not be shown", exc_info=True)
