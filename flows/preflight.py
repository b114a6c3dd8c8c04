"""Once a week, and before the first release: is an environment ready? Looks only, and changes nothing."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from prefect import flow

from delivery.environment import Environment
from delivery.errors import DeliveryError, InvalidSettings
from delivery.journal import Evidence, Progress
from delivery.links import Stage
from delivery.plan import StepKind
from delivery.preflight import Item, failing, judge_scans, judge_tests, sentence
from delivery.release import Release
from delivery.scan import Severity
from flows.assembly import House, open_house
from flows.examination import examine_environment, examine_signing_key, examine_values
from flows.messages import in_one_message
from flows.parameters import EnvironmentName
from flows.telling import leave_artifact, this_run
from flows.trust import policy_of
from tasks.backup import backups_of
from tasks.chain import signed_facts
from tasks.report_inspection import result_of

HOME = Path(__file__).resolve().parents[1]
RUNBOOKS = ("live", "rolled-back", "untouched", "needs-human")
LOOKED_BACK = 1000  # rollouts
NOTHING_RELEASED = "no release has been published yet"
RELEASE_FIRST = "`greenroom release SHA --until staging`."


@flow(name="preflight", flow_run_name="preflight of {environment}", retries=0, persist_result=False)
@in_one_message
def preflight(environment: EnvironmentName = "production") -> str:
    """Goes through the checklist before a first release, and leaves it as a table. The run fails when an item does. Changes nothing.

    Args:
        environment: Which one is asked about.

    """
    with open_house() as house:
        items = go_through(house, environment)
        told = sentence(environment, items)
        if run_id := this_run():
            leave_artifact(run_id, f"preflight-{environment}", "table", json.dumps([asdict(item) for item in items]), told)
        if sick := failing(items):
            raise DeliveryError(told, next="; ".join(f"{item.name}: {item.next}" for item in sick))
        return told


def go_through(house: House, name: str) -> tuple[Item, ...]:
    """Every item, in the specification's order. Raises `InvalidSettings` for an environment that has no sound file."""
    return tuple(_Checklist(house, house.environment(name)).items())


@dataclass(frozen=True)
class _Checklist:
    """About the newest published release, as far as it has come in this environment and in the one before. An item that is refused fails;
    one that cannot be looked at is not told.
    """

    house: House
    environment: Environment

    def items(self) -> Iterator[Item]:
        questions: tuple[tuple[str, Callable[[str], Item]], ...] = (
            ("images build", self._images),
            ("tests pass", lambda name: judge_tests(name, self._signed)),
            ("configuration reviewed", self._configuration),
            ("secrets configured", self._secrets),
            ("migrations tested", self._migrations),
            ("health checks verified", lambda name: self._shown(name, StepKind.CHECK, "bring the release there.")),
            ("monitoring and alerting", self._monitoring),
            ("backup strategy", self._backups),
            ("rollback plan", self._rollback),
            ("team trained", self._team),
            ("runbooks", self._runbooks),
            ("security scan clean", self._scans),
            ("performance baseline", self._baseline),
        )
        for name, question in questions:
            try:
                yield question(name)
            except InvalidSettings as refused:
                yield Item(name, "fail", refused.what, refused.next)
            except DeliveryError as broken:
                yield Item(name, "cannot tell", broken.what, broken.next)
            except Exception as broken:  # noqa: BLE001  a text that nobody checked may hold a secret: the type is enough
                yield Item(name, "cannot tell", f"could not be looked at ({type(broken).__name__})", "`greenroom doctor`.")

    @cached_property
    def _release(self) -> Release | None:
        return next(iter(self.house.store.releases()), None)

    @cached_property
    def _signed(self) -> dict[str, str] | None:
        if self._release is None:
            return None
        policy = policy_of(self.house, self.environment)
        facts = signed_facts(self._release, Stage.TESTS, policy, store=self.house.store, keys=self.house.keys())
        return None if facts is None else {check: str(told) for check, told in facts.items()}

    def _images(self, name: str) -> Item:
        if self._release is None:
            return Item(name, "fail", NOTHING_RELEASED, RELEASE_FIRST)
        return Item(name, "pass", f"{self._release.id} is published by digest: {', '.join(self._release.images)}")

    def _configuration(self, name: str) -> Item:
        stands = examine_environment(self.house, self.environment.name, name)
        if stands.verdict != "ok":
            return Item(name, "fail", stands.evidence, stands.next)
        for request in self.house.store.requests(environment=self.environment.name):
            people = [word.person for word in request.approvals if word.decision == "approve"]
            if people and request.plan.environment == self.environment:
                return Item(name, "pass", f"request {request.number} had this very file in its plan, approved by {', '.join(people)}")
        told = "the file is sound and its target can do what it asks for; nobody has approved a plan with it"
        return Item(name, "cannot tell", told, f"read it beside `greenroom plan RELEASE {self.environment.name}`.")

    def _secrets(self, name: str) -> Item:
        self.house.notifier(self.environment)
        if self.environment.provenance.required:
            examine_signing_key(self.house, name)
        secrets = getattr(self.house.target(self.environment), "secrets", None)
        if secrets is None:
            told = "the target's block has no secrets; the platform may have its own"
            return Item(name, "cannot tell", told, "look there, or give the target an environment-secrets block.")
        known = sorted(secrets.reveal())
        migrations = self._release.migrations if self._release else None
        if migrations and migrations.database not in {*known, *self.environment.variables}:
            told = f"{migrations.database}, which migrations need, is not among them: {', '.join(known) or 'none'}"
            return Item(name, "fail", told, "write it into the environment's secrets block.")
        values = examine_values(self.house, self.environment.name, name)
        if values.verdict == "missing":
            return Item(name, "fail", values.evidence, values.next)
        return Item(name, "pass", f"{', '.join(known) or 'none'} (names only; values are weighed, and not shown)")

    def _migrations(self, name: str) -> Item:
        if self._release and self._release.migrations is None:
            return Item(name, "pass", f"{self._release.id} carries none")
        return self._shown(name, StepKind.MIGRATE, "bring the release there; `prove.clone = true` tries migrations on a copy first.")

    def _scans(self, name: str) -> Item:
        """Of what was built and, where that is inspected, of what ran; there too a waiver makes nothing clean."""
        built, before = judge_scans(name, self._signed), self.environment.environment.after
        places = (self.environment, *([self.house.environment(before)] if before else []))
        if built.verdict == "fail" or self._release is None or not any(place.prove.inspect for place in places):
            return built
        found = self._newest(self._release, StepKind.INSPECT)
        result = result_of(found[1]) if found else None
        if found is None or result is None:
            told = f"{self._release.id} was never inspected in {' nor in '.join(place.name for place in places)}"
            return Item(name, "fail", told, "bring the release there.")
        is_clean = result.not_scanned is None and not any(one.severity.reaches(Severity.HIGH) for one in result.findings)
        told = f"{found[0]}: {found[1].summary}"
        if not is_clean or not found[1].well:
            return Item(name, "fail", told, "mend what strangers see, and release again.")
        return replace(built, evidence=f"{built.evidence}; {told}")

    def _baseline(self, name: str) -> Item:
        if self._release and self._release.load is None:
            return Item(name, "fail", f"{self._release.id} has no load test", "write [load] into greenroom.toml.")
        return self._shown(name, StepKind.LOAD, "set `prove.load = true` there and bring the release there.")

    def _shown(self, name: str, kind: StepKind, next_step: str) -> Item:
        if self._release is None:
            return Item(name, "fail", NOTHING_RELEASED, RELEASE_FIRST)
        where = self.environment.environment.after or self.environment.name
        if (found := self._newest(self._release, kind)) is None:
            return Item(name, "fail", f"step {kind} of {self._release.id} has never ended in {where}", next_step)
        rollout, evidence = found
        return Item(name, "pass" if evidence.well else "fail", f"{rollout}: {evidence.summary}", "" if evidence.well else next_step)

    def _newest(self, release: Release, kind: StepKind) -> tuple[str, Evidence] | None:
        """The newest word on a step, here or in the environment before."""
        places = (self.environment.name, self.environment.environment.after)
        for record in self.house.store.rollouts(limit=LOOKED_BACK):
            if record.build == release.build and record.environment in places:
                progress = Progress.of(entry.event for entry in self.house.store.entries(record.id))
                told = [progress.finished[s.name] for s in progress.plan.forward if s.kind is kind and s.name in progress.finished]
                if told:
                    return record.id, told[-1]
        return None

    def _monitoring(self, name: str) -> Item:
        environment, source = self.environment, self.house.metrics(self.environment)
        wanted = {
            "a metric source block of its name": source is not None,
            "limits ([[trigger]])": bool(environment.trigger),
            "environment.notifier": environment.environment.notifier is not None,
            "verification.enabled": environment.verification.enabled,
        }
        if missing := [what for what, there in wanted.items() if not there]:
            return Item(name, "fail", f"missing: {', '.join(missing)}", "docs/operating.md tells how each is set.")
        self.house.notifier(environment)
        if source is not None and self._release is not None:
            source.scrape([self._release])
        limits = ", ".join(trigger.metric for trigger in environment.trigger)
        return Item(name, "pass", f"metrics answer; limits on {limits}; {environment.environment.notifier} is told")

    def _backups(self, name: str) -> Item:
        """A backup counts when it came back; one that the platform takes by a hook is not seen from here."""
        policy, store, where = self.environment.backup, self.house.store, self.environment.name
        if tried := next(iter(store.restore_tests(where)), None):
            told = f"the backup of {tried.rollout}, tried at {tried.at:%Y-%m-%d %H:%M} UTC: {tried.what}"
            return Item(name, "pass", told) if tried.well else Item(name, "fail", told, "look why: docs/operating.md, Backups.")
        if backups_of(store, where):
            return Item(name, "fail", "there are backups, and none was ever brought back", "run the deployment restore-test/restore-test.")
        if policy.before_migrations is False:
            return Item(name, "fail", "backup.before_migrations is false", "set it, or name the platform's snapshot as backup.hook.")
        told = "snapshots are the platform's, by backup.hook" if policy.hook else "none was taken here yet"
        return Item(name, "cannot tell", told, "restore the newest one into an empty database, and note when that was done.")

    def _rollback(self, name: str) -> Item:
        if not (page := HOME / "docs" / "runbooks" / "rolled-back.md").exists():
            return Item(name, "fail", "docs/runbooks/rolled-back.md is missing", "write it.")
        minutes = self.environment.traffic.hold_seconds / 60
        return Item(name, "pass", f"{page.relative_to(HOME)}; the release before stays warm for {minutes:g} min, later it comes by digest")

    def _team(self, name: str) -> Item:
        return Item(name, "cannot tell", "no file tells", "let each who may approve watch a release and a way back in `make demo`.")

    def _runbooks(self, name: str) -> Item:
        missing = [f"docs/runbooks/{one}.md" for one in RUNBOOKS if not (HOME / "docs" / "runbooks" / f"{one}.md").exists()]
        if missing:
            return Item(name, "fail", f"missing: {', '.join(missing)}", "write a page per ending.")
        return Item(name, "pass", "a page per ending in docs/runbooks")
