"""Alerts go into the outboxes: a message of its own for people, an event for Prefect. What lies there already is not put again."""

import logging
from collections.abc import Iterable, Sequence
from datetime import timedelta
from uuid import UUID

from blocks.settings import environment_names
from delivery.alert_news import News, keys_of, news_of
from delivery.alerts import Alert
from delivery.environment import Environment
from delivery.errors import DeliveryError
from delivery.journal import Opened
from flows.assembly import House
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
