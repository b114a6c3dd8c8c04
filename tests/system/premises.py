"""A whole local installation with the example's repository, and the ways in which people reach it: HTTP, the terminal, the browser."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psycopg

from blocks.journal import SqlJournal
from delivery.approval import PromotionRequest
from delivery.journal import Ending
from delivery.record import RolloutRecord
from delivery.release import Release
from delivery.source import Semver, Sha
from deployments.api import FlowRun, PrefectApi, idempotency_key
from deployments.demo.installation import LocalInstallation
from deployments.demo.repository import ApplicationRepository
from deployments.machine import engine_client
from tests.blocks.fault_proxy import FaultProxy
from tests.system.apart import FAULTS, rename_a_column
from tests.system.users import Users

T = TypeVar("T")

# As long as a cold run on two busy cores may take; a run that is stuck fails its test with the run's name.
LONGEST_RUN_SECONDS = 400.0
LONGEST_WAIT_SECONDS = 90.0
ROWS = 40

# How far each commit goes, and under which version.
JOURNEYS: Mapping[str, Mapping[str, str]] = {
    "1.0.0": {"version": "1.0.0", "until": "staging"},
    "1.1.0": {"version": "1.1.0", "until": "production"},
    "lint": {"until": "build"},
    "pytest": {"until": "build"},
    "jest": {"until": "build"},
    "playwright": {"until": "build"},
    "migration": {"version": "1.2.0", "until": "staging"},
    "warranty": {"version": "1.3.0", "until": "production"},
    "renamed": {"version": "1.4.0", "until": "production"},
}


class Premises:
    """What tests do here is what users can do; what they look at is the journal, the engine and the answers."""

    def __init__(self, installation: LocalInstallation, repository: ApplicationRepository, proxy: FaultProxy) -> None:
        self.installation = installation
        self.repository = repository
        self.proxy = proxy
        self.journal = SqlJournal(installation.database_url)
        self.api: PrefectApi = installation.api
        self.http = httpx.Client(base_url=installation.prefect.api_url, timeout=30, trust_env=False)
        self.users = {name: Users(installation.public_url(name), rate=rate) for name, rate in (("production", 12), ("staging", 4))}
        self.commits = {name: self._commit(name) for name in JOURNEYS}
        self._runs: dict[str, str] = {}

    def close(self) -> None:
        for users in self.users.values():
            users.stop()
        self.http.close()
        self.journal.close()

    # --- the commits and their way through the pipeline

    def begin(self, name: str) -> str:
        """The pipeline's run for a commit of `JOURNEYS`; begun by the first who asks, so that others can go on beside it."""
        if name not in self._runs:
            self._runs[name] = str(self.start_pipeline(name).json()["id"])
        return self._runs[name]

    def start_pipeline(self, name: str) -> httpx.Response:
        """Plain HTTP, as curl would: the same commit twice has the same idempotency key."""
        sha, journey = self.commits[name], JOURNEYS[name]
        key = idempotency_key(
            repository=str(self.repository.path), event="push", sha=str(sha), version=journey.get("version", ""), attempt=1
        )
        return self.post("pipeline/pipeline", {"sha": str(sha), **journey}, key=key)

    def staged(self, version: str) -> Release:
        """The release of a good version, brought to staging by the pipeline."""
        if version == "1.1.0":
            self.staged("1.0.0")
        run = self.ended(self.begin(version))
        assert run.state == "COMPLETED", run.message
        return self.journal.release_of(Semver.parse(version))

    def live(self, version: str) -> Release:
        """Production runs the version: nothing happens when it does already, else it is brought there the short way."""
        if version == "1.1.0" and not self.journal.rollouts(environment="production"):
            self.live("1.0.0")
        release = self.staged(version)
        if self.journal.live("production") != release:
            if self._has_lived(release):
                run_id = self.start("rollback/rollback", environment="production", version=version, reason="a test begins there")
            else:
                run_id = self.start("promote/promote", release=release.id, environment="production")
                self.approve(run_id)
            run = self.ended(run_id)
            assert run.state == "COMPLETED", run.message
        return release

    def lived(self, version: str) -> Release:
        """Production has run the version, so that it can go back there."""
        release = self.staged(version)
        return release if self._has_lived(release) else self.live(version)

    def _has_lived(self, release: Release) -> bool:
        return any(record.release == release.id and record.promoted_at for record in self.journal.rollouts(environment="production"))

    def _commit(self, name: str) -> Sha:
        if name in ("1.0.0", "1.1.0"):
            return self.repository.commit_release(name)
        self.repository.commit_release("1.1.0")
        if name == "migration":  # one that the end-to-end tests cannot find, since their database is new
            shutil.copytree(FAULTS / "no_macs", self.repository.path, dirs_exist_ok=True)
            return self.repository.commit("No Macs any more")
        if name == "renamed":
            rename_a_column(self.repository)
            return self.repository.commit("When a listing was added has a better name")
        return self.repository.commit_fault("migration" if name == "warranty" else name)

    # --- over HTTP

    def post(self, deployment: str, parameters: Mapping[str, Any], *, key: str | None = None) -> httpx.Response:
        """`POST …/create_flow_run`, whatever comes back. A 503 (SQLite is locked) is asked again, as every client has to."""
        known = self.http.get(f"/deployments/name/{deployment}").raise_for_status().json()
        body = {"parameters": dict(parameters), "state": {"type": "SCHEDULED"}, **({"idempotency_key": key} if key else {})}

        def ask() -> httpx.Response | None:
            answer = self.http.post(f"/deployments/{known['id']}/create_flow_run", json=body)
            return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

        return until(ask, f"an answer of {deployment}")

    def start(self, deployment: str, **parameters: str) -> str:
        """A run of the deployment, by its id."""
        answer = self.post(deployment, parameters)
        assert answer.status_code == httpx.codes.CREATED, answer.text
        return str(answer.json()["id"])

    def runs_of(self, deployment: str) -> int:
        """How many runs the deployment has."""
        known = self.http.get(f"/deployments/name/{deployment}").raise_for_status().json()
        counted = self.http.post("/flow_runs/count", json={"deployments": {"id": {"any_": [known["id"]]}}})
        return int(counted.raise_for_status().json())

    def ended(self, run_id: str) -> FlowRun:
        """The run once it has ended, whichever way."""

        def look() -> FlowRun | None:
            run = self.api.run(run_id)
            return run if run.has_ended else None

        return until(look, f"the end of the run {self.api.run(run_id).name}", seconds=LONGEST_RUN_SECONDS)

    def waiting(self, run_id: str) -> PromotionRequest:
        """The request of a run, once that waits for a person."""

        def look() -> PromotionRequest | None:
            run = self.api.run(run_id)
            assert not run.has_ended, f"it ended instead of waiting: {run.message}"
            found = [request for request in self.journal.requests() if request.key == run_id]
            return found[0] if found and run.waits_for_a_person else None

        return until(look, f"the run {run_id} to wait for an answer")

    def request_of(self, run_id: str) -> PromotionRequest:
        """The request that the run made."""
        [request] = [request for request in self.journal.requests() if request.key == run_id]
        return request

    def approve(self, run_id: str) -> None:
        self.waiting(run_id)
        self.api.resume(run_id, {"decision": "approve", "approver": "Grace Example", "reason": "a test approves", "channel": "api"})
        until(lambda: not self.api.run(run_id).waits_for_a_person or None, "the resumed run to go on")

    def log_of(self, run_id: str) -> list[str]:
        """The lines of a run's log as the UI shows them, oldest first."""
        wanted = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
        lines: list[str] = []
        while page := self.http.post("/logs/filter", json={**wanted, "offset": len(lines)}).raise_for_status().json():
            lines += [str(line["message"]) for line in page]
        return lines

    # --- at the terminal

    def greenroom(self, *arguments: str, expect: int = 0) -> str:
        """What the command prints, both streams. It knows the installation by its folder alone, as a person's terminal does."""
        foreign = ("PREFECT_", "GREENROOM_")
        done = subprocess.run(
            [str(Path(sys.executable).with_name("greenroom")), "--installation", str(self.installation.folder), *arguments],
            cwd=self.installation.folder,
            env={name: value for name, value in os.environ.items() if not name.startswith(foreign)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=LONGEST_RUN_SECONDS,
        )
        assert done.returncode == expect, f"greenroom {' '.join(arguments)}: exit code {done.returncode}, expected {expect}\n{done.stdout}"
        assert "Traceback" not in done.stdout
        return done.stdout

    # --- what is so

    def answers(self, environment: str) -> str:
        """The version that a user gets there."""
        answer = httpx.get(f"{self.installation.public_url(environment)}/health", timeout=10, trust_env=False).raise_for_status()
        return str(answer.json()["version"])

    def replicas(self, environment: str, version: str) -> set[str]:
        """The ids of a version's running containers."""
        release = self.journal.release_of(Semver.parse(version))
        found = self.installation.containers(environment)
        return {one.id or "" for one in found if one.labels.get("greenroom.release") == release.id and one.status == "running"}

    def databases(self, environment: str) -> set[str]:
        """Those of the environment's server, templates left out."""
        url = self.installation.backing(environment).database_url(inside=False, driver="postgresql").get_secret_value()
        with psycopg.connect(url) as connection:
            return {name for (name,) in connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate").fetchall()}

    def trials(self, environment: str) -> list[str]:
        """Containers and networks that ran against a copy of the environment's database."""
        engine, label = engine_client(), {"label": f"greenroom.trial={environment}"}
        found = [one.name or "" for one in engine.containers.list(all=True, filters=label, ignore_removed=True)]
        return found + [one.name or "" for one in engine.networks.list(filters=label)]

    def last_rollout(self, environment: str) -> RolloutRecord:
        return self.journal.rollouts(environment=environment, limit=1)[0]

    def rollouts_of(self, sha: Sha) -> list[RolloutRecord]:
        return [record for record in self.journal.rollouts(limit=500) if record.release.endswith(f"-{sha.short}")]

    def steps_of(self, rollout: str) -> list[str]:
        """The names of the steps that were begun, in their order."""
        return [entry.event.step for entry in self.journal.entries(rollout) if type(entry.event).__name__ == "Started"]

    def require_ended(self, record: RolloutRecord, ending: Ending, message: str) -> None:
        assert (record.ending, (record.message or "")[: len(message)]) == (ending, message), record
        self.journal.verify_chain(record.id)

    # --- policies

    @contextmanager
    def policy(self, environment: str, **values: float | str) -> Iterator[None]:
        """Other figures in the environment's file, for what is asked for meanwhile."""
        file = self.installation.environments / f"{environment}.toml"
        before = text = file.read_text()
        for name, value in values.items():
            text, found = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
            assert found == 1, f"{file.name} has no {name}"
        file.write_text(text)
        try:
            yield
        finally:
            file.write_text(before)


def keep_logs(folder: Path, kept: Path) -> None:
    """What tells why something went wrong in the installation of `folder`: logs and journal, before they are removed with it."""
    for log in (*folder.rglob("*.log"), *folder.glob("journal.db*")):
        goal = kept / log.relative_to(folder)
        goal.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, goal)


def until(look: Callable[[], T | None], what: str, *, seconds: float = LONGEST_WAIT_SECONDS) -> T:
    """Asks until there is an answer; fails, naming what was waited for."""
    deadline, pause = time.monotonic() + seconds, 0.1
    while (found := look()) is None:
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(pause)
        pause = min(pause * 1.3, 0.7)
    return found
