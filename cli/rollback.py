"""`greenroom rollback`: the way back, which must be open whatever else is down."""

import time
from datetime import datetime
from typing import Literal

from blocks.settings import Settings, load_environment, settings
from cli.journal import open_journal
from cli.live import follow_run
from cli.person import name_of_person
from cli.prefect import open_api
from delivery.errors import DeliveryError, InvalidSettings
from delivery.source import Semver
from deployments.api import FlowRun, PrefectApi

# A worker that lives takes a run within a few seconds; then its process has to start.
PATIENCE_SECONDS = 20.0
NOT_TAKEN = frozenset({"SCHEDULED", ""})


def roll_back(environment: str, *, version: str | None, reason: str, via: Literal["auto", "prefect", "direct"], person: str | None) -> None:
    """`auto` goes by Prefect, so that people see it there, and acts in this process when its server or its worker does not answer."""
    if not reason.strip():
        raise InvalidSettings("No reason was given.", next="pass --reason with why, in a few words.")
    wanted = Semver.parse(version).tag if version else None
    current, by = settings(), name_of_person(person)
    load_environment(environment, current.environments_dir)
    if wanted:
        with open_journal(current) as store:
            store.release_of(Semver.parse(wanted))  # refused here, before a run is made for it
    if via != "direct" and _by_prefect(current, environment, version=wanted, reason=reason, by=by, must=via == "prefect"):
        return
    _directly(environment, version=wanted, reason=reason, by=by)


def _by_prefect(current: Settings, environment: str, *, version: str | None, reason: str, by: str, must: bool) -> bool:
    """False when Prefect does not take it and need not (`must`)."""
    api = open_api(current)
    if not api.answers():
        if must:
            raise DeliveryError(f"Prefect's server at {api.ui_url} does not answer.", next="start it, or use --via direct.")
        print(f"Prefect's server at {api.ui_url} does not answer: going back from here.")
        return False
    parameters = {"environment": environment, "reason": reason, "by": by} | ({"version": version} if version else {})
    run = api.create_run("rollback/rollback", parameters)
    print(api.link(run.id))
    if not _is_taken(api, run):
        api.cancel(run.id)
        if must:
            raise DeliveryError(
                f"No worker took the run within {PATIENCE_SECONDS:.0f} s; it is cancelled.", next="start a worker, or use --via direct."
            )
        print(f"No worker took the run within {PATIENCE_SECONDS:.0f} s; it is cancelled: going back from here.")
        return False
    follow_run(api, run.id)
    return True


def _is_taken(api: PrefectApi, run: FlowRun) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while api.run(run.id).state in NOT_TAKEN:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def _directly(environment: str, *, version: str | None, reason: str, by: str) -> None:
    """In this process: the same plan, lease and walk, with the blocks of the local file."""
    from cli.house import open_local_house
    from flows.rollback import go_back
    from flows.rollout import result_of
    from flows.telling import Telling

    with open_local_house() as house, Telling() as telling:
        record = go_back(house, environment, version=version, reason=reason, by=by, telling=telling, on_progress=_show)
        print(result_of(record))


def _show(text: str) -> None:
    print(f"{datetime.now().astimezone():%H:%M:%S}  {text}", flush=True)
