"""From a commit to a release that waits for its users: the specification's diagram, first half."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment

from blocks.settings import environment_names, load_application
from delivery.application import Application
from delivery.check import CheckResult
from delivery.environment import Kind
from delivery.errors import DeliveryError, InvalidSettings
from delivery.plan import plan_rollout, require_able
from delivery.release import Release, release_id
from delivery.revisions import MigrationReview
from delivery.source import Semver, Sha, Source, version_of
from flows.assembly import House, open_house, require_git_repository
from flows.messages import in_one_message
from flows.migrations import admission, beside_whom, refuse, require_admission, standing_of
from flows.parameters import CommitId, PromotionKind, RolloutId, Until, VersionText
from flows.promote import require_rollout_of
from flows.rollout import log, result_of, run_rollout
from flows.scanning import scan_published
from flows.signing import sign_scan, sign_tests
from flows.telling import RunView, Telling, this_run
from flows.trust import require_signer, sign_release
from flows.validation import require_values
from tasks.build import build_images
from tasks.checks import verify
from tasks.endtoend import end_to_end
from tasks.kept import reports_folder
from tasks.publish import publish, tag_staging
from tasks.report_checks import check_rows
from tasks.retry import NETWORK, retried
from tasks.review import review_migrations
from tasks.source import checkout

STAGING, PRODUCTION = "staging", "production"


@flow(name="pipeline", flow_run_name="{sha}", retries=0, persist_result=False)
@in_one_message
def pipeline(
    sha: CommitId,
    version: VersionText | None = None,
    until: Until = "production",
    kind: PromotionKind = "normal",
    planned: bool = True,  # noqa: FBT001, FBT002  parameters of a run have names
    remediates: RolloutId | None = None,
) -> str:
    """Proves a commit, builds it once, brings it to staging and asks for production.

    Args:
        sha: The full commit id, 40 hex digits. A branch name is refused, since a branch may move.
        version: The version to release it as, for instance v1.4.2; empty to count on from the last version tag.
        until: Where to stop: build (checks, images, end-to-end tests), staging, or production (asks for its approval).
        kind: hotfix uses the shorter way of approval where an environment has one; config changes settings and no code.
        planned: No for work that nobody had planned; counts for the delivery metrics.
        remediates: The rollout whose failure this one mends, for instance production-7.

    """
    with open_house() as house, Telling() as telling:
        view = RunView(telling, this_run(), name=f"{version or 'commit'} {sha[:8]}")
        require_ready(house, until, remediates)
        view.at("checkout")
        source = check_out(house, Sha(sha))
        application = load_application(Path(source.path) / house.settings.application_file)
        wanted = version_of(source, Semver.parse(version) if version else None)
        view = RunView(telling, this_run(), name=f"{wanted.tag} {source.sha.short}")
        release = released(house, source, wanted) if until != "build" else None
        if release is None:
            view.at("verify")
            told: list[CheckResult] = []
            with checks_told(view, telling, application, told, key=f"checks-{source.sha.short}"):
                checks = verify_all(house, source, application, wanted, told.extend)
            view.at("build")
            started = house.store.now()
            images = build(house, source, application, wanted)
            view.at("read migrations")
            review = review_of(house, images, source, application, until, wanted)
            view.at("end to end")
            tests = prove_end_to_end(house, images, source, application, wanted)
            if until == "build":
                view.at("built")
                return f"{wanted.tag} of {source.sha.short} is good: checked, built, tested end to end. Nothing was published."
            view.at("publish")
            evidence = {result.name: result.sentence() for result in (*checks, *([tests] if tests else []))}
            release = publish_once(house, images, source, application, wanted, review=review, evidence=evidence, started=started)
            sign_tests(house, release, checks, tests)
        staged = bring_to_staging(house, release, telling)
        if until == STAGING:
            view.at("on staging")
            return f"{staged} Release {release.id}."
        if is_live(house, release, until):
            view.at("live already")
            return f"{staged} {until.capitalize()} runs {release.id} already."
        view.at("asking for production")
        asked = request_promotion(release.id, until, kind, planned=planned, remediates=remediates)
        view.at("on staging, production asked for")
        return f"{staged} Release {release.id}; production waits for an approval: {house.run_link(asked)}"


def require_ready(house: House, until: Until, remediates: str | None = None) -> None:
    """Refuses what cannot come to its end before anything is begun: no repository, no environment file, no block, no
    registry, no key, a target that cannot do what its environment asks for.
    """
    if remediates:
        require_rollout_of(house, PRODUCTION, remediates)
    require_git_repository(house.settings)
    ways = {"build": (), "staging": (STAGING,), "production": (STAGING, PRODUCTION)}[until]
    for environment in map(house.environment, ways):
        require_able(environment, house.target(environment).capabilities)
        require_signer(house, environment)
        require_values(house, environment)
    if ways:
        house.registry().is_ready()


def check_out(house: House, sha: Sha) -> Source:
    installation, live = house.settings, house.store.live(PRODUCTION)
    return checkout(
        require_git_repository(installation),
        sha,
        work_dir=installation.work_dir,
        credential=house.read_credential(),
        main_branch=installation.main_branch,
        since=live.sha if live else None,
    )


def released(house: House, source: Source, version: Semver) -> Release | None:
    """The release of this commit, if it is published already: it is not built again. Refuses a version that another commit has."""
    known = house.store.release_of_commit(source.sha, version)
    if known:
        log.info("%s is published already and is not built again", known.id)
        return known
    try:
        other = house.store.release_of(version)
    except InvalidSettings:
        return None
    raise InvalidSettings(
        f"Version {version.tag} is already released from commit {other.sha.short}, got commit {source.sha.short}.",
        next="give the new commit a new version.",
    )


def verify_all(
    house: House, source: Source, application: Application, version: Semver, tell: Callable[[Sequence[CheckResult]], object]
) -> tuple[CheckResult, ...]:
    installation = house.settings
    return verify(
        source,
        application,
        work_dir=installation.work_dir,
        advisories=installation.advisories,
        tokens=house.tool_tokens({check.token for check in application.checks if check.token}),
        keep_in=reports_folder(installation.work_dir, release_id(version, source.sha)),
        tell=tell,
    )


@contextmanager
def checks_told(view: RunView, telling: Telling, application: Application, told: Sequence[CheckResult], *, key: str) -> Iterator[None]:
    """Leaves the one table of the run's checks, whether they pass or not. `told` is filled inside."""
    try:
        yield
    finally:
        rows = check_rows(told, application.left_out)
        telling.soon("the checks' table", lambda: view.table(key, rows, description="What each check of this commit said"))


def build(house: House, source: Source, application: Application, version: Semver) -> Mapping[str, str]:
    installation = house.settings
    return build_images(
        source,
        application,
        version,
        work_dir=installation.work_dir,
        base_images=installation.base_images,
        extra_ca=installation.extra_ca,
    )


def prove_end_to_end(
    house: House, images: Mapping[str, str], source: Source, application: Application, version: Semver
) -> CheckResult | None:
    installation = house.settings
    return end_to_end(
        images,
        source,
        application,
        work_dir=installation.work_dir,
        base_images=installation.base_images,
        keep_in=reports_folder(installation.work_dir, release_id(version, source.sha)),
    )


def review_of(
    house: House, images: Mapping[str, str], source: Source, application: Application, until: Until, version: Semver
) -> MigrationReview | None:
    """The migrations that staging or production has still to apply, judged. Refuses those that do not fit the version that serves on
    staging before anything is published.
    """
    ways = (STAGING,) if until == STAGING else (STAGING, PRODUCTION)
    review = review_migrations(images, source, application, environments=standing_of(house, ways), strict=until != "build")
    if review is not None and STAGING in environment_names(house.settings.environments_dir):
        staging = house.environment(STAGING)
        told = admission(house, review, staging)
        if until != "build" or told.revisions:  # a branch need not have all that staging has
            refuse(told, staging, version.tag)
    return review


def publish_once(
    house: House,
    images: Mapping[str, str],
    source: Source,
    application: Application,
    version: Semver,
    *,
    review: MigrationReview | None,
    evidence: Mapping[str, str],
    started: datetime,
) -> Release:
    """Pushes the images, resolves their digests once, looks them through by digest, signs where they come from, and writes the release into
    the journal. Images that may not be released stay unsigned, and the journal does not know them. From here only the release travels.
    The journal knows it once it is signed; its own copies of what was signed come last, since the registry has them.
    """
    release = publish(images, source, application, version, house.registry(), review=review, evidence=evidence)
    scans = scan_published(house, release)
    envelopes = sign_release(house, release, source, application, started=started)
    house.store.save_release(release)
    for envelope in envelopes:
        house.store.keep_envelope(release.id, envelope)
    sign_scan(house, release, scans)
    return release


def bring_to_staging(house: House, release: Release, telling: Telling) -> str:
    """The rollout to staging, in this very process. A release that staging runs already is left there."""
    environment = house.environment(STAGING)
    if is_live(house, release, STAGING):
        return f"{environment.title} runs {release.version.tag} already."
    capabilities = house.target(environment).capabilities
    require_admission(house, release, environment)
    elsewhere = beside_whom(house, environment, release.review) if environment.prove.clone else ()
    plan = plan_rollout(release, environment, capabilities=capabilities, blue=house.store.live(STAGING)).beside(elsewhere)
    sentence = result_of(run_rollout(house, plan, by="pipeline", telling=telling))
    tag_staging(release, house.registry())
    return sentence


def is_live(house: House, release: Release, environment: str) -> bool:
    live = house.store.live(environment)
    return live is not None and live.build == release.build


def request_promotion(release_id: str, environment: str, kind: Kind, *, planned: bool = True, remediates: str | None = None) -> str:
    """Starts `promote` as a run of its own, which this one does not wait for, and returns that run's id."""
    key = f"promote-{release_id}-{environment}-{this_run()}"
    return start_promotion(release_id, environment, kind, key=key, planned=planned, remediates=remediates)


@retried(NETWORK, name="request promotion", run_name="request promotion to {environment}")
def start_promotion(release_id: str, environment: str, kind: Kind, *, key: str, planned: bool = True, remediates: str | None = None) -> str:
    run = run_deployment(
        name="promote/promote",
        parameters={"release": release_id, "environment": environment, "kind": kind, "planned": planned, "remediates": remediates},
        timeout=0,
        as_subflow=False,
        idempotency_key=key,
    )
    if not isinstance(run, FlowRun):
        raise DeliveryError("The promotion was asked for from asynchronous code.", next="call this from a flow that is not async.")
    return str(run.id)
