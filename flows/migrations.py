"""Does what an environment has still to apply fit the version that serves there? Asked before anything is published, staged or approved."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from blocks.settings import environment_names
from delivery.contraction import GONE, WAY_OUT, Contraction, Proof, contractions, proofs_in
from delivery.downgrade import Known
from delivery.environment import Environment
from delivery.errors import InvalidSettings
from delivery.journal import Evidence, Progress
from delivery.operations import MigrationWaiver, is_waived
from delivery.plan import StepKind
from delivery.release import Release, build_of
from delivery.revisions import Admission, MigrationReview, ReviewedRevision, admit
from delivery.way_back import evidence_of, known_of, names_in, proven_by, together
from flows.assembly import House
from flows.durations import REMEMBERED_ROLLOUTS, require_short, with_durations
from tasks.proving import RULE as CLONE
from tasks.review import Applied
from tasks.rollout import held_warm


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
    the ones on which revisions were tried in the environment before; and so is whether anybody uses what is dropped.
    """
    live, applied = house.store.live(environment.name), applied_in(house, environment.name)
    here = review.hashes() if environment.prove.clone and review is not None else None
    return admit(
        review,
        on_a_clone=proofs_before(house, environment, review) if here is None else here,
        unused=_unused_here(house, environment, review) if here is None else here,
        recorded=applied.revisions if applied else None,
        serves=live.version.tag if live else None,
        waivers=environment.waiver,
        today=house.store.now().date(),
    )


def _unused_here(house: House, environment: Environment, review: MigrationReview | None) -> frozenset[str]:
    """The revisions that take something away which was all proved, in the environment before, to be used by nobody who serves here, or
    for which somebody answers.
    """
    told = contractions_at(house, environment, review.revisions if review is not None else ())
    used = {proof.contraction.revision for proof, waiver in told if not proof.holds and waiver is None}
    return frozenset(proof.contraction.revision for proof, _ in told) - used


def require_admission(house: House, release: Release, environment: Environment) -> None:
    """Raises `InvalidSettings` when a pending migration does not fit what serves in the environment and nobody answers for it, or when the
    environment before proves migrations, and did not prove this one beside the version that serves here. What a revision takes away must
    have been proved there to be used by nobody who serves here, whether that environment says that it proves migrations or not.
    """
    if release.migrations is None:
        return
    told = admission(house, release.review, environment)
    used = [proof for proof, waiver in contractions_at(house, environment, told.revisions) if not proof.holds and waiver is None]
    if used:
        more = f" (and {len(used) - 1} more)" if used[1:] else ""
        raise InvalidSettings(
            f"{environment.title} is unchanged. {release.version.tag} is refused: revision {used[0].contraction.revision} contracts: "
            f"{used[0].sentence()}{more}.",
            next=WAY_OUT,
        )
    refuse(told, environment, release.version.tag)
    require_short(with_durations(house, told, release, environment), release, environment)
    live, before = house.store.live(environment.name), environment.environment.after
    if live is None or before is None or not house.environment(before).prove.clone or _unproven_is_waived(house, environment):
        return
    proofs = proofs_before(house, environment, release.review)
    for one in told.revisions:
        if live.id not in proofs.get(one.id, ()):
            beside = ", ".join(sorted(proofs.get(one.id, ()))) or "no version"
            raise InvalidSettings(
                f"{environment.title} is unchanged. {release.version.tag} is refused: revision {one.id} was proven beside {beside}, "
                f"and {live.id} serves.",
                next=f"bring {environment.name} to one of those first; or waive {CLONE} on * with [[waiver]] in its file.",
            )


def contractions_at(
    house: House, environment: Environment, pending: Sequence[ReviewedRevision]
) -> tuple[tuple[Proof, MigrationWaiver | None], ...]:
    """Everything that is pending and takes something away, for each version that serves here or is kept warm: was it proved that nobody
    uses it, and who answers for it if not? An environment that makes copies of its own settles it in its own rehearsal, and so does one
    that stands before others, for those.
    """
    live, today = house.store.live(environment.name), house.store.now().date()
    if live is None or not pending or _settles_it_itself(house, environment):
        return ()
    known = _contractions_before(house, environment, pending)
    found = []
    for release in (live, *held_warm(house.store, environment.name, now=house.store.now())):
        wanted = [one for revision in pending for one in contractions(revision)]
        wanted += [proof.contraction for proof in known if proof.contraction.rule == GONE]
        for one in dict.fromkeys(wanted):
            proofs = [proof for proof in known if proof.contraction == one and build_of(proof.release) == release.build]
            proof = next(
                (proof for proof in proofs if proof.holds), proofs[0] if proofs else _nobody_looked(house, environment, one, release)
            )
            found.append((proof, None if proof.holds else one.waiver(environment.waiver, today)))
    return tuple(found)


def _settles_it_itself(house: House, environment: Environment) -> bool:
    """Before there is an environment to prove it in, a copy of one's own does; a stage whose users are other stages needs neither."""
    if environment.environment.after is not None:
        return False
    return environment.prove.clone or bool(_names_after(house, environment))


def _nobody_looked(house: House, environment: Environment, one: Contraction, release: Release) -> Proof:
    before = environment.environment.after
    if before is None:
        return Proof(
            one, release.id, holds=False, how=f"{environment.name} makes no copy of its database, and no environment comes before it"
        )
    why = "" if house.environment(before).prove.clone else f": set prove.clone = true there and release once more in {before}"
    return Proof(one, release.id, holds=False, how=f"no rehearsal in {before} has looked at it{why}")


def _unproven_is_waived(house: House, environment: Environment) -> bool:
    return is_waived(CLONE, environment.waiver, today=house.store.now().date())


def _contractions_before(house: House, environment: Environment, pending: Iterable[ReviewedRevision]) -> tuple[Proof, ...]:
    ours = {one.id: one.sha256 for one in pending}
    return tuple(
        proof
        for evidence, theirs in _rehearsals_before(house, environment)
        for proof in proofs_in(evidence)
        if proof.contraction.revision in ours and theirs.get(proof.contraction.revision) == ours[proof.contraction.revision]
    )


def proofs_before(house: House, environment: Environment, review: MigrationReview | None) -> dict[str, frozenset[str]]:
    """The revisions that ran well on a copy of the database of the environment before, with the releases, by id, that lived through it; of
    those in `review`, as long as their files are the same.
    """
    ours = review.hashes() if review is not None else {}
    found: dict[str, frozenset[str]] = {}
    for evidence, theirs in _rehearsals_before(house, environment):
        revisions, versions = (evidence.facts.get(key) for key in ("proven", "versions"))
        if isinstance(revisions, list | tuple) and isinstance(versions, list | tuple):
            found |= {
                str(name): found.get(str(name), frozenset()) | set(map(str, versions))
                for name in revisions
                if theirs.get(str(name)) == ours.get(str(name))
            }
    return found


def _rehearsals_before(house: House, environment: Environment) -> Iterator[tuple[Evidence, Mapping[str, str]]]:
    """What went well on copies in the environment before, with the hashes of the revisions as they were then."""
    before = environment.environment.after
    for record in house.store.rollouts(environment=before, limit=REMEMBERED_ROLLOUTS) if before else ():
        progress = Progress.of(entry.event for entry in house.store.entries(record.id))
        theirs = progress.plan.release.review.hashes() if progress.plan.release.review is not None else {}
        for step in progress.plan.forward:
            evidence = progress.finished.get(step.name) if step.kind is StepKind.PROVE else None
            if evidence is not None and evidence.well:
                yield evidence, theirs


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
    return tuple(live for name in _names_after(house, environment) if (live := house.store.live(name)) is not None)


def beside_whom(house: House, environment: Environment, review: MigrationReview | None) -> tuple[Release, ...]:
    """Who must live with the release's migrations besides what is live here: what is live where it goes next, and, when a migration takes
    something away, what is kept warm there and here.
    """
    found = serving_after(house, environment)
    if review is not None and any(contractions(one) for one in review.revisions):
        names = (environment.name, *_names_after(house, environment))
        found += tuple(warm for name in names for warm in held_warm(house.store, name, now=house.store.now()))
    return tuple({one.id: one for one in found}.values())


def _names_after(house: House, environment: Environment) -> tuple[str, ...]:
    names = environment_names(house.settings.environments_dir)
    return tuple(name for name in names if name != environment.name and house.environment(name).environment.after == environment.name)


def refuse(told: Admission, environment: Environment, release: str) -> None:
    """Raises `InvalidSettings` for what was not admitted."""
    if told.refusal:
        raise InvalidSettings(f"{environment.title} is unchanged. {release} is refused: {told.refusal}.", next=f"{told.way_out}.")
