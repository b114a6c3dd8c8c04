"""Does what an environment has still to apply fit the version that serves there? Asked before anything is published, staged or approved."""

from collections.abc import Mapping

from blocks.settings import environment_names
from delivery.contraction import contractions
from delivery.downgrade import Known
from delivery.environment import Environment
from delivery.errors import InvalidSettings
from delivery.journal import Progress
from delivery.operations import is_waived
from delivery.plan import StepKind
from delivery.release import Release
from delivery.revisions import Admission, MigrationReview, admit
from delivery.way_back import evidence_of, known_of, names_in, proven_by, together
from flows.assembly import House
from flows.durations import REMEMBERED_ROLLOUTS, require_short, with_durations
from tasks.proving import RULE
from tasks.review import Applied


def applied_in(house: House, environment: str, *, ended: bool = False) -> Applied | None:
    """How the environment's database stands, by its rollouts, those that were turned back included: the schema stays, unless they say that
    it did not. None when no rollout has told. With `ended` a rollout that is under way is left out.
    """
    revisions: tuple[str, ...] | None = None
    hashes: dict[str, str] = {}
    undone: set[str] = set()
    for record in house.store.rollouts(environment=environment, limit=REMEMBERED_ROLLOUTS):
        if ended and not record.ended_at:
            continue
        progress = Progress.of(entry.event for entry in house.store.entries(record.id))
        back = evidence_of(progress, StepKind.DOWNGRADE)
        undone |= {*(names_in(back, "undone") or ())}
        revisions = revisions or names_in(back, "after")
        for step in progress.plan.forward:
            evidence = progress.finished.get(step.name) if step.kind is StepKind.MIGRATE else None
            if evidence is None:
                continue
            after, applied = evidence.facts.get("after"), evidence.facts.get("applied")
            if revisions is None and isinstance(after, list | tuple):
                revisions = tuple(str(name) for name in after)
            for one in applied if isinstance(applied, list | tuple) else ():
                if isinstance(one, Mapping) and one.get("id") not in undone:
                    hashes.setdefault(str(one.get("id")), str(one.get("sha256")))
    return Applied(revisions, hashes) if revisions is not None else None


def standing_of(house: House, environments: tuple[str, ...]) -> dict[str, Applied]:
    """The environments whose rollouts have told how their databases stand."""
    return {name: applied for name in environments if (applied := applied_in(house, name)) is not None}


def admission(house: House, review: MigrationReview | None, environment: Environment) -> Admission:
    """What the environment makes of a release's migrations today. What needs the clone is settled where the environment makes one, and by
    the ones on which revisions were tried in the environment before.
    """
    live, applied = house.store.live(environment.name), applied_in(house, environment.name)
    return admit(
        review,
        on_a_clone=review.hashes() if environment.prove.clone and review is not None else proofs_before(house, environment, review),
        recorded=applied.revisions if applied else None,
        serves=live.version.tag if live else None,
        waivers=environment.waiver,
        today=house.store.now().date(),
    )


def require_admission(house: House, release: Release, environment: Environment) -> None:
    """Raises `InvalidSettings` when a pending migration does not fit what serves in the environment and nobody answers for it, or when the
    environment before proves migrations, and did not prove this one beside the version that serves here. A revision that contracts needs
    that proof wherever there is an environment before.
    """
    if release.migrations is None:
        return
    told = admission(house, release.review, environment)
    refuse(told, environment, release.version.tag)
    require_short(with_durations(house, told, release, environment), release, environment)
    live, before = house.store.live(environment.name), environment.environment.after
    unproven_is_waived = is_waived(RULE, environment.waiver, today=house.store.now().date())
    if live is None or before is None or unproven_is_waived:
        return
    proves = house.environment(before).prove.clone
    proofs = proofs_before(house, environment, release.review)
    for one in told.revisions:
        contracting = contractions(one.operations)
        if (proves or contracting) and live.id not in proofs.get(one.id, ()):
            beside = ", ".join(sorted(proofs.get(one.id, ()))) or "no version"
            raise InvalidSettings(
                f"{environment.title} is unchanged. {release.version.tag} is refused: revision {one.id} was proven beside {beside}, and "
                f"{live.id} serves." + (f" It contracts: {', '.join(contracting)}." if contracting else ""),
                next=("" if proves else f"set prove.clone = true for {before} and release there again; or ")
                + f"bring {environment.name} to one of those first; or waive {RULE} on * with [[waiver]] in the environment's file.",
            )


def proofs_before(house: House, environment: Environment, review: MigrationReview | None) -> dict[str, frozenset[str]]:
    """The revisions that ran well on a copy of the database of the environment before, with the releases, by id, that lived through it; of
    those in `review`, as long as their files are the same.
    """
    ours = review.hashes() if review is not None else {}
    found: dict[str, frozenset[str]] = {}
    before = environment.environment.after
    for record in house.store.rollouts(environment=before, limit=REMEMBERED_ROLLOUTS) if before else ():
        progress = Progress.of(entry.event for entry in house.store.entries(record.id))
        theirs = progress.plan.release.review.hashes() if progress.plan.release.review is not None else {}
        for step in progress.plan.forward:
            evidence = progress.finished.get(step.name) if step.kind is StepKind.PROVE else None
            if evidence is not None and evidence.well:
                revisions, versions = (evidence.facts.get(key) for key in ("proven", "versions"))
                if isinstance(revisions, list | tuple) and isinstance(versions, list | tuple):
                    found |= {
                        str(name): found.get(str(name), frozenset()) | set(map(str, versions))
                        for name in revisions
                        if theirs.get(str(name)) == ours.get(str(name))
                    }
    return found


def known_of_way_back(house: House, progress: Progress) -> Known:
    """What the journal tells of taking an open rollout's migrations back: where its database stood before it, and what was proven on
    copies of the database of the environment before.
    """
    environment, review = progress.plan.environment, progress.plan.release.review
    applied, before = applied_in(house, environment.name, ended=True), environment.environment.after
    records = house.store.rollouts(environment=before, limit=REMEMBERED_ROLLOUTS) if before else ()
    stories = (Progress.of(entry.event for entry in house.store.entries(record.id)) for record in records)
    proven = together(proven_by(story, review) for story in stories)
    return known_of(progress, recorded=applied.revisions if applied else None, proven=proven)


def serving_after(house: House, environment: Environment) -> tuple[Release, ...]:
    """What is live where releases go after this environment."""
    names = environment_names(house.settings.environments_dir)
    after = [name for name in names if name != environment.name and house.environment(name).environment.after == environment.name]
    return tuple(live for name in after if (live := house.store.live(name)) is not None)


def refuse(told: Admission, environment: Environment, release: str) -> None:
    """Raises `InvalidSettings` for what was not admitted."""
    if told.refusal:
        raise InvalidSettings(f"{environment.title} is unchanged. {release} is refused: {told.refusal}.", next=f"{told.way_out}.")
