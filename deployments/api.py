"""Prefect's REST API as a CI system or a terminal uses it: start a run once, answer an approval form, follow a run.

The one client for the CLI, the demo and the tests; it needs no Prefect import, so a command that only asks starts quickly.
"""

import hashlib
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
from pydantic import TypeAdapter, ValidationError

from delivery.errors import DeliveryError, InvalidSettings, TransientError

FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})
# What Prefect says of a run that is suspended and has not saved its form yet (server/api/flow_runs.py), and how long that may take.
NO_FORM_YET = "Run input schema not found."
_LENGTH = TypeAdapter(timedelta)
FORM_SECONDS = 20.0


def idempotency_key(*, repository: str, event: str, sha: str, version: str, attempt: int) -> str:
    """The key under which a run is created once.

    It holds everything that may differ, since Prefect answers a repeated key with the first run whatever its parameters.
    """
    content = "\n".join((repository, event, sha, version, str(attempt)))
    return f"greenroom-{hashlib.sha256(content.encode()).hexdigest()[:40]}"


@dataclass(frozen=True)
class FlowRun:
    """A run as the server tells it. `state` is Prefect's state type, `message` its words."""

    id: str
    name: str
    state: str
    state_name: str
    message: str
    parameters: Mapping[str, Any]

    @property
    def has_ended(self) -> bool:
        return self.state in FINAL

    @property
    def waits_for_a_person(self) -> bool:
        return self.state == "PAUSED"


@dataclass(frozen=True)
class StageRun:
    """One stage or step (a Prefect task run) of a flow run."""

    id: str
    name: str
    state: str
    seconds: float
    message: str


class PrefectApi:
    """`url` ends in /api. Errors name the next step and never the credentials."""

    def __init__(self, url: str | None = None, *, auth: str | None = None, timeout_seconds: float = 20.0) -> None:
        self._url = (url or os.environ.get("PREFECT_API_URL") or "http://127.0.0.1:4200/api").rstrip("/")
        user, _, password = (auth or os.environ.get("PREFECT_API_AUTH_STRING") or "").partition(":")
        self._client = httpx.Client(auth=(user, password) if user else None, timeout=timeout_seconds, trust_env=False)

    @property
    def ui_url(self) -> str:
        return os.environ.get("PREFECT_UI_URL", self._url.removesuffix("/api")).rstrip("/")

    def link(self, run_id: str) -> str:
        """Where a person sees the run in the UI."""
        return f"{self.ui_url}/runs/flow-run/{run_id}"

    def answers(self) -> bool:
        try:
            return self._client.get(f"{self._url}/health", timeout=2.0).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def create_run(self, deployment: str, parameters: Mapping[str, Any], *, key: str | None = None) -> FlowRun:
        """Starts a run of `flow/deployment` and returns it; the same key twice is one run. A 503 is asked again with the same key.

        Raises InvalidSettings when the API refuses the deployment's name or a parameter.
        """
        deployment_id = self.deployment_id(deployment)
        body = {"parameters": dict(parameters), "state": {"type": "SCHEDULED"}, **({"idempotency_key": key} if key else {})}
        return _run(self._request("POST", f"/deployments/{deployment_id}/create_flow_run", body))

    def deployment_id(self, deployment: str) -> str:
        """Of `flow/deployment`. Raises InvalidSettings when it is not registered."""
        return str(self._request("GET", f"/deployments/name/{deployment}")["id"])

    def newest_start(self, deployment: str) -> datetime | None:
        """When its newest run began or is scheduled to begin; None when it has no run at all."""
        wanted = {"deployments": {"id": {"any_": [self.deployment_id(deployment)]}}, "sort": "EXPECTED_START_TIME_DESC", "limit": 1}
        found = self._request("POST", "/flow_runs/filter", wanted)
        return datetime.fromisoformat(found[0]["expected_start_time"]) if found else None

    def workers_online(self, pool: str) -> int:
        """How many workers of the pool have been heard of lately."""
        return sum(worker["status"] == "ONLINE" for worker in self._request("POST", f"/work_pools/{pool}/workers/filter", {}))

    def runs_kept(self) -> timedelta | None:
        """For how long the server keeps runs that have ended; None: for ever. Raises DeliveryError when it does not tell."""
        told = self._request("GET", "/admin/settings")
        try:
            vacuum = told["server"]["services"]["db_vacuum"]
            return _LENGTH.validate_python(vacuum["retention_period"]) if "flow_runs" in vacuum["enabled"] else None
        except (KeyError, TypeError, ValidationError):
            raise DeliveryError("Prefect's server does not tell for how long it keeps runs.", next="look at its own settings.") from None

    def run(self, run_id: str) -> FlowRun:
        return _run(self._request("GET", f"/flow_runs/{run_id}"))

    def stages(self, run_id: str) -> Sequence[StageRun]:
        """The run's stages and steps in the order in which they began."""
        wanted = {"flow_runs": {"id": {"any_": [run_id]}}, "sort": "EXPECTED_START_TIME_ASC", "limit": 200}
        return [
            StageRun(
                id=str(document["id"]),
                name=str(document.get("name", "")),
                state=str(document.get("state_type") or ""),
                seconds=float(document.get("total_run_time") or 0.0),
                message=str((document.get("state") or {}).get("message") or ""),
            )
            for document in self._request("POST", "/task_runs/filter", wanted)
        ]

    def artifact(self, run_id: str, key: str) -> str:
        """What the run left under that key, as text; of several the newest."""
        wanted = {"artifacts": {"flow_run_id": {"any_": [run_id]}, "key": {"any_": [key]}}, "sort": "CREATED_DESC", "limit": 1}
        found = self._request("POST", "/artifacts/filter", wanted)
        if not found:
            raise DeliveryError(f"The run {run_id} left no artifact {key!r}.", next=f"look at {self.link(run_id)}")
        return str(found[0]["data"])

    def resume(self, run_id: str, answer: Mapping[str, Any]) -> None:
        """Answers the form a suspended run waits for. Prefect tells a refusal as HTTP 200 with status REJECT; here it is an error.

        A run is suspended a moment before its form is there: until then the answer is given again.
        """
        pause, deadline = 0.1, time.monotonic() + FORM_SECONDS
        while (told := self._request("POST", f"/flow_runs/{run_id}/resume", {"run_input": dict(answer)})).get("status") != "ACCEPT":
            reason = (told.get("details") or {}).get("reason") or told.get("status")
            if reason != NO_FORM_YET or time.monotonic() > deadline:
                raise InvalidSettings(f"Prefect refused the answer: {reason}", next="look at the run's form and answer again.")
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def cancel(self, run_id: str) -> None:
        self._request("POST", f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING"}})

    def follow(self, run_id: str, *, timeout_seconds: float, longest_pause: float = 1.0) -> Iterator[FlowRun]:
        """The run each time its state or name has changed, until it has ended or waits for a person."""
        deadline = time.monotonic() + timeout_seconds
        pause, last = 0.1, None
        while True:
            run = self.run(run_id)
            if (run.state, run.name) != last:
                last, pause = (run.state, run.name), 0.1
                yield run
            if run.has_ended or run.waits_for_a_person:
                return
            if time.monotonic() > deadline:
                raise DeliveryError(
                    f"Run {run.name} is still {run.state_name} after {timeout_seconds:.0f} s.", next=f"look at {self.link(run_id)}"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, longest_pause)

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        pause = 0.2
        for _ in range(6):
            try:
                answer = self._client.request(method, f"{self._url}{path}", json=body)
            except httpx.HTTPError as broken:
                raise TransientError(
                    f"The Prefect API did not answer ({type(broken).__name__}).", next="start the server, or look at PREFECT_API_URL."
                ) from None
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            # SQLite is locked now and then: the same request (and key) again.
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  jitter, not a secret
            pause *= 2
        if answer.is_success:
            return _document(answer)
        raise InvalidSettings(f"The Prefect API refused {method} {path}: {_words(answer)}", next=_next_step(answer.status_code))


def _document(answer: httpx.Response) -> Any:
    try:
        return answer.json() if answer.content else {}
    except ValueError:
        raise DeliveryError("What answered is not Prefect's API: it did not say JSON.", next="correct PREFECT_API_URL.") from None


def _words(answer: httpx.Response) -> str:
    try:
        said = answer.json()
        detail = (said.get("detail") or said.get("exception_detail")) if isinstance(said, dict) else said
    except ValueError:
        detail = answer.text[:300]
    return f"HTTP {answer.status_code} {detail}"


def _next_step(status: int) -> str:
    if status == httpx.codes.NOT_FOUND:
        return "register the deployments with `python -m deployments.register`, or correct the name."
    if status == httpx.codes.UNAUTHORIZED:
        return "set PREFECT_API_AUTH_STRING."
    return "correct the parameters; the deployment's form in the UI describes each."


def _run(document: Mapping[str, Any]) -> FlowRun:
    state = document.get("state") or {}
    return FlowRun(
        id=str(document["id"]),
        name=str(document.get("name", "")),
        state=str(document.get("state_type") or state.get("type") or ""),
        state_name=str(document.get("state_name") or state.get("name") or ""),
        message=str(state.get("message") or ""),
        parameters=document.get("parameters") or {},
    )
