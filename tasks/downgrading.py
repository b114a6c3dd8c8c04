"""The last step of a way back: the schema goes to where it was before the release came, or stays, with the reason.

It begins when nobody uses the new version any more, and asks the database where it stands before it does anything: whoever does it again
after a death goes on from there.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from delivery.application import MigrationSettings
from delivery.downgrade import Circumstances, Decision, losses, may_downgrade, taken_back
from delivery.errors import DeliveryError, StaleFence
from delivery.journal import Evidence
from delivery.plan import Step
from delivery.ports import Copying
from delivery.release import Release
from delivery.revisions import ReviewedRevision
from tasks import probes
from tasks.image_alembic import Answer, MigrationLimits, answer_in, downgrade_command, no_answer, standing_command
from tasks.retry import UNTIL_DEADLINE
from tasks.scene import Scene

log = logging.getLogger("greenroom.downgrading")

T = TypeVar("T")


def downgrade(step: Step, scene: Scene) -> Evidence:
    """Sick only where a person has to look: the database is somewhere between the two schemas, or the version before is not well on it."""
    blue = scene.plan.blue
    if scene.plan.release.migrations is None or blue is None:
        return Evidence(well=True, summary="there is no schema to take back")
    return _WayBack(step, scene, blue, scene.plan.release.migrations).evidence()


class _WayBack:
    def __init__(self, step: Step, scene: Scene, blue: Release, settings: MigrationSettings) -> None:
        self._step, self._scene, self._blue, self._settings = step, scene, blue, settings
        self._release = scene.plan.release
        self._facts: dict[str, object] = {}
        self._chain: tuple[ReviewedRevision, ...] | None = None
        self._old_is_well: bool | None = None

    def evidence(self) -> Evidence:
        known = self._known = self._insist(self._scene.known)
        if not known.began:
            return Evidence(well=True, summary="the schema was not touched")
        review = self._release.review
        self._chain = review.pending(known.recorded) if review is not None and known.recorded else None
        stands = self._look()
        present = stands.names("present") if stands is not None and not stands.refusal else None
        if present and present == known.recorded:
            return self._arrived("as before")
        decision = self._decide(present, stands)
        self._facts |= {
            "conditions": [{"name": one.name, "holds": one.holds, "reason": one.reason} for one in decision.conditions],
            "before": list(present or ()),
        }
        if not decision.granted or present is None or known.recorded is None:
            return self._stays(present, decision.sentence())
        return self._take_back(present, to=known.recorded[0])

    # ---- what the conditions look at

    def _decide(self, present: tuple[str, ...] | None, stands: Answer | None) -> Decision:
        others = self._others()
        if others is not None and stands is not None and stands.told.get("migrating"):
            others = (*others, "another migration")
        policy = self._scene.plan.environment.downgrade
        self._old_is_well = self._smoked() if policy.allow == "if-needed" else None
        return may_downgrade(
            Circumstances(
                policy=policy,
                known=self._known,
                old=self._blue.id,
                chain=self._chain,
                present=present,
                written=stands.names("written") if present is not None and stands is not None else None,
                others=others,
                old_is_well=self._old_is_well,
            )
        )

    def _look(self) -> Answer | None:
        """Where the database stands, and what holds data; None when it cannot be asked."""
        wanted = [(one.table, one.column) for one in losses(self._chain)]
        return self._run(standing_command(self._settings, losses=wanted, limits=self._limits))

    def _others(self) -> tuple[str, ...] | None:
        try:
            standing = self._insist(self._scene.target.observe)
        except StaleFence:
            raise
        except DeliveryError as broken:
            log.warning("Who runs cannot be told: %s", broken)
            return None
        there = standing.running | {name for name, share in standing.weights.items() if share}
        return tuple(sorted(there - {self._blue.id}))

    def _smoked(self) -> bool | None:
        """Is the version before well, by its own smoke requests that only read? None without any."""
        if not self._blue.reading_smoke:
            return None
        try:
            return all(result.well for result in probes.smoke(self._blue.smoke, self._scene.target.addresses(self._blue)))
        except StaleFence:
            raise
        except DeliveryError as broken:
            log.warning("%s cannot be asked how it is: %s", self._blue.id, broken)
            return None

    # ---- acts

    def _take_back(self, present: tuple[str, ...], *, to: str) -> Evidence:
        self._scene.tell(f"the schema goes back to {to}")
        command = downgrade_command(self._settings, to=to, reviewed=self._scene.plan.reviewed, limits=self._limits)
        answer = self._run(command)
        stands = self._look()
        after = stands.names("present") if stands is not None and not stands.refusal else None
        why = answer.refusal if answer is not None and answer.refusal else "it ended without an answer"
        if after == (to,):
            return self._arrived(f"from {_and(present)}")
        if after == present:
            return self._stays(present, why)
        self._facts |= {"after": list(after), "undone": self._undone(after)} if after is not None else {}
        where = f"is at {_and(after)}, between two versions" if after is not None else "is nobody knows where"
        return Evidence(well=False, summary=f"the schema {where}: {why}", facts={**self._facts, "next": self._next(to)})

    def _arrived(self, how: str) -> Evidence:
        recorded = self._known.recorded or ()
        self._facts |= {"after": list(recorded), "undone": self._undone(recorded)}
        summary = f"the schema is at {_and(recorded)}, {how}"
        if self._smoked() is False:
            return Evidence(
                well=False,
                summary=f"{summary}, and {self._blue.version.tag} is not well there",
                facts={**self._facts, "next": f"look at {self._blue.version.tag}'s logs; it was well there before."},
            )
        return Evidence(well=True, summary=summary, facts=self._facts)

    def _stays(self, present: tuple[str, ...] | None, why: str) -> Evidence:
        """The schema stays, which is what it does where nobody asks for more, unless something needs a person."""
        known, heads = self._known, self._release.review.heads if self._release.review else ()
        half_way = known.again and present not in (known.recorded, known.arrived or heads)
        summary = f"the schema stays {f'at {_and(present)}' if present else 'as it is'}: {why}"
        if half_way:
            return Evidence(well=False, summary=f"{summary}; an earlier attempt got half-way", facts={**self._facts, "next": self._next()})
        if self._old_is_well is False:
            sick = f"{summary}; {self._blue.version.tag} is not well on it"
            return Evidence(well=False, summary=sick, facts={**self._facts, "next": self._next()})
        return Evidence(well=True, summary=summary, facts=self._facts)

    # ---- how

    @property
    def _timeout(self) -> timedelta:
        # The same for every attempt: a target knows a command that is still under way by its words.
        return timedelta(seconds=min(self._settings.timeout_seconds, self._step.deadline_seconds))

    @property
    def _limits(self) -> MigrationLimits:
        return MigrationLimits().within(self._timeout)

    def _run(self, command: Sequence[str]) -> Answer | None:
        scene, settings = self._scene, self._settings

        def run() -> Answer | None:
            scene.ensure()
            ran = scene.target.run_once(
                self._release,
                settings.service,
                command,
                variables=scene.plan.environment.variables,
                timeout=self._timeout,
                token=scene.token,
            )
            answer = answer_in(ran.tail)
            if answer is None:
                log.warning("%s", no_answer(ran.tail, doing="Asking about the schema").what)
            elif answer.refusal:
                log.warning("%s", answer.refusal)
            return answer

        try:
            return self._insist(run)
        except StaleFence:
            raise
        except DeliveryError as broken:
            log.warning("The database could not be asked: %s", broken)
            return None

    def _insist(self, act: Callable[[], T]) -> T:
        within = timedelta(seconds=self._step.deadline_seconds)

        def pause(seconds: float) -> None:
            self._scene.clock.wait(seconds)

        return UNTIL_DEADLINE.call(act, within=within, pause=pause)

    def _undone(self, present: tuple[str, ...]) -> list[str]:
        chain = self._chain or ()
        left = taken_back(chain, present)
        return [one.id for one in chain if one not in left]

    def _next(self, to: str = "") -> str:
        back, old, new = to or _and(self._known.recorded or ()), self._blue.version.tag, self._release.version.tag
        return f"see whether {old} is well; then `alembic downgrade {back}`, or `upgrade head`, in {new}'s image."


def take_back_on_copy(
    scene: Scene, target: Copying, copy: str, *, recorded: tuple[str, ...], pending: tuple[str, ...], timeout: timedelta
) -> str:
    """Takes the pending revisions back on a copy that has them; why it could not, nothing when it did."""
    release, settings = scene.plan.release, scene.plan.release.migrations
    reviewed: dict[str, ReviewedRevision] = {one.id: one for one in release.review.revisions} if release.review else {}
    if settings is None or len(recorded) != 1:
        return f"the database stands at {_and(recorded)}, expected one revision"
    for name in pending:
        if name not in reviewed or reviewed[name].undoing is None:
            return f"revision {name} does not say `reversible: yes`"
    command = downgrade_command(
        settings, to=recorded[0], reviewed=scene.plan.reviewed, limits=MigrationLimits().within(timeout), watch=True
    )
    ran = target.run_on_copy(
        release, settings.service, command, copy=copy, variables=scene.plan.environment.variables, timeout=timeout, token=scene.token
    )
    answer = answer_in(ran.tail)
    if answer is None:
        return no_answer(ran.tail, doing="Taking it back on a copy").what
    if answer.refusal or answer.names("after") != recorded:
        return answer.refusal or f"the copy is at {_and(answer.names('after'))} afterwards"
    objections = answer.names("objections")
    return f"it {objections[0]}" if objections else ""


def _and(names: Sequence[str]) -> str:
    return " and ".join(names) or "nothing"
