"""Walking a rollout: forward, back, and onward from where somebody else left off.

The walk itself is `delivery.walk`; here it meets a real target, a lease and a retry policy. Under Prefect each step is a task of its
own, everywhere else (command line, steward, simulation) a plain call with the very same numbers.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from delivery.calibration import Calibration
from delivery.downgrade import Known
from delivery.errors import DeliveryError, EnvironmentBusy, LeftOpen, StaleFence
from delivery.journal import Closed, Ending, Evidence, Journal, Opened, Progress
from delivery.plan import Plan, Step, StepKind
from delivery.ports import JournalStore, MetricSource, Target
from delivery.record import RolloutRecord
from delivery.redaction import harmless
from delivery.release import Release
from delivery.walk import Act, to_the_end, walk
from delivery.way_back import known_of
from tasks.acts import perform_once
from tasks.lease import LeaseKeeper
from tasks.retry import NETWORK, ONCE, QUICK, RetryPolicy
from tasks.scene import CANCELLED, Clock, Scene, SteadyClock, nothing_to_trust, tell, tell_nobody

log = logging.getLogger("greenroom.rollout")

TURNED_BACK = (Ending.ROLLED_BACK, Ending.UNTOUCHED)
REMEMBERED_ROLLOUTS = 20  # how far back remains of failed rollouts are looked for


def policy_of(kind: StepKind) -> RetryPolicy:
    """How a step is tried again. Steps that wait, or that try again by themselves until their deadline, are done once."""
    match kind:
        case StepKind.PREPARE | StepKind.BACKUP:
            return NETWORK
        case StepKind.MIGRATE | StepKind.LAUNCH | StepKind.SMOKE | StepKind.SHIFT | StepKind.PROMOTE:
            return QUICK
        case StepKind.CHECK:
            return NETWORK
        case _:
            return ONCE


def perform(step: Step, scene: Scene) -> Evidence:
    """A step with its retries: transient errors only, within the step's deadline, the lease looked at before each try."""
    tried = False

    def attempt() -> Evidence:
        nonlocal tried
        if tried and scene.stop.is_set() and not scene.is_way_back(step):
            return CANCELLED
        tried = True
        return perform_once(step, scene)

    def pause(seconds: float) -> None:
        scene.clock.wait(seconds, None if scene.is_way_back(step) else scene.stop)

    return policy_of(step.kind).call(attempt, within=timedelta(seconds=step.deadline_seconds), pause=pause)


def as_plain_calls(scene: Scene) -> Act:
    """How the command line, the steward and the simulation act."""
    return lambda step: perform(step, scene)


def as_prefect_tasks(scene: Scene) -> Act:
    """How a flow acts: each step is a Prefect task, named after the step, called directly (a submitted one would go on beside the way back)
    and tried again by Prefect with the step's policy.

    The task's only parameter is the step's name, so that Prefect neither walks through nor stores the plan and the target. A sick or
    refused step is a failed task with one sentence; what nobody foresaw is one with a traceback.
    """
    from prefect import task  # noqa: PLC0415  a terminal that never starts a flow does not wait for this import
    from prefect.cache_policies import NO_CACHE  # noqa: PLC0415
    from prefect.client.schemas.objects import State  # noqa: PLC0415
    from prefect.states import Completed, Failed  # noqa: PLC0415

    steps = {step.name: step for step in (*scene.plan.forward, *scene.plan.back)}
    found: dict[str, Evidence | Exception] = {}

    def rollout_step(step: str) -> State[Any]:
        try:
            evidence = found[step] = perform_once(steps[step], scene)
        except DeliveryError as broken:
            found[step] = broken
            return Failed(message=str(broken), data=broken)
        except Exception as broken:
            stand_in = found[step] = harmless(broken)
            if stand_in is broken:
                raise
            raise stand_in from None
        return Completed(message=evidence.summary) if evidence.well else Failed(message=evidence.summary)

    made = task(name="rollout step", task_run_name="{step}", cache_policy=NO_CACHE, persist_result=False)(rollout_step)

    def act(step: Step) -> Evidence:
        options: dict[str, Any] = policy_of(step.kind).options()
        made.with_options(**options)(step.name, return_state=True)
        outcome = found.pop(step.name)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return act


def known_by_itself(progress: Progress) -> Known:
    """The default for `known`: a rollout alone, without what others have told."""
    return known_of(progress, recorded=None, proven={})


@dataclass(frozen=True)
class Means:
    """With what a rollout is walked: `folder/<rollout>` takes its logs, `acts` decides who performs its steps, `on_progress` hears of
    them: `v1.2.0 to production: watch-50 (step 9 of 13)` when one begins, the same with `, …` while it goes on, the message at the end.
    `backups` takes what is kept of databases; `calibrations` is what is known of blue's noise; `require_trust` raises when a plan's
    release may not go live; `known` is what the journal tells of taking its migrations back.
    """

    target: Target
    metrics: MetricSource | None
    folder: Path
    acts: Callable[[Scene], Act] = as_plain_calls
    on_progress: Callable[[str], None] = tell_nobody
    calibrations: Sequence[Calibration] = ()
    clock: Clock = field(default_factory=SteadyClock)
    require_trust: Callable[[Plan], None] = lambda _plan: nothing_to_trust()
    backups: Path | None = None
    known: Callable[[Progress], Known] = known_by_itself


Leave = Callable[[Progress], bool]


def users_are_back(progress: Progress) -> bool:
    """A rollout that was turned back has given the previous release its users; what is left is tidying up."""
    restores = [progress.finished.get(step.name) for step in progress.plan.back if step.kind is StepKind.RESTORE]
    return progress.turned_back is not None and all(evidence is not None and evidence.well for evidence in restores)


def walk_rollout(
    store: JournalStore, keeper: LeaseKeeper, rollout: str, means: Means, *, stop: threading.Event, leave: Leave = to_the_end
) -> Closed:
    """Walks an open rollout from where its journal stands to its end, under the lease that `keeper` holds.

    The plan is the one the journal was opened with. `stop` set turns a rollout back that is not yet promoted. Raises `StaleFence` when
    the lease is lost on the way; whoever has it then goes on. A closed rollout is returned as it ended, and nothing is done. Where `leave`
    says so the rest is left to whoever comes next, and `LeftOpen` is raised.
    """
    journal = Journal(store.log_of(rollout, keeper.lease))
    plan = journal.progress.plan
    if journal.progress.closed:
        return journal.progress.closed
    where = ""

    def on_progress(text: str) -> None:
        means.on_progress(f"{where}, {text}")

    scene = Scene(
        plan=plan,
        target=means.target,
        metrics=means.metrics,
        token=keeper.token(rollout),
        ensure=keeper.ensure,
        stop=stop,
        folder=means.folder / rollout,
        on_progress=on_progress,
        users_were_moved=lambda: journal.progress.has_moved_users,
        earlier=lambda: tuple(journal.progress.finished.values()),
        calibrations=means.calibrations,
        clock=means.clock,
        require_trust=lambda: means.require_trust(plan),
        backups=means.backups,
        known=lambda: means.known(journal.progress),
    )
    act = means.acts(scene)

    def told(step: Step) -> Evidence:
        nonlocal where
        place = "way back" if scene.is_way_back(step) else f"step {plan.forward.index(step) + 1} of {len(plan.forward)}"
        where = f"{plan.release.version.tag} to {plan.environment.name}: {step.name} ({place})"
        tell(means.on_progress, where)
        evidence = act(step)
        log.info("%s: %s", step.name, evidence.summary)
        return evidence

    closed = walk(journal, told, stop, lost=keeper.lost, leave=leave)
    log.info("%s", closed.message)
    tell(means.on_progress, closed.message)
    if closed.ending is Ending.LIVE:
        _remove_remains(store, means.target, keeper, rollout, environment=plan.environment.name)
    return closed


def turn_back_abandoned(
    store: JournalStore,
    means_of: Callable[[str], Means],
    *,
    holder: str,
    ttl: timedelta,
    environment: str | None = None,
    leave: Leave = to_the_end,
) -> tuple[Closed, ...]:
    """Takes every open rollout that nobody holds any more to its end: back before the promotion, forward after it.

    `means_of` gives the means of an environment; only `environment` is looked at when it is named. Idempotent, and harmless beside living
    rollouts: a lease that is held is left alone. Where `leave` says so a rollout is left as it is, for the next who looks.
    One environment that cannot be helped just now does not keep the others waiting; it is tried again the next time. Returns how those
    ended that it took on.
    """
    ended = []
    for record in store.rollouts(environment=environment, open_only=True):
        try:
            closed = _finish(store, record, means_of, holder=holder, ttl=ttl, leave=leave)
        except EnvironmentBusy:
            continue  # somebody walks it
        except LeftOpen as left:
            log.info("%s: %s", record.id, left.what)
            continue
        except DeliveryError as broken:
            log.warning("%s was abandoned and cannot be finished yet: %s", record.id, broken)
            continue
        if closed is not None:
            ended.append(closed)
    return tuple(ended)


def _finish(
    store: JournalStore, record: RolloutRecord, means_of: Callable[[str], Means], *, holder: str, ttl: timedelta, leave: Leave
) -> Closed | None:
    """Takes one abandoned rollout to its end; None when its walker was quicker."""
    before = next((lease for lease in store.leases() if lease.environment == record.environment), None)
    with LeaseKeeper(store, record.environment, holder=holder, purpose=f"finishing {record.id}", ttl=ttl) as keeper:
        journal = Journal(store.log_of(record.id, keeper.lease))
        if journal.progress.closed:
            return None
        who = before.holder if before else "its walker"
        log.warning("%s was abandoned by %s; %s finishes it", record.id, who, holder)
        journal.turn_back(f"abandoned by {who}")
        return walk_rollout(store, keeper, record.id, means_of(record.environment), stop=threading.Event(), leave=leave)


def retire_warm(store: JournalStore, target: Target, environment: str, *, now: datetime, holder: str, ttl: timedelta) -> tuple[str, ...]:
    """Retires what is up without being live or still held warm, and tells what it did, one sentence each.

    Blue is held for `traffic.hold_seconds` of the plan that promoted its successor, counted from the promotion. Nothing happens while a
    rollout is under way or waits to be recovered (its green is nobody else's business), nor after one that needs a person.
    """
    if not _idle_releases(store, target, environment, now):
        return ()
    try:
        with LeaseKeeper(store, environment, holder=holder, purpose="retiring what is no longer needed", ttl=ttl) as keeper:
            told = []
            for release_id in _idle_releases(store, target, environment, now):  # again, now that nobody else can act
                keeper.ensure()
                turned_back = _newest_endings(store, environment).get(release_id) in TURNED_BACK
                try:
                    target.retire(store.release(release_id), keep_remains=turned_back, token=keeper.token("housekeeping"))
                except StaleFence:
                    raise
                except DeliveryError as broken:
                    log.warning("%s could not be retired: %s", release_id, broken)
                    told.append(f"{release_id} could not be retired: {broken.what}")
                else:
                    told.append(f"{release_id} is retired.")
            return tuple(told)
    except EnvironmentBusy:
        return ()


def _idle_releases(store: JournalStore, target: Target, environment: str, now: datetime) -> Sequence[str]:
    """What is up, or known to the traffic layer, and neither has users, nor is live, nor is held, nor belongs to an open rollout."""
    if store.rollouts(environment=environment, open_only=True):
        return ()
    records = store.rollouts(environment=environment)
    if records and records[0].ending is Ending.NEEDS_HUMAN:
        return ()  # what still runs may be all that a person has to work with
    promoted = next((record for record in records if record.promoted_at is not None), None)
    standing, endings = target.observe(), _newest_endings(store, environment)
    # A release that has lost a replica no longer runs, and one that has died may have left the routing; both are still there. What a
    # turned-back one left stopped is kept: the post-mortem asks for it.
    succeeded = {release for release, ending in endings.items() if ending is Ending.LIVE}
    present = standing.running | standing.weights.keys() | (standing.present & succeeded)
    idle = {release for release in present if not standing.weights.get(release, 0)}
    if promoted is None:  # before the first promotion nothing is ours to sweep but what our own rollouts could not stop
        return sorted(release for release in idle & standing.running if endings.get(release) in TURNED_BACK)
    idle.discard(promoted.release)
    return sorted(idle - _held(store, promoted, now)) if idle else ()  # whoever looks every other second reads no journal for nothing


def held_warm(store: JournalStore, environment: str, *, now: datetime) -> tuple[Release, ...]:
    """What the newest promotion replaced in an environment, while users may go back to it in a moment."""
    promoted = next((record for record in store.rollouts(environment=environment) if record.promoted_at is not None), None)
    return tuple(store.release(name) for name in sorted(_held(store, promoted, now))) if promoted is not None else ()


def _newest_endings(store: JournalStore, environment: str) -> dict[str, Ending | None]:
    """How each release's newest rollout ended."""
    newest: dict[str, Ending | None] = {}
    for record in store.rollouts(environment=environment):
        newest.setdefault(record.release, record.ending)
    return newest


def _held(store: JournalStore, promoted: RolloutRecord, now: datetime) -> frozenset[str]:
    """The release that the newest promotion replaced, while it is kept warm."""
    opening = store.entries(promoted.id)[0].event
    if promoted.blue is None or promoted.promoted_at is None or not isinstance(opening, Opened):
        return frozenset()
    until = promoted.promoted_at + timedelta(seconds=opening.plan.environment.traffic.hold_seconds)
    return frozenset({promoted.blue}) if now < until else frozenset()


def _remove_remains(store: JournalStore, target: Target, keeper: LeaseKeeper, rollout: str, *, environment: str) -> None:
    """After a success, what earlier failed rollouts left for the post-mortem goes. Best effort: the next success tries again."""
    try:
        standing = target.observe()
        records = store.rollouts(environment=environment, limit=REMEMBERED_ROLLOUTS)
        kept = {release.id for release in (store.live(environment), store.previous(environment)) if release} | standing.running
        failed = {record.release for record in records if record.ending in TURNED_BACK}
        for release_id in sorted(failed - kept):
            keeper.ensure()
            target.retire(store.release(release_id), keep_remains=False, token=keeper.token(rollout))
    except DeliveryError as broken:
        log.warning("The remains of earlier rollouts stay for now: %s", broken)
