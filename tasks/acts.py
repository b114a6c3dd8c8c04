"""What each step of a rollout does: one small function per kind, each a level that may be stated again.

`perform_once` is one attempt. Sick is a value (`Evidence`), broken is an exception; who retries is decided in `tasks/rollout.py`.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import assert_never

from delivery.application import Hook
from delivery.errors import DeliveryError, StaleFence, TransientError
from delivery.health import Counters
from delivery.journal import Evidence
from delivery.plan import Step, StepKind
from delivery.ports import RunResult
from delivery.release import Release
from tasks import load, probes
from tasks.backup import back_up
from tasks.downgrading import downgrade
from tasks.image_alembic import MigrationLimits, upgrade_command, words_of
from tasks.inspection import inspect
from tasks.migrating import migrated, useful_line
from tasks.proving import prove
from tasks.retry import QUICK, UNTIL_DEADLINE
from tasks.rollout_logs import collect, keep_output
from tasks.scene import CANCELLED, Scene
from tasks.watch import scrape, watch

log = logging.getLogger("greenroom.rollout")

_POLL_FIRST_SECONDS, _POLL_LONGEST_SECONDS = 0.05, 1.0


def perform_once(step: Step, scene: Scene) -> Evidence:  # noqa: C901, PLR0911, PLR0912  one arm per kind of step: the whole stage in one place
    """One attempt at a step. Raises `StaleFence` when the lease is gone, `TransientError` for what may be tried again."""
    scene.ensure()
    match step.kind:
        case StepKind.PREPARE:
            return _prepare(scene)
        case StepKind.PROVE:
            return prove(step, scene)
        case StepKind.BACKUP:
            return back_up(step, scene)
        case StepKind.MIGRATE:
            return _migrate(step, scene)
        case StepKind.LAUNCH:
            return _launch(scene)
        case StepKind.CHECK:
            return _check(step, scene)
        case StepKind.SMOKE:
            return _smoke(scene)
        case StepKind.SHIFT:
            return _shift(step, scene)
        case StepKind.WATCH:
            return watch(step, scene)
        case StepKind.LOAD:
            return _load(scene)
        case StepKind.INSPECT:
            return inspect(step, scene)
        case StepKind.PROMOTE:
            return _promote(scene)
        case StepKind.ANNOUNCE:
            return _announce(step, scene)
        case StepKind.DRAIN:
            return _drain(step, scene)
        case StepKind.RESTORE:
            return _restore(step, scene)
        case StepKind.COLLECT:
            return collect(scene)
        case StepKind.REMOVE:
            return _remove(step, scene)
        case StepKind.DOWNGRADE:
            return downgrade(step, scene)
        case _:
            assert_never(step.kind)


def _prepare(scene: Scene) -> Evidence:
    release = scene.plan.release
    scene.target.prepare(release, scene.token)
    facts = {"images": {name: str(image) for name, image in release.images.items()}}
    return Evidence(well=True, summary=f"the images of {release.version.tag} are here, by digest", facts=facts)


def _migrate(step: Step, scene: Scene) -> Evidence:
    release, settings = scene.plan.release, scene.plan.release.migrations
    if settings is None:
        return Evidence(well=True, summary=f"{release.version.tag} carries no migrations")
    timeout = timedelta(seconds=min(settings.timeout_seconds, step.deadline_seconds))
    command = upgrade_command(settings, reviewed=scene.plan.reviewed, limits=MigrationLimits().within(timeout))
    ran = scene.target.run_once(
        release, settings.service, command, variables=scene.plan.environment.variables, timeout=timeout, token=scene.token
    )
    told = migrated(ran.tail)
    return replace(told, facts={**told.facts, **keep_output(words_of(ran.tail), scene.folder / "migrate.log")})


def _launch(scene: Scene) -> Evidence:
    release = scene.plan.release
    scene.target.launch(release, variables=scene.plan.environment.variables, token=scene.token)
    replicas = {service.name: service.replicas for service in release.services}
    told = ", ".join(f"{count} x {name}" for name, count in replicas.items())
    return Evidence(well=True, summary=f"{release.version.tag} is up without users ({told})", facts={"replicas": replicas})


def _check(step: Step, scene: Scene) -> Evidence:
    """Asks until green is well or the deadline has passed."""
    clock, until, pause = scene.clock, scene.clock.now() + step.deadline_seconds, _POLL_FIRST_SECONDS
    while True:
        scene.ensure()
        report = scene.target.check(scene.plan.release)
        asked = [f"{result.name}: {result.detail or 'well'}" for result in report.results]
        facts = {"probes": asked, "cpu": report.cpu, "memory": report.memory, "restarts": report.restarts}
        if report.well:
            return Evidence(well=True, summary=f"green is well: {report.sentence()}", facts=facts)
        if clock.now() >= until:
            return Evidence(well=False, summary=f"green did not become well: {report.sentence()}", facts=facts)
        if clock.wait(min(pause, until - clock.now()), scene.stop):
            return CANCELLED
        pause = min(2 * pause, _POLL_LONGEST_SECONDS)


def _smoke(scene: Scene) -> Evidence:
    release = scene.plan.release
    results = probes.smoke(release.smoke, scene.target.addresses(release))
    sick = [result.detail for result in results if not result.well]
    facts = {"probes": [{"name": result.name, "well": result.well, "detail": result.detail} for result in results]}
    if sick:
        return Evidence(well=False, summary=f"smoke test: {sick[0]}" + (f" (and {len(sick) - 1} more)" if sick[1:] else ""), facts=facts)
    told = " (those that may write are sent on copies of the database only)" if release.smoke != release.reading_smoke else ""
    return Evidence(well=True, summary=f"all {len(results)} smoke requests were answered as expected{told}", facts=facts)


def _shift(step: Step, scene: Scene) -> Evidence:
    plan, percent = scene.plan, step.percent or 0
    before = _counted(scene)
    scene.target.shift(plan.release, percent=percent, rest=plan.blue, token=scene.token)
    weights = _weights(scene, percent)
    told = ", ".join(f"{name} {share} %" for name, share in weights.items())
    return Evidence(well=True, summary=f"users: {told}", facts={"weights": weights, "counters": before})


def _load(scene: Scene) -> Evidence:
    """A short load through whatever stands in front of the release, else on its replicas; what it showed is the baseline."""
    release, wanted = scene.plan.release, scene.plan.release.load
    if wanted is None:
        return Evidence(well=True, summary=f"{release.version.tag} declares no load test")
    if scene.target.public_url:
        result = load.run_load(scene.target.public_url, wanted, stop=scene.stop)
    else:
        result = load.run_load_on(scene.target.addresses(release), release, wanted, stop=scene.stop)
    if scene.stop.is_set():
        return CANCELLED
    report = scene.target.check(release)
    facts: dict[str, object] = {
        "load": result.facts(),
        "counters": _counted(scene),
        "baseline": {"p95_ms": result.p95_ms, "failed_share": result.failed_share, "cpu": report.cpu, "memory": report.memory},
    }
    broken = result.problems(wanted)
    if broken:
        return Evidence(well=False, summary=f"load test: {'; '.join(broken)}", facts=facts)
    return Evidence(well=True, summary=f"load test: {result.sentence()}", facts=facts)


def _promote(scene: Scene) -> Evidence:
    release = scene.plan.release
    scene.require_trust()
    scene.target.promote(release, scene.token)
    standing = scene.target.observe()
    if standing.live != release.id:
        got = ", ".join(f"{name} {percent} %" for name, percent in standing.weights.items()) or "nobody"
        return Evidence(well=False, summary=f"after the promotion the users are with {got}, expected {release.id} 100 %")
    return Evidence(
        well=True,
        summary=f"{release.version.tag} is the live release",
        facts={"weights": _weights(scene, 100), "counters": _counted(scene)},
    )


def _announce(step: Step, scene: Scene) -> Evidence:
    """The application's hooks. They tell, they never decide: one that fails is a remark."""
    plan = scene.plan
    went_back = scene.is_way_back(step)
    if went_back and not scene.users_were_moved():
        return Evidence(well=True, summary="nobody is told, since no user was moved", facts={"hooks": [], "remarks": []})
    event = "rollback" if went_back or plan.kind == "rollback" else "promote"
    release = plan.blue if went_back and plan.blue else plan.release
    asked = [hook for hook in release.hooks if event in hook.after]
    remarks, names = [told for hook in asked if (told := _remark_of(hook, event, release, scene))], [hook.name for hook in asked]
    summary = "; ".join(remarks) if remarks else f"told: {', '.join(names) or 'nobody asked to be'}"
    return Evidence(well=True, summary=summary, facts={"hooks": names, "remarks": remarks})


def _remark_of(hook: Hook, event: str, release: Release, scene: Scene) -> str | None:
    """Runs one hook; what there is to say about it when it did not succeed."""
    command = [part.replace("{event}", event).replace("{version}", str(release.version)) for part in hook.command]

    def run() -> RunResult:
        scene.ensure()
        return scene.target.run_once(
            release,
            hook.service,
            command,
            variables=scene.plan.environment.variables,
            timeout=timedelta(seconds=hook.timeout_seconds),
            token=scene.token,
        )

    try:
        result = QUICK.call(run, pause=lambda seconds: _pause(scene, seconds))
    except StaleFence:
        raise
    except DeliveryError as broken:
        return f"hook {hook.name} could not run: {broken.what}"
    return None if result.succeeded else f"hook {hook.name} ended with {result.exit_code}: {useful_line(result.tail)}"


def _drain(step: Step, scene: Scene) -> Evidence:
    """Blue finishes what it has begun. After the promotion a failure here is a remark: retiring blue drains it again."""
    blue = scene.plan.blue
    if blue is None:
        return Evidence(well=True, summary="there was nothing before")
    remark = _tidied(step, scene, lambda: scene.target.drain(blue, scene.token))
    if remark:
        return Evidence(well=True, summary=f"{blue.version.tag} could not be drained yet: {remark}", facts={"remarks": [remark]})
    return Evidence(well=True, summary=f"{blue.version.tag} has finished its work and stays warm")


def _restore(step: Step, scene: Scene) -> Evidence:
    """Blue gets every request, whatever state things are in. Users come first: a blue that has lost replicas takes them with those it
    has and is completed afterwards; only one that has none left is launched before.
    """
    plan, blue = scene.plan, scene.plan.blue
    _until_deadline(step, scene, lambda: _give_back_somehow(scene))
    if blue is None:
        return Evidence(well=True, summary=f"nobody is sent to {plan.release.version.tag} any more", facts={"counters": _counted(scene)})
    summary, facts = f"{blue.version.tag} has every user again", {"weights": _weights(scene, 0), "counters": _counted(scene)}
    if not _is_up(scene, blue) and (remark := _tidied(step, scene, lambda: _launch_again(scene, blue))):
        return Evidence(well=True, summary=f"{summary}, on fewer replicas: {remark}", facts={**facts, "remarks": [remark]})
    return Evidence(well=True, summary=summary, facts=facts)


def _give_back(scene: Scene) -> None:
    plan, blue = scene.plan, scene.plan.blue
    scene.target.shift(plan.release, percent=0, rest=blue, token=scene.token)
    if blue is not None:
        scene.target.promote(blue, scene.token)  # a promotion of green may have got halfway


def _give_back_somehow(scene: Scene) -> None:
    blue = scene.plan.blue
    scene.ensure()
    try:
        _give_back(scene)
    except (StaleFence, TransientError):
        raise
    except DeliveryError:
        if blue is None or blue.id in scene.target.observe().running:  # a platform that cannot be asked now is asked again
            raise
        _launch_again(scene, blue)


def _launch_again(scene: Scene, blue: Release) -> None:
    log.warning("%s is not wholly up and is launched again", blue.id)
    scene.target.launch(blue, variables=scene.plan.environment.variables, token=scene.token)
    try:
        _give_back(scene)  # what has just come up gets its part
    except (StaleFence, TransientError):
        raise
    except DeliveryError as again:  # it went down once more, or never came up: while users wait, that is no answer to stop at
        raise TransientError(again.what, next=again.next) from None


def _remove(step: Step, scene: Scene) -> Evidence:
    """Green stops, its containers stay for the post-mortem. One that cannot be stopped is a remark when it has no users."""
    release = scene.plan.release
    remark = _tidied(step, scene, lambda: scene.target.retire(release, keep_remains=True, token=scene.token))
    if not remark:
        return Evidence(well=True, summary=f"{release.version.tag} is stopped, its remains are kept")
    if scene.target.observe().weights.get(release.id, 0):
        return Evidence(well=False, summary=f"{release.version.tag} still has users and cannot be stopped: {remark}")
    return Evidence(well=True, summary=f"{release.version.tag} could not be stopped yet: {remark}", facts={"remarks": [remark]})


def _until_deadline(step: Step, scene: Scene, act: Callable[[], None]) -> None:
    """Transient errors are tried again for as long as the step may take; cancelling does not shorten the way back."""
    UNTIL_DEADLINE.call(act, within=timedelta(seconds=step.deadline_seconds), pause=lambda seconds: _pause(scene, seconds))


def _tidied(step: Step, scene: Scene, act: Callable[[], None]) -> str | None:
    """Why tidying up did not succeed; None when it did. A lost lease is raised."""

    def once() -> None:
        scene.ensure()
        act()

    try:
        _until_deadline(step, scene, once)
    except StaleFence:
        raise
    except DeliveryError as broken:
        return broken.what
    return None


def _pause(scene: Scene, seconds: float) -> None:
    scene.clock.wait(seconds)


def _is_up(scene: Scene, release: Release) -> bool:
    """Whether a release's replicas are up; not knowing counts as up, since the shift itself will tell."""
    try:
        return release.id in scene.target.observe().running
    except TransientError:
        return True


def _weights(scene: Scene, percent: int) -> dict[str, int]:
    green, blue = {scene.plan.release.version.tag: percent}, scene.plan.blue
    return {**green, blue.version.tag: 100 - percent} if blue else green


def _counted(scene: Scene) -> Mapping[str, object] | None:
    """Both versions' counters at this moment, for the report's sums per step; None when nobody knows them."""
    plan = scene.plan
    found = scrape(scene, (plan.release,) if plan.blue is None else (plan.release, plan.blue))
    if found is None:
        return None
    sides = {"green": found[plan.release.id], **({"blue": found[plan.blue.id]} if plan.blue else {})}
    return {side: _totals(counters) for side, counters in sides.items()}


def _totals(counters: Counters) -> Mapping[str, int]:
    return {"requests": round(counters.requests), "errors": round(counters.errors)}


def _what(broken: Exception) -> str:
    return broken.what if isinstance(broken, DeliveryError) else f"{type(broken).__name__}: {broken}"
