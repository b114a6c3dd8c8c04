"""Going back asks nobody, and goes only where users have been before."""

import pytest

from blocks.secrets import EnvironmentSecrets
from delivery.errors import InvalidSettings
from delivery.journal import Ending, Opened
from delivery.record import RolloutRecord
from flows.rollback import go_back, release_to_go_back_to
from flows.telling import Telling
from tests.flows.conftest import Stage


def back(stage: Stage, version: str | None = None) -> RolloutRecord:
    with Telling() as telling:
        return go_back(stage.house, "production", version=version, reason="it is slow", by="Bea", telling=telling)


def test_without_a_version_the_release_before_comes_back(stage: Stage) -> None:
    before = stage.published("1.0.0")
    stage.bring(before, "production")
    stage.bring(stage.published("1.1.0"), "production")
    record = back(stage)
    assert (record.ending, record.kind, record.by) == (Ending.LIVE, "rollback", "Bea: it is slow")
    assert stage.production.live == before.id


def test_a_warm_release_comes_back_in_one_shift_without_a_migration(stage: Stage) -> None:
    stage.bring(stage.published("1.0.0"), "production")
    stage.bring(stage.published("1.1.0"), "production")
    record = back(stage)
    opening = stage.house.store.entries(record.id)[0].event
    assert isinstance(opening, Opened)
    assert [name for name in opening.plan.step_names if name.startswith(("shift", "migrate"))] == ["shift-100"]


def test_going_back_takes_a_renewed_secret_back_while_the_old_one_is_there_and_skips_it_afterwards(stage: Stage) -> None:
    older, release = stage.published("1.0.0"), stage.published("1.1.0")
    stage.bring(older, "production")
    file = stage.environments / "production.toml"
    file.write_text(file.read_text() + '[secrets.URL]\nowner = "Bea"\nversion = 1\n')
    stage.bring(release, "production")
    file.write_text(file.read_text().replace("version = 1", "version = 2"))
    stage.bring(release.with_settings(2), "production", "config")

    def goes_to(*versions: int) -> tuple[str, dict[str, int]]:
        values = {f"URL@{number}": f"word-{number}" for number in versions}
        stage.production.secrets = EnvironmentSecrets(values=values)  # type: ignore[attr-defined, arg-type]
        found = release_to_go_back_to(stage.house, "production", None)
        return found.id, dict(found.secrets)

    assert goes_to(1, 2) == (release.id, {"URL": 1})
    assert goes_to(2) == (older.id, {})


def test_a_named_version_must_have_been_live_there(stage: Stage) -> None:
    stage.bring(stage.published("1.0.0"), "production")
    stage.on_staging("1.1.0")
    with pytest.raises(InvalidSettings, match=r"v1\.1\.0.* has never been live there"):
        back(stage, "v1.1.0")


def test_with_nothing_before_there_is_nowhere_to_go(stage: Stage) -> None:
    stage.bring(stage.published("1.0.0"), "production")
    with pytest.raises(InvalidSettings, match="No release was live there before"):
        back(stage)


def test_going_back_to_what_is_live_is_refused(stage: Stage) -> None:
    stage.bring(stage.published("1.0.0"), "production")
    with pytest.raises(InvalidSettings, match="already runs"):
        back(stage, "1.0.0")
