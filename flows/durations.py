"""How long what is pending in an environment would take there: measured on a copy in the environment before, scaled to its rows."""

import logging
from collections.abc import Mapping
from dataclasses import replace

from delivery.durations import Measured, Size, Work, estimates, measured_in, objections
from delivery.environment import Environment
from delivery.errors import DeliveryError, InvalidSettings
from delivery.journal import Progress
from delivery.plan import StepKind
from delivery.ports import Counting
from delivery.release import Release
from delivery.revisions import Admission
from flows.assembly import House

log = logging.getLogger("greenroom.durations")

# How far back rollouts are read. Where the database stands is told by the newest one that migrated.
REMEMBERED_ROLLOUTS = 50


def with_durations(house: House, told: Admission, release: Release, environment: Environment) -> Admission:
    """The database is asked for its rows only when they matter: most migrations change metadata, which takes the same on any."""
    found = measured_before(house, release, environment, told)
    needed = any(one.work is not Work.METADATA for one in found)
    sizes = _sizes(house, release, environment) if needed else {}
    estimated = estimates(found, sizes)
    stops = objections(estimated, environment.waiver, today=house.store.now().date())
    return replace(told, estimates=estimated, stalls=stops)


def require_short(told: Admission, release: Release, environment: Environment) -> None:
    """Raises `InvalidSettings` when users would wait for too long, or nobody knows for how long, and nobody answers for it."""
    stopping = [one for one in told.stalls if one.stops]
    if stopping:
        first, more = stopping[0], f" (and {len(stopping) - 1} more)" if stopping[1:] else ""
        raise InvalidSettings(
            f"{environment.title} is unchanged. {release.version.tag} is refused: {first.sentence().removesuffix('.')}: "
            f"{first.sql[:160]}{more}.",
            next=f"write it as it says; or waive {first.rule} on {first.table or '*'} with [[waiver]] in the environment's file: rule, "
            "table, reason, owner, until.",
        )


def measured_before(house: House, release: Release, environment: Environment, told: Admission) -> tuple[Measured, ...]:
    """Of what is pending, the newest measurement of each revision whose file is the same; in the order in which they will run."""
    pending = {one.id: one.sha256 for one in told.revisions}
    before, found = environment.environment.after, dict[str, tuple[Measured, ...]]()
    if not pending or before is None or release.review is None:
        return ()
    for record in house.store.rollouts(environment=before, limit=REMEMBERED_ROLLOUTS):
        progress = Progress.of(entry.event for entry in house.store.entries(record.id))
        review = progress.plan.release.review
        theirs = review.hashes() if review is not None else {}
        for step in progress.plan.forward:
            evidence = progress.finished.get(step.name) if step.kind is StepKind.PROVE else None
            parts = measured_in(evidence.facts.get("measured")) if evidence is not None else ()
            for name in {one.revision for one in parts} - found.keys():
                if name in pending and theirs.get(name) == pending[name]:
                    found[name] = tuple(one for one in parts if one.revision == name)
        if found.keys() == pending.keys():
            break
    return tuple(one for name in pending for one in found.get(name, ()))


def _sizes(house: House, release: Release, environment: Environment) -> Mapping[str, Size] | None:
    """None, and a word in the log, when it cannot be asked; what follows is then unknown, and never a number."""
    target = house.target(environment)
    if not isinstance(target, Counting):
        return None
    try:
        return target.table_sizes(release, variables=environment.variables)
    except DeliveryError as broken:
        log.warning("How many rows %s has is not known: %s", environment.name, broken)
        return None
