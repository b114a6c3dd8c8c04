"""`greenroom replay dora`: a recorded log of deployments through the very rules that count ours."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from cli.delivery_numbers import document_of
from cli.replay import field_of, only_known_keys, read_json, refused, shown
from delivery.dora import Deliveries, Deployment, Failure, Incident, Log, Outcome, Window
from delivery.environment import Kind
from delivery.errors import InvalidSettings

FILE_KEYS = frozenset({"window", "commits", "deployments", "incidents"})
WINDOW_KEYS = frozenset({"start", "end_exclusive", "days", "timezone"})
DEPLOYMENT_KEYS = frozenset(
    {"id", "service", "environment", "kind", "started_at", "traffic_started_at", "completed_at", "outcome", "commits", "failure"}
    | {"planned", "rollback_of", "remediates"}
)
FAILURE_KEYS = ("impact_started_at", "detected_at", "restored_at")
INCIDENT_KEYS = frozenset({"id", "cause_deployment", "opened_at", "resolved_at"})


def print_metrics(file: Path, *, service: str | None, environment: str) -> None:
    """One JSON object. The whole file is read before it is printed, so that a bad one prints nothing."""
    name, document = read_json(file, holding="a log of deployments")
    log, window = _parsed(_without_expectations(document), name=name)
    seen = Deliveries(log, window, _service(log, service, environment, name=name), environment)
    print(json.dumps(document_of(seen), indent=1, ensure_ascii=False))


def _without_expectations(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _without_expectations(value) for key, value in document.items() if key != "expected"}
    return [_without_expectations(value) for value in document] if isinstance(document, list) else document


def _service(log: Log, asked: str | None, environment: str, *, name: str) -> str:
    """Whose metrics are meant; a log without any deployment there is nobody's, and all that is unknown of it is null."""
    services = sorted({one.service for one in log.deployments if one.environment == environment})
    if asked is not None:
        if asked not in services:
            raise InvalidSettings(
                f"{name}: --service: got {shown(asked)}, expected one of {', '.join(services) or 'none'}.",
                next=f"name a service that the log has in {environment}.",
            )
        return asked
    if len(services) > 1:
        raise InvalidSettings(
            f"{name}: got {len(services)} services in {environment}, expected one: {', '.join(services)}.",
            next="name one with --service; metrics of several are not blended.",
        )
    return services[0] if services else ""


@dataclass(frozen=True)
class _Known:
    """What other parts of the file may name."""

    deployments: frozenset[str]
    commits: frozenset[str]


def _parsed(document: Any, *, name: str) -> tuple[Log, Window]:
    only_known_keys(document, FILE_KEYS, where=name)
    commits = field_of(document, "commits", where=name)
    if not isinstance(commits, Mapping):
        raise refused(name, "commits", commits, "an object of times by commit")
    deployments = _list(document, "deployments", where=name)
    identities = [_text(one, "id", where=f"{name}: deployments[{index}]") for index, one in enumerate(deployments)]
    _refuse_twice(identities, where=f"{name}: deployments")
    known = _Known(frozenset(identities), frozenset(commits))
    incidents = _list(document, "incidents", where=name)
    log = Log(
        deployments=[_deployment(one, known, where=f"{name}: deployments[{index}]") for index, one in enumerate(deployments)],
        commits={commit: _time(at, where=f"{name}: commits.{commit}") for commit, at in commits.items()},
        failures=[
            _failure(one["id"], one["failure"], where=f"{name}: deployments[{index}].failure")
            for index, one in enumerate(deployments)
            if one.get("failure") is not None
        ],
        incidents=[_incident(one, known, where=f"{name}: incidents[{index}]") for index, one in enumerate(incidents)],
    )
    _refuse_twice([incident.id for incident in log.incidents], where=f"{name}: incidents")
    return log, _window(field_of(document, "window", where=name), where=f"{name}: window")


def _window(document: Any, *, where: str) -> Window:
    only_known_keys(document, WINDOW_KEYS, where=where)
    window = Window(_required_time(document, "start", where=where), _required_time(document, "end_exclusive", where=where))
    if window.end <= window.start:
        raise refused(where, "end_exclusive", document["end_exclusive"], f"a time after {document['start']}")
    if (days := field_of(document, "days", where=where, default=None)) not in (None, window.days):
        raise refused(where, "days", days, f"{window.days:g} as from start to end_exclusive")
    if (zone := field_of(document, "timezone", where=where, default="UTC")) != "UTC":
        raise refused(where, "timezone", zone, '"UTC"')
    return window


def _deployment(document: Any, known: _Known, *, where: str) -> Deployment:
    only_known_keys(document, DEPLOYMENT_KEYS, where=where)
    planned = field_of(document, "planned", where=where, default=True)
    if not isinstance(planned, bool):
        raise refused(where, "planned", planned, "true or false")
    commits = _list(document, "commits", where=where)
    for index, commit in enumerate(commits):
        if not isinstance(commit, str) or commit not in known.commits:
            raise InvalidSettings(f"{where}.commits[{index}]: got {shown(commit)}, expected a key of commits.", next="correct the file.")
    kind, outcome = field_of(document, "kind", where=where), field_of(document, "outcome", where=where)
    if kind not in get_args(Kind):
        raise refused(where, "kind", kind, f"one of {', '.join(get_args(Kind))}")
    if outcome is not None and outcome not in get_args(Outcome):
        raise refused(where, "outcome", outcome, f"null (under way) or one of {', '.join(get_args(Outcome))}")
    deployment = Deployment(
        id=document["id"],
        service=_text(document, "service", where=where),
        environment=_text(document, "environment", where=where),
        kind=kind,
        started_at=_required_time(document, "started_at", where=where),
        traffic_started_at=_optional_time(document, "traffic_started_at", where=where),
        completed_at=_optional_time(document, "completed_at", where=where),
        outcome=outcome,
        commits=tuple(commits),
        planned=planned,
        rollback_of=_other(document, "rollback_of", known, where=where),
        remediates=_other(document, "remediates", known, where=where),
    )
    _refuse_disorder(document, ("started_at", "traffic_started_at", "completed_at"), where=where)
    _refuse_contradiction(deployment, where=where)
    return deployment


def _refuse_contradiction(deployment: Deployment, *, where: str) -> None:
    """The outcome says whether a deployment completed and whether it served anybody; its times say it too."""
    completed, served = deployment.completed_at is not None, deployment.traffic_started_at is not None
    match deployment.outcome:
        case "succeeded" | "rolled_back_after_completion" if not completed:
            raise refused(where, "completed_at", None, f"a time, since the outcome is {deployment.outcome}")
        case "aborted_in_canary" if not served:
            raise refused(where, "traffic_started_at", None, "a time, since the outcome is aborted_in_canary")
        case "failed_before_traffic" if served:
            raise refused(
                where, "traffic_started_at", str(deployment.traffic_started_at), "null, since the outcome is failed_before_traffic"
            )
        case "aborted_in_canary" | "failed_before_traffic" | "cancelled" | None if completed:
            raise refused(where, "completed_at", str(deployment.completed_at), f"null, since the outcome is {deployment.outcome}")


def _failure(deployment: str, document: Any, *, where: str) -> Failure:
    only_known_keys(document, FAILURE_KEYS, where=where)
    failure = Failure(deployment, deployment, *(_optional_time(document, key, where=where) for key in FAILURE_KEYS))
    _refuse_disorder(document, FAILURE_KEYS, where=where)
    return failure


def _incident(document: Any, known: _Known, *, where: str) -> Incident:
    only_known_keys(document, INCIDENT_KEYS, where=where)
    incident = Incident(
        id=_text(document, "id", where=where),
        cause_deployment=_other(document, "cause_deployment", known, where=where),
        opened_at=_required_time(document, "opened_at", where=where),
        resolved_at=_optional_time(document, "resolved_at", where=where),
    )
    _refuse_disorder(document, ("opened_at", "resolved_at"), where=where)
    return incident


def _refuse_disorder(document: Mapping[str, Any], keys: Iterable[str], *, where: str) -> None:
    known = [(key, _time(document[key], where=f"{where}.{key}")) for key in keys if document.get(key) is not None]
    for (earlier, before), (key, at) in pairwise(known):
        if at < before:
            raise refused(where, key, document[key], f"a time not before {earlier}, which is {document[earlier]}")


def _refuse_twice(identities: Iterable[str], *, where: str) -> None:
    seen: set[str] = set()
    for index, identity in enumerate(identities):
        if identity in seen:
            raise refused(f"{where}[{index}]", "id", identity, "an id that no other has")
        seen.add(identity)


def _other(document: Any, key: str, known: _Known, *, where: str) -> str | None:
    value = field_of(document, key, where=where, default=None)
    if value is None:
        return None
    if not isinstance(value, str) or value not in known.deployments or value == document["id"]:
        raise refused(where, key, value, "null or another deployment's id")
    return value


def _text(document: Any, key: str, *, where: str) -> str:
    value = field_of(document, key, where=where)
    if not isinstance(value, str) or not value:
        raise refused(where, key, value, "a text")
    return value


def _list(document: Any, key: str, *, where: str) -> list[Any]:
    value = field_of(document, key, where=where)
    if not isinstance(value, list):
        raise refused(where, key, value, "a list")
    return value


def _optional_time(document: Any, key: str, *, where: str) -> datetime | None:
    value = field_of(document, key, where=where)
    return None if value is None else _time(value, where=f"{where}.{key}")


def _required_time(document: Any, key: str, *, where: str) -> datetime:
    return _time(field_of(document, key, where=where), where=f"{where}.{key}")


def _time(value: Any, *, where: str) -> datetime:
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
        if at is not None and at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise InvalidSettings(f'{where}: got {shown(value)}, expected a time such as "2026-03-02T09:42:00Z".', next="correct the file.")
