"""The example fits together: its overlays, its revisions and its greenroom.toml. Its own tests run in Greenroom's checks."""

import ast
import json
import shutil
import tomllib
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from delivery.application import Application

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "dealbrain"
RELEASES = ("1.0.0", "1.1.0", "1.2.0")
FAULTS = ("lint", "pytest", "jest", "playwright", "migration")
NOT_SOURCE = shutil.ignore_patterns("releases", "faults", "node_modules", "dist", "__pycache__", ".*_cache", "test-results")


def lay(folder: Path, release: str, *, fault: str | None = None) -> Path:
    """The application's tree at a release, as the README says that it is made."""
    shutil.copytree(EXAMPLE, folder, ignore=NOT_SOURCE)
    for overlay in RELEASES[: RELEASES.index(release) + 1]:
        shutil.copytree(EXAMPLE / "releases" / overlay, folder, dirs_exist_ok=True)
    if fault is not None:
        shutil.copytree(EXAMPLE / "faults" / fault, folder, dirs_exist_ok=True)
    return folder


def revisions(tree: Path) -> dict[str, str | None]:
    """Each revision and the one below it, read without running them."""
    found = {}
    for file in sorted((tree / "api/migrations/versions").glob("*.py")):
        values = {
            statement.targets[0].id: statement.value.value
            for statement in ast.parse(file.read_text()).body
            if isinstance(statement, ast.Assign)
            and isinstance(statement.targets[0], ast.Name)
            and isinstance(statement.value, ast.Constant)
        }
        found[str(values["revision"])] = values["down_revision"]
    return found


def test_greenroom_toml_is_sound_and_names_only_what_is_there() -> None:
    application = TypeAdapter(Application).validate_python(tomllib.loads((EXAMPLE / "greenroom.toml").read_text()))
    assert application.problems() == ()
    named = [service.dockerfile for service in application.service]
    named += [path for service in application.service for path in (service.context, *service.paths)]
    named += [path for toolchain in application.toolchains.values() for path in toolchain.reads]
    named += [path for check in application.checks for path in (check.directory, *check.reads)]
    assert [path for path in named if not (EXAMPLE / path).exists()] == []


@pytest.mark.parametrize(("release", "head", "below"), [("1.0.0", "0001", None), ("1.1.0", "0002", "0001"), ("1.2.0", "0003", "0002")])
def test_each_release_adds_one_revision(tmp_path: Path, release: str, head: str, below: str | None) -> None:
    found = revisions(lay(tmp_path / "app", release))
    assert len(found) == RELEASES.index(release) + 1
    assert list(found.items())[-1] == (head, below)


@pytest.mark.parametrize("release", RELEASES)
def test_the_newest_change_is_the_release_itself(tmp_path: Path, release: str) -> None:
    changes = (lay(tmp_path / "app", release) / "CHANGELOG.md").read_text()
    assert changes.split("## ")[1].splitlines()[0] == release


@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "migration"])
def test_a_fault_changes_one_file_that_no_release_changes(fault: str) -> None:
    [file] = [path for path in (EXAMPLE / "faults" / fault).rglob("*") if path.is_file()]
    place = file.relative_to(EXAMPLE / "faults" / fault)
    assert (EXAMPLE / place).read_text() != file.read_text()
    assert not any((EXAMPLE / "releases" / release / place).exists() for release in RELEASES)


def test_the_broken_migration_follows_the_head_of_1_1_0(tmp_path: Path) -> None:
    assert revisions(lay(tmp_path / "app", "1.1.0", fault="migration")) == {"0001": None, "0002": "0001", "0003_warranty": "0002"}


def test_lock_files_name_no_package_index() -> None:
    lock = json.loads((EXAMPLE / "web/package-lock.json").read_text())
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []
    for requirements in (EXAMPLE / "api").glob("requirements*.txt"):
        assert "index-url" not in requirements.read_text()
        assert "://" not in requirements.read_text()


def test_no_dockerfile_needs_a_frontend_from_elsewhere() -> None:
    for service in ("api/Dockerfile", "api/Dockerfile.worker", "web/Dockerfile"):
        text = (EXAMPLE / service).read_text()
        assert "syntax=" not in text
        assert "--mount" not in text
        assert "USER 10001" in text


def test_api_and_worker_share_their_layers() -> None:
    def building_lines(name: str) -> list[str]:
        before_metadata = (EXAMPLE / "api" / name).read_text().split("# Last, so")[0]
        return [line for line in before_metadata.splitlines() if not line.startswith("#")]

    assert building_lines("Dockerfile") == building_lines("Dockerfile.worker")
