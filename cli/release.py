"""`greenroom release`: a commit enters the pipeline."""

from typing import Literal

from blocks.settings import load_environment, settings
from cli.journal import open_journal, release_named
from cli.live import follow_run
from cli.prefect import open_api
from delivery.errors import InvalidSettings
from delivery.source import Semver, Sha
from deployments.api import idempotency_key


def start_release(
    sha: str,
    *,
    version: str | None,
    until: Literal["build", "staging", "production"],
    kind: Literal["normal", "hotfix"],
    attempt: int,
    watch: bool,
) -> None:
    """Input is refused here already, before the server is asked."""
    commit, wanted = Sha(sha), Semver.parse(version) if version else None
    current = settings()
    api = open_api(current)
    parameters = {"sha": commit.text, "until": until, "kind": kind} | ({"version": str(wanted)} if wanted else {})
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


def start_promotion(release: str, environment: str, *, kind: Literal["normal", "hotfix"], watch: bool) -> None:
    """Every call opens a request of its own; open ones for the same release are closed as superseded."""
    current = settings()
    load_environment(environment, current.environments_dir)
    with open_journal(current) as store:
        found = release_named(store, release)
    api = open_api(current)
    run = api.create_run("promote/promote", {"release": found.id, "environment": environment, "kind": kind})
    print(f"{found.id} to {environment} ({run.state_name})")
    print(api.link(run.id))
    if watch:
        follow_run(api, run.id)
