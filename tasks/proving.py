"""A release's migrations beside the versions that serve, on a copy of the database, before the database itself is touched.

The old version keeps running while the copy is migrated under it, as it will in earnest: its pool, its prepared statements and its cache
of the schema are those of a version that serves.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

from delivery.contraction import WAY_OUT, Proof
from delivery.downgrade import NEVER
from delivery.errors import DeliveryError, StaleFence
from delivery.health import ProbeResult
from delivery.journal import Evidence
from delivery.operations import is_waived
from delivery.plan import Step
from delivery.ports import Address, Copying
from delivery.release import Release
from delivery.revisions import ReviewedRevision
from tasks import probes
from tasks.contracting import Contracting
from tasks.downgrading import take_back_on_copy
from tasks.image_alembic import Answer, MigrationLimits, answer_in, no_answer, pending_command, upgrade_command
from tasks.scene import CANCELLED, Scene

log = logging.getLogger("greenroom.proving")

RULE = "clone"


def prove(step: Step, scene: Scene) -> Evidence:
    """Old versions' smoke requests before and after the upgrade of a copy, then the new version's. The copy is gone afterwards."""
    target, settings = scene.target, scene.plan.release.migrations
    if settings is None:
        return Evidence(well=True, summary=f"{scene.plan.release.version.tag} carries no migrations")
    if not isinstance(target, Copying):
        return Evidence(well=False, summary="the target cannot copy its database", facts={"next": "set prove.clone = false."})
    return _Rehearsal(step, scene, target).evidence()


class _Unwell(Exception):  # noqa: N818  a finding on its way up, no error
    def __init__(self, summary: str, way_out: str) -> None:
        super().__init__(summary)
        self.summary, self.way_out = summary, way_out


class _Rehearsal:
    def __init__(self, step: Step, scene: Scene, target: Copying) -> None:
        self._scene, self._target = scene, target
        self._release = scene.plan.release
        self._until = time.monotonic() + step.deadline_seconds
        self._facts: dict[str, object] = {}

    def evidence(self) -> Evidence:
        try:
            return Evidence(well=True, summary=self._rehearse(), facts=self._facts)
        except _Unwell as unwell:
            return Evidence(well=False, summary=unwell.summary, facts={**self._facts, "next": unwell.way_out})
        except _Cancelled:
            return CANCELLED

    def _rehearse(self) -> str:
        pending = self._pending()
        if not pending:
            return "no revision is pending: there is nothing to prove"
        before = [one for one in (self._scene.plan.blue, *self._scene.plan.elsewhere) if one is not None]
        names = " and ".join(one.version.tag for one in before)
        with self._copied() as copy:
            addresses = {one.id: self._launched(one, copy) for one in before}
            for one in before:
                self._smoke(one, addresses[one.id], f"{one.version.tag} is not well on a copy of the database as it is")
            contracting = Contracting(self._scene, self._target, copy, self._reviewed(pending), self._go_on)
            contracting.before()
            self._upgrade(copy)
            contracting.after()
            for one in before:
                lead = f"{one.version.tag} still serves, and does not live with the new schema"
                contracting.writes_of(one, partial(self._smoke, one, addresses[one.id], lead))
            self._smoke(
                self._release, self._launched(self._release, copy), f"{self._release.version.tag} does not live with its own schema"
            )
            unused = self._require_unused(contracting.proofs(before))
            told = self._way_back(copy, pending, [(one, addresses[one.id]) for one in before])
        self._facts |= {"proven": list(pending), "versions": [one.id for one in before]}
        return f"{', '.join(pending)} on a copy of the database: {names} and {self._release.version.tag} live with it{unused}{told}"

    # ---- acts

    def _pending(self) -> tuple[str, ...]:
        settings = self._release.migrations
        assert settings is not None  # noqa: S101  told by `prove`
        self._go_on()
        timeout = min(self._left(), timedelta(seconds=settings.timeout_seconds))
        command = pending_command(settings, reviewed=self._scene.plan.reviewed, limits=MigrationLimits().within(timeout))
        ran = self._scene.target.run_once(
            self._release,
            settings.service,
            command,
            variables=self._scene.plan.environment.variables,
            timeout=timeout,
            token=self._scene.token,
        )
        answer = self._answered(ran.tail, doing="Asking where the database stands")
        self._facts["recorded"] = list(answer.names("before"))
        return answer.names("pending")

    @contextmanager
    def _copied(self) -> Iterator[str]:
        self._go_on()
        variables, token = self._scene.plan.environment.variables, self._scene.token
        self._target.sweep_copies(self._release, variables=variables, token=token)
        self._scene.tell("copying the database")
        began = time.monotonic()
        copy = self._target.copy_database(self._release, variables=variables, timeout=self._left(), token=token)
        self._facts["copy_seconds"] = round(time.monotonic() - began, 1)
        try:
            yield copy
        finally:
            try:
                self._target.drop_copy(self._release, copy, variables=variables, token=token)
            except StaleFence:
                raise
            except DeliveryError as kept:  # the next rehearsal sweeps it
                log.warning("The copy %s stays for now: %s", copy, kept)

    def _launched(self, release: Release, copy: str) -> Sequence[Address]:
        self._go_on()
        try:
            return self._target.launch_on_copy(
                release, copy=copy, variables=self._scene.plan.environment.variables, token=self._scene.token
            )
        except StaleFence:
            raise
        except DeliveryError as broken:
            raise _Unwell(f"on a copy of the database {release.version.tag} does not start: {broken.what}", broken.next) from None

    def _smoke(self, release: Release, addresses: Sequence[Address], lead: str) -> None:
        self._go_on()
        results = probes.smoke(release.smoke, addresses, on_copy=True)
        failed = _first_sick(results)
        if failed is not None:
            raise _Unwell(
                f"{lead}: smoke test: {failed}",
                "do it in two releases: add the new beside the old (expand), take the old away once no live version uses it (contract).",
            )

    def _upgrade(self, copy: str) -> None:
        settings = self._release.migrations
        assert settings is not None  # noqa: S101  told by `prove`
        self._go_on()
        self._scene.tell("migrating the copy")
        timeout = min(self._left(), timedelta(seconds=settings.timeout_seconds))
        command = upgrade_command(settings, reviewed=self._scene.plan.reviewed, limits=MigrationLimits().within(timeout), watch=True)
        ran = self._target.run_on_copy(
            self._release,
            settings.service,
            command,
            copy=copy,
            variables=self._scene.plan.environment.variables,
            timeout=timeout,
            token=self._scene.token,
        )
        answer = self._answered(ran.tail, doing="Migrating a copy of the database")
        self._facts |= {name: answer.told[name] for name in ("seconds", "tries", "objections", "measured") if name in answer.told}
        objections = answer.names("objections")
        if objections and not self._is_waived():
            raise _Unwell(
                f"on a copy of the database the migration {objections[0]}"
                + (f" (and {len(objections) - 1} more)" if objections[1:] else ""),
                f"write it so that nobody waits, or waive {RULE} on * with [[waiver]] in the environment's file.",
            )

    def _require_unused(self, proofs: Sequence[Proof]) -> str:
        """What is taken away is used by nobody who serves, or somebody answers for it."""
        if not proofs:
            return ""
        self._facts["contractions"] = [proof.facts() for proof in proofs]
        waivers, today = self._scene.plan.environment.waiver, datetime.now(UTC).date()
        open_ones = [proof for proof in proofs if not proof.holds]
        refused = [proof for proof in open_ones if proof.contraction.waiver(waivers, today) is None]
        if refused:
            more = f" (and {len(refused) - 1} more)" if refused[1:] else ""
            raise _Unwell(f"it contracts: {refused[0].sentence()}{more}", WAY_OUT)
        what = ", ".join(dict.fromkeys(proof.contraction.label for proof in proofs))
        return f"; {what}: waived, not proved" if open_ones else f"; nobody who serves uses what goes ({what})"

    def _reviewed(self, pending: Sequence[str]) -> tuple[ReviewedRevision, ...]:
        review = self._release.review
        return tuple(one for one in review.revisions if one.id in pending) if review is not None else ()

    def _way_back(self, copy: str, pending: tuple[str, ...], before: Sequence[tuple[Release, Sequence[Address]]]) -> str:
        """Where the environment lets the schema go back, that is tried as well. A way back that does not work keeps no release up: the
        schema stays then.
        """
        if self._scene.plan.environment.downgrade.allow == NEVER:
            return ""
        self._scene.tell("taking the migrations back on the copy")
        recorded = tuple(map(str, self._facts["recorded"]))  # type: ignore[call-overload]
        try:
            self._go_on()
            why = take_back_on_copy(self._scene, self._target, copy, recorded=recorded, pending=pending, timeout=self._left())
            for one, addresses in before if not why else ():
                self._smoke(one, addresses, f"{one.version.tag} does not live with the schema afterwards")
        except _Unwell as unwell:
            why = unwell.summary
        except StaleFence:
            raise
        except DeliveryError as broken:
            why = broken.what
        versions = [one.id for one, _ in before]
        self._facts["taken_back"] = {"why": why} if why else {"to": list(recorded), "revisions": list(pending), "versions": versions}
        return f"; the way back is not proven: {why}" if why else f"; so they do after the way back to {' and '.join(recorded)}"

    # ---- how

    def _answered(self, output: Sequence[str], *, doing: str) -> Answer:
        answer = answer_in(output)
        if answer is None:
            broken = no_answer(output, doing=doing)
            raise _Unwell(broken.what, broken.next)
        if answer.refusal:
            raise _Unwell(f"{doing[0].lower()}{doing[1:]}: {answer.refusal}", f"{answer.way_out}.")
        return answer

    def _is_waived(self) -> bool:
        return is_waived(RULE, self._scene.plan.environment.waiver, today=datetime.now(UTC).date())

    def _left(self) -> timedelta:
        return timedelta(seconds=max(1.0, self._until - time.monotonic()))

    def _go_on(self) -> None:
        self._scene.ensure()
        if self._scene.stop.is_set():
            raise _Cancelled
        if time.monotonic() >= self._until:
            raise _Unwell("the rehearsal on a copy of the database took too long", "raise deadlines.prove_seconds of the environment.")


class _Cancelled(Exception):  # noqa: N818  reads as the sentence it is
    pass


def _first_sick(results: Sequence[ProbeResult]) -> str | None:
    sick = [result.detail for result in results if not result.well]
    return sick[0] + (f" (and {len(sick) - 1} more)" if sick[1:] else "") if sick else None
