import json
from pathlib import Path

import pytest

from blocks.traefik_files import DynamicFiles, mend_all

GOOD, OLDER = b'{"http": {"serversTransports": {"new": {}}}}', b'{"http": {"serversTransports": {"old": {}}}}'
BROKEN = [b"", b'{"http": {', b"garbage", b"[]", b"null", b'{"tcp": {}}', None]


@pytest.fixture
def files(tmp_path: Path) -> DynamicFiles:
    (tmp_path / "dynamic").mkdir()
    made = DynamicFiles("production", tmp_path / "dynamic", tmp_path / "new")
    with made.locked():
        made.publish(GOOD)
    return made


def become(file: Path, content: bytes | None) -> None:
    file.unlink()
    if content is not None:
        file.write_bytes(content)


def contents(files: DynamicFiles) -> list[bytes]:
    return [files.first.read_bytes(), files.twin.read_bytes()]


def test_traefik_reads_the_first_one_first(files: DynamicFiles) -> None:
    assert sorted(file.name for file in files.watched.iterdir()) == [files.first.name, files.twin.name]


def test_what_says_the_same_is_not_renamed_again(files: DynamicFiles) -> None:
    before = [file.stat().st_ino for file in (files.first, files.twin)]
    assert not files.publish(GOOD)
    assert [file.stat().st_ino for file in (files.first, files.twin)] == before
    assert files.publish(OLDER)
    assert contents(files) == [OLDER, OLDER]


@pytest.mark.parametrize("content", BROKEN)
def test_either_mends_the_other(files: DynamicFiles, content: bytes | None) -> None:
    for file in (files.first, files.twin):
        become(file, content)
        assert files.mend()
        assert contents(files) == [GOOD, GOOD]
    assert not files.mend()


def test_the_twin_follows_when_somebody_died_between_the_two(files: DynamicFiles) -> None:
    files.twin.write_bytes(OLDER)
    assert files.mend()
    assert contents(files) == [GOOD, GOOD]


def test_two_broken_ones_are_left_to_who_knows_the_state(files: DynamicFiles) -> None:
    become(files.first, b"")
    become(files.twin, b"garbage")
    assert not files.mend()
    assert contents(files) == [b"", b"garbage"]


def test_an_environment_without_files_gets_none(files: DynamicFiles) -> None:
    for file in (files.first, files.twin):
        file.unlink()
    assert not files.mend()
    assert list(files.watched.iterdir()) == []


def test_files_of_somebody_else_are_left_alone(files: DynamicFiles) -> None:
    foreign = files.watched / "somebody.yml"
    foreign.write_text("{{{")
    files.first.write_bytes(b"")
    assert mend_all(files.watched, files.folder) == ["production"]
    assert json.loads(files.first.read_bytes())["http"]
    assert foreign.read_text() == "{{{"
    assert mend_all(files.watched, files.folder) == []
