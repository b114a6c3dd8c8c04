"""One rollout under a lease, from its plan to its end: what pipeline, promote, rollback and the command line share."""

import logging
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from delivery.approval import PromotionRequest
from delivery.calibration import NEWEST
from delivery.environment import Environment, Kind
from delivery.errors import DeliveryError, EnvironmentBusy, InvalidSettings, LeftOpen, NotApproved
from delivery.journal import Ending, Journal, Opened
from delivery.notices import PASSING
from delivery.plan import Plan, StepKind
from delivery.record import RolloutRecord
from delivery.walk import to_the_end
from flows.alerts import tell_alerts
from flows.assembly import House, holder
from flows.cancelling import stopped_when_cancelled
from flows.migrations import known_of_way_back
from flows.signing import sign_rollout
from flows.telling import Notices, RunView, Telling, this_run, this_run_was_asked_for_at
from flows.trust import require_may_begin, require_may_go_live
from flows.validation import require_values_for
from tasks.lease import LeaseKeeper
from tasks.report import rollout_markdown, rollout_rows
from tasks.report_inspection import inspection_rows
from tasks.report_page import keep_page
from tasks.retry import in_prefect_run
from tasks.rollout import (
    Leave,
    Means,
    as_plain_calls,
    as_prefect_tasks,
    retire_warm,
    turn_back_abandoned,
    users_are_back,
    walk_rollout,
)
from tasks.scene import tell_nobody

log = logging.getLogger("greenroom.rollout")

Progress = Callable[[str], None]
# Housekeeping (retiring a warm release) holds the lease for as long as a release drains; a rollout waits for that, not for a rollout.
HOUSEKEEPING_SECONDS = 90.0


class RolledBack(DeliveryError):  # noqa: N818  reads as the sentence it is
    """The rollout ended, and not with its release live: a failed run in a healthy environment (or one that needs a person)."""


def run_rollout(
    house: House,
    plan: Plan,
    *,
    by: str,
    telling: Telling,
    verify: Callable[[], object] = lambda: None,
    on_progress: Progress = tell_nobody,
) -> RolloutRecord:
    """Carries the plan out and returns how it ended, whichever way. What this run or request has already led to is not done again.

    Everything that could be missing is loaded before the first act. `verify` is called when nobody else can act on the environment any
    more, and raises to leave it alone. SIGTERM turns the rollout back. Raises `EnvironmentBusy` when somebody else is at it, and
    `RolledBack` when Prefect cancels the run: it ends as soon as the users are back, and whoever looks next stops what is left.
    """
    means = means_of(house, plan.environment)
    require_eyes(house, plan)
    require_values_for(house, plan)
    tidy_up(house, plan.environment)
    if done := _done_before(house, plan, by=by):
        return done
    with stopped_by_sigterm() as stop, stopped_when_cancelled(this_run(), stop), right_to_act(house, plan) as keeper:
        verify()
        if plan.kind != "rollback":
            require_no_hold(house, plan.environment)
        require_that_it_begins_here(house, plan)
        require_may_begin(house, plan)
        rollout = house.store.open_rollout(keeper.lease, plan, by=by)
        news = _News(house, telling, plan, rollout, on_progress)
        news.begun(by)
        try:
            closed = walk_rollout(
                house.store, keeper, rollout, replace(means, on_progress=news.progress), stop=stop, leave=_leave_when_cancelled(stop)
            )
        except LeftOpen:
            message = Journal(house.store.log_of(rollout)).progress.outcome().message
            news.ended(message)
            raise RolledBack(f"{message}.", next="nothing: the steward, `recover` or the next rollout stops what is left of it.") from None
        news.ended(closed.message)
        sign_rollout(house, rollout)
    return house.store.rollout(rollout)


def require_that_it_begins_here(house: House, plan: Plan) -> None:
    """Raises `DeliveryError` when another release went live since the plan was made: its shares would be given to one that has left."""
    live = house.store.live(plan.environment.name)
    if (live and live.id) != (plan.blue and plan.blue.id):
        now, then = (release.version.tag if release else "nothing" for release in (live, plan.blue))
        raise DeliveryError(
            f"{plan.environment.title} is unchanged. {now} is live now, and the plan was made while {then} was.", next="ask for it again."
        )


def require_no_hold(house: House, environment: Environment) -> None:
    """Raises `NotApproved` while promotions to the environment are held: an automatic rollback waits for a person's word."""
    if hold := house.store.hold_on(environment.name):
        raise NotApproved(
            f"{environment.title} is unchanged. Promotions to it are held since {hold.at:%Y-%m-%d %H:%M} UTC by {hold.by}: {hold.reason}",
            next=f'find out why, then let it go on: `greenroom unhold {environment.name} --reason "…"`, and promote again.',
        )


def _leave_when_cancelled(stop: threading.Event) -> Leave:
    """Prefect kills a cancelled run half a minute after it has asked, and draining may take longer: a run goes back as far as its users
    need it and gives its lease up. Elsewhere (a terminal) nobody kills, and perhaps nobody looks: the whole way is walked.
    """
    return (lambda progress: stop.is_set() and users_are_back(progress)) if in_prefect_run() else to_the_end


def result_of(record: RolloutRecord) -> str:
    """The sentence a run ends with. Raises `RolledBack`, with that sentence, unless the rollout's release is live."""
    message = record.message or f"{record.id} has not ended."
    if record.ending is Ending.LIVE:
        return message
    raise RolledBack(
        message if message.endswith(".") else f"{message}.",
        next=f"look at the report of {record.id}: `greenroom status --environment {record.environment}`.",
    )


@contextmanager
def right_to_act(house: House, plan: Plan) -> Iterator[LeaseKeeper]:
    """The environment's lease while the block runs. Raises `EnvironmentBusy` at once when a rollout is under way there."""
    name = plan.environment.name
    purpose = f"rollback to {plan.release.version.tag}" if plan.kind == "rollback" else f"rollout of {plan.release.version.tag}"
    deadline = time.monotonic() + HOUSEKEEPING_SECONDS
    with ExitStack() as held:
        while True:
            keeper = LeaseKeeper(house.store, name, holder=holder(), purpose=purpose, ttl=house.lease_ttl)
            try:
                held.enter_context(keeper)
                break
            except EnvironmentBusy:
                if house.store.rollouts(environment=name, open_only=True) or time.monotonic() > deadline:
                    raise
                log.info("%s is being tidied up; the %s begins when that is done", plan.environment.title, purpose)
                time.sleep(1.0)
        yield keeper


def require_eyes(house: House, plan: Plan) -> None:
    """Raises `InvalidSettings` when the plan watches green and nothing could tell how it fares: it would hold, and turn back, blind."""
    watches = any(step.kind is StepKind.WATCH for step in plan.forward)
    name = plan.environment.name
    if watches and house.metrics(plan.environment) is None:
        raise InvalidSettings(
            f"{plan.environment.title} is unchanged. Its releases are watched, and there is no block traefik-metrics/{name}, nor a "
            f"prometheus-metrics/{name} that counts requests.",
            next="write it into the blocks file and run `python -m deployments.register`.",
        )


def means_of(house: House, environment: Environment) -> Means:
    """With what a rollout is walked here: the environment's blocks; each step is a Prefect task inside a run, else a plain call."""
    return Means(
        target=house.target(environment),
        metrics=house.metrics(environment),
        folder=house.settings.work_dir / "rollouts",
        acts=as_prefect_tasks if in_prefect_run() else as_plain_calls,
        calibrations=house.store.calibrations(environment.name, newest=NEWEST),
        require_trust=lambda plan: require_may_go_live(house, plan),
        backups=house.settings.work_dir / "backups",
        known=lambda progress: known_of_way_back(house, progress),
    )


def tidy_up(house: House, environment: Environment) -> tuple[str, ...]:
    """What earlier rollouts left here: the abandoned are taken to their end, and what need not be warm any longer is retired."""
    target = house.target(environment)
    return (
        *finish_abandoned(house, environment.name),
        *retire_warm(house.store, target, environment.name, now=house.store.now(), holder=holder(), ttl=house.lease_ttl),
    )


def finish_abandoned(house: House, environment: str | None = None, *, leave: Leave = to_the_end) -> tuple[str, ...]:
    """Takes every rollout (of `environment`, when it is named) that nobody holds any more to its end; how each ended, in one sentence.

    People are told, since the process that had told them of the beginning is gone. Where `leave` says so the rest is left open.
    """
    told = []
    for record in house.store.rollouts(environment=environment, open_only=True):
        try:
            ended = turn_back_abandoned(
                house.store,
                lambda name: means_of(house, house.environment(name)),
                holder=holder(),
                ttl=house.lease_ttl,
                environment=record.environment,
                leave=leave,
            )
        except Exception as broken:  # noqa: BLE001  what nobody foresaw in one environment is not the others' business
            log.warning("%s was abandoned and cannot be finished yet (%s)", record.id, type(broken).__name__)
            continue
        for closed in ended:
            told.append(closed.message)
            _tell_the_end(house, record.id, closed.message)
            sign_rollout(house, record.id)
    return tuple(told)


def _tell_the_end(house: House, rollout: str, message: str) -> None:
    number = _request_of(house, house.store.rollout(rollout))
    request = house.store.request(number) if number else None
    key = _notice_key(rollout.rpartition("-")[0], rollout, number)
    house.store.put_notice(key, message, house.run_link(request.key) if request else None)


def _notice_key(environment: str, rollout: str, request: int | None) -> str:
    """One message per request, else per rollout, from the beginning to the end."""
    return f"{environment}/{f'request-{request}' if request else rollout}"


def closed_rollout_of(house: House, request: PromotionRequest) -> RolloutRecord | None:
    """The rollout that a request has already led to, if it has ended: whoever is started again has nothing left to do."""
    records = house.store.rollouts(environment=request.plan.environment.name)
    since = (record for record in records if record.ending and record.opened_at >= request.opened_at)
    return next((record for record in since if _request_of(house, record) == request.number), None)


def rollout_of_this_run(house: House, environment: str, *, kind: Kind, by: str, release: str | None = None) -> RolloutRecord | None:
    """What this very run has brought to an end already: Prefect may start a finished run again, and going back twice is one too many."""
    asked_at = this_run_was_asked_for_at()
    if asked_at is None:
        return None
    records = (record for record in house.store.rollouts(environment=environment) if record.ended_at and record.opened_at >= asked_at)
    ours = (record for record in records if (record.kind, record.by) == (kind, by))
    return next((record for record in ours if release in (None, record.release)), None)


def _done_before(house: House, plan: Plan, *, by: str) -> RolloutRecord | None:
    if plan.request:
        return closed_rollout_of(house, house.store.request(plan.request))
    release = None if plan.kind == "rollback" else plan.release.id  # where a rollback leads depends on what is live
    return rollout_of_this_run(house, plan.environment.name, kind=plan.kind, by=by, release=release)


def _request_of(house: House, record: RolloutRecord) -> int | None:
    opening = house.store.entries(record.id)[0].event
    return opening.plan.request if isinstance(opening, Opened) else None


@contextmanager
def stopped_by_sigterm() -> Iterator[threading.Event]:
    """The event that SIGTERM sets while the block runs. Prefect cancels by SIGTERM and would raise in the middle of whatever runs; here the
    walk sees the event between two acts, or wakes from a wait, and gives the users back.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals belong to the main thread; who walks elsewhere cancels otherwise
        return

    def turn_back(_signal: int, _frame: Any) -> None:
        stop.set()

    before = signal.signal(signal.SIGTERM, turn_back)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


_SENTENCE = re.compile(r"\S+ to (?P<environment>\S+): (?P<step>\S+) \((?:step (?P<number>\d+) of (?P<all>\d+)|way back)\)")


def place_in(text: str) -> str:
    """Where a rollout is, short enough for a run's name: `production, watch-50 (step 9 of 13)`."""
    found = _SENTENCE.match(text)
    return found[0].split(" to ", 1)[1].replace(": ", ", ", 1) if found else text


def share_done(text: str) -> float:
    """How much of the way is behind a rollout, from 0 to 1. A rollout on its way back, or at its end, has no way before it."""
    found = _SENTENCE.match(text)
    return (int(found["number"]) - 1) / int(found["all"]) if found and found["number"] else 1.0


class _News:
    """What people are told about one rollout: the run's name, progress, notices, and the report at its end."""

    def __init__(self, house: House, telling: Telling, plan: Plan, rollout: str, also: Progress) -> None:
        self._house, self._telling, self._plan, self._rollout, self._also = house, telling, plan, rollout, also
        run_id = this_run()
        self._view = RunView(telling, run_id, name=f"{plan.release.version.tag} {plan.release.sha.short}")
        self._notices = Notices(house.store, house.notifier_for, telling)
        self._key = _notice_key(plan.environment.name, rollout, plan.request)
        self._link = house.run_link(str(run_id)) if run_id else None
        self._place = ""

    def begun(self, by: str) -> None:
        self._notices.put(self._key, f"{self._plan.sentence()} has begun ({self._rollout}, by {by}).", self._link)
        release = self._plan.release
        steps = f"{release.id}, commit {release.sha.short}, {self._plan.kind}. Steps: {', '.join(self._plan.step_names)}."
        self._notices.put(f"{self._key}#{self._rollout}-plan", steps, None)

    def progress(self, text: str) -> None:
        """`text` is a sentence of the walk: `v1.1.0 to production: watch-50 (step 9 of 13), green 310 requests`, or its last message."""
        self._also(text)
        place = place_in(text)
        self._view.at(place)
        if place not in (self._place, text):
            self._place = place
            self._notices.newest(f"{self._key}{PASSING}", f"{self._plan.sentence()} is under way: {place}.", self._link)
        self._view.progress(share_done(text), text, key=f"{self._rollout}-progress")

    def ended(self, message: str) -> None:
        """The last notice, and the report: as a page among the rollout's files, as Markdown and as a table in Prefect."""
        self._notices.put(self._key, message, self._link)
        self._telling.soon("the steps", lambda: self._notices.put(f"{self._key}#{self._rollout}-steps", self._steps(), None))
        self._telling.at_once("the report's page", self._keep_page)
        self._telling.soon("alerts", lambda: tell_alerts(self._house, self._plan.environment.name))
        self._telling.soon("the report", self._report)

    def _steps(self) -> str:
        """What each step found, as the thread below the message tells it."""
        finished = Journal(self._house.store.log_of(self._rollout)).progress.finished
        return (
            "\n".join(f"{'✓' if found.well else '✗'} {step}: {found.summary}" for step, found in finished.items())
            or "No step was finished."
        )

    def _keep_page(self) -> None:
        folder = self._house.settings.work_dir / "rollouts" / self._rollout
        keep_page(folder, self._house.store.entries(self._rollout), self._house.store.rollout(self._rollout))

    def _report(self) -> None:
        record, entries = self._house.store.rollout(self._rollout), self._house.store.entries(self._rollout)
        self._view.document(f"{self._rollout}-report", rollout_markdown(entries, record), description=record.message or "")
        self._view.table(f"{self._rollout}-steps", rollout_rows(entries), description=f"The steps of {self._rollout}")
        if rows := inspection_rows(entries):
            self._view.table(f"{self._rollout}-checks", rows, description=f"What strangers saw during {self._rollout}")
