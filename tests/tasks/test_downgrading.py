"""The schema on the way back: when it goes, when it stays, what a death in the middle leaves. Platform and database are simulated."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest

from delivery.application import Smoke
from delivery.downgrade import CONDITIONS, DowngradePolicy
from delivery.environment import ApprovalPolicy
from delivery.errors import DeliveryError, TransientError
from delivery.journal import Closed, Ending, Evidence, Progress
from delivery.ports import Address, RunResult
from delivery.release import Release
from delivery.revisions import MigrationReview, ReviewedRevision
from delivery.undoing import Loss, Undoing
from delivery.way_back import known_of
from tasks.image_alembic import MARK
from tasks.report import rollout_markdown
from tasks.rollout import Means
from tests.samples import a_release, an_environment
from tests.simulated_target import Killed, Running
from tests.tasks.small_server import serving
from tests.tasks.test_rollout import World

BLUE = a_release("1.1.0", smoke=())
CHAIN = ["0002", "0003", "0004"]


def a_revision(number: int, **changes: object) -> ReviewedRevision:
    undoing = Undoing(losses=(Loss("rooms", f"c{number}"),))
    found = ReviewedRevision(f"000{number}", (f"000{number - 1}",), str(number) * 64, "", "SELECT 1", (), undoing)
    return replace(found, **changes)  # type: ignore[arg-type]


GREEN = a_release("1.2.0", review=MigrationReview(("0004",), (a_revision(3), a_revision(4))), load=None)
IF_SAFE = an_environment(downgrade=DowngradePolicy("if-safe"), approval=ApprovalPolicy("automatic"))

PEOPLE = ApprovalPolicy("form")


@dataclass
class Database:
    """`at` is its revision, `written` what holds data; `spoil` is called with where it is, before each revision that is taken back and
    after the last."""

    at: str = "0002"
    written: tuple[str, ...] = ()
    migrating: int = 0
    asked: list[dict[str, object]] = field(default_factory=list)
    spoil: Callable[[str], None] = lambda _at: None
    refuses: dict[str, str] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()

    def __call__(self, command: Sequence[str]) -> RunResult | None:
        if MARK not in command[-1]:
            return None
        asked = json.loads(command[-1])["asked"]
        self.asked.append(asked)
        act = asked["act"]
        told: dict[str, object] = {"refused": {"what": self.refuses[act], "next": "mend it"}} if act in self.refuses else {}
        told |= getattr(self, act)(asked)
        return RunResult(0, ("killed",) if act in self.silent else (f"{MARK}{json.dumps(told)}",))

    def upgrade(self, _asked: dict[str, object]) -> dict[str, object]:
        before, self.at = self.at, CHAIN[-1]
        applied = [{"id": name, "sha256": "0" * 64} for name in CHAIN[CHAIN.index(before) + 1 :]]
        return {"before": [before], "after": [self.at], "applied": applied}

    def standing(self, _asked: dict[str, object]) -> dict[str, object]:
        return {"present": [self.at], "written": list(self.written), "migrating": self.migrating}

    def downgrade(self, asked: dict[str, object]) -> dict[str, object]:
        while self.at != asked["to"] and "downgrade" not in self.refuses:
            self.spoil(self.at)
            self.at = CHAIN[CHAIN.index(self.at) - 1]
        self.spoil(self.at)
        return {"after": [self.at]}

    @property
    def acts(self) -> list[object]:
        return [one["act"] for one in self.asked]


class Story(World):
    """A release that is found sick after its migration, in an environment where the schema may go back."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.recorded: tuple[str, ...] | None = ("0002",)
        self.proven = {"0003": frozenset({BLUE.id}), "0004": frozenset({BLUE.id})}
        self.status = 0  # what blue answers to its smoke requests; 0: it has none
        self.database = Database()
        self.target.command = self.database
        self.target.fail("launch", 1, DeliveryError("It does not start.", next="mend it."))

    @property
    def means(self) -> Means:
        return replace(super().means, known=lambda progress: known_of(progress, recorded=self.recorded, proven=self.proven))

    def go_back(self, release: Release = GREEN, **changes: object) -> Evidence:
        with serving(lambda _: (self.status, "")) as url:
            self.target.urls[BLUE.id] = (Address("api", "api-1 of v1.1.0", url),)
            self.closed = self.roll_out(self.plan(release, **changes))
        return self.evidence("downgrade").evidence

    def says(self, *, allow: Literal["if-needed", "if-safe"], status: int) -> None:
        """Blue has a smoke request and answers it so."""
        self.environment = replace(self.environment, downgrade=DowngradePolicy(allow))
        self.blue, self.status = replace(BLUE, smoke=(Smoke("api", "/"),)), status


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path, environment=IF_SAFE, blue=BLUE)


def test_the_schema_goes_back_to_where_it_was_after_everything_else_of_the_way_back(story: Story) -> None:
    evidence = story.go_back()
    assert (evidence.well, evidence.summary) == (True, "the schema is at 0002, from 0004")
    assert story.database.at == "0002"
    assert (evidence.facts["after"], evidence.facts["undone"]) == (["0002"], ["0003", "0004"])
    assert story.closed == Closed(Ending.UNTOUCHED, "Production is unchanged. v1.2.0 was turned back: launch failed: It does not start.")
    asked = [f"run alembic {act} v1.2.0" for act in ("standing", "downgrade", "standing")]
    assert story.target.acts[-4:] == ["retire v1.2.0", *asked]
    story.assert_consistent()


def test_it_runs_in_the_new_versions_image_to_the_recorded_revision_with_what_was_reviewed(story: Story) -> None:
    story.go_back()
    asked = story.database.asked[story.database.acts.index("downgrade")]
    assert (asked["to"], asked["reviewed"]) == ("0002", {"0003": "3" * 64, "0004": "4" * 64})
    assert asked["limits"]["lock_timeout"] == 0.1  # type: ignore[index]
    standing = story.database.asked[story.database.acts.index("standing")]
    assert standing["losses"] == [["rooms", "c3"], ["rooms", "c4"]]


def test_it_begins_only_when_green_has_no_users_and_is_stopped(story: Story) -> None:
    seen: list[tuple[object, bool]] = []
    story.database.spoil = lambda _at: seen.append((story.target.weights.get(GREEN.id, 0), story.target.releases[GREEN.id].up))
    story.target._failures.clear()
    story.target.fail("promote", 1, DeliveryError("It is refused.", next="look."))  # when green has every user
    assert story.go_back().summary == "the schema is at 0002, from 0004"
    assert story.closed.ending is Ending.ROLLED_BACK
    assert set(seen) == {(0, False)}


def keeps(condition: str, reason: str, change: Callable[[Story], object]) -> object:
    return pytest.param(condition, reason, change, id=f"{condition}: {reason}")


@pytest.mark.parametrize(
    ("condition", "reason", "change"),
    [
        keeps("approved", "the rollout went without", lambda s: setattr(s, "environment", replace(IF_SAFE, approval=PEOPLE))),
        keeps("recorded", "nobody has told where", lambda s: setattr(s, "recorded", None)),
        keeps("ours", "the database is at 0009", lambda s: setattr(s.database, "standing", lambda _: {"present": ["0009"]})),
        keeps("needed", "v1.1.0-110aaaaa is well", lambda s: s.says(allow="if-needed", status=200)),
        keeps("lossless", "rooms.c4 would be lost", lambda s: setattr(s.database, "written", ("rooms.c4",))),
        keeps("proven", "v1.1.0-110aaaaa was not tried", lambda s: setattr(s, "proven", {"0003": {BLUE.id}})),
        keeps("deserted", "another migration still there", lambda s: setattr(s.database, "migrating", 1)),
        keeps("deserted", "v1.0.0-100aaaaa still there", lambda s: s.target.releases.update({"v1.0.0-100aaaaa": Running(up=True)})),
    ],
)  # fmt: skip
def test_one_condition_that_fails_keeps_the_schema_and_is_named_in_journal_and_report(
    tmp_path: Path, condition: str, reason: str, change: Callable[[Story], object]
) -> None:
    story = Story(tmp_path, environment=IF_SAFE, blue=BLUE)
    change(story)
    evidence = story.go_back()
    assert evidence.well
    assert evidence.summary.startswith("the schema stays at 000")
    assert f"{condition}: {reason}" in evidence.summary
    assert "downgrade" not in story.database.acts
    told = evidence.facts["conditions"]
    assert [one["name"] for one in told] == list(CONDITIONS)  # type: ignore[union-attr, index]
    assert condition in [one["name"] for one in told if not one["holds"]]  # type: ignore[union-attr, index]
    rollout = story.rollouts[-1]
    shown = rollout_markdown(story.store.entries(rollout), story.store.rollout(rollout))
    assert f"| **{condition}** | **{reason}" in shown
    assert story.closed.ending is Ending.UNTOUCHED


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        ({"undoing": None}, "reversible: revision 0004 does not say"),
        (
            {"undoing": Undoing(opaque="DELETE FROM rooms")},
            "lossless: what taking revision 0004 back loses cannot be told: DELETE FROM rooms",
        ),
    ],
)
def test_a_revision_that_does_not_go_back_keeps_the_schema(story: Story, change: dict[str, object], condition: str) -> None:
    review = MigrationReview(("0004",), (a_revision(3), a_revision(4, **change)))
    evidence = story.go_back(replace(GREEN, review=review))
    assert (evidence.well, story.database.at) == (True, "0004")
    assert evidence.summary.startswith(f"the schema stays at 0004: {condition}")


def test_a_version_that_is_not_well_on_the_new_schema_gets_its_own_back(tmp_path: Path) -> None:
    story = Story(tmp_path, environment=IF_SAFE, blue=BLUE)
    story.says(allow="if-needed", status=500)
    story.database.spoil = lambda at: setattr(story, "status", 200 if at == "0002" else 500)
    assert story.go_back().summary == "the schema is at 0002, from 0004"
    assert story.closed.ending is Ending.UNTOUCHED


def test_one_that_is_not_well_and_may_not_have_it_back_needs_a_person(tmp_path: Path) -> None:
    story = Story(tmp_path, environment=IF_SAFE, blue=BLUE)
    story.says(allow="if-needed", status=500)
    story.database.written = ("rooms.c4",)
    evidence = story.go_back()
    assert story.closed.ending is Ending.NEEDS_HUMAN
    assert evidence.summary.endswith("rooms.c4 would be lost with what was written there; v1.1.0 is not well on it")


def test_one_that_is_not_well_afterwards_needs_a_person(tmp_path: Path) -> None:
    story = Story(tmp_path, environment=IF_SAFE, blue=BLUE)
    story.says(allow="if-safe", status=500)
    evidence = story.go_back()
    assert (evidence.summary, story.closed.ending) == ("the schema is at 0002, from 0004, and v1.1.0 is not well there", Ending.NEEDS_HUMAN)


def test_a_rollout_that_did_not_get_as_far_as_its_migration_asks_the_database_nothing(story: Story) -> None:
    story.target.fail("prepare", 1, DeliveryError("No room.", next="make some."))
    assert story.go_back().summary == "the schema was not touched"
    assert story.database.asked == []


def test_a_migration_of_which_nobody_knows_how_far_it_came_is_taken_back_as_well(story: Story) -> None:
    def die(verb: str, when: str) -> None:
        if (verb, when) == ("run_once", "after"):
            story.target.spoil = lambda _verb, _when: None
            raise Killed

    story.target.spoil = die
    assert story.roll_out_until_killed(story.plan(GREEN))
    [closed] = story.recover()
    assert closed.ending is Ending.UNTOUCHED
    assert "migrate" not in Progress.of(entry.event for entry in story.store.entries(story.rollouts[-1])).finished
    assert story.evidence("downgrade").evidence.summary == "the schema is at 0002, from 0004"


@pytest.mark.parametrize("at", ["0004", "0003", "0002"])
def test_killed_anywhere_in_the_downgrade_the_next_one_finishes_it(story: Story, at: str) -> None:
    def die(where: str) -> None:
        if where == at:
            story.database.spoil = lambda _at: None
            raise Killed

    story.database.spoil = die
    assert story.roll_out_until_killed(story.plan(GREEN))
    assert story.database.at == at
    [closed] = story.recover()
    evidence = story.evidence("downgrade").evidence
    assert (closed.ending, story.database.at) == (Ending.UNTOUCHED, "0002")
    assert evidence.summary == "the schema is at 0002, " + ("as before" if at == "0002" else f"from {at}")
    assert (evidence.facts["after"], evidence.facts["undone"]) == (["0002"], ["0003", "0004"])
    story.assert_consistent()


def test_killed_half_way_and_then_forbidden_needs_a_person(story: Story) -> None:
    def die(where: str) -> None:
        if where == "0003":
            story.database.spoil = lambda _at: None
            story.database.written = ("rooms.c3",)
            raise Killed

    story.database.spoil = die
    assert story.roll_out_until_killed(story.plan(GREEN))
    [closed] = story.recover()
    assert closed.ending is Ending.NEEDS_HUMAN
    assert "the schema stays at 0003: lossless: rooms.c3 would be lost" in closed.message
    assert closed.message.endswith("an earlier attempt got half-way")


def test_a_downgrade_that_is_refused_leaves_the_schema_where_it_is(story: Story) -> None:
    story.database.refuses["downgrade"] = "revision 0004 got no lock in 60 s and 5 tries"
    evidence = story.go_back()
    assert (evidence.well, evidence.summary) == (True, "the schema stays at 0004: revision 0004 got no lock in 60 s and 5 tries")
    assert story.closed.ending is Ending.UNTOUCHED


def test_one_that_stops_between_two_versions_needs_a_person(story: Story) -> None:
    def stop(where: str) -> None:
        story.database.refuses = {"downgrade": "revision 0003 fails: no"} if where == "0004" else {}

    story.database.spoil = stop
    evidence = story.go_back()
    assert story.closed.ending is Ending.NEEDS_HUMAN
    assert (evidence.facts["after"], evidence.facts["undone"]) == (["0003"], ["0004"])
    assert "alembic downgrade 0002" in str(evidence.facts["next"])


def test_what_it_did_is_read_and_not_believed_when_it_ends_without_an_answer(story: Story) -> None:
    story.database.silent = frozenset({"downgrade"})
    assert story.go_back().summary == "the schema is at 0002, from 0004"


def test_a_database_that_cannot_be_asked_keeps_its_schema(story: Story) -> None:
    story.database.silent = frozenset({"standing"})
    evidence = story.go_back()
    assert (evidence.well, story.database.at) == (True, "0004")
    assert evidence.summary.startswith("the schema stays as it is: ours: where the database is now cannot be told")


def test_a_platform_that_fails_now_and_then_is_asked_again(story: Story) -> None:
    def away(verb: str, when: str) -> None:
        if (verb, when) == ("retire", "after"):
            story.target.fail("run_once", 3, TransientError("The engine is away.", next="wait."))

    story.target.spoil = away
    assert story.go_back().summary == "the schema is at 0002, from 0004"


def test_where_the_environment_allows_nothing_there_is_no_such_step(story: Story) -> None:
    story.environment = an_environment()
    assert [step.name for step in story.plan(GREEN).back] == ["restore", "announce-rollback", "collect", "remove"]
    story.roll_out(story.plan(GREEN))
    assert (story.database.at, story.database.acts) == ("0004", ["upgrade"])


def test_the_first_release_and_a_rollback_take_no_schema_back(story: Story) -> None:
    assert "downgrade" not in [step.name for step in story.plan(GREEN, kind="rollback").back]
    story.blue = None
    assert "downgrade" not in [step.name for step in story.plan(GREEN).back]
