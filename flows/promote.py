"""From a published release to an environment: the request, the approval, the rollout."""

from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

from prefect import flow
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field, ValidationError, WithJsonSchema

from blocks.documents import fingerprint
from delivery.approval import Approval, Expired, Granted, Pending, PromotionRequest, Refused, words_to_break_glass, words_to_sign
from delivery.durations import total_sentence
from delivery.environment import Environment, Kind
from delivery.errors import DeliveryError, InvalidSettings, NotApproved
from delivery.plan import Plan, plan_rollout
from delivery.record import RolloutRecord
from delivery.release import Release
from delivery.revisions import Admission
from flows.assembly import House, open_house
from flows.durations import with_durations
from flows.going import answers_for
from flows.messages import in_one_message
from flows.migrations import admission, contractions_at, require_admission
from flows.parameters import EnvironmentName, PromotionKind, ReleaseId, RolloutId
from flows.rollout import closed_rollout_of, log, require_eyes, require_no_hold, result_of, run_rollout
from flows.signing import sign_approval
from flows.telling import Notices, RunView, Telling, leave_artifact, left_artifact, this_run
from flows.trust import decision_on
from flows.validation import require_values_for
from tasks.report import evidence_markdown


@flow(name="promote", flow_run_name="{release} to {environment}", retries=0, persist_result=False)
@in_one_message
def promote(
    release: ReleaseId,
    environment: EnvironmentName = "production",
    kind: PromotionKind = "normal",
    planned: bool = True,  # noqa: FBT001, FBT002  parameters of a run have names
    remediates: RolloutId | None = None,
) -> str:
    """Brings a published release to an environment, after the approval that the environment asks for.

    While people think about it the run is suspended: press Resume, fill in the form. The evidence is linked in the form.

    Args:
        release: The release's id, as the pipeline ends with it, for instance v1.4.2-3f2a1bc9.
        environment: The environment that gets it; it must have lived in the one before it.
        kind: hotfix uses the shorter way of approval where the environment has one; config changes settings and no code: it also brings
            the live release anew, with the variables and the versions of secrets that the environment's file names now.
        planned: No for work that nobody had planned; counts for the delivery metrics.
        remediates: The rollout whose failure this one mends, for instance production-7.

    """
    with open_house() as house, Telling() as telling:
        request = ask(house, release, environment, kind, key=str(this_run()), planned=planned, remediates=remediates)
        if done := closed_rollout_of(house, request):
            return result_of(done)
        approved_by = gate(house, request, telling)
        return result_of(carry_out(house, request, telling, approved_by=approved_by))


def ask(
    house: House, release_id: str, environment_name: str, kind: Kind, *, key: str, planned: bool = True, remediates: str | None = None
) -> PromotionRequest:
    """The numbered request of this run. The first call reads the environment file and freezes the plan; a resumed run finds it again."""
    known = [request for request in house.store.requests(environment=environment_name) if request.key == key]
    if known:
        return known[0]
    environment = house.environment(environment_name)
    require_no_hold(house, environment)
    release = release_to_bring(house, house.store.release(release_id), environment, kind)
    require_lived_before(house, release, environment)
    if remediates:
        require_rollout_of(house, environment_name, remediates)
    plan = plan_for(house, release, environment, kind, planned=planned, remediates=remediates)
    if plan.brings_code:
        require_admission(house, release, environment)
    require_eyes(house, plan)
    require_values_for(house, plan)
    expires_at = house.store.now() + timedelta(hours=environment.approval.expires_hours)
    house.store.save_release(plan.release)
    request = house.store.open_request(plan, key=key, expires_at=expires_at)
    log.info("Request %d: %s", request.number, plan.sentence())
    return request


def release_to_bring(house: House, release: Release, environment: Environment, kind: Kind) -> Release:
    """The release itself; where it is live already and shall have other settings, its images as a release of their own."""
    live = house.store.live(environment.name)
    if kind != "config" or live is None or live.build != release.build:
        return release
    return release.with_settings(1 + sum(one.build == release.build for one in house.store.releases()))


def plan_for(
    house: House, release: Release, environment: Environment, kind: Kind, *, planned: bool = True, remediates: str | None = None
) -> Plan:
    """The plan from how the environment stands now."""
    return plan_rollout(
        release,
        environment,
        capabilities=house.target(environment).capabilities,
        blue=house.store.live(environment.name),
        kind=kind,
        planned=planned,
        remediates=remediates,
    )


def require_rollout_of(house: House, environment: str, rollout: str) -> None:
    """Raises `InvalidSettings` when there never was such a rollout, or only elsewhere."""
    if (found := house.store.rollout(rollout).environment) != environment:
        raise InvalidSettings(
            f"{environment.capitalize()} is unchanged. {rollout} was in {found}, expected a rollout of {environment}.",
            next="name the rollout whose failure this release mends.",
        )


def require_lived_before(house: House, release: Release, environment: Environment) -> None:
    """Raises `InvalidSettings` when the release has not been live where this environment's releases must have lived first."""
    before = environment.environment.after
    if before is None or _newest_promotion(house, before, release.build):
        return
    raise InvalidSettings(
        f"{environment.title} is unchanged. {release.id} has never been live in {before}, expected that before {environment.name}.",
        next=f"bring it to {before} first: `greenroom release {release.sha} --until {before}`.",
    )


def gate(house: House, request: PromotionRequest, telling: Telling) -> tuple[str, ...]:
    """Who approved. Suspends the run until enough people have; raises `NotApproved` when it is closed, rejected or expired.

    The journal decides, not the state of the run: anybody who reaches Prefect's API could set that.
    """
    forms = len(request.approvals)
    while True:
        match _decision(house, request):
            case Granted(by=by, glass=glass):
                return tuple(f"{person} (broke the glass)" for person in by) if glass else by
            case Refused(by=by, reason=reason):
                return _end(house, request, f"{by} rejected it: {reason or 'no reason given'}")
            case Expired():
                return _end(house, request, f"nobody approved it within {request.plan.environment.approval.expires_hours:g} hours")
            case Pending(missing=missing):
                forms += 1
                answer = _wait_for_answer(house, request, telling, form=forms, missing=missing)
                if answer is not None:
                    request = _write_down(house, request, answer)


class ApprovalForm(RunInput):
    """What a person answers. Short on purpose: the UI clips long forms, and the evidence is one link away."""

    # To be written, not chosen: in Prefect's older UI a list inside this dialog closes as soon as the mouse opens it.
    decision: Annotated[
        Literal["approve", "reject", "break-glass"],
        Field(description="Write approve or reject."),
        WithJsonSchema({"type": "string", "pattern": "^(approve|reject)$"}),
    ]
    approver: Annotated[str, Field(min_length=1, max_length=100, pattern=r"\S", description="Your name, as it is kept in the journal.")]
    reason: Annotated[str, Field(max_length=500, description="Why, in one sentence.")] = ""
    channel: Annotated[Literal["ui", "cli", "api"], Field(description="Where this answer comes from.")] = "ui"


class SignedApprovalForm(ApprovalForm):
    """Where only signatures count."""

    signature: Annotated[
        str, Field(max_length=10_000, description="To approve: what `greenroom approve NUMBER --print` printed. Your name is the key's.")
    ] = ""


class BreakGlassForm(SignedApprovalForm):
    """Where some may break the glass; whether a plain approval needs its signature is the policy's to say."""

    decision: Annotated[
        Literal["approve", "reject", "break-glass"],
        Field(description="Write approve, reject, or, in an emergency and signed (greenroom approve NUMBER --break-glass), break-glass."),
        WithJsonSchema({"type": "string", "pattern": "^(approve|reject|break-glass)$"}),
    ]


def carry_out(house: House, request: PromotionRequest, telling: Telling, *, approved_by: tuple[str, ...]) -> RolloutRecord:
    """The rollout, if the world is still the one that was approved."""
    sign_approval(house, request)
    record = run_rollout(
        house,
        request.plan,
        by=", ".join(approved_by),
        telling=telling,
        verify=lambda: require_as_approved(house, request),
    )
    house.store.close_request(request.number, f"carried out as {record.id}: {record.ending or 'under way'}")
    return record


def require_as_approved(house: House, request: PromotionRequest) -> None:
    """Once nobody else can act, and before anything is done."""
    require_same_world(house, request)
    require_go(house, request)


def require_same_world(house: House, request: PromotionRequest) -> None:
    """Raises `NotApproved` when today's plan, under the environment file that was frozen, is not the one that people approved."""
    plan = request.plan
    if hold := house.store.hold_on(plan.environment.name):
        _end(
            house,
            request,
            f"promotions to {plan.environment.name} are held by {hold.by} until `greenroom unhold`: {hold.reason.rstrip('.')}",
        )
    live = house.store.live(plan.environment.name)
    now, then = (release.version.tag if release else "nothing" for release in (live, plan.blue))
    if (live and live.id) != (plan.blue and plan.blue.id):
        _end(house, request, f"{now} is live now, and the approval was given while {then} was")
    capabilities = house.target(plan.environment).capabilities
    again = plan_rollout(
        plan.release,
        plan.environment,
        capabilities=capabilities,
        blue=live,
        kind=plan.kind,
        request=request.number,
        planned=plan.planned,
        remediates=plan.remediates,
    )
    if fingerprint(again) != request.plan_hash:
        _end(house, request, "its plan would not be the one that was approved")


def require_go(house: House, request: PromotionRequest) -> None:
    """Raises `NotApproved`, and ends the request, when a rule of the environment says no: it is asked just before the first act, too."""
    against = "; ".join(answer.sentence() for answer in answers_for(house, request) if not answer.go)
    decision = decision_on(house, request)
    if isinstance(decision, Granted) and decision.glass:
        _tell_broken_glass(house, request, decision, against)
    elif against:
        _end(house, request, against)


def _tell_broken_glass(house: House, request: PromotionRequest, granted: Granted, against: str) -> None:
    """Loud: everybody hears it before the first act, in a message of its own that no later one replaces."""
    plan = request.plan
    sentence = (
        f"THE GLASS WAS BROKEN. {granted.by[0]} brings {plan.release.version.tag} to {plan.environment.name} by request {request.number}, "
        f"past {against or 'the quorum'}. Reason: {granted.glass}"
    )
    log.warning("%s", sentence)
    house.store.put_notice(f"{plan.environment.name}/glass-{request.number}", sentence, None, once=True)


def _decision(house: House, request: PromotionRequest) -> Pending | Granted | Refused | Expired:
    if request.closed:
        raise NotApproved(
            f"{request.plan.environment.title} is unchanged. Request {request.number} is closed: {request.closed}.",
            next="ask again: start promote once more.",
        )
    return decision_on(house, request)


def _end(house: House, request: PromotionRequest, why: str) -> tuple[str, ...]:
    """Closes the request, tells people, and raises `NotApproved` with the same sentence."""
    sentence = (
        f"{request.plan.environment.title} is unchanged. Request {request.number} for {request.plan.release.version.tag} ended: {why}."
    )
    house.store.close_request(request.number, why)
    house.store.put_notice(notice_key(request), sentence, None)
    raise NotApproved(sentence, next="ask again when that has changed: start promote once more.")


def _wait_for_answer(house: House, request: PromotionRequest, telling: Telling, *, form: int, missing: int) -> ApprovalForm | None:
    """Suspends the run; the flow starts again from its first line once somebody has answered, and then this returns the answer. None: the
    run was set going without one, and has to ask again under another key.
    """
    plan, run_id = request.plan, this_run()
    if run_id is None:
        raise DeliveryError("Only a run of promote can wait for an approval.", next="start the deployment promote/promote.")
    evidence = left_artifact(run_id, evidence_key(request))
    takes = ""
    if evidence is None:  # a resumed run comes by here again, and has asked already
        migrations = pending_here(house, plan)
        takes = total_sentence(migrations.estimates) if migrations else ""
        evidence = leave_evidence(house, request, run_id, migrations)
        question = f"{plan.sentence()} waits for {missing} approval{'s' if missing > 1 else ''}."
        Notices(house.store, house.notifier_for, telling).put(notice_key(request), question, house.run_link(str(run_id)))
        name = f"{plan.release.version.tag} {plan.release.sha.short}"
        RunView(telling, run_id, name=name).at(f"{plan.environment.name}, request {request.number} waits for approval")
    left = request.expires_at - house.store.now()
    question = f"**{plan.sentence()}**\n\n[Look at the evidence]({house.artifact_link(evidence)})"
    question += f"\n\n{takes}" if takes else ""
    question += "".join(f"\n\n{answer.sentence()}" for answer in answers_for(house, request))
    try:
        return suspend_flow_run(
            wait_for_input=form_of(request).with_initial_data(description=question),
            # Prefect's own end of the waiting is the second net: `recover` ends it with a better sentence.
            timeout=max(1, int(left.total_seconds()) + PATIENCE_SECONDS),
            key=f"approval-{form}",
        )
    except ValidationError:
        log.warning("The run was set going without an answer that can be read. It asks again.")
        return None


PATIENCE_SECONDS = 300


def pending_here(house: House, plan: Plan) -> Admission | None:
    """What is pending and how long it would take; None for a release without migrations."""
    if not plan.release.migrations or not plan.brings_code:
        return None
    told = admission(house, plan.release.review, plan.environment)
    return with_durations(house, told, plan.release, plan.environment)


def leave_evidence(house: House, request: PromotionRequest, run_id: UUID, migrations: Admission | None) -> UUID:
    """The artifact that the form links; it is there before anybody is asked."""
    plan = request.plan
    before = plan.environment.environment.after
    proof = _newest_promotion(house, before, plan.release.build) if before else None
    entries = house.store.entries(proof.id) if proof else ()
    gone = contractions_at(house, plan.environment, migrations.revisions) if migrations else ()
    markdown = evidence_markdown(plan, entries, migrations, gone)
    return leave_artifact(run_id, evidence_key(request), "markdown", markdown, f"Evidence for request {request.number}: {plan.sentence()}")


def evidence_key(request: PromotionRequest) -> str:
    return f"{request.plan.environment.name}-request-{request.number}"


def notice_key(request: PromotionRequest) -> str:
    return f"{request.plan.environment.name}/request-{request.number}"


def form_of(request: PromotionRequest) -> type[ApprovalForm]:
    policy = request.plan.environment.approval
    if policy.break_glass:
        return BreakGlassForm
    return SignedApprovalForm if policy.policy == "signed" else ApprovalForm


def _write_down(house: House, request: PromotionRequest, answer: ApprovalForm) -> PromotionRequest:
    """The person's word in the journal. A second word by the same person changes nothing, and the run asks again; so does an approval
    without a signature that counts, where one is asked for: the person is then whose key it is, and not who was typed.
    """
    person, signature = answer.approver, answer.signature if isinstance(answer, SignedApprovalForm) else ""
    try:
        if (needed := _signature_needed(request, answer)) is not None:
            message, allowed = needed
            signer = house.people().signer_of(message, signature, allowed) if allowed else None
            if signer is None:
                what = (answer.decision, request.number, person)
                log.warning("A word (%s) to request %d in the name of %.100r has no signature that counts, and does not count.", *what)
                return request
            person = signer
    except InvalidSettings as nothing_to_sign:
        log.warning("%s", nothing_to_sign)
        return request
    word = Approval(
        person=" ".join(person.split()),
        decision=answer.decision,
        reason=answer.reason.strip(),
        channel=answer.channel,
        at=house.store.now(),
        signature=signature,
    )
    try:
        return house.store.decide(request.number, word)
    except InvalidSettings as repeated:
        log.warning("%s", repeated)
        return house.store.request(request.number)


def _signature_needed(request: PromotionRequest, answer: ApprovalForm) -> tuple[bytes, str] | None:
    """The message that must have been signed, and the file that says by whom; None where a typed name is believed."""
    policy = request.plan.environment.approval
    if answer.decision == "break-glass":
        return words_to_break_glass(request, answer.reason), policy.break_glass
    if answer.decision == "approve" and policy.policy == "signed":
        return words_to_sign(request), policy.allowed_signers
    return None


def _newest_promotion(house: House, environment: str, build: str) -> RolloutRecord | None:
    records = house.store.rollouts(environment=environment, limit=500)
    return next((record for record in records if record.build == build and record.promoted_at), None)
