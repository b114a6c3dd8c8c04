"""Alerts go into the outboxes: a message of its own for people, an event for Prefect. What lies there already is not put again."""

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from blocks.prefect_events import PrefectEvents, is_prefect_named
from blocks.settings import environment_names
from delivery.alert_news import News, Phase, keys_of, news_of
from delivery.alerts import Alert, journal_lost
from delivery.environment import Environment
from delivery.errors import DeliveryError
from delivery.journal import Opened
from flows.assembly import House
from flows.outage import PATIENCE, Outage
from flows.telling import send_notices
from tasks.alerts import alerts_in

log = logging.getLogger("greenroom.alerts")


def alerts_there(house: House, environment: Environment) -> Sequence[Alert]:
    """Every alert that the journal tells of, open or over, oldest first."""
    return alerts_in(house.store, environment.name, is_watched=environment.verification.enabled)


def put_alerts(house: House, environment: str | None = None) -> tuple[str, ...]:
    """Puts what is new of `environment`, or of all, and returns a sentence each. It may be asked as often as one likes, by any number at
    once. An environment that cannot be looked at keeps no other waiting. Nothing is sent here.
    """
    told: list[str] = []
    for name in [environment] if environment else environment_names(house.settings.environments_dir):
        try:
            policy = house.environment(name)
            told += put_news(house, policy, alerts_there(house, policy))
        except DeliveryError as broken:
            log.warning("The alerts of %s are not known: %s", name, broken)
    return tuple(told)


def tell_alerts(house: House, environment: str) -> None:
    """Puts what is new of one environment, and sends it."""
    if put_alerts(house, environment):
        send_notices(house.store, house.notifier_for)


def put_news(house: House, environment: Environment, alerts: Iterable[Alert]) -> Sequence[str]:
    """What of these alerts is news, by the environment's settings."""
    store, found = house.store, tuple(alerts)
    if not found:
        return ()
    minutes = environment.alerts.escalate_minutes
    escalate = timedelta(minutes=minutes) if minutes else None
    fresh = news_of(found, store.known_notices(keys_of(found)), escalate=escalate, now=store.now())
    return [f"{one.alert.environment}: {one.alert.kind}, {one.phase.name.lower()}." for one in fresh if _put(house, one)]


def tell_journal_lost(house: House, outage: Outage, *, now: datetime) -> Sequence[str]:
    """The one alert that no outbox can hold: told directly, by every environment's notifier and as an event, as long as it takes. Where
    nobody could be told yet the next call tries again. Raises nothing for a dead Slack or Prefect.
    """
    since = outage.since
    if since is None or now - since < PATIENCE:
        return ()
    said = []
    for name in environment_names(house.settings.environments_dir):
        if name in outage.told:
            continue
        news = News(journal_lost(name, since), Phase.OPENED, since)
        try:
            policy = house.environment(name)
            if (notifier := house.notifier(policy, places=outage)) is None:
                continue
            notifier.post(news.message_key, news.text(), link=_link(house, news.alert, None))
        except DeliveryError as broken:
            log.warning("The people of %s do not know that the journal is lost: %s", name, broken)
            continue
        outage.note(name)
        said.append(f"{name}: people know that the journal does not answer.")
        _event_at_once(news)
    return said


def tell_journal_back(house: House, outage: Outage) -> Sequence[str]:
    """Through the outboxes, where people were told that it was lost; then it is forgotten. What is done twice is told once."""
    since, now = outage.since, house.store.now()
    if since is None:
        return ()
    for key, place in outage.places.items():
        house.store.keep_place(key, place)
    said: list[str] = []
    for name in sorted(outage.told & set(environment_names(house.settings.environments_dir))):
        said += put_news(house, house.environment(name), [journal_lost(name, since, until=now)])
    outage.forget()
    return said


def _event_at_once(news: News) -> None:
    """The outbox sends it again later, with the same id."""
    if not is_prefect_named():
        return
    try:
        PrefectEvents().post(news.event_key, news.document(None))
    except DeliveryError as broken:
        log.info("Prefect does not know yet: %s", broken)


def _put(house: House, news: News) -> bool:
    """False when somebody else was quicker."""
    run = _flow_run(house, news.alert)
    link = _link(house, news.alert, run)
    return house.store.put_together((news.event_key, news.document(run), link), (news.message_key, news.text(), link))


def _link(house: House, alert: Alert, run: str | None) -> str | None:
    """The runbook, where the installation says where its documentation can be read; else the run."""
    docs = house.settings.docs_url
    return f"{docs.rstrip('/')}/{alert.runbook}" if docs else house.run_link(run) if run else None


def _flow_run(house: House, alert: Alert) -> str | None:
    """The run that asked for the rollout; only requests know theirs."""
    if alert.rollout is None:
        return None
    opening = house.store.entries(alert.rollout)[0].event
    number = opening.plan.request if isinstance(opening, Opened) else None
    if number is None:
        return None
    key = house.store.request(number).key
    try:
        return str(UUID(key))
    except ValueError:
        return None
