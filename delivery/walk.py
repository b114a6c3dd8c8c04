"""The one loop that every rollout is: forward and back, under Prefect, the command line, the steward and the simulation."""

import logging
from collections.abc import Callable
from typing import Protocol

from delivery.errors import DeliveryError, LeftOpen, StaleFence, TransientError
from delivery.journal import CANCELLED, Closed, Evidence, Journal, Progress
from delivery.plan import Step

log = logging.getLogger("greenroom.walk")

Act = Callable[[Step], Evidence]


class Stop(Protocol):
    """Set from outside (a cancelled run, a lost lease); `threading.Event` is one."""

    def is_set(self) -> bool: ...


def to_the_end(_: Progress) -> bool:
    """The default for `leave`."""
    return False


def walk(journal: Journal, act: Act, stop: Stop, *, lost: Stop, leave: Callable[[Progress], bool] = to_the_end) -> Closed:
    """Walks a rollout to its end and returns how it ended.

    `stop` turns a rollout back that is not yet promoted, and is not asked on the way back. `lost` means that the lease is gone:
    nothing more is written or done, `StaleFence` is raised, and whoever holds the lease now goes on from the journal. `leave` is asked
    before each step: where it says so the rest is left to somebody else, and `LeftOpen` is raised.
    """
    while step := journal.next_step():
        if lost.is_set():
            raise StaleFence("The lease on the environment was lost.", next="look at `greenroom status`: another holder goes on.")
        if stop.is_set() and journal.progress.is_turnable and not journal.progress.turned_back:
            journal.turn_back(CANCELLED)
            continue
        if leave(journal.progress):
            raise LeftOpen(f"The rollout was left before {step.name}.", next="nothing: whoever looks after abandoned rollouts ends it.")
        journal.started(step)
        _report(journal, act, step, _evidence_of(act, step))
    return journal.close()


def _report(journal: Journal, act: Act, step: Step, evidence: Evidence) -> None:
    """Writes down what a step found. When it found green sick and the journal is away, users do not wait for the journal: blue gets them
    back first, by the act that every recovery would begin with. See docs/adr/0006: only ever back, and only on a lease that still holds.
    """
    try:
        journal.finished(step, evidence)
    except TransientError as away:
        progress = journal.progress
        if evidence.well or not progress.is_turnable or progress.turned_back or not progress.has_moved_users:
            raise
        log.warning("%s: %s The journal cannot be told (%s), so users go back before it is.", step.name, evidence.summary, away.what)
        _evidence_of(act, progress.plan.back[0])
        journal.look_again()
        if step.name not in journal.progress.finished:
            journal.finished(step, evidence)


def _evidence_of(act: Act, step: Step) -> Evidence:
    """What the act found; an act that breaks has found that, since a rollout must end whatever its steps raise."""
    try:
        return act(step)
    except StaleFence:
        raise
    except DeliveryError as broken:
        log.warning("%s: %s", step.name, broken)
        return Evidence(well=False, summary=f"{step.name} failed: {broken.what}", facts={"next": broken.next})
    except Exception as broken:
        log.exception("%s broke in a way nobody foresaw", step.name)
        return Evidence(well=False, summary=f"{step.name} broke unexpectedly ({type(broken).__name__})")
