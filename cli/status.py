"""`greenroom status`: where everything stands, read from the journal alone, so that it works when nothing else does."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from blocks.documents import to_document
from blocks.settings import Settings, environment_names, load_environment, settings
from cli.journal import open_journal
from cli.live import follow_rollout
from cli.prefect import open_api
from delivery.alerts import Alert
from delivery.approval import Pending, PromotionRequest, decide
from delivery.errors import DeliveryError, InvalidSettings
from delivery.journal import Progress, Started
from delivery.ports import JournalStore
from delivery.record import RolloutRecord
from delivery.source import Semver
from delivery.verification import Hold, Verification, newest_promotion, told
from tasks.alerts import alerts_in

RECENT = 5


@dataclass(frozen=True)
class Underway:
    """A rollout that is not closed. `step` None: it is between two steps; `holder` None: nobody works on it, `recover` will."""

    rollout: str
    version: str
    kind: str
    by: str
    step: str | None
    since: datetime
    turned_back: str | None
    holder: str | None


@dataclass(frozen=True)
class Waiting:
    """A promotion request that waits for people."""

    request: int
    sentence: str
    approved_by: tuple[str, ...]
    quorum: int
    expires_at: datetime
    link: str


@dataclass(frozen=True)
class Stand:
    """One environment."""

    environment: str
    live: str | None
    live_since: datetime | None
    previous: str | None
    underway: tuple[Underway, ...]
    waiting: tuple[Waiting, ...]
    recent: tuple[RolloutRecord, ...]
    failing: Verification | None = None
    hold: Hold | None = None
    alerts: tuple[Alert, ...] = ()


def show_status(environment: str | None, *, as_json: bool, watch: bool) -> None:
    current = settings()
    with open_journal(current) as store:
        known = sorted({*environment_names(current.environments_dir), *(record.environment for record in store.rollouts(limit=500))})
        if environment is not None and environment not in known:
            raise InvalidSettings(
                f"Unknown environment: got {environment[:80]!r}, expected one of: {', '.join(known) or 'none'}.", next="correct the name."
            )
        now = store.now()
        link = open_api(current).link
        watched = [name for name in environment_names(current.environments_dir) if _is_watched(name, current)]
        stands = [standing_of(store, name, link=link, is_watched=name in watched) for name in known if environment in (None, name)]
        if as_json:
            print(json.dumps({"at": now.isoformat(), "environments": [to_document(stand) for stand in stands]}, ensure_ascii=False))
        else:
            print(
                "\n\n".join("\n".join(lines_of(stand, now)) for stand in stands) or "No environment is known: write a file per environment."
            )
        if watch:
            for rollout in (underway for stand in stands for underway in stand.underway):
                print()
                follow_rollout(store, rollout.rollout)


def _is_watched(environment: str, current: Settings) -> bool:
    """What an unreadable file says is not known; nothing that alerted is then called over."""
    try:
        return load_environment(environment, current.environments_dir).verification.enabled
    except DeliveryError:
        return True


def standing_of(store: JournalStore, environment: str, *, link: Callable[[str], str], is_watched: bool) -> Stand:
    """`link` turns a run's id into where people see it; `is_watched`: canary verification looks there."""
    records = store.rollouts(environment=environment, limit=50)
    live, previous = store.live(environment), store.previous(environment)
    promotions = (record.promoted_at for record in records if record.promoted_at and live and record.release == live.id)
    now = store.now()
    holder = next((lease.holder for lease in store.leases() if lease.environment == environment and lease.expires_at > now), None)
    return Stand(
        environment=environment,
        live=live.version.tag if live else None,
        live_since=next(promotions, None),
        previous=previous.version.tag if previous else None,
        underway=tuple(_underway(store, record, holder) for record in store.rollouts(environment=environment, open_only=True)),
        waiting=tuple(
            Waiting(
                request=request.number,
                sentence=request.plan.sentence(),
                approved_by=tuple(approval.person for approval in request.approvals if approval.decision == "approve"),
                quorum=request.plan.environment.approval.quorum,
                expires_at=request.expires_at,
                link=link(request.key),
            )
            for request in store.requests(environment=environment, open_only=True)
            if _waits_for_people(request, now)
        ),
        recent=tuple(record for record in records if record.ended_at)[:RECENT],
        failing=_failing(store.last_verification(environment), records),
        hold=store.hold_on(environment),
        alerts=tuple(alert for alert in alerts_in(store, environment, is_watched=is_watched) if alert.is_open),
    )


def _failing(last: Verification | None, records: Sequence[RolloutRecord]) -> Verification | None:
    """The last look, if something fails and what it looked at is still live."""
    promotion = newest_promotion(records)
    return last if last and last.failing and promotion and last.rollout == promotion.id else None


def _waits_for_people(request: PromotionRequest, now: datetime) -> bool:
    plan = request.plan
    policy, author = plan.environment.approval, plan.release.author
    answered = decide(policy, request.approvals, kind=plan.kind, author=author, expires_at=request.expires_at, now=now)
    return isinstance(answered, Pending)


def _underway(store: JournalStore, record: RolloutRecord, holder: str | None) -> Underway:
    entries = store.entries(record.id)
    progress = Progress.of(entry.event for entry in entries)
    last = entries[-1]
    return Underway(
        rollout=record.id,
        version=Semver.parse(record.version).tag,
        kind=record.kind,
        by=record.by,
        step=last.event.step if isinstance(last.event, Started) else None,
        since=last.at,
        turned_back=progress.turned_back,
        holder=holder,
    )


def lines_of(stand: Stand, now: datetime) -> Sequence[str]:
    """What a person reads in five seconds."""
    if stand.live is None:
        lines = [f"{stand.environment:<12} nothing is live yet"]
    else:
        since = f" since {age(now, stand.live_since)}" if stand.live_since else ""
        lines = [f"{stand.environment:<12} {stand.live}{since}" + (f", before it {stand.previous}" if stand.previous else "")]
    lines += [f"  alert      {alert.line(now)} {alert.next[:1].upper()}{alert.next[1:]}" for alert in stand.alerts]
    if stand.failing:
        lines.append(f"  failing    {told(stand.failing.failing)} Looked {age(now, stand.failing.at)}.")
    if stand.hold:
        lines.append(
            f"  held       no promotion since {age(now, stand.hold.at)}, by {stand.hold.by}: {stand.hold.reason} "
            f'greenroom unhold {stand.environment} --reason "…"'
        )
    for rollout in stand.underway:
        where = f"{rollout.step} for" if rollout.step else "between two steps for"
        lines.append(
            f"  under way  {rollout.rollout} to {rollout.version}: {where} {_spoken(now - rollout.since)}, asked for by {rollout.by}"
        )
        if rollout.turned_back:
            lines.append(f"             on its way back: {rollout.turned_back}")
        if rollout.holder is None:
            lines.append("             nobody works on it: the steward or the recover flow brings it to an end")
    for request in stand.waiting:
        so_far = f", {len(request.approved_by)} of {request.quorum} so far" if request.quorum > 1 else ""
        lines.append(f"  waiting    request {request.request}: {request.sentence}{so_far}, expires in {_spoken(request.expires_at - now)}")
        lines.append(f'             greenroom approve {request.request} --reason "…"   or   {request.link}')
    for index, record in enumerate(stand.recent):
        ended = f"{record.ended_at:%Y-%m-%d %H:%M}" if record.ended_at else ""
        lines.append(f"  {'ended' if index == 0 else '':<9}  {record.id:<16} {ended}  {record.ending or '':<11} {record.message or ''}")
    return lines


def age(now: datetime, then: datetime) -> str:
    return f"{_spoken(now - then)} ago"


def _spoken(length: timedelta) -> str:
    seconds = max(0, round(length.total_seconds()))
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
