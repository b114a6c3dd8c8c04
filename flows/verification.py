"""What users reach is asked on a schedule: a person is told of what fails again and again, and by policy the release before comes back."""

from uuid import uuid4

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort

from blocks.settings import environment_names
from delivery.environment import Environment
from delivery.errors import DeliveryError, InvalidSettings, NotApproved
from delivery.record import RolloutRecord
from delivery.release import Release
from delivery.verification import (
    Answer,
    Deed,
    Verdict,
    Verification,
    endpoints,
    is_due,
    judge_answers,
    newest_promotion,
    obstacle_to_going_back,
    under_way,
)
from flows.alerts import put_alerts
from flows.assembly import House, open_house
from flows.messages import in_one_message
from flows.parameters import AskNow, EnvironmentName
from flows.rollback import go_back
from flows.rollout import log, result_of
from flows.telling import Telling, leave_artifact, send_notices, this_run
from tasks.report import verification_markdown
from tasks.verification import ask_endpoints

BY = "canary-verification"
RECORDS = 500


@flow(name="canary-verification", flow_run_name="canary-verification", retries=0, persist_result=False)
@in_one_message
def canary_verification(environment: EnvironmentName | None = None, now: AskNow = False) -> str:  # noqa: FBT002  a field of a form
    """Asks what users reach. What fails again and again is told to people, and by the environment's policy the release before comes back.

    Args:
        environment: Only this environment; empty for every one whose file says verification.enabled.
        now: Ask even if the environment's interval is not over yet.

    """
    with open_house() as house, Telling() as telling:
        return verify(house, environment, telling=telling, even_if_not_due=now)


def verify(house: House, environment: str | None, *, telling: Telling, even_if_not_due: bool = False) -> str:
    """The sentences of all environments. One that cannot be verified, or cannot go back, fails the run after the others had their turn."""
    said: list[str] = []
    broken: list[DeliveryError] = []
    for name in [environment] if environment else environment_names(house.settings.environments_dir):
        try:
            policy = house.environment(name)
            if environment or policy.verification.enabled:
                said.append(verify_one(house, policy, telling=telling, even_if_not_due=even_if_not_due))
        except DeliveryError as error:
            log.warning("%s: %s", name, error)
            broken.append(error)
    put_alerts(house, environment)
    send_notices(house.store, house.notifier_for)
    if len(broken) == 1 and not said:
        raise broken[0]
    if broken:
        raise DeliveryError(" ".join([*(error.what for error in broken), *said]), next=broken[0].next)
    return " ".join(said) or "No environment's file says verification.enabled."


def verify_one(house: House, environment: Environment, *, telling: Telling, even_if_not_due: bool = False) -> str:
    """Asks one environment's endpoints and does what follows. Raises `DeliveryError` when it cannot be asked, or does not come back."""
    store, policy = house.store, environment.verification
    before, now = store.last_verification(environment.name), store.now()
    if not (even_if_not_due or is_due(policy, before, now=now)):
        return f"{environment.title} was asked a moment ago."
    records = store.rollouts(environment=environment.name, limit=RECORDS)
    release, promotion = store.live(environment.name), newest_promotion(records)
    if open_one := under_way(records):
        return f"{environment.title} is not asked while {open_one.id} is under way."
    if release is None or promotion is None:
        return f"{environment.title} has nothing live yet."
    answers = _answers(house, environment, release)
    records = store.rollouts(environment=environment.name, limit=RECORDS)
    if under_way(records) or newest_promotion(records) != promotion:
        return f"{environment.title} began to change while it was asked; the answers do not count."
    verdict = judge_answers(
        policy, before, answers, records=records, has_previous=store.previous(environment.name) is not None, now=store.now()
    )
    row = Verification(
        environment=environment.name,
        number=(before.number if before else 0) + 1,
        at=now,
        rollout=promotion.id,
        release=release.id,
        findings=verdict.findings,
        deed=verdict.deed,
        reason=_reason(environment, verdict),
        alerted=verdict.alerted,
    )
    if not store.add_verification(row, key=str(uuid4())):
        return f"{environment.title} is verified by somebody else at this moment."
    _show(telling, environment, row, verdict)
    return _follow(house, environment, promotion, row, telling=telling)


def _answers(house: House, environment: Environment, release: Release) -> tuple[Answer, ...]:
    url = house.target(environment).public_url
    asked = endpoints(release)
    if url is None or not asked:
        missing = "its target has no public_url" if url is None else f"{release.id} has neither smoke requests nor health paths"
        raise InvalidSettings(f"{environment.title} cannot be verified: {missing}.", next="add it, or set verification.enabled = false.")
    return ask_endpoints(url, asked, timeout_seconds=environment.verification.timeout_seconds)


def _follow(house: House, environment: Environment, promotion: RolloutRecord, row: Verification, *, telling: Telling) -> str:
    match row.deed:
        case Deed.GO_BACK:
            record = go_back(
                house,
                environment.name,
                version=None,
                reason=row.reason[:500],
                by=BY,
                telling=telling,
                verify=lambda: require_still_the_same(house, environment, promotion),
            )
            return f"{result_of(record)} It went back by itself: {row.reason}"
        case Deed.ALERT:
            return f"{environment.title} fails, and people are told: {row.reason}"
        case Deed.WELL_AGAIN:
            return f"{environment.title} is well again."
        case Deed.NOTHING:
            unknown = [one for one in row.findings if one.outcome == "unknown"]
            if row.failing:
                return f"{environment.title} fails, {row.failing[0].failures} in a row so far: {row.failing[0].endpoint}."
            return f"{environment.title} is not known to be well: {unknown[0].detail}" if unknown else f"{environment.title} is well."


def require_still_the_same(house: House, environment: Environment, promotion: RolloutRecord) -> None:
    """Called when nobody else can act: raises `NotApproved` when what failed is not live any more, or must not be left by itself."""
    records = house.store.rollouts(environment=environment.name, limit=RECORDS)
    now = newest_promotion(records)
    has_previous = house.store.previous(environment.name) is not None
    changed = f"{now.id} came meanwhile" if now and now.id != promotion.id else None
    if obstacle := changed or obstacle_to_going_back(records, has_previous=has_previous):
        raise NotApproved(f"{environment.title} is unchanged. It does not go back by itself: {obstacle}.", next="look at it yourself.")


def _reason(environment: Environment, verdict: Verdict) -> str:
    """Whoever is told that something fails is told what comes of it."""
    return f"{verdict.reason} {_what_comes(environment, verdict)}" if verdict.deed is Deed.ALERT else verdict.reason


def _what_comes(environment: Environment, verdict: Verdict) -> str:
    policy = environment.verification
    if policy.on_failure == "alert":
        return "It stays as it is."
    if verdict.obstacle:
        return f"It does not go back by itself: {verdict.obstacle}."
    left = policy.rollback_after - max(one.failures for one in verdict.findings)
    return f"It goes back by itself if that happens {left} more time{'s' if left > 1 else ''} in a row."


def _show(telling: Telling, environment: Environment, row: Verification, verdict: Verdict) -> None:
    """The table as an artifact of one key per environment, refreshed by each run."""
    if (run := this_run()) is None:
        return
    key = f"{environment.name}-verification"
    markdown = verification_markdown(environment, row, obstacle=None if row.deed is Deed.ALERT else verdict.obstacle)

    def refresh() -> None:
        with get_client(sync_client=True) as client:
            wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
            found = client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC, limit=1)
            if found:
                client.update_artifact(found[0].id, ArtifactUpdate(data=markdown))
                return
        leave_artifact(run, key, "markdown", markdown, f"What users of {environment.name} reach")

    telling.soon("the verification", refresh)
