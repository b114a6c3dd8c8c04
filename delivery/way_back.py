"""What a rollout's own events, and those of others, tell of taking its migrations back."""

from collections.abc import Iterable, Mapping

from delivery.downgrade import Known
from delivery.journal import Evidence, Progress
from delivery.plan import StepKind
from delivery.revisions import MigrationReview

Proofs = Mapping[str, frozenset[str]]


def evidence_of(progress: Progress, kind: StepKind) -> Evidence | None:
    """What the first finished step of a kind found, forward or back."""
    names = [step.name for step in (*progress.plan.forward, *progress.plan.back) if step.kind is kind]
    return next((progress.finished[name] for name in names if name in progress.finished), None)


def names_in(evidence: Evidence | None, key: str) -> tuple[str, ...] | None:
    """A list of names among the facts of a step; None when it tells of none."""
    told = evidence.facts.get(key) if evidence is not None else None
    return tuple(map(str, told)) if isinstance(told, list | tuple) else None


def known_of(progress: Progress, *, recorded: tuple[str, ...] | None, proven: Proofs) -> Known:
    """`recorded` and `proven` are what other rollouts tell; what this one's own rehearsal has seen goes first, since it came before its
    migration did anything.
    """
    plan = progress.plan
    began = any(step.name in progress.started for step in plan.forward if step.kind is StepKind.MIGRATE)
    attempts = max((progress.started.get(step.name, 0) for step in plan.back if step.kind is StepKind.DOWNGRADE), default=0)
    own = proven_by(progress, plan.release.review)
    policy = plan.environment.approval
    asked = policy.policy != "automatic"
    return Known(
        began=began,
        arrived=names_in(evidence_of(progress, StepKind.MIGRATE), "after"),
        recorded=names_in(evidence_of(progress, StepKind.PROVE), "recorded") or recorded,
        proven={name: proven.get(name, frozenset()) | own.get(name, frozenset()) for name in {*proven, *own}},
        approved=plan.request is not None and plan.kind not in policy.automatic_for if asked else None,
        again=attempts > 1,
    )


def proven_by(progress: Progress, review: MigrationReview | None) -> Proofs:
    """Which releases, by id, were well on a copy from which a rollout's rehearsal had taken revisions back; only for revisions whose files
    are those of `review`: one that was taken back may have been written anew under its old name.
    """
    proof = evidence_of(progress, StepKind.PROVE)
    told = proof.facts.get("taken_back") if proof is not None and proof.well else None
    if not isinstance(told, Mapping) or review is None or progress.plan.release.review is None:
        return {}
    theirs, ours = progress.plan.release.review.hashes(), review.hashes()
    revisions, versions = (told.get(key) for key in ("revisions", "versions"))
    if not isinstance(revisions, list | tuple) or not isinstance(versions, list | tuple):
        return {}
    return {str(name): frozenset(map(str, versions)) for name in revisions if name in ours and ours[name] == theirs.get(str(name))}


def together(proofs: Iterable[Proofs]) -> Proofs:
    """What several rollouts have proven."""
    found: dict[str, frozenset[str]] = {}
    for one in proofs:
        for name, versions in one.items():
            found[name] = found.get(name, frozenset()) | versions
    return found
