"""The second net, every minute: what was abandoned is finished, what is no longer warm is retired, what was not told is told.

The steward does the same every few seconds, with the functions below.
"""

import time
from datetime import datetime, timedelta

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelled

from blocks.settings import environment_names
from delivery.approval import Pending, PromotionRequest
from delivery.errors import DeliveryError
from delivery.notices import URGENT
from delivery.ports import Mendable
from delivery.record import Lease
from flows.alerts import put_alerts
from flows.assembly import House, holder, open_house
from flows.messages import in_one_message
from flows.promote import notice_key
from flows.rollout import closed_rollout_of, finish_abandoned, log
from flows.telling import send_notices
from flows.trust import decision_on
from tasks.rollout import retire_warm

LONGEST_WAIT_SECONDS = 30.0


@flow(name="recover", flow_run_name="recover", retries=0, persist_result=False)
@in_one_message
def recover() -> str:
    """Finishes abandoned rollouts, retires releases that need not be warm any longer, ends requests nobody answered, sends notices.

    Running it twice changes nothing: it acts on what the journal says, and leaves alone what somebody holds.
    """
    with open_house() as house:
        wait_for_those_that_are_silent(house)
        done = [
            *finish_abandoned(house),
            *tidy_up_everywhere(house),
            *close_unanswered_requests(house),
        ]
        done += put_alerts(house)
        send_notices(house.store, house.notifier_for)
        done += end_runs_that_wait_in_vain(house)
        return " ".join(done) or "There was nothing to do."


def wait_for_those_that_are_silent(house: House) -> None:
    """Waits for the leases of open rollouts to be renewed or to expire: for a third of their time where somebody lives, for all of it at
    most. A walker that died just now is so taken over by this run, and not by the one that comes in a minute.
    """
    until = time.monotonic() + min(house.lease_ttl.total_seconds(), LONGEST_WAIT_SECONDS)
    silent = _held_leases(house)
    while silent and time.monotonic() < until:
        time.sleep(1.0)
        silent &= _held_leases(house)


def _held_leases(house: House) -> set[Lease]:
    """Those under which a rollout is open; one that was renewed is another one."""
    under_way = {record.environment for record in house.store.rollouts(open_only=True)}
    now = house.store.now()
    return {lease for lease in house.store.leases() if lease.environment in under_way and lease.expires_at > now}


def tidy_up_everywhere(house: House) -> tuple[str, ...]:
    """Broken routing is put back, and what need not be warm any longer is retired. One environment that cannot be helped does not keep the
    others waiting.
    """
    done: list[str] = []
    for name in environment_names(house.settings.environments_dir):
        try:
            done += (*repair_in(house, name), *retire_in(house, name))
        except DeliveryError as broken:
            log.warning("%s could not be tidied up: %s", name, broken)
    return tuple(done)


def retire_in(house: House, environment: str) -> tuple[str, ...]:
    """Retires what is up in one environment and neither live nor held warm; nothing where there was never a rollout."""
    if not house.store.rollouts(environment=environment, limit=1):
        return ()
    target = house.target(house.environment(environment))
    return retire_warm(house.store, target, environment, now=house.store.now(), holder=holder(), ttl=house.lease_ttl)


def repair_in(house: House, environment: str) -> tuple[str, ...]:
    """What somebody broke of the environment's routing is put back, as far as its target knows how."""
    if house.store.live(environment) is None:
        return ()
    target = house.target(house.environment(environment))
    repaired = isinstance(target, Mendable) and target.repair()
    return (f"The routing of {environment} was broken and is put back as it was.",) if repaired else ()


def close_unanswered_requests(house: House) -> tuple[str, ...]:
    """Closes the requests whose time is over, and those whose rollout a process that died could not tell."""
    now, told = house.store.now(), []
    for request in house.store.requests(open_only=True):
        if done := closed_rollout_of(house, request):
            house.store.close_request(request.number, f"carried out as {done.id}: {done.ending}")
        elif request.expires_at <= now:
            house.store.close_request(
                request.number, f"nobody approved it within {request.plan.environment.approval.expires_hours:g} hours"
            )
            told.append(last_sentence(house.store.request(request.number)))
            house.store.put_notice(notice_key(request), told[-1], None)
        else:
            try:
                escalate(house, request, now)
            except DeliveryError as broken:
                log.warning("Whether request %d waits for people is not known: %s", request.number, broken)
    return tuple(told)


def escalate(house: House, request: PromotionRequest, now: datetime) -> None:
    """A request that people let wait longer than its environment finds good is told once more, to more people."""
    hours = request.plan.environment.approval.escalate_hours
    if not hours or now - request.opened_at < timedelta(hours=hours) or not isinstance(decision_on(house, request), Pending):
        return
    left = (request.expires_at - now).total_seconds() / 3600
    text = (
        f"Request {request.number} still waits for approval: {request.plan.sentence()}, since {hours:g} hours and more. "
        f"It expires in {left:.1f} hours."
    )
    house.store.put_notice(f"{notice_key(request)}#{URGENT}-waiting", text, house.run_link(request.key), once=True)


def end_runs_that_wait_in_vain(house: House) -> tuple[str, ...]:
    """Runs that are suspended for a request which no longer counts end with the reason, instead of waiting for an answer nobody needs."""
    ended = []
    closed = {request.key: request for request in house.store.requests() if request.closed}
    paused = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED])))
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=paused):
            if request := closed.get(str(run.id)):
                client.set_flow_run_state(run.id, Cancelled(message=last_sentence(request)), force=True)
                ended.append(f"The run {run.name} waited in vain and is ended.")
    return tuple(ended)


def last_sentence(request: PromotionRequest) -> str:
    return f"{request.plan.environment.title} is unchanged. Request {request.number} ended: {request.closed}."
