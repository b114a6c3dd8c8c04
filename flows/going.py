"""An environment's go/no-go rules, asked about one request: when people are asked, and just before the first act."""

from datetime import datetime, timedelta

from delivery.alerts import critical_within
from delivery.approval import PromotionRequest
from delivery.environment import Environment
from delivery.go import Answer, Backups, Inspected, Soak, answers, of_alarms
from delivery.journal import Progress
from delivery.plan import StepKind
from delivery.scan import Severity
from delivery.secret_age import ages_of
from delivery.way_back import evidence_of
from flows.alerts import alerts_there
from flows.assembly import House
from flows.trust import policy_of
from tasks.backup import backups_of
from tasks.chain import examine
from tasks.report_inspection import result_of


def answers_for(house: House, request: PromotionRequest) -> tuple[Answer, ...]:
    """By today's environment file, not by the plan's frozen one: a freeze that is declared now holds up what waits already."""
    plan = request.plan
    environment = house.environment(plan.environment.name)
    broken: tuple[str, ...] = ()
    if environment.go.evidence and plan.kind not in environment.go.not_for:
        policy = policy_of(house, environment)
        found = examine(plan.release, policy, environment.image, store=house.store, keys=house.keys(), registry=house.known_registry())
        broken = tuple(f"{one.stage} {one.about}: {one.what}" for one in found if not one.well)
    soak = _soak(house, environment.environment.after, plan.release.build)
    backups = _backups(house, environment.name) if environment.go.backup_hours else None
    now, before = house.store.now(), environment.environment.after
    inspected = _inspected(house, before, plan.release.build, environment.go.open_findings, now) if before else None
    secrets = ages_of(environment.secrets, environment.secret_age, today=now.date())
    alarms = _alarms(house, environment, now) if environment.go.quiet_hours else ()
    given = answers(environment.go, plan.kind, now=now, soak=soak, broken=broken, backups=backups, inspected=inspected, secrets=secrets)
    return (*given, *of_alarms(environment.go, plan.kind, alarms))


def _inspected(house: House, before: str, release: str, severity: Severity | None, now: datetime) -> Inspected | None:
    """What the newest inspection of it there found, by the waivers that the environment there has today."""
    if severity is None:
        return None
    gate = house.environment(before).inspection.gate(now.date())
    brought = (one.id for one in house.store.rollouts(environment=before, limit=500) if one.promoted_at and one.build == release)
    for rollout in brought:  # the newest first; one that went back to it has inspected nothing
        evidence = evidence_of(Progress.of(entry.event for entry in house.store.entries(rollout)), StepKind.INSPECT)
        if evidence is not None and (result := result_of(evidence)) is not None:
            return Inspected(before, gate.decide(result.name, result.scan, fails_at=severity))
    return Inspected(before)


def _alarms(house: House, environment: Environment, now: datetime) -> tuple[str, ...]:
    found = critical_within(alerts_there(house, environment), timedelta(hours=environment.go.quiet_hours), now=now)
    return tuple(one.line(now) for one in sorted(found, key=lambda one: not one.is_open))


def _backups(house: House, environment: str) -> Backups:
    tests = house.store.restore_tests(environment)
    return Backups(any=bool(tests) or bool(backups_of(house.store, environment)), tried=tests[0] if tests else None)


def _soak(house: House, before: str | None, release: str) -> Soak | None:
    """Of the newest promotion there, to the next one of another release."""
    promoted = [record for record in house.store.rollouts(environment=before, limit=500) if record.promoted_at] if before else []
    for place, record in enumerate(promoted):  # the newest first
        if record.build == release and record.promoted_at:
            return Soak(record.environment, record.promoted_at, promoted[place - 1].promoted_at if place else None)
    return None
