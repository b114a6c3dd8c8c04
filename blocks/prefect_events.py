"""Alerts as Prefect events, for automations: `greenroom.alert.needs-human` about the resource `greenroom.environment.production`.

Posted to the API itself and not by `prefect.events.emit_event`: that hands an event to a thread which tells nobody whether it arrived, and
the outbox has to know. So a server that is gone costs one short wait, and the event comes later.
"""

import json
from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import httpx
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, PREFECT_API_URL

from delivery.addresses import why_not
from delivery.errors import DeliveryError, InvalidSettings, TransientError, Undeliverable
from delivery.ports import Notifier


def is_prefect_named() -> bool:
    """Whether this process knows of a Prefect server at all; without an address Prefect's client would start one of its own."""
    return bool(PREFECT_API_URL.value())


class PrefectEvents:
    """The events of the Prefect server at PREFECT_API_URL. An event that is posted twice has the same id."""

    def __init__(self, *, timeout_seconds: float = 5.0) -> None:
        self._timeout = timeout_seconds

    def post(self, key: str, text: str, *, link: str | None = None) -> None:
        """`text` is a document of `delivery.alert_news`. Raises `TransientError` when it may be taken later, else `DeliveryError`."""
        url = (PREFECT_API_URL.value() or "").rstrip("/")
        headers, auth = _login()
        if why := why_not(url, secret=bool(headers or auth)):
            raise InvalidSettings(f"PREFECT_API_URL: {why}.", next="correct the variable.")
        event = {"id": str(uuid5(NAMESPACE_URL, key)), **_event(text, link)}
        try:
            with httpx.Client(timeout=self._timeout, auth=auth, headers=headers, follow_redirects=False, trust_env=False) as client:
                answer = client.post(f"{url}/events", json=[event])
        except (httpx.HTTPError, OSError) as broken:
            raise TransientError(f"Prefect took no event ({type(broken).__name__}).", next="nothing: it is sent again.") from None
        if answer.is_success:
            return
        what = f"Prefect refused an event: HTTP {answer.status_code}."
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            raise TransientError(what, next="nothing: it is sent again.")
        if answer.status_code in (400, 413, 422):
            raise Undeliverable(what, next="tell those who make Greenroom: no event should be like that.")
        raise DeliveryError(what, next="set PREFECT_API_AUTH_STRING.")


_: type[Notifier] = PrefectEvents


def _login() -> tuple[Mapping[str, str], tuple[str, str] | None]:
    if key := PREFECT_API_KEY.value():
        return {"Authorization": f"Bearer {key}"}, None
    user, colon, password = str(PREFECT_API_AUTH_STRING.value() or "").partition(":")
    return {}, (user, password) if colon else None


def _event(text: str, link: str | None) -> Mapping[str, Any]:
    try:
        told = json.loads(text)
        environment, run = told["environment"], told["flow_run"]
        related = [{"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.role": "flow-run"}] if run else []
        return {
            "event": told["event"],
            "occurred": told["occurred"],
            "resource": {
                "prefect.resource.id": f"greenroom.environment.{environment}",
                "prefect.resource.name": environment,
                "greenroom.severity": told["payload"]["severity"],
            },
            "related": related,
            "payload": {**told["payload"], "link": link},
        }
    except (ValueError, KeyError, TypeError):
        raise Undeliverable("An event cannot be read any more.", next="nothing: people were told all the same.") from None
