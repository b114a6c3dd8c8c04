"""A lane: one stand with one environment and its users, on which scenarios happen one after another."""

import math
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import docker.errors

from blocks.journal import SqlJournal
from delivery.errors import DeliveryError
from deployments.processes import wait_until
from tests.chaos.real.effects import Point, Strike
from tests.chaos.real.invariants import broken
from tests.chaos.real.load import Users
from tests.chaos.real.place import ALSO_GOOD, GOOD, Place
from tests.chaos.real.processes import Running
from tests.chaos.real.stand import ChaosStand
from tests.chaos.real.walker import Spec
from tests.chaos.real.world import World, replicas_of

NOT_OPENED = "none was opened"  # killed before the rollout had begun


@dataclass
class Row:
    """What became of one scenario. `apart` names the fault whose failed requests no pipeline can hide; `control` counts what the same
    users lost without a rollout (scaled to as many requests); `recovered` is seconds from the strike to the end of the rollout.
    """

    scenario: str
    group: str
    ending: str = ""
    requests: int = 0
    failed: int = 0
    control: float = 0.0
    recovered: float | None = None
    seconds: float = 0.0
    apart: str | None = None
    remark: str = ""
    orphans: int = 0
    open_rollouts: int = 0
    violations: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        return asdict(self)


class Scenario(Protocol):
    """Anything that can happen to a release. `run` leaves the world as quiet as it found it."""

    name: str
    group: str

    def run(self) -> Row: ...


@dataclass
class Happened:
    """What a story tells beside what can be read from the world: when it struck, when all was well, and what was not as it should be."""

    struck_at: float | None = None
    recovered_at: float | None = None
    problems: list[str] = field(default_factory=list)
    remark: str = ""

    def expect(self, condition: object, sentence: str) -> None:
        if not condition:
            self.problems.append(sentence)


@dataclass(frozen=True)
class Story:
    """One scenario, to be told on any lane. `without` switches a mechanism off in all its processes."""

    name: str
    group: str
    tell: Callable[["Lane"], Happened]
    apart: str | None = None
    without: str | None = None


class Lane:
    """`open` brings the first release to its users; `tell` runs one story and returns its row."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        self.stand = ChaosStand(folder / "stand")
        self.place: Place
        self.journal: SqlJournal
        self.users: Users | None = None
        # What these users lost without a rollout: by fault, and (under "") per request with no fault at all.
        self.control: dict[str, float] = {}
        self.without: str | None = None
        self._count = 0
        self._window = 0.0

    def open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.stand.open()
        self.anew()

    def close(self) -> None:
        if self.users:
            self.users.leave()
        self.stand.close()

    def anew(self) -> None:
        """A fresh environment with a fresh journal, and its first release; what was before is removed."""
        if self.users:
            self.users.leave()
            self.journal.close()
            self.stand.clear(self.place.environment)
        self.place = self.stand.place()
        self.journal = SqlJournal(self.place.journal_url)
        told = self.start("walk", GOOD).wait()
        if told.get("ending") != "LIVE":
            raise DeliveryError(f"The first release did not go live: {told}", next="look at its log.")
        self.users = Users(self.place.url)
        wait_until(lambda: len(self.users.between(0, math.inf)) > 20 if self.users else False, what="the users", seconds=30)
        self.forget_the_past()

    # ---- what stories are made of

    @property
    def live(self) -> str:
        """The version that is live."""
        release = self.journal.live(self.place.environment)
        return str(release.version) if release else ""

    @property
    def next_good(self) -> str:
        return ALSO_GOOD if self.live == GOOD else GOOD

    def point(self, name: str, when: str = "after", strike: Strike = "kill") -> Point:
        self._count += 1
        folder = Path(self.place.folder)
        folder.mkdir(parents=True, exist_ok=True)
        return Point(name, "before" if when == "before" else "after", strike, str(folder / f"point-{self._count}"))

    def start(self, mode: str, version: str = "", *, point: Point | None = None, **changes: Any) -> Running:
        """A process that walks, retakes or recovers."""
        self._count += 1
        who = f"{mode}-{self._count}"
        outcome = str(Path(self.place.folder) / f"{who}.json")
        fields: dict[str, Any] = {"place": self.place, "mode": mode, "who": who, "outcome": outcome, "version": version, "point": point}
        return Running(Spec(**({**fields, "without": self.without} | changes)))

    def recover(self, happened: Happened, **changes: Any) -> dict[str, Any]:
        """A fresh process takes over what was abandoned, until all is quiet."""
        told = self.start("recover", **changes).wait()
        if told.get("error"):
            happened.problems.append(f"recovery: {told['error']}: {told.get('what')}")
        happened.recovered_at = happened.recovered_at or told.get("closed_at")
        return told

    def replicas(self, version: str, service: str = "api") -> list[str]:
        """Ids of the running ones."""
        release = self.place.release(version).id
        found = replicas_of(self.stand, self.place.environment)
        return [one.id for one in sorted(found, key=lambda one: one.name) if (one.release, one.service) == (release, service) and one.runs]

    def kill_replica(self, version: str, service: str = "api") -> None:
        self.stand.engine.api.kill(self.replicas(version, service)[0])

    def forget(self, version: str) -> None:
        """Remains of an earlier failed rollout of this version, so that the next one makes everything anew."""
        release = self.place.release(version).id
        for replica in replicas_of(self.stand, self.place.environment):
            if replica.release == release and not replica.runs:
                with suppress(docker.errors.NotFound):
                    self.stand.engine.api.remove_container(replica.id, force=True, v=True)

    def forget_images(self, version: str) -> None:
        self.forget(version)
        for role in ("web", "worker"):
            self.stand.forget_image(self.place.images[f"{version}/{role}"])

    def world(self, since: int, begun: float, ended: float) -> World:
        answers = self.users.between(begun, ended) if self.users else []
        return World(self.place, self.stand, self.journal, self.place.target(), answers, since)

    def forget_the_past(self) -> None:
        """What users met until now belongs to no story."""
        self._window = time.monotonic()

    def measure(self, fault: str, act: Callable[["Lane"], object], *, settle: float = 4.0) -> None:
        """The control: what users lose by a fault (or by none, under "") while nothing is rolled out."""
        if fault in self.control or self.users is None:
            return
        began = time.monotonic()
        act(self)
        time.sleep(settle)
        answers = self.users.between(began, time.monotonic())
        failed = sum(seen.failed for seen in answers)
        self.control[fault] = failed if fault else failed / max(1, len(answers))
        self.forget_the_past()

    # ---- telling

    def tell(self, story: Story) -> Row:
        """Runs it; then all must be quiet, two more looks must change nothing, and the invariants must hold."""
        row = Row(story.name, story.group, apart=story.apart)
        began, begun = time.monotonic(), self._window
        effects = Path(self.place.effects)
        since = effects.stat().st_size if effects.exists() else 0
        known = {record.id for record in self.journal.rollouts(environment=self.place.environment, limit=500)}
        self.without = story.without
        try:
            happened = story.tell(self)
        except Exception as error:  # noqa: BLE001  a story that breaks is told as broken, and the next one is told
            happened = Happened(problems=[f"the story broke: {type(error).__name__}: {str(error)[:400]}"])
        self.without = None
        try:
            self._judge(row, story, happened, since, begun, known)
        except Exception as error:  # noqa: BLE001  as above
            row.violations.append(f"the world could not be looked at: {type(error).__name__}: {str(error)[:300]}")
        row.violations[:0] = happened.problems
        row.remark = happened.remark
        if happened.struck_at and happened.recovered_at:
            row.recovered = round(happened.recovered_at - happened.struck_at, 1)
        row.seconds = round(time.monotonic() - began, 1)
        if row.violations or story.without:
            self._keep(story, row)
            self.anew()
        return row

    def _judge(self, row: Row, story: Story, happened: Happened, since: int, begun: float, known: set[str]) -> None:
        before = self.world(since, begun, time.monotonic()).snapshot()
        # Two more looks by a process of its own; where a mechanism is switched off it stays off only for the story.
        told = self.start("recover", rounds=2, within=20.0).wait()
        after = self.world(since, begun, time.monotonic()).snapshot()
        if before != after:
            changed = [key for key in before if before[key] != after[key]]
            happened.problems.append(f"looking again changed {', '.join(changed)}: {told.get('ended')} {told.get('retired')}")
        self._window = time.monotonic()
        world = self.world(since, begun, self._window)
        row.violations += broken(world, apart=story.apart is not None)
        newest = world.rollouts[0]
        row.ending = NOT_OPENED if newest.id in known else newest.ending or "open"
        row.requests, row.failed = len(world.answers), sum(seen.failed for seen in world.answers)
        row.control = round(self.control.get(story.apart, 0) if story.apart else row.requests * self.control.get("", 0), 2)
        row.orphans = sum(sentence.startswith("I5") for sentence in row.violations)
        row.open_rollouts = sum(record.ending is None for record in world.rollouts)

    def _keep(self, story: Story, row: Row) -> None:
        """The logs of what went wrong, beside the table."""
        kept = self.folder / "kept" / f"{self.place.environment}-{story.name.replace('/', '_').replace(' ', '-')[:60]}"
        with suppress(OSError):
            shutil.copytree(self.place.folder, kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns("point-*"))
            (kept / "violations.txt").write_text("\n".join(row.violations))
