"""Does what an environment has still to apply fit the version that serves there? Asked before anything is published, staged or approved."""

from collections.abc import Mapping

from delivery.environment import Environment
from delivery.errors import InvalidSettings
from delivery.journal import Progress
from delivery.plan import StepKind
from delivery.release import Release
from delivery.revisions import Admission, MigrationReview, admit
from flows.assembly import House
from tasks.review import Applied

# How far back applied revisions are looked for. Where the database stands is told by the newest rollout that migrated.
REMEMBERED_ROLLOUTS = 50


def applied_in(house: House, environment: str) -> Applied | None:
    """How the environment's database stands, by its rollouts, those that were turned back included: the schema stays. None when no rollout
    has told.
    """
    revisions: tuple[str, ...] | None = None
    hashes: dict[str, str] = {}
    for record in house.store.rollouts(environment=environment, limit=REMEMBERED_ROLLOUTS):
        progress = Progress.of(entry.event for entry in house.store.entries(record.id))
        for step in progress.plan.forward:
            evidence = progress.finished.get(step.name) if step.kind is StepKind.MIGRATE else None
            if evidence is None:
                continue
            after, applied = evidence.facts.get("after"), evidence.facts.get("applied")
            if revisions is None and isinstance(after, list | tuple):
                revisions = tuple(str(name) for name in after)
            for one in applied if isinstance(applied, list | tuple) else ():
                if isinstance(one, Mapping):
                    hashes.setdefault(str(one.get("id")), str(one.get("sha256")))
    return Applied(revisions, hashes) if revisions is not None else None


def standing_of(house: House, environments: tuple[str, ...]) -> dict[str, Applied]:
    """The environments whose rollouts have told how their databases stand."""
    return {name: applied for name in environments if (applied := applied_in(house, name)) is not None}


def admission(house: House, review: MigrationReview | None, environment: Environment) -> Admission:
    """What the environment makes of a release's migrations today."""
    live, applied = house.store.live(environment.name), applied_in(house, environment.name)
    return admit(
        review,
        recorded=applied.revisions if applied else None,
        serves=live.version.tag if live else None,
        waivers=environment.waiver,
        today=house.store.now().date(),
    )


def require_admission(house: House, release: Release, environment: Environment) -> None:
    """Raises `InvalidSettings` when a pending migration does not fit what serves in the environment, and nobody answers for it."""
    if release.migrations is not None:
        refuse(admission(house, release.review, environment), environment, release.version.tag)


def refuse(told: Admission, environment: Environment, release: str) -> None:
    """Raises `InvalidSettings` for what was not admitted."""
    if told.refusal:
        raise InvalidSettings(f"{environment.title} is unchanged. {release} is refused: {told.refusal}.", next=f"{told.way_out}.")
