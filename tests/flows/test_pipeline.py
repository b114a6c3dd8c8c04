"""What the pipeline refuses before it begins, and what it does not do twice. Whole runs are in tests/system."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from blocks.settings import settings
from delivery.errors import InvalidSettings
from delivery.release import Release
from delivery.source import Semver, Sha, Source
from flows.assembly import House
from flows.pipeline import bring_to_staging, is_live, released, require_ready
from flows.telling import Telling
from tests.flows.conftest import Stage


class Answering:
    """A registry that answers."""

    def is_ready(self) -> None:
        pass


def a_source(sha: Sha) -> Source:
    return Source("repo", sha, "/nowhere", "Ann", datetime(2026, 7, 1, tzinfo=UTC), on_main=True, last_tag=None, commits_since_tag=1)


@pytest.fixture
def ready(stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> House:
    monkeypatch.setenv("GREENROOM_REPOSITORY", str(tmp_path))
    stage.house.blocks._blocks["oci-registry", "default"] = Answering()  # type: ignore[attr-defined]
    return House(settings(), stage.house.store, stage.house.blocks)


def test_everything_that_a_whole_run_needs_is_there(ready: House) -> None:
    require_ready(ready, "production")


def test_a_remedy_for_what_never_was_is_refused_before_anything_is_built(ready: House) -> None:
    with pytest.raises(InvalidSettings, match="Unknown rollout: got 'production-7'"):
        require_ready(ready, "build", "production-7")


def test_without_a_repository_nothing_begins(stage: Stage) -> None:
    with pytest.raises(InvalidSettings, match="No repository is set"):
        require_ready(stage.house, "build")


def test_without_a_registry_only_a_build_begins(ready: House) -> None:
    del ready.blocks._blocks["oci-registry", "default"]  # type: ignore[attr-defined]
    require_ready(ready, "build")
    with pytest.raises(InvalidSettings, match="There is no block 'default', expected one of type oci-registry"):
        require_ready(ready, "staging")


def test_a_target_that_cannot_do_what_its_environment_asks_for_is_told_before_anything_is_built(ready: House, stage: Stage) -> None:
    stage.production.capabilities = frozenset()
    require_ready(ready, "staging")
    with pytest.raises(InvalidSettings, match=r"Production asks for traffic steps \[50, 100\], and its target cannot split traffic"):
        require_ready(ready, "production")


def test_a_missing_production_is_told_before_anything_is_built(ready: House, stage: Stage) -> None:
    (stage.environments / "production.toml").unlink()
    require_ready(ready, "staging")
    with pytest.raises(InvalidSettings, match="Unknown environment: got 'production', expected one of: staging"):
        require_ready(ready, "production")


def test_a_published_commit_is_not_built_again(stage: Stage) -> None:
    release = stage.published("1.0.0")
    assert released(stage.house, a_source(release.sha), release.version) == release


def test_a_new_commit_with_a_new_version_is_built(stage: Stage) -> None:
    stage.published("1.0.0")
    assert released(stage.house, a_source(Sha("b" * 40)), Semver(1, 0, 1)) is None


def test_a_version_belongs_to_one_commit(stage: Stage) -> None:
    release = stage.published("1.0.0")
    with pytest.raises(InvalidSettings, match=f"already released from commit {release.sha.short}, got commit bbbbbbbb"):
        released(stage.house, a_source(Sha("b" * 40)), release.version)


def test_staging_is_left_alone_when_it_runs_the_release_already(stage: Stage) -> None:
    release: Release = stage.on_staging("1.0.0")
    acts = list(stage.targets["staging"].acts)
    with Telling() as telling:
        assert bring_to_staging(stage.house, release, telling) == "Staging runs v1.0.0 already."
    assert stage.targets["staging"].acts == acts
    assert is_live(stage.house, release, "staging")
    assert not is_live(stage.house, release, "production")
