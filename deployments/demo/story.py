"""The demo's story: 1.0.0 and 1.1.0 go live, 1.2.0 is brought back by the judge, and nobody loses a request."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from rich.console import Console

from blocks.journal import SqlJournal
from delivery.approval import PromotionRequest
from delivery.errors import DeliveryError
from delivery.journal import Ending, Finished, Progress
from delivery.plan import StepKind
from delivery.record import RolloutRecord
from delivery.source import Sha
from deployments.api import FlowRun, idempotency_key
from deployments.demo.installation import LocalInstallation
from deployments.demo.page import look_at
from deployments.demo.repository import ApplicationRepository
from deployments.demo.traffic import Tally, Users

# Long enough for a cold build on two cores; a run that is stuck ends the demo with its name.
LONGEST_RUN_SECONDS = 1500.0
USERS_PER_SECOND = 100.0
SEEDED_ROWS = 400
# The story's rollouts, counted by hand: three to each environment, of which production's third was brought back. Of the three commits one
# has a lead time there: before 1.0.0 there was nothing, and 1.2.0 never had all users.
COUNTED: Mapping[tuple[str, str], str] = {
    ("staging", "Deployment frequency"): "(3 deployments,",
    ("staging", "Change fail rate"): "0.0 % (0 of 3)",
    ("staging", "Failed deployment recovery time"): "no failure to measure",
    ("production", "Deployment frequency"): "(3 deployments,",
    ("production", "Change lead time"): "(median of 1 commit)",
    ("production", "Change fail rate"): "33.3 % (1 of 3)",
    ("production", "Failed deployment recovery time"): "(median of 1 failure)",
}

# What the report of a release that the judge brought back draws, beside the share of users that it had.
PLOTTED = ("errors", "p95", "evidence")


@dataclass(frozen=True)
class Outcome:
    """What the demo has shown; `problems` is empty when every promise held. `decided_seconds` is how long 1.2.0 had users before it was
    found sick, `limit_seconds` what the absolute limit alone would have needed at least, `back_seconds` how long it took from the verdict
    until nobody got an answer from it any more.
    """

    live: str
    endings: Mapping[str, str]
    tally: Tally
    same_images: bool
    seconds: float
    decided_seconds: float
    limit_seconds: float
    back_seconds: float
    problems: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "ok": not self.problems}


@dataclass
class Story:
    """`unattended` approves through the REST API by itself; else a person does, in the UI or the terminal. `picture` is a file for how the
    report of 1.2.0 looks.
    """

    installation: LocalInstallation
    repository: ApplicationRepository
    journal: SqlJournal
    console: Console
    unattended: bool
    picture: Path | None = None
    clock: Callable[[], float] = time.monotonic

    def tell(self) -> Outcome:
        began = self.clock()
        endings: dict[str, str] = {}
        url = self.installation.public_url("production")
        users = Users(url, rate=USERS_PER_SECOND, seeded_rows=SEEDED_ROWS)

        self._headline("1.0.0: the first release, from a commit to production")
        endings["1.0.0"] = self._release("1.0.0")
        for environment in ("staging", "production"):
            self._seed(environment)
        self.console.print(
            f"  production answers at [bold]{url}[/]; {USERS_PER_SECOND:.0f} requests per second begin now and go on to the end"
        )
        users.start()
        try:
            self._headline("1.1.0: a good release, moved over while users work")
            endings["1.1.0"] = self._release("1.1.0")
            self._headline("1.2.0: passes every check, and fails on data that only production has")
            endings["1.2.0"] = self._release("1.2.0")
            decided, limit, back = self._how_soon("1.2.0", users)
            self.console.print(
                f"  found {decided:.1f} s after its first users came (the limit alone would have taken {limit:g} s at least), "
                f"and everybody was back {back:.1f} s later"
            )
        finally:
            users.stop()
        tally = users.tally(self._production_database(), jobs_patience_seconds=120.0)
        answers = self._answering_version(url)
        same = self._same_images()
        metrics = self._metrics()
        unseen = self._unseen("1.2.0")
        return Outcome(
            live=answers,
            endings=endings,
            tally=tally,
            same_images=same,
            seconds=round(self.clock() - began, 1),
            decided_seconds=decided,
            limit_seconds=limit,
            back_seconds=back,
            problems=_problems(endings, tally, live=answers, same_images=same, soon=decided < limit, metrics=metrics, unseen=unseen),
        )

    def _release(self, version: str) -> str:
        """From the commit to the ending of production's rollout, which is returned."""
        sha = self.repository.commit_release(version)
        run = self._start_pipeline(sha, version)
        self.console.print(f"  commit {sha.short} -> {self.installation.api.link(run.id)}")
        self._follow(run)
        request = self._wait_for_request(version)
        waiting = self._follow(self.installation.api.run(request.key))
        if waiting.waits_for_a_person:
            self._approve(request.number, waiting)
            self._follow(waiting, from_paused=True)
        record = self._rollout_of(version)
        self.console.print(f"  [bold]{record.message}[/]  ({_duration(record)})")
        return str(record.ending)

    def _start_pipeline(self, sha: Sha, version: str) -> FlowRun:
        key = idempotency_key(repository=str(self.repository.path), event="tag", sha=str(sha), version=version, attempt=1)
        return self.installation.api.create_run("pipeline/pipeline", {"sha": str(sha), "version": version}, key=key)

    def _follow(self, run: FlowRun, *, from_paused: bool = False) -> FlowRun:
        api, seen = self.installation.api, run
        if from_paused:
            self._wait_until(lambda: not api.run(run.id).waits_for_a_person, what=f"the resumed run {run.name}", seconds=120)
        for seen in api.follow(run.id, timeout_seconds=LONGEST_RUN_SECONDS):
            self.console.print(f"  [dim]{time.strftime('%H:%M:%S')}[/] {seen.name}: {seen.state_name.lower()}", highlight=False)
        return seen

    def _wait_for_request(self, version: str) -> PromotionRequest:
        found: list[PromotionRequest] = []

        def is_there() -> bool:
            requests = self.journal.requests(environment="production")
            found[:] = [request for request in requests if str(request.plan.release.version) == version]
            return bool(found)

        self._wait_until(is_there, what=f"the promotion request for {version}", seconds=180)
        return max(found, key=lambda request: request.number)

    def _approve(self, number: int, waiting: FlowRun) -> None:
        link = self.installation.api.link(waiting.id)
        if self.unattended:
            self.installation.api.resume(
                waiting.id, {"decision": "approve", "approver": "Grace Example", "reason": "the demo's own approval", "channel": "api"}
            )
            self.console.print(f"  request {number} approved through the REST API")
            return
        self.console.print(
            f"\n  [bold yellow]Your turn:[/] approve request {number}.\n"
            f"    in the browser:  {link}  (button Resume)\n"
            f"    in a terminal:   .venv/bin/greenroom --installation {self.installation.folder} \\\n"
            f"                       approve {number} --as 'Your Name' --reason 'looks good'\n",
            highlight=False,
        )
        api = self.installation.api
        self._wait_until(lambda: not api.run(waiting.id).waits_for_a_person, what="your answer", seconds=3600)

    def _rollout_of(self, version: str) -> RolloutRecord:
        for record in self.journal.rollouts(environment="production", limit=10):
            if record.version.removeprefix("v") == version:
                return record
        raise DeliveryError(f"Production has no rollout of {version}.", next="look at the pipeline's run for what stopped it.")

    def _how_soon(self, version: str, users: Users) -> tuple[float, float, float]:
        """Of a release that was brought back, seconds: from its first users to the verdict; that the error limit has to be broken for;
        from the verdict until nobody got its answers any more. Infinite when it was not brought back.
        """
        entries = self.journal.entries(self._rollout_of(version).id)
        plan = Progress.of(entry.event for entry in entries).plan
        at = {entry.event.step: entry.at for entry in entries if isinstance(entry.event, Finished)}
        sick = next((entry.at for entry in entries if isinstance(entry.event, Finished) and not entry.event.evidence.well), None)
        came = next((at[step.name] for step in plan.forward if step.kind is StepKind.SHIFT and step.name in at), None)
        # The step itself takes longer: it also waits for the jobs of the workers that it stops.
        is_back = any(step.kind is StepKind.RESTORE and step.name in at for step in plan.back)
        last = users.last_answer_from(version) if is_back else None
        limit = min((trigger.for_seconds for trigger in plan.environment.trigger if trigger.metric == "error_rate"), default=0.0)
        if sick is None or came is None or last is None:
            return inf, limit, inf
        return round((sick - came).total_seconds(), 1), limit, round(max(0.0, (last - sick).total_seconds()), 2)

    def _seed(self, environment: str) -> None:
        """Rows that were there before: production has old ones that staging never saw."""
        command = ["python", "-m", "dealbrain.seed", "--profile", environment, "--rows", str(SEEDED_ROWS)]
        self.installation.run_in_live(environment, "api", command)

    def _production_database(self) -> SecretStr:
        return self.installation.backing("production").database_url(inside=False, driver="postgresql")

    def _answering_version(self, url: str) -> str:
        return str(httpx.get(f"{url}/health", timeout=5.0, trust_env=False).json()["version"])

    def _same_images(self) -> bool:
        """Did staging and production run the very images of each release, read from the engine's containers?"""
        staging, production = (self.installation.images_of(name) for name in ("staging", "production"))
        shared = staging.keys() & production.keys()
        return bool(shared) and all(
            staging[release] == production[release] == set(self.journal.release(release).images.values()) for release in shared
        )

    def _metrics(self) -> Mapping[tuple[str, str], str]:
        """By environment and name, the figures that the delivery-metrics flow leaves."""
        self._headline("How well that was delivered, as its table in Prefect tells it")
        api = self.installation.api
        run = api.create_run("delivery-metrics/delivery-metrics", {})
        self._follow(run)
        rows = json.loads(api.artifact(run.id, "delivery-metrics"))
        figures = {(row["environment"], row["figure"]): str(row["last 28 days"]) for row in rows}
        for (environment, name), value in figures.items():
            if environment == "production":
                self.console.print(f"  {name}: {value}", highlight=False)
        return figures

    def _unseen(self, version: str) -> tuple[str, ...]:
        """What the report of a version's rollout does not show to somebody who opens it in a browser."""
        self._headline(f"The report of {version}, as a browser shows it")
        record = self._rollout_of(version)
        page = self.installation.rollouts / record.id / "report.html"
        try:
            seen = look_at(page, picture=self.picture)
        except DeliveryError as unseen:
            return (str(unseen),)
        self.console.print(f"  {page}: {', '.join(seen.drawn) or 'no plots'}", highlight=False)
        return seen.lacks(headline=record.message or "", plots=(*PLOTTED, f"v{version}"))

    def _wait_until(self, check: Callable[[], bool], *, what: str, seconds: float) -> None:
        deadline, pause = self.clock() + seconds, 0.1
        while not check():
            if self.clock() > deadline:
                raise DeliveryError(f"The demo waited {seconds:.0f} s for {what} in vain.", next="look at the runs in the Prefect UI.")
            time.sleep(pause)
            pause = min(pause * 1.5, 1.0)

    def _headline(self, text: str) -> None:
        self.console.rule(f"[bold]{text}", align="left")


def _problems(
    endings: Mapping[str, str],
    tally: Tally,
    *,
    live: str,
    same_images: bool,
    soon: bool,
    metrics: Mapping[tuple[str, str], str],
    unseen: Sequence[str],
) -> tuple[str, ...]:
    wanted = {"1.0.0": Ending.LIVE, "1.1.0": Ending.LIVE, "1.2.0": Ending.ROLLED_BACK}
    found = [
        f"{version} ended {endings.get(version)}, expected {ending}" for version, ending in wanted.items() if endings.get(version) != ending
    ]
    if live != "1.1.0":
        found.append(f"production answers {live}, expected 1.1.0")
    if not same_images:
        found.append("staging and production did not run the same images")
    if not soon:
        found.append("the judge found 1.2.0 sick no sooner than the limit would have")
    found += [
        f"the delivery metrics say {name.lower()} {metrics.get((environment, name))!r} for {environment}, expected {counted!r}"
        for (environment, name), counted in COUNTED.items()
        if counted not in metrics.get((environment, name), "")
    ]
    return (*found, *unseen, *tally.problems())


def _duration(record: RolloutRecord) -> str:
    seconds = (record.ended_at - record.opened_at).total_seconds() if record.ended_at else 0.0
    return f"{seconds:.0f} s"
