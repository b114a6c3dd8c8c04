"""What may run in an environment, asked where it is about to: the one place that knows policy, keys, journal and registry together."""

from dataclasses import replace
from datetime import datetime

from blocks.documents import fingerprint
from delivery.application import Application
from delivery.approval import Approval, Decision, Granted, PromotionRequest, broken_glass, decide, signed_words
from delivery.dsse import NotProven
from delivery.environment import Environment
from delivery.errors import InvalidSettings, NotApproved
from delivery.image_scan import require_fresh
from delivery.links import Stage
from delivery.plan import Plan
from delivery.provenance import Build, ProvenancePolicy
from delivery.release import Release
from delivery.source import Source
from flows.assembly import House
from flows.telling import this_run
from tasks.chain import require_same_sboms, signed_facts
from tasks.sign import base_materials, sign_provenance
from tasks.trust import require_proven


def require_may_begin(house: House, plan: Plan) -> None:
    """Before the first act, forward or back: raises `NotApproved` or `NotProven`, in one sentence, and the environment stays as it is."""
    require_proven_release(house, plan)
    _require_scanned(house, plan, beginning=True)
    _require_signed_approval(house, plan, beginning=True)


def require_may_go_live(house: House, plan: Plan) -> None:
    """Before the promotion, once more: a key that was taken away, or a person, counts no longer."""
    require_proven_release(house, plan)
    _require_scanned(house, plan, beginning=False)
    _require_signed_approval(house, plan, beginning=False)


def decision_on(house: House, request: PromotionRequest) -> Decision:
    """What people's words amount to; where only signatures count, each is verified now."""
    plan = request.plan
    policy = plan.environment.approval
    words = request.approvals
    if policy.policy == "signed":
        people = house.people()
        words = signed_words(request, lambda message, signature: people.signer_of(message, signature, policy.allowed_signers))
    return decide(
        policy,
        words,
        kind=plan.kind,
        author=plan.release.author,
        expires_at=request.expires_at,
        now=house.store.now(),
        glass=_glass(house, request),
    )


def _glass(house: House, request: PromotionRequest) -> Approval | None:
    """Verified anew each time: who was taken out of the file breaks nothing any longer."""
    allowed = request.plan.environment.approval.break_glass
    if not allowed or not any(word.decision == "break-glass" for word in request.approvals):
        return None
    people = house.people()
    return broken_glass(request, lambda message, signature: people.signer_of(message, signature, allowed))


def _require_signed_approval(house: House, plan: Plan, *, beginning: bool) -> None:
    """Where only signatures count they are what the rollout itself goes by, whatever a run's state or a row in the journal says.

    Going back to a release that has lived here asks nobody. A rollout may begin until its approval expires, and ends when it ends.
    """
    if plan.environment.approval.policy != "signed" or plan.kind == "rollback":
        return
    title = plan.environment.title
    request = house.store.request(plan.request) if plan.request else None
    if request is None or fingerprint(plan) != request.plan_hash:
        raise NotApproved(f"{title} does not take {plan.release.id}: nobody was asked about this very plan.", next="promote it.")
    if beginning and (request.closed or house.store.now() >= request.expires_at):
        why = f"is closed: {request.closed}" if request.closed else f"expired at {request.expires_at:%Y-%m-%d %H:%M} UTC"
        raise NotApproved(f"{title} does not take {plan.release.id}: request {request.number} {why}.", next="promote it once more.")
    if not isinstance(decision_on(house, request), Granted):
        raise NotApproved(
            f"{title} does not take {plan.release.id}: request {request.number} has no valid signature of enough people.",
            next=f"sign it: `greenroom approve {request.number}`. Who counts is in {plan.environment.approval.allowed_signers}.",
        )


def _require_scanned(house: House, plan: Plan, *, beginning: bool) -> None:
    """Where scanned images are asked for a trusted key said so, not long ago; what it signed lies beside them when the rollout begins.

    Going back is never kept waiting for a scan: the release served users before, and those of the sick one wait.
    """
    environment, release = plan.environment, plan.release
    if not environment.image.scan_days or plan.kind == "rollback":
        return
    facts = signed_facts(release, Stage.SCAN, policy_of(house, environment), store=house.store, keys=house.keys())
    try:
        require_fresh(facts, release, environment.image, house.store.now())
        if beginning and facts is not None:
            require_same_sboms(facts, release, house.known_registry())
    except NotProven as refused:
        raise NotProven(f"{environment.title} does not take {release.id}. {refused.what}", next=refused.next) from None


def require_proven_release(house: House, plan: Plan) -> None:
    """Raises `NotProven`, in one sentence, when the plan's environment does not trust where its release comes from."""
    environment = plan.environment
    policy = policy_of(house, environment)
    try:
        require_proven(
            plan.release, policy, store=house.store, keys=house.keys(), registry=house.known_registry() if policy.required else None
        )
    except NotProven as not_proven:
        raise NotProven(f"{environment.title} does not take {plan.release.id}. {not_proven.what}", next=not_proven.next) from None


def policy_of(house: House, environment: Environment) -> ProvenancePolicy:
    """The environment's policy; what it leaves empty is this installation's own repository and builder."""
    policy, installation = environment.provenance, house.settings
    return replace(policy, repository=policy.repository or installation.repository, builder=policy.builder or installation.builder)


def require_signer(house: House, environment: Environment) -> None:
    """Raises `InvalidSettings` when nothing is signed here and the environment takes signed releases, or signed scans, only."""
    wanted = "releases" if environment.provenance.required else "scans" if environment.image.scan_days else None
    if wanted and house.signer() is None:
        raise InvalidSettings(
            f"{environment.title} takes signed {wanted} only, and there is no block signing-key/default here.",
            next="make a key: `python -m deployments.keys` (docs/operating.md, Signed releases).",
        )


def sign_release(house: House, release: Release, source: Source, application: Application, *, started: datetime) -> tuple[bytes, ...]:
    """Signs the provenance of every image of a release that was just published; nothing where there is no key."""
    signer, installation = house.signer(), house.settings
    if signer is None:
        return ()
    run = this_run()
    build = Build(
        builder=installation.builder,
        invocation=f"urn:uuid:{run}" if run else f"urn:greenroom:direct:{release.id}",
        started=started,
        finished=house.store.now(),
        main_branch=installation.main_branch,
        bases=base_materials(application.bases, installation.base_images),
    )
    return sign_provenance(release, source, build, signer, house.registry())
