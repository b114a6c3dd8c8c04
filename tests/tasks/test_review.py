"""What is read in an image before a release is published; here the image is this machine's Python."""

from pathlib import Path

import pytest

from delivery.errors import DeliveryError, InvalidSettings
from delivery.operations import Safety
from delivery.revisions import Chain
from tasks.review import Applied, chain_in, judged, refuse_what_cannot_be
from tests.tasks.alembic_project import Driver, Project

pytestmark = pytest.mark.processes

BASE = 'op.create_table("rooms", sa.Column("id", sa.BigInteger, primary_key=True), sa.Column("name", sa.Text))'


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path).begin().revision("0001", BASE, down=None)


def test_revisions_are_read_and_rendered_without_a_database(project: Project) -> None:
    project.revision("0002", 'op.add_column("rooms", sa.Column("floor", sa.Integer))', down="0001", title="The floor")
    chain = chain_in(project.read())
    assert (chain.heads, [(one.id, one.down, one.title) for one in chain.revisions][1]) == (("0002",), ("0002", ("0001",), "The floor"))
    assert "ALTER TABLE rooms ADD COLUMN floor INTEGER" in (chain.revisions[1].sql or "")
    [found] = judged(chain, {"0002"})
    assert (found.id, found.objections, found.sha256) == ("0002", (), chain.revisions[1].sha256)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_each_revision_is_judged_against_the_schema_that_those_before_it_make(tmp_path: Path, driver: Driver) -> None:
    project = Project(tmp_path, driver=driver).begin().revision("0001", BASE, down=None)
    project.revision("0002", 'op.alter_column("rooms", "name", type_=sa.String(10))', down="0001")
    [found] = judged(chain_in(project.read()), {"0002"})
    assert [(one.rule, one.table) for one in found.objections] == [("change-type", "rooms")]  # what it changes from is known


def test_what_python_decides_needs_the_clone_and_says_why(project: Project) -> None:
    project.revision(
        "0002", "rows = op.get_bind().execute(sa.text('SELECT id FROM rooms')).fetchall()", "[row for row in rows]", down="0001"
    )
    [found] = judged(chain_in(project.read()), {"0002"})
    assert [(one.rule, one.safety) for one in found.objections] == [("no-offline-sql", Safety.NEEDS_CLONE)]
    assert "Error" in found.objections[0].reason


def refusal(project: Project) -> InvalidSettings:
    with pytest.raises(InvalidSettings) as raised:
        chain_in(project.read())
    return raised.value


def test_several_heads_are_refused_with_the_way_to_join_them(project: Project) -> None:
    project.revision("0002_a", down="0001").revision("0002_b", down="0001")
    told = refusal(project)
    assert "there are 2 heads (0002_a, 0002_b), expected one" in told.what
    assert "alembic merge -m 'merge' 0002_a 0002_b" in told.next


def test_an_image_without_alembic_ini_is_refused_with_the_way_out(project: Project) -> None:
    (project.folder / "alembic.ini").unlink()
    told = refusal(project)
    assert f"the image has no alembic.ini in {project.folder}" in told.what
    assert "COPY it into the image" in told.next


def test_a_missing_link_of_the_chain_is_refused(project: Project) -> None:
    project.revision("0003", down="0002")
    assert "Alembic cannot read its revisions" in refusal(project).what


def test_a_driver_that_alembic_cannot_use_is_named_with_the_way_out(project: Project) -> None:
    project.begin(more="import asyncpg2 as _\n".replace("asyncpg2", "psycopg2"))
    told = refusal(project)
    assert "Alembic cannot use the database's driver in this image: No module named 'psycopg2'" in told.what
    assert "alembic init -t async" in told.next


def test_a_program_that_is_not_there_is_no_answer() -> None:
    with pytest.raises(DeliveryError, match="ended without an answer: python: not found"):
        chain_in(["python: not found", ""])


@pytest.fixture
def chain(project: Project) -> Chain:
    return chain_in(project.revision("0002", down="0001").read())


def test_a_recorded_revision_that_the_commit_lacks_is_refused(chain: Chain) -> None:
    with pytest.raises(InvalidSettings, match=r"Production's database is at revision 0009, and this commit does not carry it\."):
        refuse_what_cannot_be(chain, {"staging": Applied(("0001",), {}), "production": Applied(("0009",), {})})


def test_a_revision_that_was_edited_after_it_was_applied_is_refused(chain: Chain) -> None:
    applied = Applied(("0002",), {"0001": chain.revisions[0].sha256, "0002": "0" * 64})
    with pytest.raises(InvalidSettings, match="Revision 0002 was edited after it had been applied to staging") as raised:
        refuse_what_cannot_be(chain, {"staging": applied})
    assert "write the change as a new revision" in raised.value.next
