"""The way back as a rollout runs it in the application's image, here in this machine's Python, on a real database."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from delivery.application import Smoke
from delivery.downgrade import DowngradePolicy
from delivery.environment import ApprovalPolicy, Proving
from delivery.errors import DeliveryError
from delivery.journal import Ending
from delivery.ports import Address, RunResult
from delivery.release import Release
from delivery.revisions import MigrationReview
from tasks.image_alembic import Answer, MigrationLimits, downgrade_command, standing_command
from tasks.review import chain_in, judged
from tests.samples import a_release, an_environment
from tests.simulated_target import SimulatedTarget
from tests.tasks.alembic_project import SETTINGS, Project, answered
from tests.tasks.small_server import serving
from tests.tasks.test_alembic_inside import CUT, QUICK, a_project, asked, columns, database, let_go_after, project  # noqa: F401  fixtures
from tests.tasks.test_rollout import World

pytestmark = pytest.mark.postgresql

YES = "A change\n\nreversible: yes\n"
FLOOR, WING = "ALTER TABLE rooms ADD COLUMN floor int", "ALTER TABLE rooms ADD COLUMN wing text DEFAULT 'east' NOT NULL"
NO_FLOOR, NO_WING = (f"op.execute('ALTER TABLE rooms DROP COLUMN {name}')" for name in ("floor", "wing"))


@pytest.fixture
def two(project: Project) -> Project:  # noqa: F811
    """Two revisions beyond r0, applied."""
    project.revision("r1", FLOOR, down="r0", back=NO_FLOOR, title=YES).revision("r2", WING, down="r1", back=NO_WING, title=YES)
    assert project.upgrade().refusal == ""
    return project


def taken_back(project: Project, *, to: str = "r0", limits: MigrationLimits = QUICK, **asked: object) -> Answer:  # noqa: F811
    return answered(project.start(downgrade_command(SETTINGS, to=to, reviewed=None, limits=limits, **asked)))  # type: ignore[arg-type]


def standing(project: Project, *losses: tuple[str, str]) -> Answer:  # noqa: F811
    return answered(project.start(standing_command(SETTINGS, losses=losses, limits=QUICK)))


def test_everything_beyond_the_recorded_revision_is_taken_back_newest_first(two: Project, database: str) -> None:  # noqa: F811
    answer = taken_back(two)
    assert (answer.refusal, answer.told["before"], answer.told["after"], answer.told["undone"]) == ("", ["r2"], ["r0"], ["r2", "r1"])
    assert columns(database) == {"id", "name", "note", "........pg.dropped.4........", "........pg.dropped.5........"}
    again = taken_back(two)
    assert (again.refusal, again.told["after"], again.told["undone"]) == ("", ["r0"], [])


def test_killed_between_two_revisions_the_next_one_goes_on_from_there(two: Project, database: str) -> None:  # noqa: F811
    two.revision("r1", FLOOR, down="r0", back=f"op.execute('SELECT pg_sleep(20)'); {NO_FLOOR}", title=YES)
    running = two.start(downgrade_command(SETTINGS, to="r0", reviewed=None, limits=QUICK))
    while asked(database, "SELECT version_num FROM alembic_version") != [("r1",)]:
        assert running.poll() is None
    running.kill()
    running.wait()
    two.revision("r1", FLOOR, down="r0", back=NO_FLOOR, title=YES)
    answer = taken_back(two)
    assert (answer.refusal, answer.told["before"], answer.told["undone"]) == ("", ["r1"], ["r1"])
    assert not {"floor", "wing"} & columns(database)


def test_three_at_once_take_back_once_and_all_succeed(two: Project, database: str) -> None:  # noqa: F811
    two.revision("r2", WING, down="r1", back=f"op.execute('SELECT pg_sleep(0.5)'); {NO_WING}", title=YES)
    running = [two.start(downgrade_command(SETTINGS, to="r0", reviewed=None, limits=QUICK)) for _ in range(3)]
    answers = [answered(process) for process in running]
    assert [(answer.refusal, answer.told["after"]) for answer in answers] == [("", ["r0"])] * 3
    assert not {"floor", "wing"} & columns(database)


def test_it_waits_for_locks_as_an_upgrade_does(two: Project, database: str) -> None:  # noqa: F811
    with psycopg.connect(database) as reader:
        reader.execute("SELECT * FROM rooms LIMIT 1")
        with let_go_after(reader, seconds=3.0):
            answer = taken_back(two)
    assert (answer.refusal, answer.told["after"]) == ("", ["r0"])
    assert answer.told["tries"] > 3


def test_at_its_deadline_it_has_changed_nothing(two: Project, database: str) -> None:  # noqa: F811
    with psycopg.connect(database) as reader:
        reader.execute("SELECT * FROM rooms LIMIT 1")
        answer = taken_back(two, limits=MigrationLimits(pause=timedelta(milliseconds=50), deadline=timedelta(seconds=1)))
    assert "revision r2 got no lock in" in answer.refusal
    assert (answer.told["after"], "wing" in columns(database)) == (["r2"], True)


@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after the commit"])
def test_a_connection_lost_at_its_commit_is_resolved_by_reading(
    two: Project, database: str, tmp_path: Path, *, after: bool  # noqa: F811
) -> None:  # fmt: skip
    flag = tmp_path / "cut"
    once = f"not __import__('pathlib').Path({str(flag)!r}).exists() and (__import__('pathlib').Path({str(flag)!r}).touch() or True)"
    gone = CUT.replace("AND attname = 'floor'", "AND attname = 'floor') AND NOT EXISTS (SELECT FROM pg_attribute"
                       " WHERE attrelid = to_regclass('rooms') AND attname = 'wing'")  # fmt: skip
    two.begin(more=gone.format(driver=two.driver, address=database, after=after, once=once))
    answer = taken_back(two)
    assert flag.exists()
    assert (answer.refusal, answer.told["after"], answer.told["undone"]) == ("", ["r0"], ["r2", "r1"])
    assert answer.told["tries"] == (2 if after else 3)


def test_what_does_not_lead_back_is_refused_and_nothing_is_touched(two: Project, database: str) -> None:  # noqa: F811
    assert "revision r9 is not in this image" in taken_back(two, to="r9").refusal
    assert taken_back(two, to="r1").told["after"] == ["r1"]
    assert taken_back(two, to="r2").refusal == "the database is at r1, which does not come after r2"
    told = answered(two.start(downgrade_command(SETTINGS, to="r0", reviewed={"r1": "0" * 64}, limits=QUICK)))
    assert told.refusal == "nobody has looked at revision r1 as this image has it"
    assert "floor" in columns(database)


def test_what_was_written_is_found_and_what_has_its_default_or_is_gone_is_not(two: Project, database: str) -> None:  # noqa: F811
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute('CREATE TABLE "My Halls" AS SELECT 1; CREATE TABLE empty (id int)')
    wanted = (("rooms", "floor"), ("rooms", "wing"), ("rooms", "gone"), ("My Halls", ""), ("empty", ""), ("halls", ""))
    told = standing(two, *wanted)
    assert (told.refusal, told.told["present"], told.told["written"], told.told["migrating"]) == ("", ["r2"], ["My Halls"], 0)
    asked(database, "UPDATE rooms SET floor = 0 WHERE id = 7 RETURNING 1")
    asked(database, "UPDATE rooms SET wing = 'west' WHERE id = 9 RETURNING 1")
    assert standing(two, *wanted).told["written"] == ["rooms.floor", "rooms.wing", "My Halls"]


def test_somebody_who_still_migrates_is_seen(two: Project, database: str) -> None:  # noqa: F811
    with psycopg.connect(database, application_name="greenroom-migrate"):
        assert standing(two).told["migrating"] == 1


def test_the_watcher_of_a_copy_sees_what_a_downgrade_rewrites(two: Project) -> None:
    two.revision("r2", WING, down="r1", back="op.execute('ALTER TABLE rooms ALTER COLUMN id TYPE int')", title=YES)
    assert "writes rooms anew" in taken_back(two, watch=True).told["objections"]


# -- a whole rollout, its platform simulated, its database and Alembic real


class Place(SimulatedTarget):
    """One-off commands run in the project, against the database or a copy of it; a version is well when its columns are there."""

    project: Project
    address: str
    copies: list[str]
    # By version and service: the files of its image.
    code: dict[tuple[str, str], dict[str, bytes | None]]

    def at(self, project: Project, address: str) -> "Place":  # noqa: F811
        self.project, self.address, self.copies, self.code = project, address, [], {}
        self.command = lambda command: self._run(command, project.url)
        return self

    def _run(self, command: Sequence[str], url: str) -> RunResult | None:
        if "asked" not in command[-1]:
            return None
        process = Project(self.project.folder, url, self.project.driver).start(command)
        return RunResult(0, tuple(process.communicate(timeout=120)[0].splitlines()))

    def copy_database(self, release: Release, **_: object) -> str:  # noqa: ARG002
        name = f"greenroom_copy_{len(self.copies)}"
        self.copies.append(name)
        source = psycopg.conninfo.conninfo_to_dict(self.address)["dbname"]
        self._server(f'CREATE DATABASE {name} TEMPLATE "{source}"')
        return name

    def run_on_copy(self, release: Release, service: str, command: Sequence[str], *, copy: str, **_: object) -> RunResult:  # noqa: ARG002
        ran = self._run(command, self.project.url.rpartition("/")[0] + f"/{copy}")
        assert ran is not None
        return ran

    def launch_on_copy(self, release: Release, *, copy: str, **_: object) -> Sequence[Address]:  # noqa: ARG002
        return self.urls[release.id]

    def ask_copy(self, release: Release, question: str, *, copy: str, **_: object) -> str:  # noqa: ARG002
        (value,) = asked(psycopg.conninfo.make_conninfo(self.address, dbname=copy), f"SELECT ({question})::text")[0]
        return str(value)

    def files_of(
        self, release: Release, service: str, wanted: Callable[[str, str], bool], **_: object
    ) -> Iterator[tuple[str, bytes | None]]:
        code = self.code.get((release.version.tag, service), {"srv/app.py": b"pass"})
        yield from ((path, content) for path, content in code.items() if wanted(path, "/srv"))

    def drop_copy(self, release: Release, copy: str, **_: object) -> None:  # noqa: ARG002
        self._server(f"DROP DATABASE {copy}")
        self.copies.remove(copy)

    def sweep_copies(self, release: Release, **_: object) -> None: ...

    def _server(self, statement: str) -> None:
        with psycopg.connect(psycopg.conninfo.make_conninfo(self.address, dbname="postgres"), autocommit=True) as server:
            server.execute(statement.encode())


ENVIRONMENT = an_environment(
    "staging", prove=Proving(smoke=False, clone=True), downgrade=DowngradePolicy("if-safe"), approval=ApprovalPolicy("automatic")
)


@pytest.fixture
def world(project: Project, database: str, tmp_path: Path) -> World:  # noqa: F811
    project.revision("r1", FLOOR, down="r0", back=NO_FLOOR, title=YES).revision("r2", WING, down="r1", back=NO_WING, title=YES)
    smoke = (Smoke("api", "/rooms"),)
    world = World(tmp_path, environment=ENVIRONMENT, blue=a_release("1.1.0", smoke=smoke), target=Place().at(project, database))
    world.target.fail("launch", 1, DeliveryError("It does not start.", next="mend it."))
    return world


def turn_back(world: World, answer: Callable[[], int] = lambda: 200) -> str:
    """Rolls a release out that does not start; what became of the schema."""
    assert isinstance(world.target, Place)
    assert world.blue is not None
    chain = chain_in(world.target.project.read())
    review = MigrationReview(chain.heads, judged(chain, {"r1", "r2"}))
    green = a_release("1.2.0", review=review, migrations=SETTINGS, smoke=world.blue.smoke)
    with serving(lambda _: (answer(), "")) as url:
        world.target.urls = {one.id: (Address("api", f"api of {one.version.tag}", url),) for one in (world.blue, green)}
        closed = world.roll_out(world.plan(green))
    assert closed.ending is Ending.UNTOUCHED, closed.message
    assert world.target.copies == []
    return world.evidence("downgrade").evidence.summary


def test_a_release_that_is_turned_back_takes_its_schema_along_when_that_was_proven(world: World, database: str) -> None:  # noqa: F811
    assert turn_back(world) == "the schema is at r0, from r2"
    assert world.evidence("prove").evidence.summary == (
        "r1, r2 on a copy of the database: v1.1.0 and v1.2.0 live with it; so they do after the way back to r0"
    )
    assert world.evidence("migrate").evidence.facts["after"] == ["r2"]
    assert (asked(database, "SELECT version_num FROM alembic_version"), {"floor", "wing"} & columns(database)) == ([("r0",)], set())


def test_it_stays_when_the_new_version_has_written_what_would_be_lost(world: World, database: str) -> None:  # noqa: F811
    def write(verb: str, when: str) -> None:
        if (verb, when) == ("launch", "before"):
            asked(database, "UPDATE rooms SET floor = 3 WHERE id = 1 RETURNING 1")

    world.target.spoil = write
    assert turn_back(world) == "the schema stays at r2: lossless: rooms.floor would be lost with what was written there"
    assert asked(database, "SELECT floor FROM rooms WHERE id = 1") == [(3,)]


def test_it_stays_when_the_version_before_was_not_well_on_the_copy_afterwards(world: World, database: str) -> None:  # noqa: F811
    assert isinstance(world.target, Place)
    place, seen = world.target, []

    def answer() -> int:
        """Not well at r0 once the copy has been at r2."""
        if not place.copies:
            return 200
        copy = psycopg.conninfo.make_conninfo(database, dbname=place.copies[0])
        seen.extend(asked(copy, "SELECT version_num FROM alembic_version"))
        return 500 if seen[-1] == ("r0",) and ("r2",) in seen else 200

    told = turn_back(world, answer)
    assert told.startswith("the schema stays at r2: proven: v1.1.0-110aaaaa was not tried on a copy"), told
    assert "the way back is not proven: v1.1.0 does not live with the schema afterwards" in world.evidence("prove").evidence.summary
