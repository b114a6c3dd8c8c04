"""`greenroom release`: a commit enters the pipeline."""

from typing import Any, Literal

from blocks.settings import Settings, load_environment, settings
from cli.journal import open_journal, release_named
from cli.live import follow_run
from cli.prefect import open_api
from delivery.errors import InvalidSettings
from delivery.source import Semver, Sha
from deployments.api import idempotency_key

PromotionKind = Literal["normal", "hotfix", "config"]


def start_release(
    sha: str,
    *,
    version: str | None,
    until: Literal["build", "staging", "production"],
    kind: PromotionKind,
    attempt: int,
    watch: bool,
    planned: bool = True,
    remediates: str | None = None,
) -> None:
    """Input is refused here already, before the server is asked."""
    commit, wanted = Sha(sha), Semver.parse(version) if version else None
    current = settings()
    api = open_api(current)
    parameters: dict[str, Any] = {"sha": commit.text, "until": until, "kind": kind} | ({"version": str(wanted)} if wanted else {})
    parameters |= why_of(current, planned=planned, remediates=remediates)
    key = idempotency_key(
        repository=current.repository, event="release", sha=commit.text, version=str(wanted) if wanted else "", attempt=attempt
    )
    run = api.create_run("pipeline/pipeline", parameters, key=key)
    differing = [f"{name}={run.parameters[name]}" for name, value in parameters.items() if run.parameters.get(name, value) != value]
    if differing:
        raise InvalidSettings(
            f"This commit was started before with {', '.join(differing)}: {api.link(run.id)}",
            next=f"look at that run, or start anew with --attempt {attempt + 1}.",
        )
    print(f"{run.name} ({run.state_name})")
    print(api.link(run.id))
    if watch:
        follow_run(api, run.id)


def start_promotion(
    release: str, environment: str, *, kind: PromotionKind, watch: bool, planned: bool = True, remediates: str | None = None
) -> None:
    """Every call opens a request of its own; open ones for the same release are closed as superseded."""
    current = settings()
    load_environment(environment, current.environments_dir)
    with open_journal(current) as store:
        found = release_named(store, release)
    api = open_api(current)
    why = why_of(current, planned=planned, remediates=remediates)
    run = api.create_run("promote/promote", {"release": found.id, "environment": environment, "kind": kind} | why)
    print(f"{found.id} to {environment} ({run.state_name})")
    print(api.link(run.id))
    if watch:
        follow_run(api, run.id)


def why_of(current: Settings, *, planned: bool, remediates: str | None) -> dict[str, Any]:
    """What the delivery metrics want to know, as parameters of a run. Refuses a rollout that never was before a run is made for it."""
    if remediates:
        with open_journal(current) as store:
            store.rollout(remediates)
    return ({} if planned else {"planned": False}) | ({"remediates": remediates} if remediates else {})
